// The searches that every kind of screen offers. `PackedRows` is the kind: how rows and centroids are packed and
// scored.
#pragma once

#include "../members.hpp"
#include "../parallel.hpp"
#include "../several.hpp"
#include "takers.hpp"

namespace fastann {
namespace {

constexpr int64_t TASK = 256;            // rows per task,
constexpr int64_t IN_CELLS = 1024;       // in cells more: each gets a block or more of them, and is read less often
constexpr int64_t TASK_BYTES = 1 << 19;  // packed, they stay in the second-level cache

inline double work_of(int64_t n, int64_t columns, int64_t d) {
    return static_cast<double>(n) * static_cast<double>(columns) * static_cast<double>(d);
}

// Rows of a task, at most `most`: fewer if they are long, or if threads would be left without any.
template <class PackedRows>
inline int64_t task_rows(int64_t n, int64_t d, int64_t most) {
    constexpr int64_t bytes = PackedRows::STEP_BYTES / (PackedRows::STEP * PackedRows::COLUMNS);
    const int64_t fits = TASK_BYTES / (bytes * (d + 1)), share = (n + 2 * threads() - 1) / (2 * threads());
    int64_t rows = fits < most ? fits : most;
    rows = share < rows ? share : rows;
    return rows < 2 * TILE ? 2 * TILE : rows;
}

// Pack rows, and note what is known of their rounding. `row(i)` is where row i stands.
template <class PackedRows, class Row>
inline void pack_rows(const Packed& packed, PackedRows& rows, Rounding& rounding, int64_t count, const Row& row) {
    for (int64_t i = 0; i < count; i++) {
        prefetch(row(i + 4 < count ? i + 4 : count - 1), packed.d);
        rows.pack(packed, i, row(i), rounding.xsq[i], rounding.error[i]);
        rounding.error[i] += packed.most_moved;
        rounding.slack[i] = slack_of(rounding.xsq[i], packed.d, packed.largest);
    }
}

template <class PackedRows>
void pack(Packed& packed, const float* c, const bool* changed) {
    const int64_t columns = packed.count(), strip = packed.screening.strip;
    parallel(columns / strip, work_of(columns, 4, packed.d), [&](int64_t s) {
        for (int64_t j = 0; j < strip; j++) {
            const int32_t g = packed.columns[s * strip + j];
            if (g < 0 ? changed == nullptr : changed == nullptr || changed[g]) {
                PackedRows::pack_centroid(packed, s, j, g < 0 ? nullptr : c + g * packed.d);
            }
        }
    });
    packed.sum_up();
}

template <class PackedRows>
void nearest(const Packed& packed, const float* x, int64_t n, const float* c, const int32_t* hint, int32_t* labels,
             float* sqdist) {
    const int64_t d = packed.d;
    parallel_ranges(n, task_rows<PackedRows>(n, d, TASK), work_of(n, packed.k, d), [&](int64_t first, int64_t end) {
        const int64_t count = end - first;
        PackedRows rows(packed, count);
        Rounding rounding(count);
        pack_rows(packed, rows, rounding, count, [&](int64_t i) { return x + (first + i) * d; });
        if constexpr (PackedRows::ROUNDED) {
            Compared taker(packed, x + first * d, c, rounding, count);
            for (int64_t i = 0; hint != nullptr && i < count; i++) {
                if (hint[first + i] >= 0) taker.hint(i, hint[first + i]);
            }
            rows.screen(packed, 0, packed.strips[packed.cells], taker);
            for (int64_t i = 0; i < count; i++) {
                labels[first + i] = taker.label[i];
                sqdist[first + i] = static_cast<float>(taker.least[i]);
            }
        } else {
            Shortlist taker(packed, x + first * d, c, rounding, count);
            rows.screen(packed, 0, packed.strips[packed.cells], taker);
            for (int64_t i = 0; i < count; i++) taker.decide(i, labels[first + i], sqdist[first + i]);
        }
    });
}

// Sort (id, distance) pairs by distance, then by id, as they come: `value` and `j` are the next one, `size` those
// before.
inline void insert_sorted(float* dist, int32_t* ids, int64_t size, float value, int32_t j) {
    int64_t s = size;
    for (; s > 0 && (dist[s - 1] > value || (dist[s - 1] == value && ids[s - 1] > j)); s--) {
        dist[s] = dist[s - 1];
        ids[s] = ids[s - 1];
    }
    dist[s] = value;
    ids[s] = j;
}

template <class PackedRows>
void nearest_m(const Packed& packed, const float* x, int64_t n, const float* c, int64_t m, int32_t* ids,
               float* sqdist) {
    const int64_t d = packed.d;
    parallel_ranges(n, task_rows<PackedRows>(n, d, TASK), work_of(n, packed.k, d), [&](int64_t first, int64_t end) {
        const int64_t count = end - first, strips = packed.strips[packed.cells];
        PackedRows rows(packed, count);
        Rounding rounding(count);
        pack_rows(packed, rows, rounding, count, [&](int64_t i) { return x + (first + i) * d; });
        Lists lists(count, m + 1);  // no centroid that is not listed has a lower score than the last one
        rows.screen(packed, 0, strips, lists);
        Settled settled(packed, x + first * d, c, rounding, count, m, ids + first * m);
        const Buffer<int32_t> open(count);
        int64_t left = 0;
        for (int64_t i = 0; i < count; i++) {
            const int32_t* columns = lists.columns(i);
            for (int64_t t = 0; t <= m && columns[t] >= 0; t++) settled.look(i, packed.columns[columns[t]]);
            settled.narrow(i);
            if (columns[m] >= 0 && lists.scores(i)[m] < settled.limit[i]) open[left++] = static_cast<int32_t>(i);
        }
        if (left > 0) rows.screen_some(packed, 0, strips, settled, open, left);
        for (int64_t t = 0; t < count * m; t++) sqdist[first * m + t] = static_cast<float>(settled.sqdist[t]);
    });
}

// Write the first `m` listed columns of a row as centroids sorted by distance (not squared): that of float32, or that
// of the scores if `rough`, which spares reading the centroids.
inline void finish(const Packed& packed, const float* row, const float* c, const float* scores, const int32_t* columns,
                   float xsq, int64_t m, bool rough, int32_t* ids, float* dist) {
    for (int64_t t = 0; t < LISTED; t++) {
        dist[t] = INFINITE;
        ids[t] = -1;
    }
    const float* at[LISTED];
    float square[LISTED];
    int64_t count = 0;
    for (; count < m && columns[count] >= 0; count++) at[count] = c + packed.columns[columns[count]] * packed.d;
    if (count == 0) return;
    if (rough) {
        for (int64_t t = 0; t < count; t++) square[t] = xsq + scores[t] > 0 ? xsq + scores[t] : 0;
    } else {
        for (int64_t t = count; t < LISTED; t++) at[t] = at[0];
        several_sqdist32<LISTED>(row, at, packed.d, square);
    }
    for (int64_t t = 0; t < count; t++) {
        const int32_t j = packed.columns[columns[t]];
        if (rough) {
            ids[t] = j;
            dist[t] = std::sqrt(square[t]);
        } else {
            insert_sorted(dist, ids, t, std::sqrt(square[t]), j);
        }
    }
}

// The `nprobe` cells of each row whose centres have the lowest scores, in no particular order.
template <class PackedRows>
inline void probe(const Packed& coarse, int64_t nprobe, const PackedRows& rows, int64_t count, int32_t* probes) {
    const int64_t strips = coarse.strips[coarse.cells];
    if (nprobe <= EIGHT) {
        Lists nearest(count, nprobe);
        rows.screen(coarse, 0, strips, nearest);
        for (int64_t t = 0; t < count * nprobe; t++) probes[t] = nearest.columns(t / nprobe)[t % nprobe];
    } else {
        Everything all(count, coarse.count());
        rows.screen(coarse, 0, strips, all);
        for (int64_t i = 0; i < count; i++) all.lowest(i, nprobe, probes + i * nprobe);
    }
    for (int64_t t = 0; t < count * nprobe; t++) probes[t] = probes[t] < 0 ? -1 : coarse.columns[probes[t]];
}

// Screen each row against the strips of the `nprobe` cells whose centres have the lowest scores.
template <class PackedRows>
inline void screen_cells(const Packed& packed, const Packed& coarse, int64_t nprobe, const PackedRows& rows,
                         int64_t count, Lists& lists) {
    const int64_t cells = packed.cells;
    const Buffer<int32_t> probes(count * nprobe);
    probe(coarse, nprobe, rows, count, probes);
    const Buffer<int64_t> first(cells + 1);
    const Buffer<int32_t> members(count * nprobe);
    bucket(probes, count, nprobe, cells, first, members);
    for (int64_t g = 0; g < cells; g++) {
        const int64_t size = first[g + 1] - first[g];
        if (size > 0 && packed.strips[g] < packed.strips[g + 1]) {
            rows.screen_some(packed, packed.strips[g], packed.strips[g + 1], lists, members + first[g], size);
        }
    }
}

template <class PackedRows>
void eight(const Packed& packed, const Packed* coarse, int64_t nprobe, const float* x, const int32_t* rows_of,
           int64_t n, const float* c, const float* within, int64_t m, bool rough, int32_t* ids, float* dist) {
    const int64_t d = packed.d;
    const int64_t size = task_rows<PackedRows>(n, d, coarse == nullptr ? TASK : IN_CELLS);
    const double share = coarse == nullptr ? 1 : static_cast<double>(nprobe) / static_cast<double>(packed.cells);
    parallel_ranges(n, size, work_of(n, packed.k, d) * share, [&](int64_t first, int64_t end) {
        const int64_t count = end - first;
        PackedRows rows(packed, count);
        Rounding rounding(count);
        const auto row = [&](int64_t i) { return x + static_cast<int64_t>(rows_of[first + i]) * d; };
        pack_rows(packed, rows, rounding, count, row);
        Lists lists(count, m);
        for (int64_t i = 0; i < count; i++) {
            lists.limit[i] = limit_within(within[first + i], rounding.xsq[i], rounding.error[i], rounding.slack[i]);
        }
        if (coarse == nullptr) {
            rows.screen(packed, 0, packed.strips[packed.cells], lists);
        } else {
            screen_cells(packed, *coarse, nprobe, rows, count, lists);
        }
        for (int64_t i = 0; i < count; i++) {
            finish(packed, row(i), c, lists.scores(i), lists.columns(i), rounding.xsq[i], m, rough,
                   ids + (first + i) * LISTED, dist + (first + i) * LISTED);
        }
    });
}

// All of them, for one kind of screen.
template <class PackedRows>
constexpr Screening screening_of() {
    return {PackedRows::COLUMNS, PackedRows::CONSTANTS, PackedRows::STEP_BYTES, PackedRows::STEP, PackedRows::PAYS_FROM,
            pack<PackedRows>,    nearest<PackedRows>,   nearest_m<PackedRows>,  eight<PackedRows>};
}

}  // namespace
}  // namespace fastann

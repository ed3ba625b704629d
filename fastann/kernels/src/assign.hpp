// One look of Lloyd's iterations at a table of few columns that is looked at often: the nearest centroid of each row,
// the second nearest where that is asked for, and the sums of clusters, all at once.
//
// Rows go across lanes, so that no lane waits for another and nothing is left to be reduced. Distances are sums of
// squared float32 differences, which lose no digits to the size of columns; nothing is certified.
#pragma once

#include "buffer.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "table.hpp"

namespace fastann {
namespace {

// Vectors of rows in registers: as many sums as hide how long an addition takes, but for few columns, where what is
// kept of each row would not fit beside.
template <int64_t D>
constexpr int64_t VECTORS = WIDTH == 16 || D == 0 || D > 4 ? 4 : 2;
constexpr int64_t ASSIGN_PIECES = 64, ASSIGN_ROWS = 512;

// Centroids that may be among the nearest, or the two nearest, of a row in a box: those not farther from it than the
// nearest (TWO: second nearest) of all is from the corner that is farthest from that. `columns` are the centroids by
// column, `stride` values each. Writes their numbers, ascending, and returns how many there are.
template <int64_t D, bool TWO>
inline int64_t near_box(const Assignment& a, const float* box, const float* columns, int64_t stride, float* least_of,
                        int32_t* near) {
    const int64_t d = D > 0 ? D : a.d;
    F32 best = splat(INFINITE), second = splat(INFINITE);
    for (int64_t j = 0; j < stride; j += WIDTH) {
        F32 closest = {}, farthest = {};
        for (int64_t t = 0; t < d; t++) {
            const F32 c = load<F32>(columns + t * stride + j);
            const F32 below = splat(box[t]) - c, above = c - splat(box[d + t]), within = least(below, above);
            const F32 out = largest(largest(below, above), F32{});
            closest = fma(out, out, closest);
            farthest = fma(within, within, farthest);  // the farther side is the one that is less far out
        }
        store(least_of + j, closest);
        second = least(second, largest(farthest, best));
        best = least(best, farthest);
    }
    float limit = least(best);
    if (TWO) {  // of the best two lanes, or of the second best in the best one
        const uint32_t at = ~below(splat(limit), best) & ((1U << WIDTH) - 1);
        float bests[WIDTH], seconds[WIDTH];
        store(bests, best);
        store(seconds, second);
        bests[lowest_bit(at)] = seconds[lowest_bit(at)];
        limit = least(load<F32>(bests));
    }
    const F32 most = splat(limit * (1 + 1e-5f) + 1e-30f);
    int64_t count = 0;
    for (int64_t j = 0; j < stride; j += WIDTH) {
        const uint32_t real = a.k - j < WIDTH ? (1U << (a.k - j)) - 1 : (1U << WIDTH) - 1;
        for (uint32_t hits = ~below(most, load<F32>(least_of + j)) & real; hits != 0; hits &= hits - 1) {
            near[count++] = static_cast<int32_t>(j) + lowest_bit(hits);
        }
    }
    return count;
}

// Squared distance of VECTORS * WIDTH rows, from row `first` on, to the nearest of some centroids, and which that is;
// TWO: of the second nearest too. D is d, or 0 if it is known at run time only.
template <int64_t D, bool TWO>
inline void score_lanes(const Assignment& a, int64_t first, const int32_t* near, int64_t count, F32 (&best)[VECTORS<D>],
                        I32 (&where)[VECTORS<D>], F32 (&second)[VECTORS<D>], I32 (&then)[VECTORS<D>]) {
    const int64_t d = D > 0 ? D : a.d;
    const float* rows[VECTORS<D>];
    for (int64_t v = 0; v < VECTORS<D>; v++) {
        const int64_t row = first + v * WIDTH;
        rows[v] = a.lanes + row / LANES * LANES * d + row % LANES;
        best[v] = second[v] = splat(INFINITE);
        where[v] = then[v] = splat32(-1);
    }
    for (int64_t m = 0; m < count; m++) {
        const float* c = a.c + near[m] * d;
        F32 sqdist[VECTORS<D>] = {};
        for (int64_t t = 0; t < d; t++) {
            const F32 value = splat(c[t]);
#pragma GCC unroll 4
            for (int64_t v = 0; v < VECTORS<D>; v++) {
                const F32 u = load<F32>(rows[v] + t * LANES) - value;
                sqdist[v] = fma(u, u, sqdist[v]);
            }
        }
        const I32 place = splat32(near[m]);
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS<D>; v++) {
            if (TWO) {
                const I32 after = sqdist[v] < second[v] ? place : then[v];
                then[v] = sqdist[v] < best[v] ? where[v] : after;
                second[v] = least(second[v], largest(sqdist[v], best[v]));
            }
            where[v] = sqdist[v] < best[v] ? place : where[v];
            best[v] = least(sqdist[v], best[v]);
        }
    }
}

// Rows one after the other that go to the same centroid: their sum stays in registers.
template <int64_t D>
struct Run {
    int32_t id;
    double sum[D > 0 ? D : 1], mass;
};

template <int64_t D>
inline void add_run(Run<D>& run, double* sums, double* mass) {
    if (run.id >= 0) {  // else of rows that are no numbers
        for (int64_t t = 0; t < D; t++) sums[run.id * D + t] += run.sum[t];
        mass[run.id] += run.mass;
    }
    run = Run<D>{};
}

template <int64_t D, bool TWO>
void assign_some(const Assignment& a) {
    const int64_t d = D > 0 ? D : a.d, group = VECTORS<D> * WIDTH;
    // Whatever the number of threads; each piece has sums of its own, which are few beside its rows.
    const int64_t least_rows = ASSIGN_ROWS > 2 * a.k ? ASSIGN_ROWS : 2 * a.k, most = a.n / least_rows + 1;
    const int64_t wanted = most < ASSIGN_PIECES ? most : ASSIGN_PIECES;
    const int64_t size = ((a.n + wanted - 1) / wanted + BOXED - 1) / BOXED * BOXED, pieces = (a.n + size - 1) / size;
    const int64_t stride = a.k * (d + 2);
    const Buffer<double> parts(pieces * stride, 0), costs(pieces, 0);
    const Buffer<int64_t> compared(pieces, 0);
    const int64_t columns = (a.k + WIDTH - 1) / WIDTH * WIDTH;
    const Buffer<float> by_column(columns * d, INFINITE);
    for (int64_t j = 0; j < a.k; j++) {
        for (int64_t t = 0; t < d; t++) by_column[t * columns + j] = a.c[j * d + t];
    }
    const double work = 2 * static_cast<double>(a.n) * static_cast<double>(a.k) * static_cast<double>(d);
    parallel(pieces, work, [&](int64_t piece) {
        const int64_t end = (piece + 1) * size < a.n ? (piece + 1) * size : a.n;
        double* sums = parts + piece * stride;
        double* mass = sums + a.k * d;
        double* loss = mass + a.k;
        double cost = 0;
        const Buffer<float> least_of(columns);
        const Buffer<int32_t> near_by(columns);
        int64_t candidates = 0;
        Run<D> run{};
        for (int64_t first = piece * size; first < end; first += group) {
            if (first % BOXED == 0) {
                candidates =
                    near_box<D, TWO>(a, a.boxes + first / BOXED * 2 * d, by_column, columns, least_of, near_by);
            }
            F32 best[VECTORS<D>], second[VECTORS<D>];
            I32 where[VECTORS<D>], then[VECTORS<D>];
            compared[piece] += candidates * group;
            score_lanes<D, TWO>(a, first, near_by, candidates, best, where, second, then);
            float near[VECTORS<D> * WIDTH], far[VECTORS<D> * WIDTH];
            int32_t ids[VECTORS<D> * WIDTH], others[VECTORS<D> * WIDTH];
            for (int64_t v = 0; v < VECTORS<D>; v++) {
                store(near + v * WIDTH, best[v]);
                store(ids + v * WIDTH, where[v]);
                if (TWO) {
                    store(far + v * WIDTH, second[v]);
                    store(others + v * WIDTH, then[v]);
                }
            }
            const int64_t count = end - first < group ? end - first : group;
            for (int64_t i = 0; i < count; i++) {
                const float* row = a.x + (first + i) * d;
                const double weight = a.weights != nullptr ? a.weights[first + i] : 1;
                cost += weight * static_cast<double>(near[i]);
                if (D == 0) {
                    if (ids[i] < 0) continue;  // of a row that is not a number
                    for (int64_t t = 0; t < d; t++) sums[ids[i] * d + t] += weight * static_cast<double>(row[t]);
                    mass[ids[i]] += weight;
                    continue;
                }
                if (ids[i] != run.id) add_run<D>(run, sums, mass);
                run.id = ids[i];
                for (int64_t t = 0; t < D; t++) run.sum[t] += weight * static_cast<double>(row[t]);
                run.mass += weight;
            }
            if (TWO) {
                for (int64_t i = 0; i < count; i++) {
                    a.ids[first + i] = ids[i];
                    a.ids[a.n + first + i] = others[i];
                    a.sqdist[first + i] = near[i];
                    a.sqdist[a.n + first + i] = far[i];
                    if (others[i] < 0) continue;  // there is one centroid only
                    const double more = static_cast<double>(far[i]) - static_cast<double>(near[i]);
                    loss[ids[i]] += more * (a.weights != nullptr ? a.weights[first + i] : 1);
                }
            }
        }
        if (D > 0) add_run<D>(run, sums, mass);
        costs[piece] = cost;
    });
    *a.cost = 0;
    *a.compared = 0;
    for (int64_t piece = 0; piece < pieces; piece++) {
        *a.cost += costs[piece];
        *a.compared += compared[piece];
        for (int64_t t = 0; t < a.k * d; t++) a.sums[t] += parts[piece * stride + t];
        for (int64_t j = 0; j < a.k; j++) {
            a.mass[j] += parts[piece * stride + a.k * d + j];
            a.loss[j] += parts[piece * stride + a.k * (d + 1) + j];
        }
    }
}

template <int64_t D>
void assign_of(const Assignment& a) {
    a.ids != nullptr ? assign_some<D, true>(a) : assign_some<D, false>(a);
}

void assign(const Assignment& a) {
    const auto of = a.d == 1   ? assign_of<1>
                    : a.d == 2 ? assign_of<2>
                    : a.d == 3 ? assign_of<3>
                    : a.d == 4 ? assign_of<4>
                    : a.d == 5 ? assign_of<5>
                    : a.d == 8 ? assign_of<8>
                               : assign_of<0>;
    of(a);
}

constexpr void fill_assign(Table& table) { table.assign = assign; }

}  // namespace
}  // namespace fastann

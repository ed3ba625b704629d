// Sums over rows: their norms and total, the sums and means of clusters.
//
// A reduction over rows is cut into a number of pieces that does not depend on the threads, and no two pieces write to
// the same place, so that the same input gives the same bits on any number of threads.
#pragma once

#include "buffer.hpp"
#include "parallel.hpp"
#include "rowops.hpp"
#include "table.hpp"

namespace fastann {
namespace {

// Squared norm of each row, and the sum of the rows of each piece: float64 [pieces, stride], zeros before. Sums that
// begin at a multiple of eight are in whole cache lines.
void survey(const float* x, int64_t n, int64_t d, int64_t pieces, double* sqnorm, double* sums, int64_t stride) {
    parallel(pieces, 2.0 * static_cast<double>(n) * static_cast<double>(d), [&](int64_t s) {
        double* total = sums + s * stride;
        for (int64_t i = s * n / pieces; i < (s + 1) * n / pieces; i++) {
            const float* row = x + i * d;
            sqnorm[i] = sum64(
                d,
                [&](int64_t t) {
                    const F64 v = wide(row + t);
                    store(total + t, load<F64>(total + t) + v);
                    return v * v;
                },
                [&](int64_t t) {
                    const double v = static_cast<double>(row[t]);
                    total[t] += v;
                    return v * v;
                });
        }
    });
}

// A cluster of which a piece of `add_rows` sees only some rows: its sum, and weight, in this piece.
struct Edge {
    double* sum;  // [d]
    double mass = 0;
    int64_t cluster = -1;
};

// Place of the last offset that is not above `p`.
inline int64_t group_of(const int64_t* offsets, int64_t k, int64_t p) {
    int64_t low = 0, high = k;  // offsets[low] <= p < offsets[high]
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        (offsets[middle] <= p ? low : high) = middle;
    }
    while (offsets[low + 1] <= p) low++;
    return low;
}

// Add the rows order[first..end), grouped by cluster, to `sums`, and their weights to `mass`. Clusters that begin
// before or end after this range go to `edges`, in that order, as another piece has rows of them too.
inline void add_range(const Rows& x, const double* weights, double sign, const int64_t* offsets, int64_t k,
                      const int32_t* order, int64_t first, int64_t end, double* sums, double* mass, Edge* edges) {
    int64_t p = first, j = p < end ? group_of(offsets, k, p) : 0;
    for (int64_t stop; p < end; p = stop) {
        while (offsets[j + 1] <= p) j++;
        stop = offsets[j + 1] < end ? offsets[j + 1] : end;
        const bool whole = p == offsets[j] && stop == offsets[j + 1];
        Edge& edge = edges[p == first ? 0 : 1];
        double* total = whole ? sums + j * x.d : edge.sum;
        double weight = 0;
        for (int64_t q = p; q < stop; q++) {
            if (!x.sparse() && q + 4 < stop) prefetch(x.data + static_cast<int64_t>(order[q + 4]) * x.d, x.d);
            const double w = weights != nullptr ? sign * weights[order[q]] : sign;
            weight += w;
            add(x, order[q], w, total);
        }
        if (whole) {
            if (mass != nullptr) mass[j] += weight;
        } else {
            edge.cluster = j;
            edge.mass = weight;
        }
    }
}

// Add rows to the sums of their clusters, `sign` times: those of cluster j are order[offsets[j]..offsets[j + 1]).
// `mass` [k], their weights, may be null.
void add_rows(const Rows& x, const double* weights, double sign, const int64_t* offsets, const int32_t* order,
              int64_t k, double* sums, double* mass) {
    // Whatever the number of threads; fewer for many columns, as each piece has two rows of sums of its own.
    const int64_t most = x.d > (1 << 17) ? 8 : (1 << 20) / (x.d + 1), wanted = most < 64 ? most : 64;
    const int64_t n = offsets[k], pieces = n < wanted ? 1 : wanted;
    const Buffer<double> edge_sums(2 * pieces * x.d, 0);
    const Buffer<Edge> edges(2 * pieces);
    for (int64_t e = 0; e < 2 * pieces; e++) edges[e] = Edge{edge_sums + e * x.d};
    const double values = x.sparse() ? static_cast<double>(x.indptr[x.n] - x.indptr[0]) / static_cast<double>(x.n + 1)
                                     : static_cast<double>(x.d);
    parallel(pieces, 2 * static_cast<double>(n) * values, [&](int64_t s) {
        add_range(x, weights, sign, offsets, k, order, s * n / pieces, (s + 1) * n / pieces, sums, mass, edges + 2 * s);
    });
    for (int64_t e = 0; e < 2 * pieces; e++) {
        const int64_t j = edges[e].cluster;
        if (j < 0) continue;
        for (int64_t t = 0; t < x.d; t++) sums[j * x.d + t] += edges[e].sum[t];
        if (mass != nullptr) mass[j] += edges[e].mass;
    }
}

// `out` is `scale` times `sum`, rounded.
inline void scaled(const double* sum, double scale, int64_t d, float* out) {
    int64_t t = 0;
    for (; t + WIDTH / 2 <= d; t += WIDTH / 2) store(out + t, narrow(wide(sum + t) * splat64(scale)));
    for (; t < d; t++) out[t] = static_cast<float>(sum[t] * scale);
}

// Where `led` has a mean, `out` gets it, and `led` what is `lead` times as far from `before` beyond it; of unit norm
// for cosine. `out` may be `before`.
inline void ahead(const float* before, float lead, bool cosine, int64_t d, float* out, float* led) {
    for (int64_t t = 0; t < d; t++) {
        const float mean = led[t], was = before[t];
        led[t] = mean + lead * (mean - was);
        out[t] = mean;
    }
    if (!cosine) return;
    const double square = dot64(led, led, d);
    const float scale = square > 0 ? static_cast<float>(1 / std::sqrt(square)) : 1;
    for (int64_t t = 0; t < d; t++) led[t] *= scale;
}

// Mean of each cluster, scaled to unit norm for cosine, and by how much it lowers the sum of squares; clusters that did
// not change, and those without rows, keep their centroid. Where `led` is given it gets points that lie ahead of the
// means that changed, and what `before` has of others, of those alone that are to come `back`, if that is given. `out`
// may be `before`.
void means(const double* sums, const double* counts, int64_t k, int64_t d, bool cosine, const bool* changed,
           const float* before, float* out, double* explained, float lead, float* led, const bool* back) {
    const int64_t rows = d < 256 ? 16 * (256 / (d + 1) + 1) : 16;  // not so few that asking for more takes longer
    const size_t bytes = static_cast<size_t>(d) * sizeof(float);
    parallel_ranges(k, rows, 3.0 * static_cast<double>(k) * static_cast<double>(d), [&](int64_t first, int64_t end) {
        for (int64_t j = first; j < end; j++) {
            const double* sum = sums + j * d;
            const bool moved = changed == nullptr || changed[j];
            const double square = moved ? dot64(sum, sum, d) : 0, length = cosine ? std::sqrt(square) : 0;
            const double scale = cosine ? length : counts[j];
            if (moved && counts[j] > 0 && scale > 0) {
                explained[j] = cosine ? length : square / scale;
                scaled(sum, 1 / scale, d, (led != nullptr ? led : out) + j * d);
                if (led != nullptr) ahead(before + j * d, lead, cosine, d, out + j * d, led + j * d);
                continue;
            }
            if (moved) explained[j] = 0;
            if (out != before) std::memcpy(out + j * d, before + j * d, bytes);
            if (led != nullptr && (moved || back == nullptr || back[j]))
                std::memcpy(led + j * d, before + j * d, bytes);
        }
    });
}

// Squared norm of each row.
void sqnorms(const Rows& x, double* out) {
    const double values = x.sparse() ? static_cast<double>(x.indptr[x.n] - x.indptr[0])
                                     : static_cast<double>(x.n) * static_cast<double>(x.d);
    parallel_ranges(x.n, 256, 2 * values, [&](int64_t first, int64_t end) {
        for (int64_t i = first; i < end; i++) out[i] = sqnorm64(x, i);
    });
}

constexpr void fill_sums(Table& table) {
    table.survey = survey;
    table.add_rows = add_rows;
    table.means = means;
    table.sqnorms = sqnorms;
}

}  // namespace
}  // namespace fastann

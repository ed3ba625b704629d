// Search of sparse rows among dense centroids: it costs what rows store, not how many columns there are.
//
// Scores |c|^2 - 2 x.c in float32, vectorised over centroids, rule out those that are farther by more than rounding;
// what is left is compared in float64.
#pragma once

#include "buffer.hpp"
#include "lanes.hpp"
#include "lists.hpp"
#include "parallel.hpp"
#include "table.hpp"

namespace fastann {
namespace {

constexpr int64_t COLUMNS_AHEAD = 4;  // stored values whose centroids are asked for before they are needed

// What one sparse row stores.
struct Entries {
    const float* values;
    const int32_t* columns;
    int64_t size;

    Entries(const Rows& x, int64_t i)
        : values(x.data + x.indptr[i]), columns(x.indices + x.indptr[i]), size(x.indptr[i + 1] - x.indptr[i]) {}
};

// Centroids, transposed, with their squared norms.
struct ByColumn {
    const float* values;  // [d, k]
    int64_t k;
    const double* csq;
    const float* csq32;
};

// Scores of a row for V vectors of centroids, from `j` on: their sums stay in registers.
template <int64_t V>
inline void score_part(const Entries& row, const ByColumn& c, int64_t j, float* score) {
    F32 sums[V];
    for (int64_t v = 0; v < V; v++) sums[v] = load<F32>(c.csq32 + j + v * WIDTH);
    for (int64_t q = 0; q < row.size; q++) {
        const float* at = c.values + row.columns[q] * c.k + j;
        const F32 twice = splat(-2 * row.values[q]);
        if (V == 8 && q + COLUMNS_AHEAD < row.size)
            prefetch(c.values + row.columns[q + COLUMNS_AHEAD] * c.k + j, V * WIDTH);
#pragma GCC unroll 8
        for (int64_t v = 0; v < V; v++) sums[v] = fma(twice, load<F32>(at + v * WIDTH), sums[v]);
    }
    for (int64_t v = 0; v < V; v++) store(score + j + v * WIDTH, sums[v]);
}

// Scores of a row for all centroids.
inline void score_row(const Entries& row, const ByColumn& c, float* score) {
    int64_t j = 0;
    for (; j + 8 * WIDTH <= c.k; j += 8 * WIDTH) score_part<8>(row, c, j, score);
    if (j + 4 * WIDTH <= c.k) {
        score_part<4>(row, c, j, score);
        j += 4 * WIDTH;
    }
    for (; j + WIDTH <= c.k; j += WIDTH) score_part<1>(row, c, j, score);
    if (j == c.k) return;
    if (c.k >= WIDTH) return score_part<1>(row, c, c.k - WIDTH, score);  // some of these a second time
    for (j = 0; j < c.k; j++) score[j] = c.csq32[j];
    for (int64_t q = 0; q < row.size; q++) {
        const float *at = c.values + row.columns[q] * c.k, twice = 2 * row.values[q];
        for (j = 0; j < c.k; j++) score[j] -= twice * at[j];
    }
}

// The `m`-th smallest of scores; their number is rounded up to whole vectors. `low` and `places` are room for m.
inline float smallest(const float* score, int64_t k, int64_t m, float* low, int32_t* places) {
    if (m == 1) {
        F32 least_of = splat(HUGE_SCORE);
        for (int64_t j = 0; j < k; j += WIDTH) least_of = least(load<F32>(score + j), least_of);
        return least(least_of);
    }
    for (int64_t t = 0; t < m; t++) low[t] = HUGE_SCORE;
    for (int64_t j = 0; j < k; j += WIDTH) {
        uint32_t hits = below(load<F32>(score + j), splat(low[m - 1]));
        for (; hits != 0; hits &= hits - 1) {
            const float v = score[j + lowest_bit(hits)];
            if (v < low[m - 1]) insert(low, places, m, v, 0);
        }
    }
    return low[m - 1];
}

// Squared distance of a row to centroid `j`, in float64.
inline double exact(const Entries& row, const ByColumn& c, int64_t j) {
    double total = c.csq[j];  // for the columns that the row lacks
    for (int64_t q = 0; q < row.size; q++) {
        const double v = static_cast<double>(c.values[row.columns[q] * c.k + j]);
        const double u = static_cast<double>(row.values[q]) - v;
        total += u * u - v * v;
    }
    return total;
}

// Squared norm of a row, in float64.
inline double square_of(const Entries& row) {
    double square = 0;
    for (int64_t q = 0; q < row.size; q++) {
        square += static_cast<double>(row.values[q]) * static_cast<double>(row.values[q]);
    }
    return square;
}

// Twice the largest rounding error of a score (Higham, Accuracy and Stability of Numerical Algorithms, 3.1): scores
// further apart are in true order. Never zero, as products that are too small for a float32 vanish.
inline float sparse_slack(const Entries& row, double cmax) {
    const double terms = static_cast<double>(row.size + 2) * (2 * std::sqrt(square_of(row) * cmax) + cmax);
    return static_cast<float>(4 * static_cast<double>(UNIT) * terms) + 1e-36f;
}

// The `m` nearest of k >= m centroids, nearest first, equal ones in their order.
void search_sparse(const Rows& x, const float* by_column, int64_t k, const double* csq, int64_t m, int32_t* ids,
                   float* sqdist) {
    const Buffer<float> csq32(k);
    double cmax = 0;
    for (int64_t j = 0; j < k; j++) {
        csq32[j] = static_cast<float>(csq[j]);
        cmax = csq[j] > cmax ? csq[j] : cmax;
    }
    const ByColumn c{by_column, k, csq, csq32};
    const double stored = static_cast<double>(x.indptr[x.n] - x.indptr[0] + x.n);
    parallel_ranges(x.n, 64, stored * static_cast<double>(k + 8), [&](int64_t first, int64_t end) {
        const Buffer<float> score(k + WIDTH, HUGE_SCORE), low(m);
        const Buffer<double> best(m);
        const Buffer<int32_t> near(m);
        for (int64_t i = first; i < end; i++) {
            const Entries row(x, i);
            score_row(row, c, score);
            const F32 limit = splat(smallest(score, k, m, low, near) + sparse_slack(row, cmax));
            for (int64_t t = 0; t < m; t++) {
                best[t] = INFINITE64;
                near[t] = -1;
            }
            for (int64_t j = 0; j < k; j += WIDTH) {
                // Not above the limit, rather than below it, so that NaN is not lost.
                uint32_t hits = ~below(limit, load<F32>(score + j)) & ((uint64_t{1} << WIDTH) - 1);
                for (; hits != 0; hits &= hits - 1) {
                    const int64_t at = j + lowest_bit(hits);
                    const double v = at < k ? exact(row, c, at) : INFINITE64;
                    if (v < best[m - 1]) insert(best.data(), near.data(), m, v, static_cast<int32_t>(at));
                }
            }
            for (int64_t t = 0; t < m; t++) {
                ids[i * m + t] = near[t];
                sqdist[i * m + t] = best[t] > 0 ? static_cast<float>(best[t]) : 0;
            }
        }
    });
}

constexpr void fill_sparse(Table& table) { table.search_sparse = search_sparse; }

}  // namespace
}  // namespace fastann

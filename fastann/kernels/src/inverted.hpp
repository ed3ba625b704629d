// Search of sparse rows among sparse centroids, through the lists of centroids that have each column.
#pragma once

#include "sparse.hpp"

namespace fastann {
namespace {

// Stored values of centroids in a column: how many the lists `c` have there.
inline int64_t listed(const Rows& c, int32_t column) { return c.indptr[column + 1] - c.indptr[column]; }

// The longest list of a row that is not left out, so that those of no longer ones have at most `budget` values. The
// commonest columns are left out first: they discriminate least.
inline int64_t longest_list(const Entries& row, const Rows& c, int64_t budget) {
    int64_t visits = 0, longest = 0;
    for (int64_t q = 0; q < row.size; q++) {
        const int64_t size = listed(c, row.columns[q]);
        visits += size;
        longest = size > longest ? size : longest;
    }
    while (visits > budget && longest > 1) {
        longest /= 2;
        visits = 0;
        for (int64_t q = 0; q < row.size; q++) {
            const int64_t size = listed(c, row.columns[q]);
            visits += size <= longest ? size : 0;
        }
    }
    return longest;
}

// Add the products of a row with the centroids of its lists.
inline void add_products(const Entries& row, const Rows& c, int64_t longest, double* product) {
    for (int64_t q = 0; q < row.size; q++) {
        const int64_t first = c.indptr[row.columns[q]], end = c.indptr[row.columns[q] + 1];
        if (end - first > longest) continue;
        const double v = static_cast<double>(row.values[q]);
        for (int64_t p = first; p < end; p++) product[c.indices[p]] += v * static_cast<double>(c.data[p]);
    }
}

// Make zeros of the products of a row with k centroids, and an ascending list of their `m` least scores |c|^2 - 2 x.c.
inline void take_least(const double* csq, int64_t k, double* product, int64_t m, double* best, int32_t* near) {
    constexpr int64_t HALF = WIDTH / 2;
    for (int64_t t = 0; t < m; t++) {
        best[t] = INFINITE64;
        near[t] = -1;
    }
    int64_t j = 0;
    for (; j + HALF <= k; j += HALF) {
        const F64 score = load<F64>(csq + j) - 2 * load<F64>(product + j);
        store(product + j, F64{});
        for (uint32_t hits = below(score, splat64(best[m - 1])); hits != 0; hits &= hits - 1) {
            const int bit = lowest_bit(hits);
            double some[HALF];
            store(some, score);
            if (some[bit] < best[m - 1]) insert(best, near, m, some[bit], static_cast<int32_t>(j + bit));
        }
    }
    for (; j < k; j++) {
        const double score = csq[j] - 2 * product[j];
        product[j] = 0;
        if (score < best[m - 1]) insert(best, near, m, score, static_cast<int32_t>(j));
    }
}

// Write down the nearest of a row, given their scores.
inline void write_nearest(const Entries& row, int64_t m, const double* best, const int32_t* near, int32_t* ids,
                          float* sqdist) {
    const double square = square_of(row);
    for (int64_t t = 0; t < m; t++) {
        ids[t] = near[t];
        sqdist[t] = best[t] + square > 0 ? static_cast<float>(best[t] + square) : 0;
    }
}

// The `m` nearest of k >= m centroids, nearest first, equal ones in their order. `c`: the transpose of their matrix.
void search_inverted(const Rows& x, const Rows& c, const double* csq, int64_t m, int64_t budget, int32_t* ids,
                     float* sqdist) {
    const int64_t k = c.d;
    // A stored value costs about as much as eight additions, and more for each centroid of its list.
    const double stored = static_cast<double>(x.indptr[x.n] - x.indptr[0]);
    const double mean = c.n > 0 ? static_cast<double>(c.indptr[c.n] - c.indptr[0]) / static_cast<double>(c.n) : 0;
    const double operations = stored * (8 + 4 * mean) + static_cast<double>(x.n) * static_cast<double>(k);
    parallel_ranges(x.n, 64, operations, [&](int64_t first, int64_t end) {
        const Buffer<double> product(k, 0.0), best(m);
        const Buffer<int32_t> near(m);
        for (int64_t i = first; i < end; i++) {
            const Entries row(x, i);
            add_products(row, c, longest_list(row, c, budget), product);
            take_least(csq, k, product, m, best, near);
            write_nearest(row, m, best, near, ids + i * m, sqdist + i * m);
        }
    });
}

constexpr void fill_inverted(Table& table) { table.search_inverted = search_inverted; }

}  // namespace
}  // namespace fastann

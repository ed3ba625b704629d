// The loops of one instruction set: what bindings call. Each subject fills in its own part.
#pragma once

#include <cstdint>

#include "assignment.hpp"
#include "decisions.hpp"
#include "descent.hpp"
#include "dots.hpp"
#include "grouped.hpp"
#include "rows.hpp"
#include "screen/packed.hpp"
#include "visit.hpp"

namespace fastann {

struct Spread;

struct Table {
    // screen/f32.hpp: the search by float32 products
    const Screening* f32;

    // sums.hpp
    void (*survey)(const float* x, int64_t n, int64_t d, int64_t pieces, double* sqnorm, double* sums, int64_t stride);
    void (*add_rows)(const Rows& x, const double* weights, double sign, const int64_t* offsets, const int32_t* order,
                     int64_t k, double* sums, double* mass);
    void (*means)(const double* sums, const double* counts, int64_t k, int64_t d, bool cosine, const bool* changed,
                  const float* before, float* out, double* explained, float lead, float* led, const bool* back);
    void (*sqnorms)(const Rows& x, double* out);

    // pairs.hpp; `csq` are the squared norms of centroids, read for sparse rows only
    void (*rescore)(const Rows& x, const float* c, const double* csq, int64_t m, int32_t* ids, float* sqdist);
    void (*own_sqdist)(const Rows& x, const float* c, const double* csq, const int32_t* labels, double* sqdist);
    void (*runner_up)(const Rows& x, const float* c, const double* csq, const int32_t* labels, const int32_t* ids,
                      int64_t m, int32_t* second, double* sqdist);
    void (*drift)(const float* c, const int32_t* ids, const float* before, int64_t count, int64_t d, float* out);

    // Least and largest of some ids, at most 0 and at least -1.
    void (*range)(const int32_t* ids, int64_t n, int64_t* least, int64_t* most);

    // half.hpp
    void (*widen)(const uint16_t* bits, int64_t n, float* out);

    // bounds.hpp
    bool (*look)(const Visit& v, const float* drift, float caution, uint8_t* status);
    bool (*merge)(const Visit& v, int64_t most, const int32_t* found, const float* found_dist);

    // groups.hpp
    void (*nearest_in_group)(const Rows& x, const int64_t* offsets, const int32_t* order, int64_t groups, const Rows& c,
                             const int64_t* first, const double* within, int32_t* ids, float* sqdist);

    // seeding.hpp
    void (*round_rows)(const float* x, const float* shift, Grouped& g);
    void (*plus_plus)(const Rows& x, const double* weights, double* closest, const Grouped& g, const int64_t* first,
                      const double* uniform, int64_t trials, Dots dots, int64_t* picks);
    void (*hear)(const Rows& x, double* closest, const Grouped& g, const int64_t* picks, const int64_t* first,
                 Dots dots);

    // start.hpp
    int64_t (*greedy)(const float* x, int64_t n, int64_t d, const double* weights, int64_t k, int64_t trials,
                      const double* uniform, int64_t* picks);

    // assign.hpp
    void (*assign)(const Assignment& assignment);

    // project.hpp: out[i * m + j] is the product of row i of x and row j of c
    void (*project)(const float* x, int64_t n, int64_t d, const float* c, int64_t m, float* out);

    // gradient.hpp
    void (*pair_scores)(const Rows& x, const Rows& prototypes, const PrototypePairs& pairs, bool euclidean, float* out);
    void (*descend)(const Rows& x, const Rows& prototypes, float* values, const PrototypePairs& pairs,
                    const float* slope, const Adam& adam);

    // duplicates.hpp
    void (*unit)(const float* x, int64_t n, int64_t d, float* out, double* norm);
    void (*borders)(const float* x, int64_t n, int64_t d, const int32_t* labels, const float* own, const float* c,
                    int64_t k, float half, int64_t m, int32_t* ids, int32_t* count);
    void (*first_near)(const FirstNear& search);

    // inverted.hpp
    void (*search_inverted)(const Rows& x, const Rows& c, const double* csq, int64_t m, int64_t budget, int32_t* ids,
                            float* sqdist);

    // spread_search.hpp
    void (*search_spread)(const Rows& x, const Rows& c, const Rows& lists, const Spread& spread, const double* csq,
                          int64_t m, int32_t* ids, float* sqdist);

    // sparse.hpp
    void (*search_sparse)(const Rows& x, const float* by_column, int64_t k, const double* csq, int64_t m, int32_t* ids,
                          float* sqdist);
};

extern const Table baseline_table, avx2_table, avx512_table, neon_table;

}  // namespace fastann

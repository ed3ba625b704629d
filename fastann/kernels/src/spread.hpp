// Sparse centroids by column, laid out for a screen that needs little memory: see spread_search.hpp.
#pragma once

#include <cstdint>

#include "rows.hpp"

namespace fastann {

// Values are rounded to bfloat16. A column that many centroids have is long: it is spread out over all centroids, 0
// where one lacks it, so that adding it is a loop over vectors. The others are short: lists of places and values.
struct Spread {
    static constexpr int64_t GROUP = 32;   // centroids of a long column that share 16 words
    static constexpr int64_t STEP = 128;   // of which a block is a multiple
    static constexpr int64_t MOST = 8192;  // of a block: their scores stay in the nearest cache

    // `c`: the centroids, `lists`: their transpose, `csq`: their squared norms.
    Spread(const Rows& c, const Rows& lists, const double* csq);
    ~Spread();
    Spread(const Spread&) = delete;
    Spread& operator=(const Spread&) = delete;

    bool usable;         // whether columns of every centroid ascend, and values can be counted; else this is empty
    int64_t block = 0;   // centroids of a block
    int64_t blocks = 0;  // the last one is filled up with centroids that are far from everything
    int64_t longs = 0;   // long columns
    int64_t shorts = 0;  // short columns that a centroid has
    int32_t* place;      // [columns]: number of a long column, -2 - number of a short one, -1 if no centroid has it
    float* half;         // [blocks * block]: half the squared norms
    uint32_t* words;     // [blocks, longs, block / 2]: word w of a group has its values w (lower half) and w + 16
    uint32_t* starts;    // [blocks, shorts + 1]: where each short column begins in `entries`
    uint32_t* entries;   // a value (lower half) and its centroid's place in the block (upper half)
    double largest = 0;  // at least the norm of any centroid, rounded
    double moved = 0;    // at most how far rounding moved one

 private:
    char* memory_ = nullptr;  // of all the arrays

    void measure(const Rows& c, const double* csq);
    int64_t fill(const Rows& lists, int64_t b, int64_t at);
};

}  // namespace fastann

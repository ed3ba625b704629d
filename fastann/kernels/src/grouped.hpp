// Rows in groups, as k-means++ draws them: see seeding.hpp.
#pragma once

#include <cstdint>

#include "rows.hpp"

namespace fastann {

// The rows of group g stand at the places offsets[g]..offsets[g + 1]; row order[q] stands at place q. They may be some
// rows of a table, which go by their number among these: `row` tells which row of the table that is. Dense rows may be
// rounded to int8, side by side by place, each to multiples of its own step: float32 rows are four times as large, and
// lie apart.
struct Grouped {
    // `labels`: the group of each of `n` rows, negative for none. `rows`: which rows of the table; null for all.
    Grouped(const int32_t* labels, const int32_t* rows, int64_t n, int64_t groups, int64_t d, bool rounded);
    ~Grouped();
    Grouped(const Grouped&) = delete;
    Grouped& operator=(const Grouped&) = delete;

    int64_t row(int64_t i) const { return rows != nullptr ? rows[i] : i; }
    int64_t row_at(int64_t q) const { return row(order[q]); }

    int64_t n, groups, d;
    int64_t table = 0;   // rows of the table
    int64_t stride = 0;  // int8 that a rounded row takes, the last ones being zeros; 0 where rows are not rounded
    int64_t* offsets;    // [groups + 1]
    int32_t* order;      // [n]
    int32_t* rows;       // [n]: as given, or null
    int32_t* place;      // [n]: the inverse of `order`, where rows are rounded
    int8_t* multiples;   // [n, stride]: rows less a shift that all have in common
    float *step, *square, *moved;  // [n]: squared norm of the rounded row, and at most how far rounding moved it

 private:
    char* memory_ = nullptr;  // of all the arrays
};

}  // namespace fastann

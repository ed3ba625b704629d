// What a visit of rows that keep lists of candidate centroids goes by, see bounds.hpp.
#pragma once

#include <cstdint>

#include "rows.hpp"

namespace fastann {

constexpr int64_t LISTED = 8;                         // candidates of a row
constexpr uint8_t SKIP = 0, LOOKED = 1, WANTING = 2;  // what became of a row, see `look`

struct Visit {
    Rows x;
    const int32_t* order;  // the rows to visit
    int64_t count;
    const float* c;
    int64_t k;
    const double* weights;  // null: 1 each
    int rule;
    const double* mass;
    // Of each row:
    int32_t* labels;
    float* sqdist;
    int32_t* ids;  // LISTED each
    float* second;
    float* beyond;
};

}  // namespace fastann

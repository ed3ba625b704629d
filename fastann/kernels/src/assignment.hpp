// A table of rows, and centroids that they go to.
#pragma once

#include <cstdint>

namespace fastann {

constexpr int64_t LANES = 16;  // rows side by side in memory,
constexpr int64_t BOXED = 64;  // and in a box; there are as many as fill a whole number of boxes

struct Assignment {
    const float* lanes;     // [n / LANES, d, LANES], with zeros after the last row
    const float* boxes;     // [n / BOXED, 2, d], least and largest value of their rows
    const float* x;         // [n, d]
    const double* weights;  // or null: 1 each
    int64_t n, d;
    const float* c;  // [k, d]
    int64_t k;
    int32_t* ids;                       // [2, n], the nearest and the second nearest; or null
    float* sqdist;                      // likewise
    int64_t* compared;                  // pairs of a row and a centroid
    double *sums, *mass, *loss, *cost;  // [k, d]; [k]; [k], what the second nearest cost more; [1]
};

}  // namespace fastann

// What gradient descent on prototypes goes by, see gradient.hpp.
#pragma once

#include <cstdint>

namespace fastann {

// Pairs of a row and a prototype, grouped by prototype; a row has `m` places.
struct PrototypePairs {
    const int64_t* first;
    const int32_t* places;
    int64_t m;
};

// Adam's parameters and moments; these are held as the prototypes' values are.
struct Adam {
    bool euclidean;
    float scale, rate, least;
    float *mean, *square;
    int64_t* taken;
};

}  // namespace fastann

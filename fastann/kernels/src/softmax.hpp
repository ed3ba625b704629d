// The cross-entropy of rows over the prototypes near to them, and its derivatives.
#pragma once

#include <cstdint>

namespace fastann {

// See `coefficients` in bindings/gradient.cpp. Rows have `m` prototypes each, of which some may be missing: -1.
struct Softmax {
    const int32_t* ids;
    int64_t b, m;
    const int32_t *owner, *labels;
    const double* weights;
    double scale, smooth;
    const float* score;
    float* slope;
    double* loss;  // two a row
};

void cross_entropy(const Softmax& s);

}  // namespace fastann

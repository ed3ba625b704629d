// The loops of one instruction set: what bindings call. Each subject fills in its own part.
#pragma once

#include <cstdint>

#include "rows.hpp"
#include "screen/packed.hpp"

namespace fastann {

struct Table {
    // screen/f32.hpp: the search by float32 products
    const Screening* f32;

    // sums.hpp
    void (*survey)(const float* x, int64_t n, int64_t d, int64_t pieces, double* sqnorm, double* sums);
};

extern const Table baseline_table, avx2_table, avx512_table, neon_table;

}  // namespace fastann

// Squared distances of one row to several vectors at once: the row is loaded once, and no sum waits for another.
#pragma once

#include "lanes.hpp"

namespace fastann {
namespace {

// The sums of eight vectors.
inline void sum_eight(const F32 (&v)[8], float* out) {
#if defined(__AVX2__) && FASTANN_WIDTH >= 8
    __m256 half[8];
    for (int64_t j = 0; j < 8; j++) {
#if FASTANN_WIDTH == 16
        half[j] =
            _mm512_maskz_extractf32x8_ps(0xff, __m512(v[j]), 0) + _mm512_maskz_extractf32x8_ps(0xff, __m512(v[j]), 1);
#else
        half[j] = __m256(v[j]);
#endif
    }
    // Pairs of neighbours are added, twice; what is left of a vector are two sums, in its lower and its upper half.
    const __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(half[0], half[1]), _mm256_hadd_ps(half[2], half[3]));
    const __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(half[4], half[5]), _mm256_hadd_ps(half[6], half[7]));
    _mm256_storeu_ps(out, _mm256_permute2f128_ps(a, b, 0x20) + _mm256_permute2f128_ps(a, b, 0x31));
#else
    for (int64_t j = 0; j < 8; j++) out[j] = sum(v[j]);
#endif
}

// Squared L2 distances, in float32, of `x` to the first N of eight vectors; `out` has room for eight.
template <int64_t N>
inline void several_sqdist32(const float* x, const float* const (&c)[8], int64_t d, float* out) {
    F32 sums[8] = {};
    int64_t t = 0;
    for (; t + WIDTH <= d; t += WIDTH) {
        const F32 v = load<F32>(x + t);
#pragma GCC unroll 8
        for (int64_t j = 0; j < N; j++) {
            const F32 u = v - load<F32>(c[j] + t);
            sums[j] = fma(u, u, sums[j]);
        }
    }
    if (t < d) {
        const F32 v = load_first(x + t, d - t);
#pragma GCC unroll 8
        for (int64_t j = 0; j < N; j++) {
            const F32 u = v - load_first(c[j] + t, d - t);
            sums[j] = fma(u, u, sums[j]);
        }
    }
    sum_eight(sums, out);
}

}  // namespace
}  // namespace fastann

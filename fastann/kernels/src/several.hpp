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

inline void sum_eight(const I32 (&v)[8], int32_t* out) {
#if defined(__AVX2__) && FASTANN_WIDTH >= 8
    __m256i half[8];
    for (int64_t j = 0; j < 8; j++) {
#if FASTANN_WIDTH == 16
        half[j] = _mm256_add_epi32(_mm512_castsi512_si256(__m512i(v[j])), _mm512_extracti64x4_epi64(__m512i(v[j]), 1));
#else
        half[j] = __m256i(v[j]);
#endif
    }
    const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(half[0], half[1]), _mm256_hadd_epi32(half[2], half[3]));
    const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(half[4], half[5]), _mm256_hadd_epi32(half[6], half[7]));
    const __m256i low = _mm256_permute2x128_si256(a, b, 0x20), high = _mm256_permute2x128_si256(a, b, 0x31);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_add_epi32(low, high));
#else
    for (int64_t j = 0; j < 8; j++) out[j] = (v[j][0] + v[j][2]) + (v[j][1] + v[j][3]);
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

// The same to the first `count` of eight vectors, one at least.
inline void sqdist32_to(const float* x, const float* const (&c)[8], int64_t count, int64_t d, float* out) {
    if (count > 6) {
        several_sqdist32<8>(x, c, d, out);
    } else if (count > 5) {
        several_sqdist32<6>(x, c, d, out);
    } else if (count > 4) {
        several_sqdist32<5>(x, c, d, out);
    } else if (count > 2) {
        several_sqdist32<4>(x, c, d, out);
    } else {
        several_sqdist32<2>(x, c, d, out);
    }
}

}  // namespace
}  // namespace fastann

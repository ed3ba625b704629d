// Vectors of the instruction set that a file is compiled for, and the few sums that are made of them.
//
// FASTANN_WIDTH is the number of float32 in a vector: 4, 8 or 16. What is summed in float64 decides labels and means,
// so it is summed in the same order whatever the width: in eight lanes, value t in lane t % 8, multiplied and then
// added, never fused. Sums in float32 only screen: they may differ between instruction sets.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__x86_64__) || defined(_M_X64)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace fastann {
namespace {

constexpr int64_t WIDTH = FASTANN_WIDTH;
constexpr float HUGE_SCORE = 3e38f;  // larger than any score or distance of real rows
constexpr float INFINITE = std::numeric_limits<float>::infinity();
constexpr double INFINITE64 = std::numeric_limits<double>::infinity();
constexpr float UNIT = 5.9604644775390625e-8f;  // 2^-24: the largest relative rounding error of a float32

typedef float F32 __attribute__((vector_size(4 * FASTANN_WIDTH)));
typedef int32_t I32 __attribute__((vector_size(4 * FASTANN_WIDTH)));
typedef double F64 __attribute__((vector_size(4 * FASTANN_WIDTH)));     // half as many
typedef float HalfF32 __attribute__((vector_size(2 * FASTANN_WIDTH)));  // as many as F64

template <class V, class T>
inline V load(const T* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

template <class V, class T>
inline void store(T* p, V v) {
    std::memcpy(p, &v, sizeof v);
}

inline F32 splat(float x) { return x - F32{}; }
inline F64 splat64(double x) { return x - F64{}; }
inline I32 splat32(int32_t x) { return x - I32{}; }

// a * b + c, rounded once where the CPU can.
inline F32 fma(F32 a, F32 b, F32 c) {
#if defined(__AVX512F__) && FASTANN_WIDTH == 16
    return F32(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c)));
#elif defined(__FMA__) && FASTANN_WIDTH == 8
    return F32(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c)));
#elif defined(__ARM_NEON) && FASTANN_WIDTH == 4
    return F32(vfmaq_f32(float32x4_t(c), float32x4_t(a), float32x4_t(b)));
#else
    return a * b + c;
#endif
}

inline F32 least(F32 a, F32 b) { return a < b ? a : b; }
inline F32 largest(F32 a, F32 b) { return a > b ? a : b; }

// Bit t says whether a[t] < b[t].
inline uint32_t below(F32 a, F32 b) {
#if defined(__AVX512F__) && FASTANN_WIDTH == 16
    return _mm512_cmp_ps_mask(__m512(a), __m512(b), _CMP_LT_OQ);
#elif defined(__AVX2__) && FASTANN_WIDTH == 8
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(__m256(a), __m256(b), _CMP_LT_OQ)));
#elif defined(__SSE2__) && FASTANN_WIDTH == 4
    return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmplt_ps(__m128(a), __m128(b))));
#elif defined(__ARM_NEON) && defined(__aarch64__) && FASTANN_WIDTH == 4
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcltq_f32(float32x4_t(a), float32x4_t(b)), bits));
#else
    uint32_t bits = 0;
    for (int64_t t = 0; t < WIDTH; t++) bits |= static_cast<uint32_t>(a[t] < b[t]) << t;
    return bits;
#endif
}

// Index of the lowest set bit of a number that is not zero.
inline int lowest_bit(uint32_t x) { return __builtin_ctz(x); }
inline int count_bits(uint32_t x) { return __builtin_popcount(x); }

#if defined(__AVX2__)
inline float sum_of_eight(__m256 v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
#endif

inline float sum(F32 v) {
#if defined(__AVX512F__) && FASTANN_WIDTH == 16
    return _mm512_reduce_add_ps(__m512(v));
#elif defined(__AVX2__) && FASTANN_WIDTH == 8
    return sum_of_eight(__m256(v));
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}

inline float least(F32 v) {
#if defined(__AVX512F__) && FASTANN_WIDTH == 16
    return _mm512_reduce_min_ps(__m512(v));
#elif defined(__AVX2__) && FASTANN_WIDTH == 8
    const __m128 four = _mm_min_ps(_mm256_castps256_ps128(__m256(v)), _mm256_extractf128_ps(__m256(v), 1));
    const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)));
#else
    const float a = v[0] < v[2] ? v[0] : v[2], b = v[1] < v[3] ? v[1] : v[3];
    return a < b ? a : b;
#endif
}

// Sum of eight doubles in `8 / (WIDTH / 2)` vectors, always in this order: (0+4 + 2+6) + (1+5 + 3+7).
inline double sum_of_eight(const F64* part) {
#if defined(__AVX512F__) && FASTANN_WIDTH == 16
    const __m256d four =
        _mm256_add_pd(_mm512_castpd512_pd256(__m512d(part[0])), _mm512_extractf64x4_pd(__m512d(part[0]), 1));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
#elif defined(__AVX2__) && FASTANN_WIDTH == 8
    const __m256d four = _mm256_add_pd(__m256d(part[0]), __m256d(part[1]));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
#else
    const F64 two = (part[0] + part[2]) + (part[1] + part[3]);
    return two[0] + two[1];
#endif
}

// As many doubles as a vector has, from floats or doubles. (GCC 12 converts the halves of a vector one by one.)
inline F64 wide(const float* p) {
#if defined(__AVX512F__) && FASTANN_WIDTH == 16
    return F64(_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p)));
#elif defined(__AVX2__) && FASTANN_WIDTH == 8
    return F64(_mm256_cvtps_pd(_mm_loadu_ps(p)));
#else
    return __builtin_convertvector(load<HalfF32>(p), F64);
#endif
}
inline F64 wide(const double* p) { return load<F64>(p); }

// The floats nearest to some doubles.
inline HalfF32 narrow(F64 v) {
#if defined(__AVX512F__) && FASTANN_WIDTH == 16
    return HalfF32(_mm512_maskz_cvtpd_ps(0xff, __m512d(v)));
#elif defined(__AVX2__) && FASTANN_WIDTH == 8
    return HalfF32(_mm256_cvtpd_ps(__m256d(v)));
#else
    return __builtin_convertvector(v, HalfF32);
#endif
}

// The first `count` < WIDTH values at `p`, then zeros.
inline F32 load_first(const float* p, int64_t count) {
#if defined(__AVX512F__) && FASTANN_WIDTH == 16
    return F32(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p));
#elif defined(__AVX2__) && FASTANN_WIDTH == 8
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return F32(_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes)));
#else
    float some[WIDTH] = {};
    for (int64_t t = 0; t < count; t++) some[t] = p[t];
    return load<F32>(some);
#endif
}

// A float64 sum of `d` terms in sixteen lanes. `term(t)` gives the terms from t on, as a vector, `one(t)` a single one.
// The lanes take all whole groups of eight; at most seven terms are left, and added one after the other.
template <class Term, class One>
inline double sum64(int64_t d, const Term& term, const One& one) {
    constexpr int64_t HALF = WIDTH / 2, EIGHT = 8 / HALF;
    double rest = 0;
    if (d < 8) {
        for (int64_t t = 0; t < d; t++) rest += one(t);
        return rest;
    }
    // Lanes start with a term rather than with zero: few columns wait for every addition.
    F64 lane[2 * EIGHT];
    int64_t t = 8;
    if (d < 16) {
        for (int64_t v = 0; v < EIGHT; v++) lane[v] = term(v * HALF);
    } else {
        for (int64_t v = 0; v < 2 * EIGHT; v++) lane[v] = term(v * HALF);
        for (t = 16; t + 16 <= d; t += 16) {
            for (int64_t v = 0; v < 2 * EIGHT; v++) lane[v] += term(t + v * HALF);
        }
        if (t + 8 <= d) {
            for (int64_t v = 0; v < EIGHT; v++) lane[v] += term(t + v * HALF);
            t += 8;
        }
        for (int64_t v = 0; v < EIGHT; v++) lane[v] += lane[v + EIGHT];
    }
    for (; t < d; t++) rest += one(t);
    return sum_of_eight(lane) + rest;
}

// Product of two vectors, float32 or float64, in float64.
template <class T>
inline double dot64(const T* a, const T* b, int64_t d) {
    return sum64(
        d, [&](int64_t t) { return wide(a + t) * wide(b + t); },
        [&](int64_t t) { return static_cast<double>(a[t]) * static_cast<double>(b[t]); });
}

// Squared L2 distance of two float32 vectors, in float64.
inline double sqdist64(const float* a, const float* b, int64_t d) {
    return sum64(
        d,
        [&](int64_t t) {
            const F64 u = wide(a + t) - wide(b + t);
            return u * u;
        },
        [&](int64_t t) {
            const double u = static_cast<double>(a[t]) - static_cast<double>(b[t]);
            return u * u;
        });
}

// Product of two float32 vectors, in float32.
inline float dot32(const float* a, const float* b, int64_t d) {
    F32 one = {}, two = {};
    int64_t t = 0;
    for (; t + 2 * WIDTH <= d; t += 2 * WIDTH) {
        one = fma(load<F32>(a + t), load<F32>(b + t), one);
        two = fma(load<F32>(a + t + WIDTH), load<F32>(b + t + WIDTH), two);
    }
    if (t + WIDTH <= d) {
        one = fma(load<F32>(a + t), load<F32>(b + t), one);
        t += WIDTH;
    }
    if (t < d) two = fma(load_first(a + t, d - t), load_first(b + t, d - t), two);
    return sum(one + two);
}

// Squared L2 distance of two float32 vectors, in float32.
inline float sqdist32(const float* a, const float* b, int64_t d) {
#if defined(__AVX512F__) && FASTANN_WIDTH == 16
    if (d <= 8) {  // half a vector is summed in fewer steps
        const __mmask8 some = static_cast<__mmask8>((1u << d) - 1);
        const __m256 u = _mm256_sub_ps(_mm256_maskz_loadu_ps(some, a), _mm256_maskz_loadu_ps(some, b));
        return sum_of_eight(_mm256_mul_ps(u, u));
    }
#endif
    F32 one = {}, two = {};
    int64_t t = 0;
    for (; t + 2 * WIDTH <= d; t += 2 * WIDTH) {
        const F32 u = load<F32>(a + t) - load<F32>(b + t), v = load<F32>(a + t + WIDTH) - load<F32>(b + t + WIDTH);
        one = fma(u, u, one);
        two = fma(v, v, two);
    }
    if (t + WIDTH <= d) {
        const F32 u = load<F32>(a + t) - load<F32>(b + t);
        one = fma(u, u, one);
        t += WIDTH;
    }
    if (t < d) {
        const F32 u = load_first(a + t, d - t) - load_first(b + t, d - t);
        two = fma(u, u, two);
    }
    return sum(one + two);
}

// Bit t says whether a[t] < b[t].
inline uint32_t below(F64 a, F64 b) {
#if defined(__AVX512F__) && FASTANN_WIDTH == 16
    return _mm512_cmp_pd_mask(__m512d(a), __m512d(b), _CMP_LT_OQ);
#elif defined(__AVX2__) && FASTANN_WIDTH == 8
    return static_cast<uint32_t>(_mm256_movemask_pd(_mm256_cmp_pd(__m256d(a), __m256d(b), _CMP_LT_OQ)));
#else
    uint32_t bits = 0;
    for (int64_t t = 0; t < WIDTH / 2; t++) bits |= static_cast<uint32_t>(a[t] < b[t]) << t;
    return bits;
#endif
}

// Ask the CPU to bring in the cache lines of `d` floats.
inline void prefetch(const float* p, int64_t d) {
    for (int64_t t = 0; t < d; t += 16) __builtin_prefetch(p + t);
}

// The same, no farther than to the second cache: for what is wanted so much later that the first one would lose it.
inline void prefetch_early(const float* p, int64_t d) {
    for (int64_t t = 0; t < d; t += 16) __builtin_prefetch(p + t, 0, 2);
}

}  // namespace
}  // namespace fastann

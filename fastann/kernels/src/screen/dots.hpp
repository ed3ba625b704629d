// Products of a row of int8 with up to eight others, by instructions that multiply and add up four at a time.
//
// These take one operand without a sign: 128 is added to the row, and 128 times the sum of each other row taken off. No
// sum overflows up to 65,536 columns, so that the products are exact.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace fastann {
namespace {

template <class Product, int64_t N>
inline void dots_of(const int8_t* row, const int8_t* others, int64_t stride, const int32_t* off, int32_t* out) {
    __m256i sums[8] = {};
    for (int64_t t = 0; t < stride; t += 32) {
        const __m256i signless =
            _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + t)), _mm256_set1_epi8(-128));
#pragma GCC unroll 8
        for (int64_t j = 0; j < N; j++) {
            const void* other = others + j * stride + t;
            sums[j] = Product::add(sums[j], signless, _mm256_loadu_si256(static_cast<const __m256i*>(other)));
        }
    }
    // Pairs of neighbours are added, twice; what is left of a vector are two sums, in its lower and its upper half.
    const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[4], sums[5]), _mm256_hadd_epi32(sums[6], sums[7]));
    const __m256i low = _mm256_permute2x128_si256(a, b, 0x20), high = _mm256_permute2x128_si256(a, b, 0x31);
    const __m256i all =
        _mm256_sub_epi32(_mm256_add_epi32(low, high), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(off)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), all);
}

// See ../dots.hpp.
template <class Product>
void dots(const int8_t* row, const int8_t* others, int64_t stride, int64_t count, const int32_t* off, int32_t* out) {
    if (count > 6) {
        dots_of<Product, 8>(row, others, stride, off, out);
    } else if (count > 4) {
        dots_of<Product, 6>(row, others, stride, off, out);
    } else if (count > 2) {
        dots_of<Product, 4>(row, others, stride, off, out);
    } else {
        dots_of<Product, 2>(row, others, stride, off, out);
    }
}

}  // namespace
}  // namespace fastann

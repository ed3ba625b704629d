// float16 to float32, by the instruction that CPUs have for it, on all threads: NumPy converts one value at a time,
// more slowly than a disk reads them.
#pragma once

#include "lanes.hpp"
#include "parallel.hpp"
#include "table.hpp"

namespace fastann {
namespace {

// The float32 that the bits of a float16 mean.
inline float widened_half(uint16_t bits) {
#if defined(__ARM_NEON) && defined(__aarch64__)
    __fp16 half;
    std::memcpy(&half, &bits, 2);
    return static_cast<float>(half);
#elif defined(__F16C__)
    return _cvtsh_ss(bits);
#else
    // The exponent is moved to where float32 has it. Numbers below the smallest normal one have no leading 1: it is put
    // there, and taken off again, in float32.
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, rest = static_cast<uint32_t>(bits & 0x7fff) << 13;
    const uint32_t exponent = rest & 0x0f800000;
    uint32_t word = rest + 0x38000000;               // 127 - 15 exponents
    if (exponent == 0x0f800000) word += 0x38000000;  // infinity and NaN
    float value;
    if (exponent == 0) {
        word += 0x00800000;
        std::memcpy(&value, &word, 4);
        value -= 6.103515625e-05f;  // 2^-14
        std::memcpy(&word, &value, 4);
    }
    if (word > 0x7f800000) word |= 0x00400000;  // NaN is quiet, as CPUs make it
    word |= sign;
    std::memcpy(&value, &word, 4);
    return value;
#endif
}

void widen(const uint16_t* bits, int64_t n, float* out) {
    constexpr int64_t PIECE = 1 << 15;
    parallel_ranges(n, PIECE, static_cast<double>(n), [&](int64_t first, int64_t end) {
        int64_t i = first;
#if defined(__AVX512F__) && FASTANN_WIDTH == 16
        for (; i + 16 <= end; i += 16) _mm512_storeu_ps(out + i, _mm512_cvtph_ps(load<__m256i>(bits + i)));
#elif defined(__F16C__) && FASTANN_WIDTH == 8
        for (; i + 8 <= end; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(load<__m128i>(bits + i)));
#elif defined(__ARM_NEON) && defined(__aarch64__)
        for (; i + 4 <= end; i += 4) vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(bits + i))));
#endif
        for (; i < end; i++) out[i] = widened_half(bits[i]);
    });
}

constexpr void fill_half(Table& table) { table.widen = widen; }

}  // namespace
}  // namespace fastann

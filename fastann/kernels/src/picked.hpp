// Comparing rows with rows by their rounding to int8 (`Grouped`), a matter of memory more than of arithmetic.
//
// How far rounding moved a row is known: by the triangle inequality that tells which rows are certainly farther than
// the centre they have, and where it could change a distance by more than an eighth, the caller is told. All of it is
// computed in an order that does not depend on the instructions.
#pragma once

#include "buffer.hpp"
#include "dots.hpp"
#include "grouped.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "rowops.hpp"
#include "several.hpp"

namespace fastann {
namespace {

#if defined(__AVX512F__) && FASTANN_WIDTH == 16
constexpr int64_t BYTES_AT_ONCE = 32;

// Each lane of `sum` + two products of int8 with int16.
inline I32 dot_two(I32 sum, const int8_t* a, const int16_t* b) {
    const __m512i wide =
        _mm512_maskz_cvtepi8_epi16(0xffffffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)));
    return I32(_mm512_add_epi32(__m512i(sum), _mm512_madd_epi16(wide, _mm512_loadu_si512(b))));
}
#elif defined(__AVX2__) && FASTANN_WIDTH == 8
constexpr int64_t BYTES_AT_ONCE = 16;

inline I32 dot_two(I32 sum, const int8_t* a, const int16_t* b) {
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a)));
    return I32(_mm256_add_epi32(__m256i(sum),
                                _mm256_madd_epi16(wide, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)))));
}
#else
constexpr int64_t BYTES_AT_ONCE = WIDTH;

typedef int8_t I8 __attribute__((vector_size(FASTANN_WIDTH)));
typedef int16_t I16 __attribute__((vector_size(2 * FASTANN_WIDTH)));

inline I32 dot_two(I32 sum, const int8_t* a, const int16_t* b) {
    return sum + __builtin_convertvector(load<I8>(a), I32) * __builtin_convertvector(load<I16>(b), I32);
}
#endif

// Round the row at each place of `g` to int8.
void round_rows(const float* x, const float* shift, Grouped& g) {
    const int64_t d = g.d, count = g.offsets[g.groups];
    parallel_ranges(count, 1024, 8.0 * static_cast<double>(count * d), [&](int64_t first, int64_t end) {
        const Buffer<float> shifted(g.stride, 0), whole(g.stride, 0);
        for (int64_t q = first; q < end; q++) {
            prefetch(x + g.row_at(q + 2 < end ? q + 2 : end - 1) * d, d);
            const float* row = x + g.row_at(q) * d;
            float top = 0;
            for (int64_t t = 0; t < d; t++) {
                const float v = row[t] - shift[t], size = v < 0 ? -v : v;
                shifted[t] = v;
                top = top > size ? top : size;
            }
            // Rounded to zero are rows so large that they are found to have moved beyond all measure, and rows so small
            // that 127 / top is infinite: these hardly move by it.
            if (!(top < 1e30f && top > 1e-30f)) top = 0;
            const float step = top / 127, inverse = step > 0 ? 127 / top : 0;
            for (int64_t t = 0; t < g.stride; t++) {  // beyond the columns all is zero
                whole[t] = static_cast<float>(static_cast<int32_t>(shifted[t] * inverse + 128.5f) - 128);
                shifted[t] -= step * whole[t];
            }
            int8_t* out = g.multiples + q * g.stride;
            for (int64_t t = 0; t < g.stride; t++) out[t] = static_cast<int8_t>(whole[t]);
            g.step[q] = step;
            g.square[q] = step * step * static_cast<float>(dot64(whole.data(), whole.data(), g.stride));
            // Beside the rounding to multiples, that of the subtraction.
            g.moved[q] = std::sqrt(static_cast<float>(dot64(shifted.data(), shifted.data(), g.stride)));
            g.moved[q] += 4 * UNIT * std::sqrt(g.square[q]) + 1e-30f;
        }
    });
}

// A distance counts as known where it is so many times as large as what rounding may have changed.
constexpr float COARSE = 16;

typedef float Eight __attribute__((vector_size(32)));
typedef int32_t Whole __attribute__((vector_size(32)));

inline Eight root(Eight v) {
#if defined(__AVX2__)
    return Eight(_mm256_sqrt_ps(__m256(v)));
#else
    for (int64_t t = 0; t < 8; t++) v[t] = std::sqrt(v[t]);
    return v;
#endif
}

// Bit t says whether v[t] is negative, which a NaN is not.
inline uint32_t signs(Eight v) {
#if defined(__AVX2__)
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(__m256(v), _mm256_setzero_ps(), _CMP_LT_OQ)));
#else
    uint32_t bits = 0;
    for (int64_t t = 0; t < 8; t++) bits |= static_cast<uint32_t>(v[t] < 0) << t;
    return bits;
#endif
}

// What comes of comparing up to eight rows, one a lane, with each of up to eight others.
struct Nearness {
    float sqdist[8][8];  // between the rounded rows: of other t to row r at [t][r]
    uint32_t near[8];    // bit r: row r may be nearer to it than it was so far
    uint32_t coarse[8];  // bit r: rounding is too coarse to tell how near
    uint32_t any;        // bit r: row r is near to some
};

// Up to eight rows that others are compared with: as they are where there is a product of int8, or widened to int16.
class Picked {
 public:
    Picked(const Grouped& g, Dots dots)
        : g_(g), dots_(dots), plain_(dots != nullptr ? 8 * g.stride : 0), wide_(dots == nullptr ? 8 * g.stride : 0) {}

    // Take the rows at some places.
    void take(const int64_t* places, int64_t count) {
        count_ = count;
        for (int64_t t = 0; t < count; t++) {
            const int64_t q = places[t];
            step_[t] = -2 * g_.step[q];
            square_[t] = g_.square[q];
            moved_[t] = g_.moved[q];
            copy(t, g_.multiples + q * g_.stride);
        }
    }

    // Compare them with the rows at q..q + rows - 1, of which `within` [8] has the squared distances so far.
    void compare(int64_t q, int64_t rows, const double* within, Nearness& out) const {
        int32_t dots[8][8] = {};  // of other t and row r at [t][r]
        for (int64_t r = 0; r < rows; r++) {
            int32_t some[8];
            products(g_.multiples + (q + r) * g_.stride, some);
            for (int64_t t = 0; t < 8; t++) dots[t][r] = some[t];
        }
        Eight known;
        for (int64_t r = 0; r < 8; r++) known[r] = static_cast<float>(within[r]);
        const Eight step = load<Eight>(g_.step + q), square = load<Eight>(g_.square + q);
        const Eight rounded = load<Eight>(g_.moved + q), limit = root(known) * (1 + 4 * UNIT);
        const uint32_t there = (1u << rows) - 1, measured = signs(known - 1e36f);
        out.any = 0;
        for (int64_t t = 0; t < count_; t++) {
            const Eight both = square + square_[t], moved = rounded + moved_[t];
            const Eight rough = both + __builtin_convertvector(load<Whole>(dots[t]), Eight) * (step * step_[t]);
            store(out.sqdist[t], rough);
            // What is computed of exact sums is rounded a few times; where it may have overflowed, nothing is certain.
            const Eight error = both * (32 * UNIT), coarse = moved * moved * (COARSE * COARSE) + COARSE * error;
            const Eight far = moved + limit;
            const uint32_t finite = signs(rough - 1e37f);
            const uint32_t farther = signs(far * far * (1 + 4 * UNIT) + error - rough) & finite & measured;
            out.coarse[t] = ~(signs(coarse - rough) & finite);
            out.near[t] = ~farther & there;
            out.any |= out.near[t];
        }
    }

 private:
    // Row t is that of such multiples.
    void copy(int64_t t, const int8_t* row) {
        if (dots_ == nullptr) {
            for (int64_t s = 0; s < g_.stride; s++) wide_[t * g_.stride + s] = row[s];
            return;
        }
        int32_t sum = 0;
        for (int64_t s = 0; s < g_.stride; s++) {
            plain_[t * g_.stride + s] = row[s];
            sum += row[s];
        }
        off_[t] = 128 * sum;
    }

    // Products of a row with all of them.
    void products(const int8_t* row, int32_t* out) const {
        if (dots_ != nullptr) {
            dots_(row, plain_, g_.stride, count_, off_, out);
        } else if (count_ > 6) {
            widened<8>(row, out);
        } else if (count_ > 4) {
            widened<6>(row, out);
        } else if (count_ > 2) {
            widened<4>(row, out);
        } else {
            widened<2>(row, out);
        }
    }

    template <int64_t N>
    void widened(const int8_t* row, int32_t* out) const {
        I32 sums[8] = {};
        for (int64_t t = 0; t < g_.stride; t += BYTES_AT_ONCE) {
#pragma GCC unroll 8
            for (int64_t j = 0; j < N; j++) sums[j] = dot_two(sums[j], row + t, wide_ + j * g_.stride + t);
        }
        sum_eight(sums, out);
    }

    const Grouped& g_;
    const Dots dots_;  // or null
    const Buffer<int8_t> plain_;
    const Buffer<int16_t> wide_;
    int64_t count_ = 0;
    int32_t off_[8] = {};                   // what `dots_` is to take off
    float step_[8], square_[8], moved_[8];  // step_: times -2
};

}  // namespace
}  // namespace fastann

// Products of rows with columns in float32, a tile of rows x columns at a time, all of whose sums stay in registers.
//
// Columns are packed in strips of STRIP, dimension by dimension: strip s holds, for t = 0..d, the STRIP values that its
// columns have in dimension t. Rows are read where they lie.
#pragma once

#include "lanes.hpp"

namespace fastann {
namespace {

constexpr int64_t STRIP = 2 * WIDTH;
// Rows of a tile: with two vectors of sums for each, one of a row's value and two of columns, all registers are used.
#if defined(__AVX512F__)
constexpr int64_t TILE = 14;
#elif defined(__ARM_NEON)
constexpr int64_t TILE = 12;
#else
constexpr int64_t TILE = 6;
#endif

// Above WIDE dimensions products are summed in parts of PART, which bounds their rounding.
constexpr int64_t WIDE = 4096, PART = 1024;

// Number of float32 of `k` packed columns.
inline int64_t packed_size(int64_t k, int64_t d) { return (k + STRIP - 1) / STRIP * STRIP * d; }

// Largest rounding error of a product of two vectors of unit norm (Higham, Accuracy and Stability of Numerical
// Algorithms, 3.1), in units of `UNIT`: the number of terms that are added one after the other, and one.
inline float terms(int64_t d) { return static_cast<float>((d <= WIDE ? d : PART + d / PART) + 1); }

// Pack column `j` of a strip at `out`: `values` are its d dimensions.
inline void pack_column(const float* values, int64_t d, int64_t j, float* out) {
    for (int64_t t = 0; t < d; t++) out[t * STRIP + j] = values[t];
}

// Pack the `count` <= STRIP columns c[0..count), d float32 each, as one strip; missing ones are zeros.
inline void pack_strip(const float* c, int64_t count, int64_t d, float* out) {
    for (int64_t j = count; j < STRIP; j++) {
        for (int64_t t = 0; t < d; t++) out[t * STRIP + j] = 0;
    }
    for (int64_t j = 0; j < count; j++) pack_column(c + j * d, d, j, out);
}

// Add to `sums` the products of R rows, `stride` apart, with a strip, over dimensions first..last-1.
template <int64_t R>
inline void add_tile(const float* x, int64_t stride, const float* strip, int64_t first, int64_t last,
                     F32 (&sums)[R][2]) {
    for (int64_t t = first; t < last; t++) {
        const F32 left = load<F32>(strip + t * STRIP), right = load<F32>(strip + t * STRIP + WIDTH);
#pragma GCC unroll 16
        for (int64_t r = 0; r < R; r++) {
            const F32 v = splat(x[r * stride + t]);
            sums[r][0] = fma(v, left, sums[r][0]);
            sums[r][1] = fma(v, right, sums[r][1]);
        }
    }
}

// Products of R rows with a strip.
template <int64_t R>
inline void tile(const float* x, int64_t stride, const float* strip, int64_t d, F32 (&sums)[R][2]) {
    for (int64_t r = 0; r < R; r++) sums[r][0] = sums[r][1] = F32{};
    if (d <= WIDE) {
        add_tile<R>(x, stride, strip, 0, d, sums);
        return;
    }
    for (int64_t first = 0; first < d; first += PART) {
        F32 part[R][2] = {};
        add_tile<R>(x, stride, strip, first, first + PART < d ? first + PART : d, part);
        for (int64_t r = 0; r < R; r++) {
            sums[r][0] += part[r][0];
            sums[r][1] += part[r][1];
        }
    }
}

// Hand the products of R rows with a strip to take(row, left half, right half).
template <int64_t R, class Take>
inline void tile_of(const float* x, int64_t stride, const float* strip, int64_t d, int64_t row, const Take& take) {
    F32 sums[R][2];
    tile<R>(x + row * stride, stride, strip, d, sums);
#pragma GCC unroll 16
    for (int64_t r = 0; r < R; r++) take(row + r, sums[r][0], sums[r][1]);
}

// The same for `n` rows, in tiles: whole ones, then of four rows, then of one.
template <class Take>
inline void tiles_of(const float* x, int64_t n, int64_t stride, const float* strip, int64_t d, const Take& take) {
    int64_t i = 0;
    for (; i + TILE <= n; i += TILE) tile_of<TILE>(x, stride, strip, d, i, take);
    for (; i + 4 <= n; i += 4) tile_of<4>(x, stride, strip, d, i, take);
    for (; i < n; i++) tile_of<1>(x, stride, strip, d, i, take);
}

// Products of `n` rows, `stride` apart, with the columns of strips 0..strips-1: that of row i with column j is
// out[i * out_stride + j], for all strips * STRIP columns, padding included.
inline void multiply(const float* x, int64_t n, int64_t stride, const float* packed, int64_t strips, int64_t d,
                     float* out, int64_t out_stride) {
    for (int64_t s = 0; s < strips; s++) {
        tiles_of(x, n, stride, packed + s * STRIP * d, d, [&](int64_t i, F32 left, F32 right) {
            store(out + i * out_stride + s * STRIP, left);
            store(out + i * out_stride + s * STRIP + WIDTH, right);
        });
    }
}

}  // namespace
}  // namespace fastann

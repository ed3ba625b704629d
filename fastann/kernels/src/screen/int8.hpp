// Screening with int8 products: four times the rate of float32 where the CPU adds them to int32 itself (Intel since
// 2019, AMD since 2022), twice and more where it has AVX2 alone.
//
// Every row, and every centroid, has a scale of its own, its largest coordinate over 127 (or 63); how far rounding
// moved it is computed on the way, about 0.8% (or 1.6%) of its norm in embeddings. Sums are exact, and one certificate
// serves every instruction that multiplies bytes. Instructions multiply unsigned by signed bytes: rows are stored with
// 128 (or 64) added, which a sum that starts at -128 (or -64) times the sum of the centroid takes back.
//
// A strip holds the starts of its sums (int32), -2 times the scales, the squared norms of the rounded centroids, and
// then its centroids, four dimensions at a time: [4 dimensions][column][4], int8.
//
// `Product` is the instruction, under one of the two structs below: the file that includes this one defines it. With
// `add` it adds the products of `STEPS` times four dimensions to the lanes of a sum: of each lane's four unsigned bytes
// in rows[u] with its four signed ones in columns[u], for u = 0..STEPS-1.
#pragma once

#include "takers.hpp"

namespace fastann {
namespace {

// Products that are added in int32.
struct EightBits {
    static constexpr int32_t TOP = 127;  // the largest multiple of its scale that a coordinate is rounded to
    static constexpr int64_t STEPS = 1, PAYS_FROM = 0;
};

// Products that are added in int16 first, two and two by an instruction that saturates. Without the eighth bit, two
// such sums have room, so that only every second is widened.
struct SevenBits {
    static constexpr int32_t TOP = 63;
    static constexpr int64_t STEPS = 2, PAYS_FROM = 1 << 15;
    static_assert(2 * STEPS * (2 * TOP + 1) * TOP <= 32767, "sums must have room in int16");
};

template <class Product>
class Int8Rows {
    static constexpr int32_t TOP = Product::TOP, ZERO = TOP + 1;  // what is added to rows
    static constexpr int64_t STEPS = Product::STEPS;

 public:
    static constexpr bool ROUNDED = true;
    static constexpr int64_t COLUMNS = STRIP, CONSTANTS = 3 * STRIP * 4, STEP = 4 * STEPS, STEP_BYTES = STEP * STRIP;
    static constexpr int64_t PAYS_FROM = Product::PAYS_FROM;

    Int8Rows(const Packed& packed, int64_t count)
        : d_(packed.d),
          stride_((packed.d + STEP - 1) / STEP * STEP),
          count_(count),
          rows_(count * stride_),
          scale_(count),
          shifted_(packed.d + 16) {}

    void pack(const Packed& packed, int64_t i, const float* row, float& xsq, float& error) {
        const Rounded r = round(row, packed.shift, d_, shifted_, rows_ + i * stride_);
        for (int64_t t = d_; t < stride_; t++) rows_[i * stride_ + t] = ZERO;
        scale_[i] = r.step;
        xsq = r.step * r.step * static_cast<float>(r.square);
        error = r.moved;
    }

    template <class Taker>
    void screen(const Packed& packed, int64_t first, int64_t last, Taker& taker) const {
        screen(packed, first, last, taker, count_, [](int64_t p) { return p; });
    }

    template <class Taker>
    void screen_some(const Packed& packed, int64_t first, int64_t last, Taker& taker, const int32_t* some,
                     int64_t count) const {
        screen(packed, first, last, taker, count, [&](int64_t p) { return static_cast<int64_t>(some[p]); });
    }

    static void pack_centroid(Packed& packed, int64_t s, int64_t j, const float* c) {
        char* strip = packed.strip(s);
        int32_t* start = reinterpret_cast<int32_t*>(strip) + j;
        float *scale = reinterpret_cast<float*>(strip) + STRIP + j, *square = scale + STRIP;
        int8_t* to = reinterpret_cast<int8_t*>(strip) + CONSTANTS + 4 * j;
        if (c == nullptr) {  // the rest of the column is zeros
            *square = HUGE_SCORE;
            return;
        }
        const Buffer<float> shifted(packed.d + 16);
        const Buffer<uint8_t> bytes(packed.d + 16);
        const Rounded r = round(c, packed.shift, packed.d, shifted, bytes);
        *start = -ZERO * r.total;
        *scale = -2 * r.step;
        *square = r.step * r.step * static_cast<float>(r.square);
        packed.moved[s * STRIP + j] = r.moved;
        packed.norm[s * STRIP + j] = r.step * std::sqrt(static_cast<float>(r.square));
        for (int64_t t = 0; t < packed.d; t++) to[t / 4 * 4 * STRIP + t % 4] = static_cast<int8_t>(bytes[t] - ZERO);
    }

 private:
    static constexpr int64_t BLOCK = WIDTH == 16 ? 8 : 4;  // rows that share the loads of a strip

    // A point rounded to multiples of `step`: their sum, that of their squares, and at most how far the point moved.
    struct Rounded {
        float step;
        int32_t total, square;
        float moved;
    };

    // Write the multiples, plus ZERO, to `out`.
    static Rounded round(const float* x, const float* shift, int64_t d, float* shifted, uint8_t* out) {
        F32 tops = {};
        int64_t first = 0;
        for (; first + WIDTH <= d; first += WIDTH) {
            const F32 v = load<F32>(x + first) - load<F32>(shift + first);
            store(shifted + first, v);
            tops = largest(tops, largest(v, -v));
        }
        float top = -least(-tops);
        for (; first < d; first++) {
            const float v = x[first] - shift[first], size = v < 0 ? -v : v;
            shifted[first] = v;
            top = top > size ? top : size;
        }
        const float step = top / TOP, inverse = step > 0 ? TOP / top : 0;
        int32_t total = 0, square = 0;
        float off[16] = {};
        for (int64_t t = 0; t < d; t++) {
            const int32_t u = static_cast<int32_t>(shifted[t] * inverse + (ZERO + 0.5f));  // positive: to nearest
            out[t] = static_cast<uint8_t>(u);
            const int32_t q = u - ZERO;
            total += q;
            square += q * q;
        }
        int64_t t = 0;
        for (; t + 16 <= d; t += 16) {
            for (int64_t l = 0; l < 16; l++) {
                const float e = shifted[t + l] - step * static_cast<float>(static_cast<int32_t>(out[t + l]) - ZERO);
                off[l] += e * e;
            }
        }
        for (; t < d; t++) {
            const float e = shifted[t] - step * static_cast<float>(static_cast<int32_t>(out[t]) - ZERO);
            off[0] += e * e;
        }
        for (int64_t l = 1; l < 16; l++) off[0] += off[l];
        // Beside the rounding to multiples, that of the subtraction and of these sums.
        const float moved = std::sqrt(off[0]) * (1 + static_cast<float>(d) * UNIT) +
                            4 * UNIT * step * std::sqrt(static_cast<float>(square));
        return {step, total, square, moved};
    }

    template <class Taker, class Name>
    void screen(const Packed& packed, int64_t first, int64_t last, Taker& taker, int64_t count,
                const Name& name) const {
        for (int64_t s = first; s < last; s++) {
            for (int64_t p = 0; p < count; p += BLOCK) {
                const int64_t rows = count - p < BLOCK ? count - p : BLOCK;
                if (rows == 1) {
                    block<1>(packed.strip(s), s * STRIP, p, rows, taker, name);
                } else if (rows <= BLOCK / 2) {
                    block<BLOCK / 2>(packed.strip(s), s * STRIP, p, rows, taker, name);
                } else {
                    block<BLOCK>(packed.strip(s), s * STRIP, p, rows, taker, name);
                }
            }
        }
    }

    // Score R rows from place `p` on against a strip; of the last ones only `count`, which are repeated.
    template <int64_t R, class Taker, class Name>
    void block(const char* strip, int64_t column, int64_t p, int64_t count, Taker& taker, const Name& name) const {
        const int32_t* start = reinterpret_cast<const int32_t*>(strip);
        const float* constants = reinterpret_cast<const float*>(strip) + STRIP;
        const char* columns = strip + CONSTANTS;
        const uint8_t* row[R];
        I32 sums[R][2];
#pragma GCC unroll 8
        for (int64_t r = 0; r < R; r++) {
            row[r] = rows_ + name(p + (r < count ? r : count - 1)) * stride_;
            sums[r][0] = load<I32>(start);
            sums[r][1] = load<I32>(start + WIDTH);
        }
        for (int64_t t = 0; t < stride_; t += STEP) {
            I32 left[STEPS], right[STEPS];
#pragma GCC unroll 2
            for (int64_t u = 0; u < STEPS; u++) {
                left[u] = load<I32>(columns + (t + 4 * u) * STRIP);
                right[u] = load<I32>(columns + (t + 4 * u) * STRIP + 4 * WIDTH);
            }
#pragma GCC unroll 8
            for (int64_t r = 0; r < R; r++) {
                I32 v[STEPS];
#pragma GCC unroll 2
                for (int64_t u = 0; u < STEPS; u++) {
                    int32_t four;
                    std::memcpy(&four, row[r] + t + 4 * u, 4);
                    v[u] = splat32(four);
                }
                sums[r][0] = Product::add(sums[r][0], v, left);
                sums[r][1] = Product::add(sums[r][1], v, right);
            }
        }
        // Unrolled, here as above: sums that are picked by a variable would live in memory, and be stored at every
        // step.
#pragma GCC unroll 8
        for (int64_t r = 0; r < R; r++) {
            if (r >= count) break;
            const int64_t i = name(p + r);
            const F32 scale = splat(scale_[i]), limit = splat(taker.limit[i]);
            const F32 left = score(sums[r][0], constants, scale), right = score(sums[r][1], constants + WIDTH, scale);
            const uint32_t hits = below(left, limit) | below(right, limit) << WIDTH;
            if (hits != 0) {
                float scores[STRIP];
                store(scores, left);
                store(scores + WIDTH, right);
                taker.take(i, hits, scores, column);
            }
        }
    }

    static F32 score(I32 sums, const float* constants, F32 row_scale) {
        const F32 products = __builtin_convertvector(sums, F32) * load<F32>(constants);
        return fma(products, row_scale, load<F32>(constants + STRIP));
    }

    int64_t d_, stride_, count_;
    Buffer<uint8_t> rows_;
    Buffer<float> scale_, shifted_;
};

}  // namespace
}  // namespace fastann

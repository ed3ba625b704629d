// Screening with float32 products: any CPU's.
//
// A strip holds the squared norms of its centroids, and then -2 times them, dimension by dimension, as products.hpp has
// it.
#pragma once

#include "takers.hpp"

namespace fastann {
namespace {

class F32Rows {
 public:
    static constexpr bool ROUNDED = false;  // operands are those given, to float32 rounding
    static constexpr int64_t COLUMNS = STRIP, CONSTANTS = 4 * STRIP, STEP = 1, STEP_BYTES = 4 * STRIP;
    static constexpr int64_t PAYS_FROM = 0;

    // Room for `count` rows. They are an odd number of cache lines apart, so that rows of a tile do not meet in one
    // set.
    F32Rows(const Packed& packed, int64_t count)
        : d_(packed.d), stride_(((packed.d + 15) / 16 | 1) * 16), count_(count), rows_(count * stride_) {}

    // Take in row `i`.
    void pack(const Packed& packed, int64_t i, const float* row, float& xsq, float& error) {
        float* to = rows_ + i * stride_;
        float total = 0;
        int64_t t = 0;
        F32 sums = {};
        for (; t + WIDTH <= d_; t += WIDTH) {
            const F32 v = load<F32>(row + t) - load<F32>(packed.shift + t);
            store(to + t, v);
            sums = fma(v, v, sums);
        }
        for (; t < d_; t++) {
            to[t] = row[t] - packed.shift[t];
            total += to[t] * to[t];
        }
        xsq = total + sum(sums);
        error = 1.01f * UNIT * std::sqrt(xsq);
    }

    // Screen all rows against strips first..last-1.
    template <class Taker>
    void screen(const Packed& packed, int64_t first, int64_t last, Taker& taker) const {
        screen(packed, first, last, taker, rows_, count_, [](int64_t i) { return i; });
    }

    // Screen some of the rows.
    template <class Taker>
    void screen_some(const Packed& packed, int64_t first, int64_t last, Taker& taker, const int32_t* some,
                     int64_t count) const {
        const Buffer<float> gathered(count * stride_);
        for (int64_t p = 0; p < count; p++) {
            std::memcpy(gathered + p * stride_, rows_ + some[p] * stride_, static_cast<size_t>(d_) * sizeof(float));
        }
        screen(packed, first, last, taker, gathered, count, [&](int64_t p) { return static_cast<int64_t>(some[p]); });
    }

    static void pack_centroid(Packed& packed, int64_t s, int64_t j, const float* c) {
        float* strip = reinterpret_cast<float*>(packed.strip(s));
        double square = 0;
        for (int64_t t = 0; t < packed.d; t++) {
            const float v = c == nullptr ? 0 : c[t] - packed.shift[t];
            square += static_cast<double>(v) * static_cast<double>(v);
            strip[(t + 1) * STRIP + j] = -2 * v;
        }
        const float norm = static_cast<float>(std::sqrt(square));
        strip[j] = c == nullptr ? HUGE_SCORE : static_cast<float>(square);
        packed.norm[s * STRIP + j] = norm;
        packed.moved[s * STRIP + j] = 1.01f * UNIT * norm;
    }

 private:
    template <class Taker, class Name>
    void screen(const Packed& packed, int64_t first, int64_t last, Taker& taker, const float* rows, int64_t count,
                const Name& name) const {
        for (int64_t s = first; s < last; s++) {
            const float* strip = reinterpret_cast<const float*>(packed.strip(s));
            const F32 left_square = load<F32>(strip), right_square = load<F32>(strip + WIDTH);
            tiles_of(rows, count, stride_, strip + STRIP, d_, [&](int64_t p, F32 left, F32 right) {
                const int64_t i = name(p);
                left += left_square;
                right += right_square;
                const F32 limit = splat(taker.limit[i]);
                const uint32_t hits = below(left, limit) | below(right, limit) << WIDTH;
                if (hits != 0) {
                    float scores[STRIP];
                    store(scores, left);
                    store(scores + WIDTH, right);
                    taker.take(i, hits, scores, s * STRIP);
                }
            });
        }
    }

    int64_t d_, stride_, count_;
    Buffer<float> rows_;
};

}  // namespace
}  // namespace fastann

// Screening with tiles of bfloat16 (Intel Xeon since 2023): products at several times the float32 rate.
//
// `Tiles` are the instructions, or their twin: a block of 32 x 32 sums that is begun, multiplied into and written.
// bfloat16 moves a coordinate by at most 2^-9 of it; by how much it moved a point is computed on the way. Operands are
// stored tile by tile, in the order in which they are read, 64-byte aligned (unaligned ones cost a factor of three). A
// step is 32 dimensions, the length of a tile's row:
//
//     rows       [block of 32 rows][step of 32 dimensions][32 rows][32 dimensions]
//     centroids  [strip of 32     ]{its squared norms, [step][left, right 16][16 pairs of dimensions][16][2]}, times -2
#pragma once

#include "takers.hpp"

namespace fastann {
namespace {

// The float that the bits of a bfloat16 mean.
inline float widened(uint16_t bits) {
    const uint32_t word = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}

// The nearest bfloat16, ties to even.
inline uint16_t rounded(float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    return static_cast<uint16_t>((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

template <class Tiles>
class Bf16Rows {
 public:
    static constexpr bool ROUNDED = true;
    static constexpr int64_t COLUMNS = 32, CONSTANTS = 128, STEP = 32, STEP_BYTES = 2048;
    static constexpr int64_t PAYS_FROM = 0;

    Bf16Rows(const Packed& packed, int64_t count)
        : d_(packed.d),
          steps_((packed.d + STEP - 1) / STEP),
          count_(count),
          rows_((count + BLOCK - 1) / BLOCK * steps_ * BLOCK * STEP, 0) {}

    void pack(const Packed& packed, int64_t i, const float* row, float& xsq, float& error) {
        float square[16] = {}, off[16] = {};
        uint16_t* to = place(rows_, i);
        for (int64_t k = 0; k < steps_; k++, to += BLOCK * STEP) {
            const int64_t first = k * STEP, size = d_ - first < STEP ? d_ - first : STEP;
            if (size == STEP) {
                for (int64_t half = 0; half < STEP; half += 16) {
                    for (int64_t l = 0; l < 16; l++) {
                        round_one(row[first + half + l] - packed.shift[first + half + l], to[half + l], square[l],
                                  off[l]);
                    }
                }
            } else {
                for (int64_t t = 0; t < size; t++) {
                    round_one(row[first + t] - packed.shift[first + t], to[t], square[t % 16], off[t % 16]);
                }
            }
        }
        for (int64_t l = 1; l < 16; l++) {
            square[0] += square[l];
            off[0] += off[l];
        }
        xsq = square[0];
        error = moved(off[0], xsq);
    }

    template <class Taker>
    void screen(const Packed& packed, int64_t first, int64_t last, Taker& taker) const {
        screen(packed, first, last, taker, rows_, count_, [](int64_t p) { return p; });
    }

    template <class Taker>
    void screen_some(const Packed& packed, int64_t first, int64_t last, Taker& taker, const int32_t* some,
                     int64_t count) const {
        const Buffer<uint16_t> gathered((count + BLOCK - 1) / BLOCK * steps_ * BLOCK * STEP);
        for (int64_t p = 0; p < count; p++) {
            const uint16_t* from = place(rows_, some[p]);
            uint16_t* to = place(gathered, p);
            for (int64_t k = 0; k < steps_; k++) {
                std::memcpy(to + k * BLOCK * STEP, from + k * BLOCK * STEP, STEP * sizeof(uint16_t));
            }
        }
        screen(packed, first, last, taker, gathered, count, [&](int64_t p) { return static_cast<int64_t>(some[p]); });
    }

    static void pack_centroid(Packed& packed, int64_t s, int64_t j, const float* c) {
        float* square = reinterpret_cast<float*>(packed.strip(s)) + j;
        uint16_t* to = reinterpret_cast<uint16_t*>(packed.strip(s) + CONSTANTS) + (j / 16) * 512 + (j % 16) * 2;
        if (c == nullptr) {  // the rest of the column is zeros
            *square = HUGE_SCORE;
            return;
        }
        float total = 0, off = 0;
        for (int64_t t = 0; t < packed.d; t++) {
            uint16_t bits;
            round_one(c[t] - packed.shift[t], bits, total, off);
            to[t / 32 * 1024 + t % 32 / 2 * 32 + t % 2] = rounded(-2 * widened(bits));  // exact
        }
        *square = total;
        packed.norm[s * COLUMNS + j] = std::sqrt(total);
        packed.moved[s * COLUMNS + j] = moved(off, total);
    }

 private:
    static constexpr int64_t BLOCK = 32;  // rows per block
    static constexpr int64_t STEPS = 16;  // steps at a time: 16 x 2 KiB of a strip stay in the first-level cache

    static void round_one(float value, uint16_t& bits, float& square, float& off) {
        bits = rounded(value);
        const float v = widened(bits);
        square += v * v;
        off += (value - v) * (value - v);
    }

    // Beside the rounding to bfloat16, that of the subtraction and of these sums; and tiles take numbers below 2^-126,
    // which float32 still has, for zero.
    static float moved(float off, float square) {
        return std::sqrt(off) * 1.0001f + 4 * UNIT * std::sqrt(square) + 1e-34f;
    }

    uint16_t* place(uint16_t* rows, int64_t i) const {
        return rows + i / BLOCK * steps_ * BLOCK * STEP + i % BLOCK * STEP;
    }

    // Scores of rows of the block before, that are looked at while the tiles multiply the next.
    template <class Taker, class Name>
    struct Pending {
        Taker& taker;
        const Name& name;
        const float* scores = nullptr;
        int64_t row = 0, end = 0, column = 0;

        // Look at up to `count` of them.
        void look(int64_t count) {
            for (const int64_t stop = row + count < end ? row + count : end; row < stop; row++, scores += BLOCK) {
                const int64_t i = name(row);
                const F32 limit = splat(taker.limit[i]);
                uint32_t hits = 0;
                for (int64_t v = 0; v < BLOCK; v += WIDTH) hits |= below(load<F32>(scores + v), limit) << v;
                if (hits != 0) taker.take(i, hits, scores, column);
            }
        }
    };

    // Rows of more than `STEPS` steps are multiplied at most `STEPS` steps at a time, for all rows before the next
    // steps, so that this part of the strip stays in the first-level cache; the partial sums wait in `sums`. The scores
    // of one block are looked at while the tiles multiply the next, a few rows per step, so that vector work and
    // mispredicted branches hide behind the tiles.
    template <class Taker, class Name>
    void screen(const Packed& packed, int64_t first, int64_t last, Taker& taker, const uint16_t* rows, int64_t count,
                const Name& name) const {
        const int64_t blocks = (count + BLOCK - 1) / BLOCK, visits = (steps_ + STEPS - 1) / STEPS;
        const int64_t length = (steps_ + visits - 1) / visits;
        const Buffer<float> sums(1024 * (blocks > 2 ? blocks : 2));
        Tiles tiles;
        Pending<Taker, Name> pending{taker, name};
        int64_t current = 0;
        for (int64_t s = first; s < last; s++) {
            const float* square = reinterpret_cast<const float*>(packed.strip(s));
            const uint32_t* columns = reinterpret_cast<const uint32_t*>(packed.strip(s) + CONSTANTS);
            for (int64_t visit = 0; visit < visits; visit++) {
                const int64_t k0 = visit * length, k1 = k0 + length < steps_ ? k0 + length : steps_;
                const int64_t share = (BLOCK + k1 - k0 - 1) / (k1 - k0);
                for (int64_t b = 0; b < blocks; b++) {
                    if (visits > 1) current = b * 1024;
                    if (visit == 0) {
                        tiles.init(square);
                    } else {
                        tiles.read(sums + current);
                    }
                    for (int64_t k = k0; k < k1; k++) {
                        tiles.step(rows + (b * steps_ + k) * BLOCK * STEP, columns + k * 512);
                        pending.look(share);
                    }
                    pending.look(BLOCK);  // what steps left over, before sums are overwritten
                    tiles.write(sums + current);
                    if (visit < visits - 1) continue;
                    pending.row = b * BLOCK;
                    pending.end = pending.row + BLOCK < count ? pending.row + BLOCK : count;
                    pending.column = s * COLUMNS;
                    pending.scores = sums + current;
                    if (visits == 1) current = 1024 - current;
                }
            }
        }
        pending.look(BLOCK);
    }

    int64_t d_, steps_, count_;
    Buffer<uint16_t> rows_;
};

}  // namespace
}  // namespace fastann

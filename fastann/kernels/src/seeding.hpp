// Greedy k-means++ (Arthur and Vassilvitskii, 2007) within groups of rows.
//
// A row drawn is compared with all rows of its group, again and again, to find the few to which it would be the nearest
// centre. That is a matter of memory, so many centres are drawn from rows rounded to int8 (`Grouped`). How far rounding
// moved a row is known: by the triangle inequality that tells which rows are certainly farther than the centre they
// have, and where it could change a distance by more than an eighth, float64 decides. All of it is computed in an order
// that does not depend on the instructions, so that the same rows are drawn everywhere.
#pragma once

#include <utility>

#include "buffer.hpp"
#include "grouped.hpp"
#include "groups.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "rowops.hpp"
#include "several.hpp"
#include "table.hpp"

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
            if (!(top < 1e30f)) top = 0;  // so that it is found to have moved beyond all measure
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

// Up to eight rows that others are compared with, widened to int16.
class Picked {
 public:
    explicit Picked(const Grouped& g) : g_(g), wide_(8 * g.stride) {}

    // Take the rows at some places.
    void take(const int64_t* places, int64_t count) {
        count_ = count;
        for (int64_t t = 0; t < 8; t++) {
            const int64_t q = places[t < count ? t : 0];
            step_[t] = -2 * g_.step[q];
            square_[t] = g_.square[q];
            moved_[t] = g_.moved[q];
            if (t < count) {
                for (int64_t s = 0; s < g_.stride; s++) wide_[t * g_.stride + s] = g_.multiples[q * g_.stride + s];
            }
        }
    }

    // Compare them with the row at a place: `sqdist` gets the squared distances between rounded rows. Bit t of what is
    // returned says whether places[t] may be nearer to it than a squared distance, bit t + 8 that rounding is too
    // coarse to tell how near.
    uint32_t compare(int64_t q, double within, float* sqdist) const {
        const uint32_t all = (1u << count_) - 1;
        int32_t dots[8];
        if (count_ > 6) {
            products<8>(q, dots);
        } else if (count_ > 4) {
            products<6>(q, dots);
        } else if (count_ > 2) {
            products<4>(q, dots);
        } else {
            products<2>(q, dots);
        }
        const Eight both = load<Eight>(square_) + g_.square[q], moved = load<Eight>(moved_) + g_.moved[q];
        const Eight products = __builtin_convertvector(load<Whole>(dots), Eight);
        const Eight rough = both + products * (load<Eight>(step_) * g_.step[q]);
        store(sqdist, rough);
        // What is computed of exact sums is rounded a few times; where it may have overflowed, nothing is certain.
        const Eight error = both * (32 * UNIT), coarse = moved * moved * (COARSE * COARSE) + COARSE * error;
        const uint32_t fine = signs(coarse - rough) & signs(rough - 1e37f);
        if (!(within < 1e36)) return all | (~fine & all) << 8;
        const Eight far = moved + std::sqrt(static_cast<float>(within)) * (1 + 4 * UNIT);
        const uint32_t farther = signs(far * far * (1 + 4 * UNIT) + error - rough) & signs(rough - 1e37f);
        return (~farther & all) | (~fine & all) << 8;
    }

 private:
    template <int64_t N>
    void products(int64_t q, int32_t* out) const {
        const int8_t* row = g_.multiples + q * g_.stride;
        I32 sums[8] = {};
        for (int64_t t = 0; t < g_.stride; t += BYTES_AT_ONCE) {
#pragma GCC unroll 8
            for (int64_t j = 0; j < N; j++) sums[j] = dot_two(sums[j], row + t, wide_ + j * g_.stride + t);
        }
        sum_eight(sums, out);
    }

    const Grouped& g_;
    const Buffer<int16_t> wide_;
    int64_t count_ = 0;
    float step_[8], square_[8], moved_[8];  // step_: times -2
};

// Rows of the largest group.
inline int64_t largest(const Grouped& g) {
    int64_t most = 0;
    for (int64_t j = 0; j < g.groups; j++) {
        const int64_t rows = g.offsets[j + 1] - g.offsets[j];
        most = rows > most ? rows : most;
    }
    return most;
}

// A row drawn with probability proportional to its `mass`, whose sum is `total`, by a uniform number; -1 if all is
// zero.
inline int64_t draw(const double* mass, int64_t rows, double total, double u) {
    if (!(total > 0)) return -1;
    const double at = u * total;
    double seen = 0;
    int64_t last = -1;
    for (int64_t q = 0; q < rows; q++) {
        if (!(mass[q] > 0)) continue;
        seen += mass[q];
        last = q;
        if (at < seen) return q;
    }
    return last;
}

// Rows that come nearer to their closest centre if some row becomes one: which, and how near.
struct Nearer {
    const Buffer<int32_t> rows;
    const Buffer<double> sqdist;
    int64_t count = 0;

    explicit Nearer(int64_t most) : rows(most), sqdist(most) {}
};

// Draws the centres of one group after the other. Rows go by their number in the group.
class Seeding {
 public:
    // `most`: rows of the largest group.
    Seeding(const Rows& x, const Grouped& g, const double* weights, double* closest, int64_t most)
        : x_(x),
          g_(g),
          weights_(weights),
          closest_(closest),
          weight_(most),
          near_(most),
          mass_(most),
          some_(most),
          bits_(most),
          rough_(g.stride > 0 ? 8 * most + 8 : 0),
          work_(x.sparse() ? x.d : 0, 0),
          picked_(g),
          one_(most),
          other_(most) {}

    // Draw `size` centres out of group `j`. Each is the best of `trials` rows, drawn by the numbers of `uniform`; where
    // `closest` tells of no centre yet, the first is the first one drawn.
    void group(int64_t j, int64_t size, const double* uniform, int64_t trials, int64_t* picks) {
        start_ = g_.offsets[j];
        count_ = g_.offsets[j + 1] - start_;
        bool begun = count_ > 0 && closest_[row(0)] < INFINITE64;
        for (int64_t q = 0; q < count_ && size > 0; q++) {
            weight_[q] = weights_[row(q)];
            near_[q] = closest_[row(q)];
            mass_[q] = begun ? weight_[q] * near_[q] : weight_[q];
        }
        for (int64_t c = 0; c < size; c++) {
            const int64_t best = one(uniform + c * trials, begun ? trials : 1);
            if (best < 0) break;  // every row is a centre already
            picks[c] = row(best);
            begun = true;
        }
        for (int64_t q = 0; q < count_ && size > 0; q++) closest_[row(q)] = near_[q];
    }

 private:
    int64_t row(int64_t q) const { return g_.order[start_ + q]; }

    // Draw one centre, and take note of it; -1 if there is none.
    int64_t one(const double* uniform, int64_t trials) {
        double total = 0, most = -1;
        for (int64_t q = 0; q < count_; q++) total += mass_[q];
        int64_t best = -1;
        Nearer *tried = &one_, *kept = &other_;
        for (int64_t from = 0; from < trials; from += 8) {
            int64_t drawn[8];
            const int64_t count = trials - from < 8 ? trials - from : 8;
            for (int64_t t = 0; t < count; t++) {
                drawn[t] = draw(mass_, count_, total, uniform[from + t]);
                if (drawn[t] < 0) return -1;
            }
            const int64_t found = sieve(drawn, count);
            for (int64_t t = 0; t < count; t++) {
                const double gain = gain_of(drawn[t], t, found, *tried);  // infinite for a first centre
                if (!(gain > most)) continue;
                best = drawn[t];
                most = gain;
                std::swap(tried, kept);
            }
        }
        if (best < 0) return -1;  // weights or distances that are no numbers
        for (int64_t t = 0; t < kept->count; t++) {
            const int64_t q = kept->rows[t];
            near_[q] = kept->sqdist[t];
            mass_[q] = weight_[q] * near_[q];
        }
        near_[best] = mass_[best] = 0;
        return best;
    }

    // List the rows that may be nearer to some of up to eight of them, `picks`, than to their centre; returns how many.
    int64_t sieve(const int64_t* picks, int64_t count) {
        int64_t found = 0;
        if (g_.stride == 0) {
            for (; found < count_; found++) {
                some_[found] = static_cast<int32_t>(found);
                bits_[found] = 0xffff;
            }
            return found;
        }
        int64_t places[8];
        for (int64_t t = 0; t < count; t++) places[t] = start_ + picks[t];
        picked_.take(places, count);
        for (int64_t q = 0; q < count_; q++) {
            const uint32_t bits = picked_.compare(start_ + q, near_[q], rough_ + 8 * found);
            if ((bits & 0xff) == 0) continue;
            if ((bits & bits >> 8) != 0) prefetch(x_.data + g_.row(row(q)) * x_.d, x_.d);
            some_[found] = static_cast<int32_t>(q);
            bits_[found++] = static_cast<uint16_t>(bits);
        }
        return found;
    }

    // What is gained if row `pick`, the trial of that number, becomes a centre: how much closer the rows are then, of
    // the first `found` that were listed.
    double gain_of(int64_t pick, int64_t trial, int64_t found, Nearer& out) {
        const int64_t picked = g_.row(row(pick));
        const float* v = load(x_, picked, work_);
        const double square = x_.sparse() ? sqnorm64(x_, picked) : 0;
        double gain = 0;
        out.count = 0;
        for (int64_t s = 0; s < found; s++) {
            if ((bits_[s] >> trial & 1) == 0) continue;
            const int64_t q = some_[s];
            const bool fine = (bits_[s] >> trial & 0x100) == 0;
            const double far =
                fine ? static_cast<double>(rough_[8 * s + trial]) : sqdist64(x_, g_.row(row(q)), v, square);
            if (!(far < near_[q])) continue;
            gain += weight_[q] > 0 ? weight_[q] * (near_[q] - far) : 0;  // near_ may be infinite
            out.rows[out.count] = static_cast<int32_t>(q);
            out.sqdist[out.count++] = far;
        }
        unload(x_, picked, work_);
        return gain;
    }

    const Rows& x_;
    const Grouped& g_;
    const double* weights_;
    double* closest_;
    const Buffer<double> weight_, near_, mass_;  // of each row: its weight, `closest`, and their product
    const Buffer<int32_t> some_;                 // rows that may be nearer to a trial,
    const Buffer<uint16_t> bits_;                // to which, as `compare` says it,
    const Buffer<float> rough_;                  // and the squared distances between rounded rows
    const Buffer<float> work_;                   // all columns, for sparse rows
    Picked picked_;
    Nearer one_, other_;
    int64_t start_ = 0, count_ = 0;  // places of the group
};

// Draw centres within each group of rows: the picks of group j go to first[j] to first[j + 1] - 1, which hold -1
// before. `closest` has the squared distance of each row to the nearest centre that there is, infinite for a whole
// group where there is none, and is kept up to date. A group is done by one thread.
void plus_plus(const Rows& x, const double* weights, double* closest, const Grouped& g, const int64_t* first,
               const double* uniform, int64_t trials, int64_t* picks) {
    const int64_t pieces = pieces_of(x), most = largest(g);
    const double operations =
        2.0 * static_cast<double>(trials * stored(x)) * static_cast<double>(per_group(first, g.groups));
    parallel(pieces, operations, [&](int64_t piece) {
        Seeding seeding(x, g, weights, closest, most);
        for (int64_t j = piece * g.groups / pieces; j < (piece + 1) * g.groups / pieces; j++) {
            seeding.group(j, first[j + 1] - first[j], uniform + first[j] * trials, trials, picks + first[j]);
        }
    });
}

// Tells groups of new centres, which are rows too.
class Hearing {
 public:
    Hearing(const Rows& x, const Grouped& g, double* closest, int64_t most)
        : x_(x), g_(g), closest_(closest), near_(most), work_(x.sparse() ? x.d : 0, 0), picked_(g) {}

    // Tell the rows at [start, end), all of one group, of `count` centres.
    void tell(int64_t start, int64_t end, const int64_t* picks, int64_t count) {
        if (count == 0) return;
        for (int64_t q = start; q < end; q++) near_[q - start] = closest_[g_.order[q]];
        for (int64_t j = 0; j < count; j += 8) {
            if (g_.stride > 0) {
                eight(start, end, picks + j, count - j < 8 ? count - j : 8);
            } else {
                for (int64_t t = j; t < count && t < j + 8; t++) one(start, end, picks[t]);
            }
        }
        for (int64_t q = start; q < end; q++) closest_[g_.order[q]] = near_[q - start];
    }

 private:
    void eight(int64_t start, int64_t end, const int64_t* picks, int64_t count) {
        int64_t places[8];
        for (int64_t t = 0; t < count; t++) places[t] = g_.place[picks[t]];
        picked_.take(places, count);
        for (int64_t q = start; q < end; q++) {
            float rough[8];
            double& near = near_[q - start];
            const uint32_t bits = picked_.compare(q, near, rough);
            for (uint32_t rest = bits & 0xff; rest != 0; rest &= rest - 1) {
                const int t = lowest_bit(rest);
                const bool fine = (bits >> t & 0x100) == 0;
                const double far =
                    fine ? static_cast<double>(rough[t])
                         : sqdist64(x_.data + g_.row_at(q) * x_.d, x_.data + g_.row(picks[t]) * x_.d, x_.d);
                near = far < near ? far : near;
            }
        }
    }

    void one(int64_t start, int64_t end, int64_t pick) {
        const int64_t picked = g_.row(pick);
        const float* v = load(x_, picked, work_);
        const double square = x_.sparse() ? sqnorm64(x_, picked) : 0;
        for (int64_t q = start; q < end; q++) {
            const double far = sqdist64(x_, g_.row_at(q), v, square);
            near_[q - start] = far < near_[q - start] ? far : near_[q - start];
        }
        unload(x_, picked, work_);
    }

    const Rows& x_;
    const Grouped& g_;
    double* closest_;
    const Buffer<double> near_;  // `closest` of the rows in question, side by side
    const Buffer<float> work_;   // all columns, for sparse rows
    Picked picked_;
};

// Lower `closest` to the squared distances of the rows of group j to the rows picks[first[j]] to
// picks[first[j + 1] - 1], where these are smaller.
void hear(const Rows& x, double* closest, const Grouped& g, const int64_t* picks, const int64_t* first) {
    const int64_t count = g.offsets[g.groups], pieces = pieces_of(x), most = largest(g);
    const double operations = 2.0 * static_cast<double>(stored(x)) * static_cast<double>(per_group(first, g.groups));
    parallel(pieces, operations, [&](int64_t piece) {
        Hearing hearing(x, g, closest, most);
        by_group(g.offsets, g.groups, piece * count / pieces, (piece + 1) * count / pieces,
                 [&](int64_t j, int64_t start, int64_t end) {
                     hearing.tell(start, end, picks + first[j], first[j + 1] - first[j]);
                 });
    });
}

constexpr void fill_seeding(Table& table) {
    table.round_rows = round_rows;
    table.plus_plus = plus_plus;
    table.hear = hear;
}

}  // namespace
}  // namespace fastann

// Greedy k-means++ (Arthur and Vassilvitskii, 2007) within groups of rows.
//
// A row drawn is compared with all rows of its group, again and again, to find the few to which it would be the nearest
// centre. Many centres are drawn from rows rounded to int8 (picked.hpp); where that does not tell, float64 decides. The
// same rows are drawn whatever the instructions.
#pragma once

#include <utility>

#include "buffer.hpp"
#include "grouped.hpp"
#include "groups.hpp"
#include "parallel.hpp"
#include "picked.hpp"
#include "rowops.hpp"
#include "table.hpp"

namespace fastann {
namespace {

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
    Seeding(const Rows& x, const Grouped& g, const double* weights, double* closest, int64_t most, Dots dots)
        : x_(x),
          g_(g),
          weights_(weights),
          closest_(closest),
          weight_(most),
          near_(most + 8),
          mass_(most),
          some_(most),
          bits_(most),
          rough_(g.stride > 0 ? 8 * most + 8 : 0),
          work_(x.sparse() ? x.d : 0, 0),
          picked_(g, dots),
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
        Nearness seen;
        for (int64_t first = 0; first < count_; first += 8) {
            picked_.compare(start_ + first, count_ - first < 8 ? count_ - first : 8, near_ + first, seen);
            for (uint32_t rest = seen.any; rest != 0; rest &= rest - 1) {
                const int r = lowest_bit(rest);
                uint32_t bits = 0;
                for (int64_t t = 0; t < count; t++) {
                    rough_[8 * found + t] = seen.sqdist[t][r];
                    bits |= (seen.near[t] >> r & 1) << t | (seen.coarse[t] >> r & 1) << (t + 8);
                }
                if ((bits & bits >> 8) != 0) prefetch(x_.data + g_.row(row(first + r)) * x_.d, x_.d);
                some_[found] = static_cast<int32_t>(first + r);
                bits_[found++] = static_cast<uint16_t>(bits);
            }
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
               const double* uniform, int64_t trials, Dots dots, int64_t* picks) {
    const int64_t pieces = pieces_of(x), most = largest(g);
    const double operations =
        2.0 * static_cast<double>(trials * stored(x)) * static_cast<double>(per_group(first, g.groups));
    parallel(pieces, operations, [&](int64_t piece) {
        Seeding seeding(x, g, weights, closest, most, dots);
        for (int64_t j = piece * g.groups / pieces; j < (piece + 1) * g.groups / pieces; j++) {
            seeding.group(j, first[j + 1] - first[j], uniform + first[j] * trials, trials, picks + first[j]);
        }
    });
}

// Tells groups of new centres, which are rows too.
class Hearing {
 public:
    Hearing(const Rows& x, const Grouped& g, double* closest, int64_t most, Dots dots)
        : x_(x), g_(g), closest_(closest), near_(most + 8), work_(x.sparse() ? x.d : 0, 0), picked_(g, dots) {}

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
        Nearness seen;
        for (int64_t first = start; first < end; first += 8) {
            picked_.compare(first, end - first < 8 ? end - first : 8, near_ + (first - start), seen);
            for (int64_t t = 0; t < count && seen.any != 0; t++) {
                for (uint32_t rest = seen.near[t]; rest != 0; rest &= rest - 1) {
                    const int r = lowest_bit(rest);
                    double far = static_cast<double>(seen.sqdist[t][r]);
                    if ((seen.coarse[t] >> r & 1) != 0) {
                        far = sqdist64(x_.data + g_.row_at(first + r) * x_.d, x_.data + g_.row(picks[t]) * x_.d, x_.d);
                    }
                    double& near = near_[first + r - start];
                    near = far < near ? far : near;
                }
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
void hear(const Rows& x, double* closest, const Grouped& g, const int64_t* picks, const int64_t* first, Dots dots) {
    const int64_t count = g.offsets[g.groups], pieces = pieces_of(x), most = largest(g);
    const double operations = 2.0 * static_cast<double>(stored(x)) * static_cast<double>(per_group(first, g.groups));
    parallel(pieces, operations, [&](int64_t piece) {
        Hearing hearing(x, g, closest, most, dots);
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

// Greedy k-means++ (Arthur and Vassilvitskii, 2007): each centre is the best, by the sum of squared distances that it
// leaves, of several rows drawn with probability proportional to weight times squared distance.
//
// Distances are sums of squared differences, not |x|^2 - 2 x.y + |y|^2: a column of large values beside columns of
// small ones would drown them.
#pragma once

#include "buffer.hpp"
#include "parallel.hpp"
#include "products.hpp"
#include "table.hpp"

namespace fastann {
namespace {

constexpr int64_t START_PIECES = 64;
constexpr int64_t START_ROWS = WIDTH == 16 ? 12 : 4;  // rows whose sums stay in registers

// A table of rows, of which some become centres: weights, squared distances to the nearest centre, and the mass (weight
// times squared distance) of the rows of each piece.
struct Starting {
    const float* x;
    int64_t n, d;
    const double* weights;  // null: 1 each
    Buffer<float> closest;
    Buffer<double> mass;

    Starting(const float* rows, int64_t count, int64_t columns, const double* given)
        : x(rows), n(count), d(columns), weights(given), closest(count, 1), mass(START_PIECES, 0) {}

    int64_t first(int64_t piece) const { return piece * n / START_PIECES; }
    double weight(int64_t i) const { return weights != nullptr ? weights[i] : 1; }
    double mass_of(int64_t i) const { return weight(i) * static_cast<double>(closest[i]); }
    double total() const {
        double sum = 0;
        for (int64_t s = 0; s < START_PIECES; s++) sum += mass[s];
        return sum;
    }
    void weigh(int64_t piece) const {
        double sum = 0;
        for (int64_t i = first(piece); i < first(piece + 1); i++) sum += mass_of(i);
        mass[piece] = sum;
    }
};

// Row drawn with probability proportional to its mass, by a number in [0, 1); the total must be above zero.
inline int64_t draw(const Starting& s, double uniform) {
    double at = uniform * s.total();
    int64_t piece = 0, last = -1;
    for (; piece < START_PIECES - 1 && at >= s.mass[piece]; piece++) at -= s.mass[piece];
    double seen = 0;
    for (int64_t i = s.first(piece); i < s.n; i++) {  // past the piece if rounding left nothing in it
        const double mass = s.mass_of(i);
        if (!(mass > 0)) continue;
        seen += mass;
        last = i;
        if (at < seen) return i;
    }
    for (int64_t i = s.n - 1; last < 0 && i >= 0; i--) last = s.mass_of(i) > 0 ? i : -1;
    return last;
}

// Add to `left`, STRIP doubles, what the rows i to i + R - 1 would cost if each of the STRIP trials, packed as a strip,
// were a centre.
template <int64_t R>
inline void add_left(const Starting& s, int64_t i, const float* strip, double* left) {
    F32 sums[R][2] = {};
    for (int64_t t = 0; t < s.d; t++) {
        const F32 one = load<F32>(strip + t * STRIP), two = load<F32>(strip + t * STRIP + WIDTH);
#pragma GCC unroll 16
        for (int64_t r = 0; r < R; r++) {
            const F32 v = splat(s.x[(i + r) * s.d + t]), a = v - one, b = v - two;
            sums[r][0] = fma(a, a, sums[r][0]);
            sums[r][1] = fma(b, b, sums[r][1]);
        }
    }
    for (int64_t r = 0; r < R; r++) {
        const F32 closest = splat(s.closest[i + r]);
        const F64 weight = splat64(s.weight(i + r));
        float nearer[STRIP];
        store(nearer, least(sums[r][0], closest));
        store(nearer + WIDTH, least(sums[r][1], closest));
        for (int64_t l = 0; l < STRIP; l += WIDTH / 2) {
            store(left + l, load<F64>(left + l) + wide(nearer + l) * weight);
        }
    }
}

// Sum of squared distances that each of `trials` rows would leave as the next centre.
inline void costs(const Starting& s, const int64_t* tries, int64_t trials, double* cost) {
    const int64_t strips = (trials + STRIP - 1) / STRIP;
    const Buffer<float> packed(strips * STRIP * s.d, 0);
    for (int64_t j = 0; j < trials; j++) {
        pack_column(s.x + tries[j] * s.d, s.d, j % STRIP, packed + j / STRIP * STRIP * s.d);
    }
    const Buffer<double> left(START_PIECES * strips * STRIP, 0);
    const double work = 2 * static_cast<double>(s.n) * static_cast<double>(s.d) * static_cast<double>(trials);
    parallel(START_PIECES, work, [&](int64_t piece) {
        for (int64_t k = 0; k < strips; k++) {
            double* into = left + (piece * strips + k) * STRIP;
            int64_t i = s.first(piece);
            const int64_t end = s.first(piece + 1);
            for (; i + START_ROWS <= end; i += START_ROWS) add_left<START_ROWS>(s, i, packed + k * STRIP * s.d, into);
            for (; i < end; i++) add_left<1>(s, i, packed + k * STRIP * s.d, into);
        }
    });
    for (int64_t j = 0; j < trials; j++) {
        cost[j] = 0;
        for (int64_t piece = 0; piece < START_PIECES; piece++) cost[j] += left[piece * strips * STRIP + j];
    }
}

// Make row `pick` a centre.
inline void take_centre(const Starting& s, int64_t pick, bool first) {
    parallel(START_PIECES, 3 * static_cast<double>(s.n) * static_cast<double>(s.d), [&](int64_t piece) {
        for (int64_t i = s.first(piece); i < s.first(piece + 1); i++) {
            const float far = sqdist32(s.x + i * s.d, s.x + pick * s.d, s.d);
            s.closest[i] = first || far < s.closest[i] ? far : s.closest[i];
        }
        s.weigh(piece);
    });
}

// Choose `k` rows; `uniform` [k, trials] are random numbers. Returns how many were found: fewer where there are fewer
// distinct rows.
int64_t greedy(const float* x, int64_t n, int64_t d, const double* weights, int64_t k, int64_t trials,
               const double* uniform, int64_t* picks) {
    const Starting s(x, n, d, weights);
    for (int64_t piece = 0; piece < START_PIECES; piece++) s.weigh(piece);
    const Buffer<int64_t> tries(trials);
    const Buffer<double> cost(trials);
    for (int64_t j = 0; j < k; j++) {
        if (!(s.total() > 0)) return j;
        for (int64_t t = 0; t < trials; t++) tries[t] = draw(s, uniform[j * trials + t]);
        int64_t best = 0;
        if (j > 0) {  // the first is not chosen: it has nothing to be better than
            costs(s, tries, trials, cost);
            for (int64_t t = 1; t < trials; t++) best = cost[t] < cost[best] ? t : best;
        }
        picks[j] = tries[best];
        take_centre(s, picks[j], j == 0);
    }
    return k;
}

constexpr void fill_start(Table& table) { table.greedy = greedy; }

}  // namespace
}  // namespace fastann

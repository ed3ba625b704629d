// The exact search of rows of few dimensions: rows in registers, centroids across lanes.
//
// With few dimensions a score costs less than asking whether it is below a limit. So each lane keeps its best score,
// the second best, and where the best was found; a row is looked at once, at the end. Centroids are packed as in
// f32.hpp.
#pragma once

#include "f32.hpp"
#include "search.hpp"

namespace fastann {
namespace {

constexpr int64_t FEW_DIMENSIONS = WIDTH == 16 ? 32 : 24;  // up to which this pays
constexpr int64_t FEW_ROWS = WIDTH == 8 ? 2 : 4;           // rows in registers at a time
constexpr int64_t FEW_TASK = 1024;

// A number of rows that is known when it is compiled.
template <int64_t R>
struct Count {
    static constexpr int64_t ROWS = R;
};

// The best scores of R rows, lane by lane.
template <int64_t R>
struct Best {
    F32 best[R], second[R];
    I32 where[R];  // vector of centroids in which the best was found,
    I32 then[R];   // and the second best, if that is asked for
};

// Score R rows, `d` apart, against all centroids. D is d, or 0 if it is known at run time only; with TWO, the place of
// the second best is kept as well.
template <int64_t R, int64_t D, bool TWO>
inline void score_few(const Packed& packed, const float* rows, Best<R>& out) {
    const int64_t d = D > 0 ? D : packed.d, strips = packed.strips[packed.cells];
    const float* strip = reinterpret_cast<const float*>(packed.data);
    for (int64_t r = 0; r < R; r++) {
        out.best[r] = out.second[r] = splat(HUGE_SCORE);
        out.where[r] = out.then[r] = I32{};
    }
    I32 place = {};
    for (int64_t s = 0; s < strips; s++) {
        F32 score[R][2];
        for (int64_t r = 0; r < R; r++) {
            score[r][0] = load<F32>(strip);
            score[r][1] = load<F32>(strip + WIDTH);
        }
        strip += STRIP;
        for (int64_t t = 0; t < d; t++, strip += STRIP) {
            const F32 left = load<F32>(strip), right = load<F32>(strip + WIDTH);
            for (int64_t r = 0; r < R; r++) {
                const F32 v = splat(rows[r * d + t]);
                score[r][0] = fma(v, left, score[r][0]);
                score[r][1] = fma(v, right, score[r][1]);
            }
        }
        for (int64_t half = 0; half < 2; half++, place += 1) {
            for (int64_t r = 0; r < R; r++) {
                const F32 v = score[r][half];
                if (TWO) {
                    const I32 after = v < out.second[r] ? place : out.then[r];
                    out.then[r] = v < out.best[r] ? out.where[r] : after;
                }
                out.second[r] = least(out.second[r], largest(v, out.best[r]));
                out.where[r] = v < out.best[r] ? place : out.where[r];
                out.best[r] = least(v, out.best[r]);
            }
        }
    }
}

// Call `each` with every centroid whose score of a row is below a limit.
template <class Each>
inline void below_few(const Packed& packed, const float* shifted, float limit, const Each& each) {
    const int64_t d = packed.d;
    const float* strip = reinterpret_cast<const float*>(packed.data);
    for (int64_t s = 0; s < packed.strips[packed.cells]; s++, strip += (d + 1) * STRIP) {
        for (int64_t half = 0; half < 2; half++) {
            F32 score = load<F32>(strip + half * WIDTH);
            for (int64_t t = 0; t < d; t++) {
                score = fma(splat(shifted[t]), load<F32>(strip + (t + 1) * STRIP + half * WIDTH), score);
            }
            for (uint32_t hits = below(score, splat(limit)); hits != 0; hits &= hits - 1) {
                each(packed.columns[s * STRIP + half * WIDTH + lowest_bit(hits)]);
            }
        }
    }
}

// Nearest centroid of a row by float64, among those whose score is below a limit; ties go to the lowest.
__attribute__((noinline)) inline int32_t settle_few(const Packed& packed, const float* shifted, const float* row,
                                                    const float* c, float limit, double& least_sqdist) {
    int32_t label = -1;
    below_few(packed, shifted, limit, [&](int32_t j) {
        const double v = sqdist64(row, c + j * packed.d, packed.d);
        if (label < 0 || v < least_sqdist || (v == least_sqdist && j < label)) {
            least_sqdist = v;
            label = j;
        }
    });
    return label;
}

// What the lanes of one row say: its nearest centroid and the squared distance.
inline void decide_few(const Packed& packed, const F32& best, const F32& second, const I32& where, const float* shifted,
                       const float* row, const float* c, int32_t& label, float& sqdist) {
    float xsq = 0;
    for (int64_t t = 0; t < packed.d; t++) xsq += shifted[t] * shifted[t];
    const float low = least(best), square = low + xsq > 0 ? low + xsq : 0;
    const float slack = slack_of(xsq, packed.d, packed.largest);
    const float error = 2 * (1.01f * UNIT * std::sqrt(xsq) + packed.most_moved);
    const float limit = low + slack + error * (2 * std::sqrt(square + slack) + error);
    const uint32_t near = below(best, splat(limit));
    if (near != 0 && (near & (near - 1)) == 0 && below(second, splat(limit)) == 0) {
        int32_t places[WIDTH];
        store(places, where);
        const int lane = lowest_bit(near);
        label = packed.columns[places[lane] * WIDTH + lane];
        sqdist = square;
        return;
    }
    double exact = INFINITE64;  // of a row, or of centroids, that are not numbers: these have no label
    label = settle_few(packed, shifted, row, c, limit, exact);
    sqdist = static_cast<float>(exact);
}

template <int64_t R, int64_t D>
inline void nearest_few_rows(const Packed& packed, const float* shifted, const float* x, int64_t first, const float* c,
                             int32_t* labels, float* sqdist) {
    Best<R> found;
    score_few<R, D, false>(packed, shifted, found);
    for (int64_t r = 0; r < R; r++) {
        decide_few(packed, found.best[r], found.second[r], found.where[r], shifted + r * packed.d,
                   x + (first + r) * packed.d, c, labels[first + r], sqdist[first + r]);
    }
}

// Go over n rows, some at a time: some(count, shifted, first), where `count` (FEW_ROWS, or 1 for what is left) is a
// constant, and `shifted` are the rows from `first` on, less the shift of the centroids.
template <class Body>
inline void by_few(const Packed& packed, const float* x, int64_t n, const Body& some) {
    const int64_t d = packed.d;
    parallel_ranges(n, FEW_TASK, work_of(n, packed.k, d), [&](int64_t first, int64_t end) {
        const Buffer<float> shifted((end - first) * d + 16);
        for (int64_t i = 0; i < end - first; i++) {
            for (int64_t t = 0; t < d; t++) shifted[i * d + t] = x[(first + i) * d + t] - packed.shift[t];
        }
        int64_t i = first;
        for (; i + FEW_ROWS <= end; i += FEW_ROWS) {
            some(Count<FEW_ROWS>{}, shifted + (i - first) * d, i);
        }
        for (; i < end; i++) some(Count<1>{}, shifted + (i - first) * d, i);
    });
}

template <int64_t D>
void nearest_few(const Packed& packed, const float* x, int64_t n, const float* c, int32_t* labels, float* sqdist) {
    by_few(packed, x, n, [&](auto count, const float* shifted, int64_t first) {
        nearest_few_rows<decltype(count)::ROWS, D>(packed, shifted, x, first, c, labels, sqdist);
    });
}

// The two nearest centroids of a row by float64, among those whose score is below a limit.
__attribute__((noinline)) inline void settle_two(const Packed& packed, const float* shifted, const float* row,
                                                 const float* c, float limit, double* sqdist, int32_t* ids) {
    int64_t size = 0;
    below_few(packed, shifted, limit,
              [&](int32_t j) { enter(sqdist, ids, size, 2, told_sqdist(row, c + j * packed.d, packed.d), j); });
}

constexpr int32_t LANE_NUMBERS[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// The two nearest centroids of row r: those with the lowest scores in its lanes, unless rounding leaves others open.
template <int64_t R>
inline void decide_two(const Packed& packed, const Best<R>& found, int64_t r, const float* shifted, const float* row,
                       const float* c, int32_t* ids, float* sqdist) {
    int32_t places[WIDTH], thens[WIDTH];
    store(places, found.where[r]);
    store(thens, found.then[r]);
    double exact[2] = {INFINITE64, INFINITE64};
    ids[0] = ids[1] = -1;
    int64_t size = 0;
    F32 left = found.best[r];
    for (int before = -1; size < 2;) {  // in the lane of the nearest, the second takes its place
        const float low = least(left);
        if (!(low < HUGE_SCORE)) break;
        const int lane = lowest_bit(~below(splat(low), left) & ((1U << WIDTH) - 1));
        const int32_t j = packed.columns[(lane == before ? thens : places)[lane] * WIDTH + lane];
        enter(exact, ids, size, 2, told_sqdist(row, c + j * packed.d, packed.d), j);
        left = load<I32>(LANE_NUMBERS) == splat32(lane) ? found.second[r] : left;
        before = lane;
    }
    if (size == 2) {  // others have no lower score than what the lanes are left with
        const float xsq = dot32(shifted, shifted, packed.d), norm = std::sqrt(xsq);
        const double error = static_cast<double>(1.01f * UNIT * norm + packed.most_moved);
        // As `limit_of`, but for the distance, which is at most the sum of both norms: that spares a root.
        const double limit = exact[1] * (1 + 1e-6) + error * (2 * static_cast<double>(norm + packed.largest) + error) -
                             static_cast<double>(xsq) + static_cast<double>(slack_of(xsq, packed.d, packed.largest));
        if (static_cast<double>(least(left)) < limit) {
            const float most = limit < static_cast<double>(HUGE_SCORE) ? static_cast<float>(limit) : HUGE_SCORE;
            settle_two(packed, shifted, row, c, most, exact, ids);
        }
    }
    for (int64_t t = 0; t < 2; t++) sqdist[t] = static_cast<float>(exact[t]);
}

template <int64_t R, int64_t D>
inline void two_few_rows(const Packed& packed, const float* shifted, const float* x, int64_t first, const float* c,
                         int32_t* ids, float* sqdist) {
    Best<R> found;
    score_few<R, D, true>(packed, shifted, found);
    for (int64_t r = 0; r < R; r++) {
        decide_two(packed, found, r, shifted + r * packed.d, x + (first + r) * packed.d, c, ids + 2 * (first + r),
                   sqdist + 2 * (first + r));
    }
}

// The two nearest of each row, for few dimensions.
template <int64_t D>
void two_few(const Packed& packed, const float* x, int64_t n, const float* c, int32_t* ids, float* sqdist) {
    by_few(packed, x, n, [&](auto count, const float* shifted, int64_t first) {
        two_few_rows<decltype(count)::ROWS, D>(packed, shifted, x, first, c, ids, sqdist);
    });
}

// The `m` nearest, certified exact, whatever the number of dimensions.
inline void nearest_m_f32(const Packed& packed, const float* x, int64_t n, const float* c, int64_t m, int32_t* ids,
                          float* sqdist) {
    if (m != 2 || packed.d > FEW_DIMENSIONS) return nearest_m<F32Rows>(packed, x, n, c, m, ids, sqdist);
    const auto search = packed.d == 2   ? two_few<2>
                        : packed.d == 3 ? two_few<3>
                        : packed.d == 4 ? two_few<4>
                        : packed.d == 8 ? two_few<8>
                                        : two_few<0>;
    search(packed, x, n, c, ids, sqdist);
}

// The exact search by float32 products, whatever the number of dimensions.
inline void nearest_f32(const Packed& packed, const float* x, int64_t n, const float* c, const int32_t* hint,
                        int32_t* labels, float* sqdist) {
    if (packed.d > FEW_DIMENSIONS) return nearest<F32Rows>(packed, x, n, c, hint, labels, sqdist);
    const auto search = packed.d == 1   ? nearest_few<1>
                        : packed.d == 2 ? nearest_few<2>
                        : packed.d == 3 ? nearest_few<3>
                        : packed.d == 4 ? nearest_few<4>
                        : packed.d == 8 ? nearest_few<8>
                                        : nearest_few<0>;
    search(packed, x, n, c, labels, sqdist);
}

constexpr Screening f32_screening() {
    Screening screening = screening_of<F32Rows>();
    screening.nearest = nearest_f32;
    screening.nearest_m = nearest_m_f32;
    return screening;
}

}  // namespace
}  // namespace fastann

// Search of sparse rows among sparse centroids that are laid out by blocks: the outcome of inverted.hpp, with a
// fraction of its memory traffic, which is what that search waits for.
//
// Half scores |c|^2 / 2 - x.c of centroids rounded to bfloat16, in float32, rule out all that are farther than the m
// nearest by more than rounding can change; what is left is compared by the float64 sums of inverted.hpp.
#pragma once

#include "inverted.hpp"
#include "spread.hpp"

namespace fastann {
namespace {

constexpr int64_t FEWEST_ROWS = 16, MOST_ROWS = 1024;  // of a piece: all are compared with a block before the next one
constexpr int64_t BESIDE = 15;                         // centroids that may be as near as the m nearest
constexpr int64_t LISTS_AHEAD = 8,
                  LINES_AHEAD = 6;      // short columns that are asked for early, and cache lines of each at least
constexpr double LARGEST_SLACK = 1e30;  // beyond, a score may not fit in a float32

// A value of a row, negative, and the number of its column among the long or the short ones.
struct Term {
    float value;
    int32_t number;
};

// Half scores of a row for the centroids of a block, by its long columns.
inline void score_long(const Spread& c, int64_t b, const Term* terms, int64_t count, float* score) {
    constexpr int64_t V = 4, LANES = Spread::GROUP / 2;
    const uint32_t* words = c.words + b * c.longs * (c.block / 2);
    const float* half = c.half + b * c.block;
    const I32 upper = splat32(static_cast<int32_t>(0xffff0000));
    for (int64_t w = 0; w < c.block / 2; w += V * WIDTH) {
        const auto at = [&](int64_t v) { return (w + v * WIDTH) / LANES * Spread::GROUP + (w + v * WIDTH) % LANES; };
        F32 low[V], high[V];
        for (int64_t v = 0; v < V; v++) {
            low[v] = load<F32>(half + at(v));
            high[v] = load<F32>(half + at(v) + LANES);
        }
        for (int64_t q = 0; q < count; q++) {
            const F32 value = splat(terms[q].value);
            const uint32_t* column = words + terms[q].number * (c.block / 2) + w;
#pragma GCC unroll 4
            for (int64_t v = 0; v < V; v++) {
                const I32 both = load<I32>(column + v * WIDTH);
                low[v] = fma(value, F32(both << 16), low[v]);
                high[v] = fma(value, F32(both & upper), high[v]);
            }
        }
        for (int64_t v = 0; v < V; v++) {
            store(score + at(v), low[v]);
            store(score + at(v) + LANES, high[v]);
        }
    }
}

// Add its short columns. 2 * LISTS_AHEAD terms follow the last one: those of the next row, whose columns are asked for.
inline void add_short(const Spread& c, int64_t b, const Term* terms, int64_t count, float* score) {
    const uint32_t* starts = c.starts + b * (c.shorts + 1);
    float products[WIDTH];
    for (int64_t q = 0; q < count; q++) {
        const uint32_t* next = c.entries + starts[terms[q + LISTS_AHEAD].number];
        const uint32_t* stop = c.entries + starts[terms[q + LISTS_AHEAD].number + 1];
        __builtin_prefetch(starts + terms[q + 2 * LISTS_AHEAD].number);
        // As many lines whatever there is: a branch that is guessed wrong costs more than a line too many.
        for (int64_t t = 0; t < LINES_AHEAD; t++) __builtin_prefetch(next + 16 * t);
        for (next += 16 * LINES_AHEAD; next < stop; next += 16) __builtin_prefetch(next);

        const uint32_t* at = c.entries + starts[terms[q].number];
        const uint32_t* end = c.entries + starts[terms[q].number + 1];
        const F32 value = splat(terms[q].value);
        for (; at + WIDTH <= end; at += WIDTH) {
            store(products, value * F32(load<I32>(at) << 16));
#pragma GCC unroll 16
            for (int64_t t = 0; t < WIDTH; t++) score[at[t] >> 16] += products[t];
        }
        store(products, value * F32(load<I32>(at) << 16));
        for (int64_t t = 0; t < end - at; t++) score[at[t] >> 16] += products[t];
    }
}

// The float64 sum that `add_products` makes of a row and a centroid whose columns ascend.
inline double product_of(const Entries& row, const Entries& c) {
    double product = 0;
    const int32_t *from = c.columns, *end = from + c.size;
    for (int64_t q = 0; q < row.size && c.size > 0; q++) {
        const int32_t column = row.columns[q];
        if (*from > column) from = c.columns;  // the columns of a row need not ascend
        while (from + 16 < end && from[16] <= column) from += 16;
        const int32_t* at = from;
        for (int64_t size = end - from < 16 ? end - from : 16; size > 1;) {
            const int64_t half = size / 2;
            at = at[half] <= column ? at + half : at;
            size -= half;
        }
        const float value = c.values[at - c.columns];
        product += static_cast<double>(row.values[q]) * static_cast<double>(*at == column ? value : 0);
    }
    return product;
}

// Ask for a centroid before it is needed.
inline void prefetch(const Entries& c) {
    for (int64_t t = 0; t < c.size; t += 16) {
        __builtin_prefetch(c.columns + t);
        __builtin_prefetch(c.values + t);
    }
}

// Which centroids may be among the m nearest to each of some rows.
class SpreadScreen {
 public:
    SpreadScreen(const Rows& x, int64_t first, int64_t end, const Spread& c, int64_t m)
        : c_(c),
          m_(m),
          most_(m + BESIDE),
          longs_(x.indptr[end] - x.indptr[first]),
          shorts_(x.indptr[end] - x.indptr[first] + 2 * LISTS_AHEAD),
          rows_(end - first + 1),
          least_((end - first) * m, HUGE_SCORE),
          scores_((end - first) * most_),
          ids_((end - first) * most_),
          score_(c.block),
          unused_(m) {
        const int64_t n = end - first;
        rows_[0] = {};
        for (int64_t i = 0; i < n; i++) take_terms(Entries(x, first + i), rows_[i], rows_[i + 1]);
        for (int64_t q = 0; q < 2 * LISTS_AHEAD; q++) shorts_[rows_[n].shorts + q] = {0, 0};
        for (int64_t b = 0; b < c.blocks; b++) {
            for (int64_t i = 0; i < n; i++) {
                const Row &row = rows_[i], &next = rows_[i + 1];
                score_long(c, b, longs_ + row.longs, next.longs - row.longs, score_);
                add_short(c, b, shorts_ + row.shorts, next.shorts - row.shorts, score_);
                sift(i, static_cast<int32_t>(b * c.block));
            }
        }
    }

    // How many they are; -1 if rounding leaves too many open, or scores do not fit in a float32.
    int64_t count(int64_t i) {
        if (!(rows_[i].slack < LARGEST_SLACK) || rows_[i].lost <= limit(i)) return -1;
        drop_far(i);
        return rows_[i].count;
    }
    // Their ids, ascending.
    const int32_t* ids(int64_t i) const { return ids_ + i * most_; }

 private:
    struct Row {
        int64_t longs, shorts;  // where its terms begin
        float slack;            // twice the most by which a half score can be wrong
        float lost;             // least score of the centroids that there was no room for
        int64_t count;          // centroids that may be among the m nearest
    };

    // Half score that none of the m nearest exceeds.
    float limit(int64_t i) const { return least_[i * m_ + m_ - 1] + rows_[i].slack; }

    // Sort what a row has by kinds of columns, and find its slack.
    void take_terms(const Entries& from, Row& row, Row& next) {
        double square = 0, sum = 0;
        bool ascends = true;
        next.longs = row.longs;
        next.shorts = row.shorts;
        for (int64_t q = 0; q < from.size; q++) {
            const int32_t place = c_.place[from.columns[q]];
            if (place >= 0) longs_[next.longs++] = {-from.values[q], place};
            if (place < -1) shorts_[next.shorts++] = {-from.values[q], -2 - place};
            const double v = static_cast<double>(from.values[q]);
            square += v * v;
            sum += v < 0 ? -v : v;
            ascends = ascends && (q == 0 || from.columns[q] > from.columns[q - 1]);
        }
        // At least the row's norm; values of one column, which are added, make it larger than their squares say.
        const double norm = ascends ? std::sqrt(square) * (1 + 1e-6) : sum;
        // The rounding of centroids (Cauchy-Schwarz), that of sums as in `sparse_slack`, and products that vanish.
        const double sums = static_cast<double>(from.size + 2) * c_.largest * (norm + c_.largest / 2);
        row.slack = static_cast<float>(2 * norm * c_.moved + 4 * static_cast<double>(UNIT) * sums + 1e-36);
        row.lost = INFINITE;
        row.count = 0;
    }

    // Look for the m least scores of a row, then for centroids that these do not rule out; score_[0] is that of
    // `first`.
    void sift(int64_t i, int32_t first) {
        Row& row = rows_[i];
        float* low = least_ + i * m_;
        const float before = low[m_ - 1];
        if (m_ == 1) {
            F32 some = splat(before);
            for (int64_t j = 0; j < c_.block; j += WIDTH) some = least(load<F32>(score_ + j), some);
            *low = least(some);
        } else {
            for (int64_t j = 0; j < c_.block; j += WIDTH) {
                for (uint32_t hits = below(load<F32>(score_ + j), splat(low[m_ - 1])); hits != 0; hits &= hits - 1) {
                    const float v = score_[j + lowest_bit(hits)];
                    if (v < low[m_ - 1]) insert(low, unused_.data(), m_, v, 0);
                }
            }
        }
        if (low[m_ - 1] < before) drop_far(i);
        const F32 high = splat(limit(i));
        for (int64_t j = 0; j < c_.block; j += WIDTH) {
            // Not above the limit, rather than below it, so that equal ones are kept.
            uint32_t hits = ~below(high, load<F32>(score_ + j)) & ((uint64_t{1} << WIDTH) - 1);
            for (; hits != 0; hits &= hits - 1) {
                const int64_t at = j + lowest_bit(hits);
                if (row.count == most_) {
                    row.lost = score_[at] < row.lost ? score_[at] : row.lost;
                    continue;
                }
                scores_[i * most_ + row.count] = score_[at];
                ids_[i * most_ + row.count++] = first + static_cast<int32_t>(at);
            }
        }
    }

    // Forget those that scores found since have ruled out.
    void drop_far(int64_t i) {
        float* scores = scores_ + i * most_;
        int32_t* ids = ids_ + i * most_;
        int64_t kept = 0;
        for (int64_t t = 0; t < rows_[i].count; t++) {
            if (scores[t] > limit(i)) continue;
            scores[kept] = scores[t];
            ids[kept++] = ids[t];
        }
        rows_[i].count = kept;
    }

    const Spread& c_;
    const int64_t m_, most_;
    const Buffer<Term> longs_, shorts_;  // of all rows, one after the other
    const Buffer<Row> rows_;
    const Buffer<float> least_;   // [rows, m]: the least half scores, ascending
    const Buffer<float> scores_;  // [rows, most]: half scores of the centroids that may be nearest, by their ids
    const Buffer<int32_t> ids_;
    const Buffer<float> score_;  // of one row and one block
    const Buffer<int32_t> unused_;
};

// The `m` nearest of centroids `c`, nearest first, equal ones in their order; `lists` is their transpose.
void search_spread(const Rows& x, const Rows& c, const Rows& lists, const Spread& spread, const double* csq, int64_t m,
                   int32_t* ids, float* sqdist) {
    const int64_t eighth = x.n / 8, piece = eighth < FEWEST_ROWS ? FEWEST_ROWS
                                            : eighth < MOST_ROWS ? eighth
                                                                 : MOST_ROWS;
    const double stored = static_cast<double>(x.indptr[x.n] - x.indptr[0]);
    const double operations = (stored + static_cast<double>(x.n)) * static_cast<double>(c.n) / 8;
    parallel_ranges(x.n, piece, operations, [&](int64_t first, int64_t end) {
        SpreadScreen screen(x, first, end, spread, m);
        const Buffer<double> product(c.n, 0.0), best(m);
        const Buffer<int32_t> near(m);
        for (int64_t i = first; i < end; i++) {
            const Entries row(x, i);
            const int64_t count = screen.count(i - first);
            if (i + 1 < end && screen.count(i + 1 - first) > 0) prefetch(Entries(c, screen.ids(i + 1 - first)[0]));
            if (count < 0) {
                add_products(row, lists, INT64_MAX, product);
                take_least(csq, c.n, product, m, best, near);
            }
            for (int64_t t = 0; t < m && count >= 0; t++) {
                best[t] = INFINITE64;
                near[t] = -1;
            }
            for (int64_t t = 0; t < count; t++) {
                const int32_t j = screen.ids(i - first)[t];
                const double score = csq[j] - 2 * product_of(row, Entries(c, j));
                if (score < best[m - 1]) insert(best.data(), near.data(), m, score, j);
            }
            write_nearest(row, m, best, near, ids + i * m, sqdist + i * m);
        }
    });
}

constexpr void fill_spread(Table& table) { table.search_spread = search_spread; }

}  // namespace
}  // namespace fastann

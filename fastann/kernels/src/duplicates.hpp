// What finds near-duplicate rows: their directions, the borders of clusters that they are near to, and of each the
// first near row.
#pragma once

#include "buffer.hpp"
#include "decisions.hpp"
#include "lists.hpp"
#include "parallel.hpp"
#include "products.hpp"
#include "table.hpp"

namespace fastann {
namespace {

constexpr int64_t AT_ONCE = 64;                                                // rows that are compared at once
constexpr uint32_t WHOLE = static_cast<uint32_t>((uint64_t{1} << STRIP) - 1);  // a bit for each column of a strip

// Bound on the error of a float32 product of two rows scaled to unit norm (Higham, Accuracy and Stability of Numerical
// Algorithms, 3.1), with the rounding of the rows themselves.
inline float slack_of_units(int64_t d) { return static_cast<float>(d + 8) * UNIT; }

// Products of `n` <= AT_ONCE rows with a strip: [n, STRIP]. A function of its own, as compilers keep all sums of a tile
// in registers only where little else is around the loop.
__attribute__((noinline)) void multiply_strip(const float* x, int64_t n, const float* strip, int64_t d, float* out) {
    multiply(x, n, d, strip, 1, d, out, STRIP);
}

// A row times `scale`, in float64 before it is rounded.
inline void scale_row(const float* row, int64_t d, double scale, float* out) {
    constexpr int64_t HALF = WIDTH / 2;
    int64_t t = 0;
    for (; t + HALF <= d; t += HALF) store(out + t, __builtin_convertvector(wide(row + t) * scale, HalfF32));
    for (; t < d; t++) out[t] = static_cast<float>(static_cast<double>(row[t]) * scale);
}

// Rows scaled to unit norm, and their norms; zero rows stay zero.
void unit(const float* x, int64_t n, int64_t d, float* out, double* norm) {
    constexpr int64_t SOME = 8;  // rows whose roots and divisions are made together, so that none waits for them
    const int64_t together = d <= 256 ? SOME : 1;  // long rows would be out of the nearest cache by then
    parallel_ranges(n, 256, 3.0 * static_cast<double>(n) * static_cast<double>(d), [=](int64_t first, int64_t end) {
        double scale[SOME];
        for (int64_t i0 = first; i0 < end; i0 += together) {
            const int64_t some = i0 + together < end ? together : end - i0;
            for (int64_t i = 0; i < some; i++) scale[i] = dot64(x + (i0 + i) * d, x + (i0 + i) * d, d);
            for (int64_t i = some; i < SOME; i++) scale[i] = 0;
            for (int64_t i = 0; i < SOME; i++) {
                const double root = std::sqrt(scale[i]);
                scale[i] = root > 0 ? 1 / root : 0;
                if (i < some) norm[i0 + i] = root;
            }
            for (int64_t i = 0; i < some; i++) scale_row(x + (i0 + i) * d, d, scale[i], out + (i0 + i) * d);
        }
    });
}

// Which borders each row of a task is near to. `x`, `labels`, `own`, `ids` and `count` are those of its first row.
struct Borders {
    const float* x;
    int64_t rows, d;
    const int32_t* labels;
    const float *own, *c;
    int64_t k;
    float half;
    int64_t m;
    int32_t *ids, *count;
};

// Note the columns near[0..STRIP) = hits of a strip that begins at `first`, where row `i` of a task is near to the
// border. `ratio` [m]: how near those in its list are, as a part of what is near at most.
__attribute__((noinline)) inline void note_borders(const Borders& b, int64_t i, int64_t first, uint32_t hits,
                                                   const F32 (&ahead)[2], const float* gap, float* ratio) {
    b.count[i] += __builtin_popcount(hits);
    if (b.m == 0) return;
    float parts[STRIP];
    uint32_t nearer = 0;
    for (int64_t v = 0; v < 2; v++) {
        const F32 part = ahead[v] / load<F32>(gap + v * WIDTH);
        store(parts + v * WIDTH, part);
        nearer |= below(part, splat(ratio[b.m - 1])) << (v * WIDTH);
    }
    for (hits &= nearer; hits != 0; hits &= hits - 1) {
        const int bit = lowest_bit(hits);
        if (!(parts[bit] < ratio[b.m - 1])) continue;
        insert(ratio, b.ids + i * b.m, b.m, parts[bit], static_cast<int32_t>(first + bit));
    }
}

// The borders of one task.
inline void borders_of(const Borders& b, const float* packed) {
    const float off = slack_of_units(b.d);
    // Rows of one cluster lie together: `run` says which cluster each row is of, `centers` are theirs.
    int64_t run[AT_ONCE], runs = 0;
    const Buffer<float> centers(AT_ONCE * b.d), ratio(AT_ONCE * b.m, HUGE_SCORE), gap(AT_ONCE * STRIP),
        products(AT_ONCE * STRIP);
    for (int64_t i = 0; i < b.rows; i++) {
        if (i == 0 || b.labels[i] != b.labels[i - 1]) {
            std::memcpy(centers + runs++ * b.d, b.c + b.labels[i] * b.d, sizeof(float) * static_cast<size_t>(b.d));
        }
        run[i] = runs - 1;
        b.count[i] = 0;
        for (int64_t t = 0; t < b.m; t++) b.ids[i * b.m + t] = -1;
    }
    const int64_t padded = (runs + 3) / 4 * 4;  // single rows of a tile cost about as much as four
    for (int64_t t = runs * b.d; t < padded * b.d; t++) centers[t] = 0;
    for (int64_t first = 0; first < b.k; first += STRIP) {
        const float* strip = packed + first * b.d;
        // Upper bounds on the distance between centres, and on the difference of products of a row that is near.
        multiply_strip(centers, padded, strip, b.d, gap);
        for (int64_t t = 0; t < runs * STRIP; t++) {
            const float apart = 2 - 2 * gap[t];
            gap[t] = b.half * std::sqrt((apart > 0 ? apart : 0) + 4 * off) + 4 * off;
        }
        const uint32_t all = b.k - first < STRIP ? (uint32_t{1} << (b.k - first)) - 1 : WHOLE;
        multiply_strip(b.x, b.rows, strip, b.d, products);
        for (int64_t i = 0; i < b.rows; i++) {
            const F32 left = load<F32>(products + i * STRIP), right = load<F32>(products + i * STRIP + WIDTH);
            const float* most = gap + run[i] * STRIP;
            const F32 ahead[2] = {b.own[i] - left, b.own[i] - right};
            uint32_t hits = below(load<F32>(most), ahead[0]) | below(load<F32>(most + WIDTH), ahead[1]) << WIDTH;
            hits = ~hits & all;
            const int64_t same = b.labels[i] - first;
            if (same >= 0 && same < STRIP) hits &= ~(uint32_t{1} << same);
            if (hits != 0) note_borders(b, i, first, hits, ahead, most, ratio + i * b.m);
        }
    }
}

// For each row, the clusters whose border with the row's own cluster is near, and how many there are.
void borders(const float* x, int64_t n, int64_t d, const int32_t* labels, const float* own, const float* c, int64_t k,
             float half, int64_t m, int32_t* ids, int32_t* count) {
    const Buffer<float> packed(packed_size(k, d));
    const double centers = static_cast<double>(k) * static_cast<double>(d);
    parallel((k + STRIP - 1) / STRIP, centers, [&](int64_t s) {
        const int64_t first = s * STRIP;
        pack_strip(c + first * d, k - first < STRIP ? k - first : STRIP, d, packed + first * d);
    });
    parallel_ranges(n, AT_ONCE, static_cast<double>(n) * centers, [&](int64_t first, int64_t end) {
        borders_of(
            {x + first * d, end - first, d, labels + first, own + first, c, k, half, m, ids + first * m, count + first},
            packed);
    });
}

// Rows of a task that look for the first column that is near. They are packed in strips; columns are read where they
// lie, in order, so that what is found first comes first. Rows that found theirs, or passed their last column, are left
// out.
class Seekers {
 public:
    Seekers(const FirstNear& search, int64_t first, int64_t end)
        : a_(search),
          screen_(static_cast<float>(a_.least - 2 * slack_of_units(a_.d))),
          packed_(packed_size(AT_ONCE, a_.d)),
          products_(AT_ONCE * STRIP) {
        for (int64_t i = first; i < end; i++) {
            a_.found[i] = CLEAR;
            a_.cosine[i] = 0;
            row_[count_] = i;
            begin_[count_] = place_of(a_.low[i]);
            stop_[count_] = place_of(a_.high[i]);
            count_ += begin_[count_] < stop_[count_];
        }
        pack();
    }

    // Compare with columns first..end-1; returns whether any row is left.
    bool compare(int64_t first, int64_t end) {
        int64_t left = 0;
        for (int64_t p = 0; p < count_; p++) {
            if (stop_[p] <= first) open_[p / STRIP] &= ~(uint32_t{1} << p % STRIP);
            left += open_[p / STRIP] >> p % STRIP & 1;
        }
        if (left <= count_ / 2 && count_ > STRIP) keep_open();
        for (int64_t s = 0; s * STRIP < count_; s++) {
            int64_t from = end, to = first;  // what the open rows of the strip want
            for (uint32_t rest = open_[s]; rest != 0; rest &= rest - 1) {
                const int64_t p = s * STRIP + lowest_bit(rest);
                from = begin_[p] < from ? begin_[p] : from;
                to = stop_[p] > to ? stop_[p] : to;
            }
            from = from > first ? from : first;
            to = to < end ? to : end;
            if (from < to) compare_strip(s, from, to);
        }
        return left > 0;
    }

 private:
    // The first column whose place is not before `wanted`.
    int64_t place_of(int32_t wanted) const {
        int64_t low = 0, high = a_.columns.n;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (a_.place[middle] < wanted) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }

    void pack() {
        for (int64_t s = 0; s * STRIP < count_; s++) {
            const int64_t some = count_ - s * STRIP < STRIP ? count_ - s * STRIP : STRIP;
            float* strip = packed_ + s * STRIP * a_.d;
            open_[s] = WHOLE >> (STRIP - some);
            pack_strip(nullptr, 0, some < STRIP ? a_.d : 0, strip);  // zeros where no row is
            for (int64_t j = 0; j < some; j++) pack_column(a_.rows.unit + row_[s * STRIP + j] * a_.d, a_.d, j, strip);
        }
    }

    void keep_open() {
        int64_t kept = 0;
        for (int64_t p = 0; p < count_; p++) {
            if ((open_[p / STRIP] >> p % STRIP & 1) == 0) continue;
            row_[kept] = row_[p];
            begin_[kept] = begin_[p];
            stop_[kept++] = stop_[p];
        }
        count_ = kept;
        pack();
    }

    void compare_strip(int64_t s, int64_t from, int64_t to) {
        const F32 screen = splat(screen_);
        multiply_strip(a_.columns.unit + from * a_.d, to - from, packed_ + s * STRIP * a_.d, a_.d, products_);
        for (int64_t j = from; j < to; j++) {
            const float* product = products_ + (j - from) * STRIP;
            const uint32_t far = below(load<F32>(product), screen) | below(load<F32>(product + WIDTH), screen) << WIDTH;
            const uint32_t hits = ~far & open_[s];
            if (hits != 0) decide(s, hits, j);
        }
    }

    // Of rows that may be near to column `j`, close those that are, by float64.
    __attribute__((noinline)) void decide(int64_t s, uint32_t hits, int64_t j) {
        for (; hits != 0; hits &= hits - 1) {
            const int bit = lowest_bit(hits);
            const int64_t p = s * STRIP + bit, i = row_[p];
            if (j < begin_[p] || j >= stop_[p]) continue;
            const double product = dot64(a_.rows.values + i * a_.d, a_.columns.values + j * a_.d, a_.d);
            const double value = product / (a_.rows.norm[i] * a_.columns.norm[j]);
            if (!(value >= a_.least)) continue;
            a_.found[i] = a_.place[j];
            a_.cosine[i] = static_cast<float>(value < 1 ? value : 1);
            open_[s] &= ~(uint32_t{1} << bit);
        }
    }

    const FirstNear& a_;
    float screen_;
    Buffer<float> packed_, products_;
    int64_t count_ = 0, row_[AT_ONCE], begin_[AT_ONCE], stop_[AT_ONCE];
    uint32_t open_[AT_ONCE / STRIP];
};

// For each row the first column that is near.
void first_near(const FirstNear& search) {
    constexpr int64_t COLUMNS =
        64 / TILE * TILE;  // compared with one strip of rows after the other: they stay in the cache
    const int64_t columns = search.columns.n;
    const double pairs = static_cast<double>(search.rows.n) * static_cast<double>(columns);
    parallel_ranges(search.rows.n, AT_ONCE, pairs * static_cast<double>(search.d), [&](int64_t first, int64_t end) {
        Seekers seekers(search, first, end);
        for (int64_t j = 0; j < columns; j += COLUMNS) {
            if (!seekers.compare(j, j + COLUMNS < columns ? j + COLUMNS : columns)) break;
        }
    });
}

constexpr void fill_duplicates(Table& table) {
    table.unit = unit;
    table.borders = borders;
    table.first_near = first_near;
}

}  // namespace
}  // namespace fastann

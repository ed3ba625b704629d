// What is done with the scores that pass a screen. A taker keeps, for every row of a task, the limit below which scores
// are handed to it: take(row, hits, scores, column), where bit j of `hits` says that scores[j] is below the row's limit
// and belongs to the centroid in column `column` + j.
#pragma once

#include "../buffer.hpp"
#include "../lists.hpp"
#include "certificate.hpp"

namespace fastann {
namespace {

// Rows of a task as all takers see them: their squared norms, how far rounding may have moved them (and a centroid),
// and the rounding of two scores.
struct Rounding {
    Buffer<float> xsq, error, slack;
    explicit Rounding(int64_t count) : xsq(count), error(count), slack(count) {}
};

// The nearest centroid, by scores that are good to their float32 rounding: those that may be the nearest are listed,
// and compared in float64 at the end if there are several.
class Shortlist {
 public:
    Shortlist(const Packed& packed, const float* x, const float* c, const Rounding& rounding, int64_t count)
        : limit(count, HUGE_SCORE),
          packed_(packed),
          x_(x),
          c_(c),
          rounding_(rounding),
          best_(count, HUGE_SCORE),
          found_(count, 0),
          near_(count * SIZE),
          score_(count * SIZE) {}

    __attribute__((noinline)) void take(int64_t i, uint32_t hits, const float* scores, int64_t column) {
        // The best of them first, so that most of the others are beyond the new limit.
        const F32 left = load<F32>(scores), right = load<F32>(scores + WIDTH);
        const float low = least(least(left, right));
        if (low < best_[i]) {
            best_[i] = low;
            limit[i] = reach(i);
            hits = below(left, splat(limit[i])) | below(right, splat(limit[i])) << WIDTH;
        }
        for (; hits != 0; hits &= hits - 1) {
            const int bit = lowest_bit(hits);
            if (found_[i] == SIZE) shorten(i);
            near_[i * SIZE + found_[i]] = packed_.columns[column + bit];
            score_[i * SIZE + found_[i]++] = scores[bit];
        }
    }

    // Nearest centroid of row `i`, and its squared distance: by float64 if several may be the nearest.
    void decide(int64_t i, int32_t& label, float& sqdist) {
        int64_t close = 0;
        for (int64_t t = 0; t < found_[i]; t++) {
            if (!(score_[i * SIZE + t] < limit[i])) continue;
            close++;
            label = near_[i * SIZE + t];
        }
        const float rough = best_[i] + rounding_.xsq[i];
        sqdist = rough > 0 ? rough : 0;
        if (close == 1) return;
        double exact;
        const int64_t t = settle(i, exact);
        label = t < 0 ? -1 : near_[i * SIZE + t];  // of a row, or of centroids, that are not numbers there is none
        sqdist = static_cast<float>(exact);
    }

    Buffer<float> limit;

 private:
    static constexpr int64_t SIZE = 16;  // centroids listed before those that dropped out are removed

    // Score that a centroid must stay below to be possibly nearer than the best score.
    float reach(int64_t i) const {
        const float square = best_[i] + rounding_.xsq[i], slack = rounding_.slack[i], error = 2 * rounding_.error[i];
        const float distance = std::sqrt((square > 0 ? square : 0) + slack);
        return best_[i] + slack + error * (2 * distance + error);
    }

    // Place of the nearest listed centroid below the limit, by float64; ties go to the lowest.
    int64_t settle(int64_t i, double& least) const {
        const int32_t* near = near_ + i * SIZE;
        int64_t place = -1;
        least = INFINITE64;
        for (int64_t t = 0; t < found_[i]; t++) {
            if (!(score_[i * SIZE + t] < limit[i])) continue;
            const double v = sqdist64(x_ + i * packed_.d, c_ + near[t] * packed_.d, packed_.d);
            if (place < 0 || v < least || (v == least && near[t] < near[place])) {
                least = v;
                place = t;
            }
        }
        return place;
    }

    // Make room in a full list: drop what is beyond the limit by now; if nothing is, keep the nearest alone.
    void shorten(int64_t i) {
        int32_t* near = near_ + i * SIZE;
        float* score = score_ + i * SIZE;
        int32_t kept = 0;
        for (int64_t t = 0; t < found_[i]; t++) {
            if (!(score[t] < limit[i])) continue;
            near[kept] = near[t];
            score[kept++] = score[t];
        }
        found_[i] = kept;
        if (kept < SIZE) return;
        double exact;
        const int64_t t = settle(i, exact);
        near[0] = near[t];
        score[0] = score[t];
        found_[i] = 1;
    }

    const Packed& packed_;
    const float *x_, *c_;  // x_: the first row of the task
    const Rounding& rounding_;
    Buffer<float> best_;
    Buffer<int32_t> found_, near_;
    Buffer<float> score_;
};

// The nearest centroid, by scores of rounded operands: what passes is compared in float64 on the spot, best score
// first, so that the limit falls soon.
class Compared {
 public:
    Compared(const Packed& packed, const float* x, const float* c, const Rounding& rounding, int64_t count)
        : limit(count, HUGE_SCORE),
          label(count, -1),
          least(count, INFINITE64),
          packed_(packed),
          x_(x),
          c_(c),
          rounding_(rounding) {}

    // Begin row `i` with a centroid that is believed near.
    void hint(int64_t i, int32_t j) {
        label[i] = j;
        least[i] = sqdist64(x_ + i * packed_.d, c_ + j * packed_.d, packed_.d);
        limit[i] = limit_of(least[i], rounding_.xsq[i], rounding_.error[i], rounding_.slack[i]);
    }

    __attribute__((noinline)) void take(int64_t i, uint32_t hits, const float* scores, int64_t column) {
        int first = lowest_bit(hits);
        for (uint32_t rest = hits & (hits - 1); rest != 0; rest &= rest - 1) {
            if (scores[lowest_bit(rest)] < scores[first]) first = lowest_bit(rest);
        }
        compare(i, packed_.columns[column + first]);
        for (hits &= ~(uint32_t{1} << first); hits != 0; hits &= hits - 1) {
            const int bit = lowest_bit(hits);
            if (scores[bit] < limit[i]) compare(i, packed_.columns[column + bit]);
        }
    }

    Buffer<float> limit;
    Buffer<int32_t> label;
    Buffer<double> least;

 private:
    void compare(int64_t i, int32_t j) {
        const int64_t d = packed_.d;
        const float *row = x_ + i * d, *centroid = c_ + j * d;
        if (j == label[i] || static_cast<double>(sqdist32(row, centroid, d)) > least[i] * (1 + 1e-4)) return;
        const double v = sqdist64(row, centroid, d);
        if (v < least[i] || (v == least[i] && j < label[i])) {
            least[i] = v;
            label[i] = j;
            const float lower = limit_of(v, rounding_.xsq[i], rounding_.error[i], rounding_.slack[i]);
            limit[i] = lower < limit[i] ? lower : limit[i];
        }
    }

    const Packed& packed_;
    const float *x_, *c_;  // x_: the first row of the task
    const Rounding& rounding_;
};

// The `m` columns of the lowest scores, in ascending order. Up to eight are kept in lists of eight, which take entries
// without a branch: where a search begins, most hits are entered, at places that no CPU foretells.
class Lists {
 public:
    Lists(int64_t count, int64_t m)
        : limit(count, HUGE_SCORE),
          m_(m),
          stride_(1 + (m < EIGHT ? EIGHT : m)),
          score_(count * stride_, HUGE_SCORE),
          column_(count * stride_, -1) {
        for (int64_t i = 0; i < count; i++) score_[i * stride_] = -INFINITE;
    }

    __attribute__((noinline)) void take(int64_t i, uint32_t hits, const float* scores, int64_t column) {
        float* score = score_ + i * stride_;
        int32_t* list = column_ + i * stride_;
        for (; hits != 0; hits &= hits - 1) {
            const int bit = lowest_bit(hits);
            const float v = scores[bit];
            if (!(v < limit[i])) continue;
            if (m_ <= EIGHT) {
                insert_in_eight(score, list, v, static_cast<int32_t>(column + bit));
            } else {
                insert(score + 1, list + 1, m_, v, static_cast<int32_t>(column + bit));
            }
            if (score[m_] < limit[i]) limit[i] = score[m_];
        }
    }

    const float* scores(int64_t i) const { return score_ + i * stride_ + 1; }
    const int32_t* columns(int64_t i) const { return column_ + i * stride_ + 1; }

    Buffer<float> limit;

 private:
    int64_t m_, stride_;  // entries that are asked for; that a row has room for, and one before these
    Buffer<float> score_;
    Buffer<int32_t> column_;
};

// The squared distance of float64, rounded as it is told: those told to be equal are listed by number, so that lists of
// parts of the centroids, merged by what they tell, are the list of all.
inline double told_sqdist(const float* x, const float* c, int64_t d) {
    return static_cast<double>(static_cast<float>(sqdist64(x, c, d)));
}

// Enter a centroid into the ascending list of the nearest, equal ones by number. It has `size` of them, and
// room for `m`: when it is full, the last one drops out.
inline void enter(double* sqdist, int32_t* ids, int64_t& size, int64_t m, double value, int32_t j) {
    if (size == m && (value > sqdist[m - 1] || (value == sqdist[m - 1] && j >= ids[m - 1]))) return;
    int64_t t = size < m ? size++ : m - 1;
    for (; t > 0 && (sqdist[t - 1] > value || (sqdist[t - 1] == value && ids[t - 1] > j)); t--) {
        sqdist[t] = sqdist[t - 1];
        ids[t] = ids[t - 1];
    }
    sqdist[t] = value;
    ids[t] = j;
}

// The `m` nearest centroids by float64, among those looked at and those whose scores leave open that they are nearer.
class Settled {
 public:
    Settled(const Packed& packed, const float* x, const float* c, const Rounding& rounding, int64_t count, int64_t m,
            int32_t* ids)
        : limit(count, HUGE_SCORE),
          sqdist(count * m, INFINITE64),
          packed_(packed),
          x_(x),
          c_(c),
          rounding_(rounding),
          m_(m),
          ids_(ids),
          size_(count, 0) {
        for (int64_t t = 0; t < count * m; t++) ids[t] = -1;
    }

    // Compare row `i` with centroid `j`, which it was not compared with before.
    void look(int64_t i, int32_t j) {
        const double v = told_sqdist(x_ + i * packed_.d, c_ + j * packed_.d, packed_.d);
        enter(sqdist + i * m_, ids_ + i * m_, size_[i], m_, v, j);
    }

    // Lower the limit of row `i` to what the last of its nearest says.
    void narrow(int64_t i) {
        if (size_[i] < m_) return;
        const double last = sqdist[i * m_ + m_ - 1];
        const float lower = limit_of(last, rounding_.xsq[i], rounding_.error[i], rounding_.slack[i]);
        limit[i] = lower < limit[i] ? lower : limit[i];
    }

    __attribute__((noinline)) void take(int64_t i, uint32_t hits, const float* scores, int64_t column) {
        for (; hits != 0; hits &= hits - 1) {
            const int bit = lowest_bit(hits);
            const int32_t j = packed_.columns[column + bit];
            if (!(scores[bit] < limit[i]) || known(i, j)) continue;
            look(i, j);
            narrow(i);
        }
    }

    Buffer<float> limit;
    Buffer<double> sqdist;  // of the nearest of each row, m of them

 private:
    bool known(int64_t i, int32_t j) const {
        for (int64_t t = 0; t < size_[i]; t++) {
            if (ids_[i * m_ + t] == j) return true;
        }
        return false;
    }

    const Packed& packed_;
    const float *x_, *c_;  // x_: the first row of the task
    const Rounding& rounding_;
    int64_t m_;
    int32_t* ids_;
    Buffer<int64_t> size_;
};

// All scores, of which the lowest are picked afterwards: longer lists than of eight take more time to keep in order.
class Everything {
 public:
    Everything(int64_t count, int64_t columns)
        : limit(count, HUGE_SCORE), columns_(columns), score_(count * columns, HUGE_SCORE) {}

    void take(int64_t i, uint32_t hits, const float* scores, int64_t column) {
        float* to = score_ + i * columns_ + column;
        for (; hits != 0; hits &= hits - 1) to[lowest_bit(hits)] = scores[lowest_bit(hits)];
    }

    // The columns of the `m` lowest scores of row `i`, -1 for what there is not. A bound that `m` of them are below is
    // found by halving; of equal scores the first columns are taken.
    void lowest(int64_t i, int64_t m, int32_t* out) const {
        const float* score = score_ + i * columns_;
        F32 tops = splat(-HUGE_SCORE), lows = splat(HUGE_SCORE);
        for (int64_t j = 0; j < columns_; j += WIDTH) {
            const F32 v = load<F32>(score + j);
            lows = least(lows, v);
            tops = v < HUGE_SCORE ? largest(tops, v) : tops;
        }
        float low = least(lows), high = -least(-tops);
        for (int64_t step = 0; step < 32; step++) {  // at most m are below `low`, and more below `high`, or all but it
            const float middle = low + 0.5f * (high - low);
            const int64_t size = below_bound(score, middle);
            if (size > m) {
                high = middle;
            } else {
                low = middle;
                if (size == m) break;
            }
        }
        int64_t size = pick(score, -HUGE_SCORE, low, m, 0, out);
        size = pick(score, low, high, m, size, out);
        size = pick(score, high, HUGE_SCORE, m, size, out);
        for (; size < m; size++) out[size] = -1;
    }

    Buffer<float> limit;

 private:
    int64_t below_bound(const float* score, float bound) const {
        int64_t size = 0;
        for (int64_t j = 0; j < columns_; j += WIDTH) size += count_bits(below(load<F32>(score + j), splat(bound)));
        return size;
    }

    // Write columns with first <= score < end after `size` others, until there are `m`.
    int64_t pick(const float* score, float first, float end, int64_t m, int64_t size, int32_t* out) const {
        for (int64_t j = 0; j < columns_ && size < m; j += WIDTH) {
            const F32 v = load<F32>(score + j);
            uint32_t hits = below(v, splat(end)) & ~below(v, splat(first));
            for (; hits != 0 && size < m; hits &= hits - 1) out[size++] = static_cast<int32_t>(j + lowest_bit(hits));
        }
        return size;
    }

    int64_t columns_;
    Buffer<float> score_;
};

}  // namespace
}  // namespace fastann

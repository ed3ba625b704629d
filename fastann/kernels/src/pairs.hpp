// Squared distances of given pairs of a row and a centroid. Rows may be sparse; `csq` are the squared norms of the
// centroids (float64), which only sparse rows need.
#pragma once

#include "parallel.hpp"
#include "rowops.hpp"
#include "table.hpp"

namespace fastann {
namespace {

constexpr int64_t PAIR_ROWS = 256;    // rows per task
constexpr int64_t LIGHT_ROWS = 1024;  // where each has one pair

inline double square_of(const double* csq, int64_t j) { return csq != nullptr ? csq[j] : 0; }

// Values that one pair reads, about.
inline double values_of_pair(const Rows& x) {
    return 3 * (x.sparse() ? static_cast<double>(x.indptr[x.n] - x.indptr[0]) / static_cast<double>(x.n + 1)
                           : static_cast<double>(x.d));
}

// Ask for a centroid that is compared soon, -1 for none: where centroids do not fit into a cache, that takes longer
// than to compare them. The CPU itself asks for what follows the first lines.
inline void ask_for(const Rows& x, const float* c, int32_t j) {
    constexpr int64_t FIRST = 128;
    if (!x.sparse() && x.d >= 32 && j >= 0) prefetch(c + j * x.d, x.d < FIRST ? x.d : FIRST);
}

// Sort each row's candidates by float32 squared distance, then by id; -1 goes last, at infinity.
void rescore(const Rows& x, const float* c, const double* csq, int64_t m, int32_t* ids, float* sqdist) {
    const double work = values_of_pair(x) * static_cast<double>(x.n) * static_cast<double>(m);
    parallel_ranges(x.n, PAIR_ROWS, work, [&](int64_t first, int64_t end) {
        for (int64_t i = first; i < end; i++) {
            int32_t* list = ids + i * m;
            float* far = sqdist + i * m;
            for (int64_t t = 0; t < m; t++) {
                const int32_t j = list[t];
                if (t + 1 < m) ask_for(x, c, list[t + 1]);
                const float value = j < 0 ? INFINITE : sqdist32(x, i, c + j * x.d, square_of(csq, j));
                int64_t s = t;
                for (; s > 0 && (far[s - 1] > value || (far[s - 1] == value && j >= 0 && list[s - 1] > j)); s--) {
                    far[s] = far[s - 1];
                    list[s] = list[s - 1];
                }
                far[s] = value;
                list[s] = j;
            }
        }
    });
}

// Squared distance of each row to its own centroid.
void own_sqdist(const Rows& x, const float* c, const double* csq, const int32_t* labels, double* sqdist) {
    parallel_ranges(x.n, LIGHT_ROWS, values_of_pair(x) * static_cast<double>(x.n), [&](int64_t first, int64_t end) {
        for (int64_t i = first; i < end; i++) {
            const int64_t j = labels[i];
            if (i + 4 < end) ask_for(x, c, labels[i + 4]);
            sqdist[i] = sqdist64(x, i, c + j * x.d, square_of(csq, j));
        }
    });
}

// Nearest of some centroids (-1: none) that is not the row's own; -1, at infinity, if there is no other.
void runner_up(const Rows& x, const float* c, const double* csq, const int32_t* labels, const int32_t* ids, int64_t m,
               int32_t* second, double* sqdist) {
    const double work = values_of_pair(x) * static_cast<double>(x.n) * static_cast<double>(m);
    parallel_ranges(x.n, PAIR_ROWS, work, [&](int64_t first, int64_t end) {
        for (int64_t i = first; i < end; i++) {
            int32_t nearest = -1;
            double least = INFINITE64;
            for (int64_t t = 0; t < m; t++) {
                const int32_t j = ids[i * m + t];
                if (t + 1 < m) ask_for(x, c, ids[i * m + t + 1]);
                if (j < 0 || j == labels[i]) continue;
                const double far = sqdist64(x, i, c + j * x.d, square_of(csq, j));
                nearest = far < least ? j : nearest;  // no branch: no CPU can foresee it
                least = far < least ? far : least;
            }
            second[i] = nearest;
            sqdist[i] = least;
        }
    });
}

// How far the rows ids[r] of `c` are from `before[r]`, as distance, not squared: to out[ids[r]].
void drift(const float* c, const int32_t* ids, const float* before, int64_t count, int64_t d, float* out) {
    parallel_ranges(count, LIGHT_ROWS, 3.0 * static_cast<double>(count) * static_cast<double>(d),
                    [&](int64_t first, int64_t end) {
                        for (int64_t r = first; r < end; r++) {
                            const int64_t j = ids[r];
                            out[j] = std::sqrt(sqdist32(c + j * d, before + r * d, d));
                        }
                    });
}

// Least and largest of some ids, at most 0 and at least -1.
void range_of(const int32_t* ids, int64_t n, int64_t* low, int64_t* high) {
    int32_t least_id = 0, most = -1;
    for (int64_t i = 0; i < n; i++) {
        least_id = ids[i] < least_id ? ids[i] : least_id;
        most = ids[i] > most ? ids[i] : most;
    }
    *low = least_id;
    *high = most;
}

constexpr void fill_pairs(Table& table) {
    table.rescore = rescore;
    table.own_sqdist = own_sqdist;
    table.runner_up = runner_up;
    table.drift = drift;
    table.range = range_of;
}

}  // namespace
}  // namespace fastann

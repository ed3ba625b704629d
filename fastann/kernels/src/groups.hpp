// k-means within groups: rows meet only the centroids of their own group.
#pragma once

#include "buffer.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "rowops.hpp"
#include "several.hpp"
#include "table.hpp"

namespace fastann {
namespace {

constexpr int64_t TASKS = 64;  // pieces of dense rows
constexpr int64_t WORTH = 64;  // columns from which on a float32 distance takes clearly less time than a float64 one

// Pieces to cut a loop over rows into, where these do not depend on each other: for CSR rows no more than threads, as
// each piece holds vectors of all columns.
inline int64_t pieces_of(const Rows& x) { return x.sparse() ? threads() : TASKS; }

// Numbers that a table of rows holds.
inline int64_t stored(const Rows& x) { return x.sparse() ? x.indptr[x.n] - x.indptr[0] : x.n * x.d; }

// About how many of first[groups] things a group has, one at least.
inline int64_t per_group(const int64_t* first, int64_t groups) { return groups > 0 ? first[groups] / groups + 1 : 1; }

// Which of several vectors may be the nearest, by squared distances in float32. All terms of such a sum are positive,
// so that its relative error is at most one rounding for each of `d` additions, and three for a term (Higham, Accuracy
// and Stability of Numerical Algorithms, 3.1).
struct Sieve {
    double more;  // 1 + the largest relative error
    bool works;

    explicit Sieve(int64_t d)
        : more(1 + 1.01 * static_cast<double>(UNIT) * static_cast<double>(d + 4)), works(d < 1000000) {}

    // Whether a squared distance of `far` in float32 is certainly larger than one of `near` in float64. Denormals are
    // below what is added, and infinity may be an overflow.
    bool farther(float far, double near) const { return works && far < 1e38f && far > near * more + 1e-36; }
};

// Of rows sorted by group, the part [first, end) in turn by group: body(group, first, end).
template <class Body>
inline void by_group(const int64_t* offsets, int64_t groups, int64_t first, int64_t end, const Body& body) {
    int64_t low = 0, high = groups;  // the group of the first row: the last one that begins at or before it
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        (offsets[middle] <= first ? low : high) = middle;
    }
    for (int64_t g = low; first < end; g++) {
        const int64_t stop = offsets[g + 1] < end ? offsets[g + 1] : end;
        if (stop > first) body(g, first, stop);
        first = stop > first ? stop : first;
    }
}

// The nearest of centroids first..end-1 of a dense row, -1 if all are certainly farther than the squared distance
// `within`; `near` is room for their float32 distances, and seven more.
inline int32_t nearest_of(const float* x, const float* c, int64_t d, int64_t first, int64_t end, const Sieve& sieve,
                          double within, float* near, double& least) {
    least = INFINITE64;
    const bool sieved = end - first > 2 || within < INFINITE64;
    float low = INFINITE;
    for (int64_t j = first; sieved && j < end; j += 8) {
        const float* at[8];
        for (int64_t t = 0; t < 8; t++) at[t] = c + (j + t < end ? j + t : end - 1) * d;
        if (end - j > 2) {
            several_sqdist32<8>(x, at, d, near + j - first);
        } else {
            for (int64_t t = 0; j + t < end; t++) near[j - first + t] = sqdist32(x, at[t], d);
        }
        for (int64_t t = 0; t < 8 && j + t < end; t++) low = near[j - first + t] < low ? near[j - first + t] : low;
    }
    const double nearest = low * sieve.more + 1e-36;  // no smaller than the squared distance to the nearest
    const double limit = nearest < within ? nearest : within;
    int32_t best = sieved ? -1 : static_cast<int32_t>(first);
    for (int64_t j = first; j < end; j++) {
        if (sieved && sieve.farther(near[j - first], limit)) continue;
        const double s = sqdist64(x, c + j * d, d);
        if (s < least) {
            least = s;
            best = static_cast<int32_t>(j);
        }
    }
    return best;
}

inline void nearest_dense(const Rows& x, const int64_t* offsets, const int32_t* order, int64_t groups, const float* c,
                          const int64_t* first, const double* within, int32_t* ids, float* sqdist) {
    const int64_t n = offsets[groups], d = x.d;
    const Sieve sieve(d);
    int64_t most = 0;
    for (int64_t g = 0; g < groups; g++) most = first[g + 1] - first[g] > most ? first[g + 1] - first[g] : most;
    const double operations = 2.0 * static_cast<double>(n * d) * static_cast<double>(per_group(first, groups));
    parallel(TASKS, operations, [&](int64_t piece) {
        const Buffer<float> near(most + 8);
        by_group(offsets, groups, piece * n / TASKS, (piece + 1) * n / TASKS,
                 [&](int64_t g, int64_t start, int64_t end) {
                     if (first[g] == first[g + 1]) return;
                     for (int64_t q = start; q < end; q++) {
                         prefetch(x.data + order[q + 2 < end ? q + 2 : end - 1] * d, d);
                         const int64_t i = order[q];
                         double least;
                         ids[i] = nearest_of(x.data + i * d, c, d, first[g], first[g + 1], sieve,
                                             within != nullptr ? within[i] : INFINITE64, near, least);
                         sqdist[i] = static_cast<float>(least);
                     }
                 });
    });
}

// A centroid at a time, spread to a dense vector if it is sparse.
inline void nearest_sparse(const Rows& x, const int64_t* offsets, const int32_t* order, int64_t groups, const Rows& c,
                           const int64_t* first, int32_t* ids, float* sqdist) {
    const int64_t n = offsets[groups], pieces = pieces_of(x);
    const Buffer<double> least(x.n);
    const double operations = 2.0 * static_cast<double>(stored(x)) * static_cast<double>(per_group(first, groups));
    parallel(pieces, operations, [&](int64_t piece) {
        const Buffer<float> work(x.d, 0);
        by_group(offsets, groups, piece * n / pieces, (piece + 1) * n / pieces,
                 [&](int64_t g, int64_t start, int64_t end) {
                     for (int64_t j = first[g]; j < first[g + 1]; j++) {
                         const float* v = load(c, j, work);
                         const double square = sqnorm64(c, j);
                         for (int64_t q = start; q < end; q++) {
                             const int64_t i = order[q];
                             const double s = sqdist64(x, i, v, square);
                             if (j > first[g] && s >= least[i]) continue;
                             least[i] = s;
                             ids[i] = static_cast<int32_t>(j);
                             sqdist[i] = static_cast<float>(s);
                         }
                         unload(c, j, work);
                     }
                 });
    });
}

// Nearest centroid of each row among those of its group, and its squared distance; -1 and infinity where there is none.
// Rows of group g are order[offsets[g]..offsets[g + 1]), its centroids first[g] to first[g + 1] - 1. Where `within` is
// given, the same may stand where the nearest is farther than that squared distance.
void nearest_in_group(const Rows& x, const int64_t* offsets, const int32_t* order, int64_t groups, const Rows& c,
                      const int64_t* first, const double* within, int32_t* ids, float* sqdist) {
    for (int64_t i = 0; i < x.n; i++) {
        ids[i] = -1;
        sqdist[i] = INFINITE;
    }
    if (x.sparse() || c.sparse()) {
        nearest_sparse(x, offsets, order, groups, c, first, ids, sqdist);
    } else {
        nearest_dense(x, offsets, order, groups, c.data, first, within, ids, sqdist);
    }
}

// Row of [start, end) drawn with probability proportional to `mass`, whose sum is `total`, by a uniform number; -1 if
// all is zero.
inline int64_t draw(const double* mass, int64_t start, int64_t end, double total, double u) {
    if (!(total > 0)) return -1;
    const double at = u * total;
    double seen = 0;
    int64_t last = -1;
    for (int64_t q = start; q < end; q++) {
        if (!(mass[q] > 0)) continue;
        seen += mass[q];
        last = q;
        if (at < seen) return q;
    }
    return last;
}

// Work space of one piece of `plus_plus`.
struct Seeding {
    const Rows& x;
    const double* weights;
    double *closest, *mass, *tried, *kept;
    float* work;  // all columns, for sparse rows
    float* near;  // float32 distances of all rows of a group to eight of its rows
    Sieve sieve;

    bool sieved() const { return x.d >= WORTH && !x.sparse(); }

    // Float32 distances of the rows of [start, end) to up to eight of them, `picks`.
    void measure(const int64_t* picks, int64_t count, int64_t start, int64_t end) const {
        const float* at[8];
        for (int64_t t = 0; t < 8; t++) at[t] = x.data + picks[t < count ? t : 0] * x.d;
        for (int64_t q = start; q < end; q++) {
            float* out = near + (q - start) * 8;
            if (count > 4) {
                several_sqdist32<8>(x.data + q * x.d, at, x.d, out);
            } else {
                several_sqdist32<4>(x.data + q * x.d, at, x.d, out);
            }
        }
    }

    // What the rows of [start, end) are then distant from their closest centre, into `out`, if `pick`, the trial of
    // that number, becomes one. Returns their sum, weighted.
    double with(int64_t pick, int64_t trial, int64_t start, int64_t end, double* out) const {
        const float* v = load(x, pick, work);
        const double square = x.sparse() ? sqnorm64(x, pick) : 0;
        double left = 0;
        for (int64_t q = start; q < end; q++) {
            double s = closest[q];
            if (!sieved() || s == INFINITE64 || !sieve.farther(near[(q - start) * 8 + trial], s)) {
                const double far = sqdist64(x, q, v, square);
                s = far < s ? far : s;
            }
            out[q] = s;
            left += weights[q] * s;
        }
        unload(x, pick, work);
        return left;
    }

    // Draw `size` centres out of the rows of [start, end). Each is the best of `trials` rows, drawn by the numbers of
    // `uniform`; where `closest` tells of no centre yet, the first is the first one drawn.
    void group(int64_t start, int64_t end, int64_t size, const double* uniform, int64_t trials, int64_t* picks) {
        const bool begun = start < end && closest[start] < INFINITE64;
        for (int64_t q = start; q < end; q++) mass[q] = begun ? weights[q] * closest[q] : weights[q];
        for (int64_t c = 0; c < size; c++) {
            int64_t best = -1;
            double least = INFINITE64, total = 0;
            for (int64_t q = start; q < end; q++) total += mass[q];
            if (!(total > 0)) return;  // every row is a centre already
            const int64_t all = begun || c > 0 ? trials : 1;
            for (int64_t from = 0; from < all; from += 8) {
                int64_t drawn[8];
                const int64_t count = all - from < 8 ? all - from : 8;
                for (int64_t t = 0; t < count; t++) {
                    drawn[t] = draw(mass, start, end, total, uniform[c * trials + from + t]);
                }
                if (sieved() && (begun || c > 0)) measure(drawn, count, start, end);
                for (int64_t t = 0; t < count; t++) {
                    const double left = with(drawn[t], t, start, end, tried);
                    if (!(left < least)) continue;
                    best = drawn[t];
                    least = left;
                    double* swapped = tried;
                    tried = kept;
                    kept = swapped;
                }
            }
            if (best < 0) return;
            picks[c] = best;
            for (int64_t q = start; q < end; q++) {
                closest[q] = q == best ? 0 : kept[q];
                mass[q] = weights[q] * closest[q];
            }
        }
    }
};

// Greedy k-means++ within each group of rows: rows of group g are offsets[g] to offsets[g + 1] - 1, and its picks go to
// first[g] to first[g + 1] - 1, which hold -1 before. `closest` has the squared distance of each row to the nearest
// centre that there is, infinite for a whole group where there is none, and is kept up to date. A group is done by one
// thread.
void plus_plus(const Rows& x, const double* weights, double* closest, const int64_t* offsets, int64_t groups,
               const int64_t* first, const double* uniform, int64_t trials, int64_t* picks) {
    const Buffer<double> mass(x.n), tried(x.n), kept(x.n);
    const int64_t pieces = pieces_of(x);
    int64_t most = 0;  // rows of a group
    for (int64_t g = 0; g < groups; g++) most = offsets[g + 1] - offsets[g] > most ? offsets[g + 1] - offsets[g] : most;
    const double operations =
        2.0 * static_cast<double>(trials * stored(x)) * static_cast<double>(per_group(first, groups));
    parallel(pieces, operations, [&](int64_t piece) {
        const Buffer<float> work(x.sparse() ? x.d : 0, 0), near(x.sparse() || x.d < WORTH ? 0 : 8 * most);
        Seeding seeding{x, weights, closest, mass, tried, kept, work, near, Sieve(x.d)};
        for (int64_t g = piece * groups / pieces; g < (piece + 1) * groups / pieces; g++) {
            seeding.group(offsets[g], offsets[g + 1], first[g + 1] - first[g], uniform + first[g] * trials, trials,
                          picks + first[g]);
        }
    });
}

constexpr void fill_groups(Table& table) {
    table.nearest_in_group = nearest_in_group;
    table.plus_plus = plus_plus;
}

}  // namespace
}  // namespace fastann

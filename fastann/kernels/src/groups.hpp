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
        sqdist32_to(x, at, end - j < 8 ? end - j : 8, d, near + j - first);
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

constexpr void fill_groups(Table& table) { table.nearest_in_group = nearest_in_group; }

}  // namespace
}  // namespace fastann

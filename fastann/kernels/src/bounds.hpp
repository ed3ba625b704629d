// A visit of rows that keep lists of candidate centroids, with bounds that spare most of the work.
//
// Each row remembers eight candidates and two lower bounds: `second`, on its distance to every candidate but its own
// centroid, and `beyond`, on its distance to every centroid that is no candidate (Drake and Hamerly, "Accelerated
// k-means with adaptive distance bounds", 2012). Centroids that drift loosen them. While they hold, the row is not even
// read. `second` is rigorous; `beyond` is loosened by a share of the drift among the row's own candidates, so that it
// holds for nearly all rows, not for certain: the recall of the labels is measured.
#pragma once

#include "buffer.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "rowops.hpp"
#include "rules.hpp"
#include "several.hpp"
#include "table.hpp"
#include "visit.hpp"

namespace fastann {
namespace {

constexpr int64_t VISITED = 1024;  // rows of a piece
constexpr int64_t AHEAD = 12;      // rows whose labels and bounds are asked for ahead of time
constexpr int64_t ROWS_AHEAD = 4;  // the same of the rows themselves, which lie apart: memory is slow to find them

// A comparison with NaN is false: a bound that is none counts as 0, and the row is looked at.
inline float at_least_zero(float x) { return x > 0 ? x : 0; }

inline float root(float x) { return __builtin_sqrtf(x); }

// Whether a number is in [0, end), and in [-1, end).
inline bool below_end(int32_t j, int64_t end) { return static_cast<uint32_t>(j) < static_cast<uint64_t>(end); }
inline bool none_or_below(int32_t j, int64_t end) {
    return static_cast<uint32_t>(j) + 1u <= static_cast<uint64_t>(end);
}

inline bool all_sound(const int32_t* ids, int64_t k) {
    bool sound = true;
    for (int64_t t = 0; t < LISTED; t++) sound &= none_or_below(ids[t], k);
    return sound;
}

// Distances of rows to centroids: float32 for dense rows; float64, then rounded, for sparse ones.
struct DenseDistances {
    const float *x, *c;
    int64_t d;

    explicit DenseDistances(const Visit& v) : x(v.x.data), c(v.c), d(v.x.d) {}
    void ask_for(int64_t i) const { prefetch_early(x + i * d, d); }
    bool sound(int64_t) const { return true; }
    float to(int64_t i, int64_t j) const { return sqdist32(x + i * d, c + j * d, d); }

    // To each of eight centroids; an id of -1 stands for none, and leaves something arbitrary.
    void to_eight(int64_t i, const int32_t* ids, int32_t instead, float* out) const {
        const float* at[8];
        for (int64_t t = 0; t < 8; t++) at[t] = c + static_cast<int64_t>(ids[t] < 0 ? instead : ids[t]) * d;
        several_sqdist32<8>(x + i * d, at, d, out);
    }
};

struct SparseDistances {
    const Rows& x;
    const float* c;
    int64_t d;
    Buffer<double> squares;

    explicit SparseDistances(const Visit& v) : x(v.x), c(v.c), d(v.x.d), squares(v.k) {
        parallel_ranges(v.k, 64, 2.0 * static_cast<double>(v.k * d), [&](int64_t first, int64_t end) {
            for (int64_t j = first; j < end; j++) squares[j] = dot64(c + j * d, c + j * d, d);
        });
    }
    void ask_for(int64_t) const {}
    // Whether all columns of a row are there.
    bool sound(int64_t i) const {
        bool all = true;
        for (int64_t q = x.indptr[i]; q < x.indptr[i + 1]; q++) all &= below_end(x.indices[q], d);
        return all;
    }
    float to(int64_t i, int64_t j) const { return static_cast<float>(sparse_sqdist64(x, i, c + j * d, squares[j])); }
    void to_eight(int64_t i, const int32_t* ids, int32_t, float* out) const {
        for (int64_t t = 0; t < 8; t++) {
            if (ids[t] >= 0) out[t] = to(i, ids[t]);
        }
    }
};

// Largest drift, and least mass, of a row's candidates other than its own centroid.
struct Around {
    float most;
    double least;
};

inline Around around(const int32_t* ids, int32_t own, int rule, const double* mass, const float* drift) {
    Around a{0, INFINITE64};
    for (int64_t t = 0; t < LISTED; t++) {
        const bool other = ids[t] >= 0 && ids[t] != own;
        const float moved = drift[ids[t] >= 0 ? ids[t] : own];
        a.most = other && moved > a.most ? moved : a.most;
    }
    if (rule == LLOYD) return a;
    for (int64_t t = 0; t < LISTED; t++) {
        const bool other = ids[t] >= 0 && ids[t] != own;
        const double size = mass[ids[t] >= 0 ? ids[t] : own];
        a.least = other && size < a.least ? size : a.least;
    }
    return a;
}

// What a row compared with all its candidates finds: the best centroid, its squared distance, that of the nearest other
// candidate, and that of the farthest.
struct Comparison {
    int32_t best;
    float best_sq, runner, far;
};

template <class Distances>
inline Comparison among(const Visit& v, const Distances& distances, int64_t i, int32_t own, float own_sq, double w) {
    const int32_t* ids = v.ids + i * LISTED;
    float dist[LISTED];
    distances.to_eight(i, ids, own, dist);
    Comparison r{own, own_sq, INFINITE, own_sq};
    for (int64_t t = 0; t < LISTED; t++) {
        dist[t] = ids[t] < 0 ? INFINITE : ids[t] == own ? own_sq : dist[t];
        r.far = ids[t] >= 0 && dist[t] > r.far ? dist[t] : r.far;
    }
    double least = cost(v.rule, own_sq, v.mass[own], w, true);
    for (int64_t t = 0; t < LISTED; t++) {
        if (ids[t] < 0 || ids[t] == own) continue;
        const double value = cost(v.rule, dist[t], v.mass[ids[t]], w, false);
        if (value < least) {
            least = value;
            r.best = ids[t];
            r.best_sq = dist[t];
        }
    }
    if (r.best != own) r.runner = own_sq;
    for (int64_t t = 0; t < LISTED; t++) r.runner = ids[t] != r.best && dist[t] < r.runner ? dist[t] : r.runner;
    return r;
}

// A row whose bounds failed.
struct Open {
    int64_t place;  // in the order of the visit
    float join;
    float limit;  // what the squared distance to its own centroid must not exceed
};

// Loosen the bounds of the rows at first..end-1 of the order by the drift; list those rows whose bounds fail in `open`.
// Returns how many these are. Rows with an index that is out of range are left as they are, and `sound` becomes false.
inline int64_t loosen(const Visit& v, const float* drift, float caution, int64_t first, int64_t end, uint8_t* status,
                      Open* open, bool& sound) {
    int64_t count = 0;
    for (int64_t q = first; q < end; q++) {
        const int64_t next = v.order[q + AHEAD < end ? q + AHEAD : end - 1];
        __builtin_prefetch(v.labels + next);
        __builtin_prefetch(v.sqdist + next, 1);
        __builtin_prefetch(v.ids + next * LISTED);
        __builtin_prefetch(v.second + next, 1);
        __builtin_prefetch(v.beyond + next, 1);
        const int64_t i = v.order[q];
        status[q] = SKIP;
        if (!below_end(v.order[q], v.x.n) || !below_end(v.labels[i], v.k) || !all_sound(v.ids + i * LISTED, v.k)) {
            sound = false;
            continue;
        }
        const int32_t own = v.labels[i];
        const double w = v.weights != nullptr ? v.weights[i] : 1;
        const float upper = root(v.sqdist[i]) + drift[own];
        const Around a = around(v.ids + i * LISTED, own, v.rule, v.mass, drift);
        const float second = v.second[i] - a.most, beyond = v.beyond[i] - caution * a.most;
        v.second[i] = second;
        v.beyond[i] = beyond;
        const float bound = at_least_zero(second < beyond ? second : beyond);
        const float factor = join(v.rule, a.least, w), limit = factor * bound * bound;
        if (upper * upper * stay(v.rule, v.mass[own], w) <= limit) {
            v.sqdist[i] = upper * upper;
        } else {
            open[count++] = {q, factor, limit};
        }
    }
    return count;
}

// Compare a row whose bounds failed with its own centroid, and if that does not do with all its candidates.
template <class Distances>
inline uint8_t compare(const Visit& v, const Distances& distances, const Open& row) {
    const int64_t i = v.order[row.place];
    const int32_t own = v.labels[i];
    const double w = v.weights != nullptr ? v.weights[i] : 1;
    const float own_sq = distances.to(i, own);  // often enough: the stored distance had only grown with every drift
    if (own_sq * stay(v.rule, v.mass[own], w) <= row.limit) {
        v.sqdist[i] = own_sq;
        return LOOKED;
    }
    const Comparison r = among(v, distances, i, own, own_sq, w);  // the list keeps its order of the last search
    v.labels[i] = r.best;
    v.sqdist[i] = r.best_sq;
    v.second[i] = root(r.runner);
    const float bound = at_least_zero(v.beyond[i]);
    if (!(r.best_sq * stay(v.rule, v.mass[r.best], w) > row.join * bound * bound)) return LOOKED;
    v.beyond[i] = r.far > 0 ? root(r.far) : INFINITE;
    return WANTING;
}

template <class Distances>
inline bool look_at(const Visit& v, const float* drift, float caution, uint8_t* status) {
    const Distances distances(v);
    bool all = true;
    const double operations = static_cast<double>(v.count) * static_cast<double>(32 + 2 * v.x.d);
    parallel_ranges(v.count, VISITED, operations, [&](int64_t first, int64_t end) {
        Open open[VISITED];
        bool sound = true;
        const int64_t count = loosen(v, drift, caution, first, end, status, open, sound);
        for (int64_t s = 0; s < count; s++) {
            distances.ask_for(v.order[open[s + ROWS_AHEAD < count ? s + ROWS_AHEAD : count - 1].place]);
            if (distances.sound(v.order[open[s].place])) {
                status[open[s].place] = compare(v, distances, open[s]);
            } else {
                sound = false;
            }
        }
        if (!sound) __atomic_store_n(&all, false, __ATOMIC_RELAXED);
    });
    return all;
}

// Decide for each row whether it can move at all, and compare those that can with their candidates. False if an index
// was out of range.
bool look(const Visit& v, const float* drift, float caution, uint8_t* status) {
    return v.x.sparse() ? look_at<SparseDistances>(v, drift, caution, status)
                        : look_at<DenseDistances>(v, drift, caution, status);
}

// A list of centroids, nearest first: distances, not squared.
struct List {
    int32_t ids[LISTED];
    float dist[LISTED];
    int64_t size, most;

    bool has(int32_t j, int64_t among) const {
        bool known = false;
        for (int64_t s = 0; s < LISTED; s++) known |= s < among && ids[s] == j;
        return known;
    }
    void insert(int32_t j, float far) {
        if (size == most && far >= dist[size - 1]) return;
        int64_t s = size < most ? size : most - 1;
        for (; s > 0 && dist[s - 1] > far; s--) {
            dist[s] = dist[s - 1];
            ids[s] = ids[s - 1];
        }
        dist[s] = far;
        ids[s] = j;
        size += size < most ? 1 : 0;
    }
};

// List what a search found for row `i`, its own centroid (-1: none; its squared distance is `own_sq`) and its former
// candidates: the nearest of them. `found` is ascending by distance and ends with -1.
template <class Distances>
inline void gather(const Visit& v, const Distances& distances, int64_t i, int32_t own, float own_sq,
                   const int32_t* found, const float* found_dist, List& list) {
    list.size = 0;
    for (int64_t t = 0; t < LISTED && list.size < list.most; t++) {
        if (found[t] < 0) continue;
        list.ids[list.size] = found[t];
        list.dist[list.size++] = found_dist[t];
    }
    int32_t other[LISTED];  // former candidates that the search did not find
    int64_t others = 0;
    for (int64_t t = 0; t < LISTED; t++) {
        const int32_t j = v.ids[i * LISTED + t];
        other[others] = j;
        others += j >= 0 && j != own && !list.has(j, list.size) ? 1 : 0;
    }
    if (own >= 0 && !list.has(own, list.size)) list.insert(own, root(own_sq));
    if (others == 0) return;
    for (int64_t t = others; t < LISTED; t++) other[t] = -1;
    float dist[LISTED];
    distances.to_eight(i, other, other[0], dist);
    for (int64_t t = 0; t < others; t++) list.insert(other[t], root(dist[t]));
}

template <class Distances>
inline bool merge_row(const Visit& v, const Distances& distances, int64_t i, const int32_t* found,
                      const float* found_dist, int64_t most) {
    int32_t* ids = v.ids + i * LISTED;
    const int32_t own = v.labels[i];
    if (!none_or_below(own, v.k) || !all_sound(ids, v.k) || !all_sound(found, v.k) || !distances.sound(i)) return false;
    const double w = v.weights != nullptr ? v.weights[i] : 1;
    const float own_sq = own >= 0 ? distances.to(i, own) : 0;
    List list{{}, {}, 0, most};
    gather(v, distances, i, own, own_sq, found, found_dist, list);
    int32_t best = own;
    float best_dist = root(own_sq);
    double least = own >= 0 ? cost(v.rule, own_sq, v.mass[own], w, true) : INFINITE64;
    for (int64_t s = 0; s < list.size; s++) {
        if (list.ids[s] == own) continue;
        const double value = cost(v.rule, list.dist[s] * list.dist[s], v.mass[list.ids[s]], w, false);
        if (value < least) {
            least = value;
            best = list.ids[s];
            best_dist = list.dist[s];
        }
    }
    float runner = INFINITE;
    for (int64_t s = 0; s < LISTED; s++) {
        ids[s] = s < list.size ? list.ids[s] : -1;
        if (s < list.size && ids[s] != best && list.dist[s] < runner) runner = list.dist[s];
    }
    v.labels[i] = best;
    v.sqdist[i] = best_dist * best_dist;
    v.second[i] = runner;
    v.beyond[i] = list.size >= v.k ? INFINITE : list.size > 0 ? list.dist[list.size - 1] : 0;
    return true;
}

template <class Distances>
inline bool merge_all(const Visit& v, int64_t most, const int32_t* found, const float* found_dist) {
    const Distances distances(v);
    bool all = true;
    const double operations = 16.0 * static_cast<double>(v.count) * static_cast<double>(8 + v.x.d);
    parallel_ranges(v.count, VISITED, operations, [&](int64_t first, int64_t end) {
        bool sound = true;
        for (int64_t q = first; q < end; q++) {
            const int64_t next = v.order[q + ROWS_AHEAD < end ? q + ROWS_AHEAD : end - 1];
            distances.ask_for(next);
            __builtin_prefetch(v.ids + next * LISTED, 1);
            const bool here = below_end(v.order[q], v.x.n);
            sound &= here && merge_row(v, distances, v.order[q], found + q * LISTED, found_dist + q * LISTED, most);
        }
        if (!sound) __atomic_store_n(&all, false, __ATOMIC_RELAXED);
    });
    return all;
}

// Merge what a search found into the candidates of some rows, and assign these. False if an index was out of range.
bool merge(const Visit& v, int64_t most, const int32_t* found, const float* found_dist) {
    return v.x.sparse() ? merge_all<SparseDistances>(v, most, found, found_dist)
                        : merge_all<DenseDistances>(v, most, found, found_dist);
}

constexpr void fill_bounds(Table& table) {
    table.look = look;
    table.merge = merge;
}

}  // namespace
}  // namespace fastann

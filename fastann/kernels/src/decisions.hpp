// Which near-duplicate rows stay. A row is compared within its own cluster, and within those whose border it is near
// to; each of these is a membership.
#pragma once

#include <cstdint>

namespace fastann {

constexpr int8_t UNDECIDED = 0, KEPT = 1, DROPPED = 2;  // status of a row
constexpr int32_t UNSEEN = -1, CLEAR = -2;  // membership: not compared yet; compared, and no near row comes before

// Rows as they are, scaled to unit norm, and their norms.
struct Directed {
    const float *values, *unit;
    const double* norm;
    int64_t n;
};

// What `first_near` is asked, and where its answer goes: see bindings/duplicates.cpp.
struct FirstNear {
    Directed rows, columns;
    int64_t d;
    const int32_t *low, *high, *place;
    double least;
    int32_t* found;
    float* cosine;
};

// What is known of the memberships of a task, and of all rows.
struct Memberships {
    const int32_t* rows;  // [count]
    int64_t count;
    const int32_t* columns;
    const int32_t* found;
    const float* cosine;
    int8_t* status;
    int32_t* duplicate_of;
    float* similarity;
};

// Hash of each of `n` rows of `d` float32, the same for equal rows; -0.0 equals 0.0.
void fingerprints(const uint32_t* x, int64_t n, int64_t d, uint64_t* out);

// Drop rows whose near row is kept. Returns how many memberships are to be compared now; their places are in `out`.
int64_t ready(const Memberships& task, int32_t* out);

// Note what was found for `count` memberships, and decide the rows for which that is enough; `found` and `cosine` are
// those of the task, to be written.
void decide(const Memberships& task, const int32_t* places, int64_t count, const int32_t* near, const float* value,
            int32_t* found, float* cosine, int32_t* waits);

}  // namespace fastann

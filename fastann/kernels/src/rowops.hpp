// What loops do with one row, dense or sparse. A sparse row is compared with dense vectors only.
#pragma once

#include "lanes.hpp"
#include "rows.hpp"

namespace fastann {
namespace {

// Product of row `i` with a dense vector, in float32.
inline float dot32(const Rows& rows, int64_t i, const float* v) {
    if (!rows.sparse()) return dot32(rows.data + i * rows.d, v, rows.d);
    float total = 0;
    for (int64_t q = rows.indptr[i]; q < rows.indptr[i + 1]; q++) total += rows.data[q] * v[rows.indices[q]];
    return total;
}

// Squared L2 norm of row `i`, in float64.
inline double sqnorm64(const Rows& rows, int64_t i) {
    const int64_t first = rows.sparse() ? rows.indptr[i] : i * rows.d;
    const int64_t size = rows.sparse() ? rows.indptr[i + 1] - first : rows.d;
    return dot64(rows.data + first, rows.data + first, size);
}

// Squared L2 distance of row `i` of a sparse table to a dense vector whose squared norm is `square`, in float64:
// `square` holds the columns that the row lacks.
inline double sparse_sqdist64(const Rows& rows, int64_t i, const float* v, double square) {
    double total = square;
    for (int64_t q = rows.indptr[i]; q < rows.indptr[i + 1]; q++) {
        const double t = static_cast<double>(v[rows.indices[q]]), u = static_cast<double>(rows.data[q]) - t;
        total += u * u - t * t;
    }
    return total > 0 ? total : 0;
}

// Squared L2 distance of row `i` to a dense vector, in float64. `square` is read for sparse rows only.
inline double sqdist64(const Rows& rows, int64_t i, const float* v, double square) {
    return rows.sparse() ? sparse_sqdist64(rows, i, v, square) : sqdist64(rows.data + i * rows.d, v, rows.d);
}

// The same in float32, for dense rows; what sparse ones have in float64 is rounded.
inline float sqdist32(const Rows& rows, int64_t i, const float* v, double square) {
    return rows.sparse() ? static_cast<float>(sparse_sqdist64(rows, i, v, square))
                         : sqdist32(rows.data + i * rows.d, v, rows.d);
}

// Add `weight` times row `i` to a dense vector.
inline void add(const Rows& rows, int64_t i, float weight, float* v) {
    if (rows.sparse()) {
        for (int64_t q = rows.indptr[i]; q < rows.indptr[i + 1]; q++) v[rows.indices[q]] += weight * rows.data[q];
        return;
    }
    const float* row = rows.data + i * rows.d;
    for (int64_t t = 0; t < rows.d; t++) v[t] += weight * row[t];
}

inline void add(const Rows& rows, int64_t i, double weight, double* v) {
    if (rows.sparse()) {
        for (int64_t q = rows.indptr[i]; q < rows.indptr[i + 1]; q++) {
            v[rows.indices[q]] += weight * static_cast<double>(rows.data[q]);
        }
        return;
    }
    const float* row = rows.data + i * rows.d;
    int64_t t = 0;
    for (; t + WIDTH / 2 <= rows.d; t += WIDTH / 2) store(v + t, load<F64>(v + t) + splat64(weight) * wide(row + t));
    for (; t < rows.d; t++) v[t] += weight * static_cast<double>(row[t]);
}

// Zero a dense vector where row `i` has entries.
inline void clear(const Rows& rows, int64_t i, float* v) {
    if (rows.sparse()) {
        for (int64_t q = rows.indptr[i]; q < rows.indptr[i + 1]; q++) v[rows.indices[q]] = 0;
        return;
    }
    for (int64_t t = 0; t < rows.d; t++) v[t] = 0;
}

// Row `i` as a dense vector: itself, or spread into `work`, which must be zero; `unload` zeroes it again.
inline const float* load(const Rows& rows, int64_t i, float* work) {
    if (!rows.sparse()) return rows.data + i * rows.d;
    for (int64_t q = rows.indptr[i]; q < rows.indptr[i + 1]; q++) work[rows.indices[q]] = rows.data[q];
    return work;
}

inline void unload(const Rows& rows, int64_t i, float* work) {
    if (rows.sparse()) clear(rows, i, work);
}

}  // namespace
}  // namespace fastann

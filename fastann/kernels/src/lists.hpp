// Short ascending lists of the nearest.
#pragma once

#include <cstdint>

namespace fastann {
namespace {

// Insert (value, id) into the ascending list of `m` values, dropping its last entry, which must be larger; equal values
// keep the order in which they came.
template <class T>
inline void insert(T* values, int32_t* ids, int64_t m, T value, int32_t id) {
    int64_t t = m - 1;
    for (; t > 0 && values[t - 1] > value; t--) {
        values[t] = values[t - 1];
        ids[t] = ids[t - 1];
    }
    values[t] = value;
    ids[t] = id;
}

}  // namespace
}  // namespace fastann

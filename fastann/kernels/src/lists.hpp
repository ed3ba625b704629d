// Short ascending lists of the nearest.
#pragma once

#include <cstdint>
#include <cstring>

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

constexpr int64_t EIGHT = 8;
typedef float Eight __attribute__((vector_size(32)));
typedef int32_t EightIds __attribute__((vector_size(32)));

// The same for a list of eight, without a branch: it begins at values[1] and ids[1], and values[0] is below all values.
inline void insert_in_eight(float* values, int32_t* ids, float value, int32_t id) {
    Eight list, before;  // entry by entry, and the one before each
    EightIds list_ids, before_ids;
    std::memcpy(&list, values + 1, sizeof list);
    std::memcpy(&before, values, sizeof before);
    std::memcpy(&list_ids, ids + 1, sizeof list_ids);
    std::memcpy(&before_ids, ids, sizeof before_ids);
    const Eight all = value - Eight{};
    const EightIds all_ids = id - EightIds{};
    const EightIds moves = list > all, follows = before > all;  // entries that make room, and that come from before
    list = moves ? (follows ? before : all) : list;
    list_ids = moves ? (follows ? before_ids : all_ids) : list_ids;
    std::memcpy(values + 1, &list, sizeof list);
    std::memcpy(ids + 1, &list_ids, sizeof list_ids);
}

}  // namespace
}  // namespace fastann

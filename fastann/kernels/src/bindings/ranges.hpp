// Checks of indices that come from Python: a wrong one would read outside of an array.
#pragma once

#include "../cpu.hpp"
#include "../table.hpp"
#include "arrays.hpp"

namespace fastann {

[[noreturn]] inline void refuse_id(const char* name, int64_t id, int64_t low, int64_t end, const char* what) {
    throw nb::index_error((std::string(name) + " has " + std::to_string(id) + ", it must be at least " +
                           std::to_string(low) + " and below " + std::to_string(end) + ", the number of " + what)
                              .c_str());
}

// Refuse ids that are below `low` (-1 where there may be none, or 0), or not below `end`.
template <int N>
void check_ids(const Array<const int32_t, N>& ids, int64_t low, int64_t end, const char* what) {
    int64_t least, most;
    table().range(ids, ids.values(), &least, &most);
    if (least < low || most >= end) refuse_id(ids.name(), most >= end ? most : least, low, end, what);
}

inline void check_ids(const Vector<const int64_t>& ids, int64_t low, int64_t end, const char* what) {
    for (int64_t i = 0; i < ids.size(); i++) {
        if (ids[i] < low || ids[i] >= end) refuse_id(ids.name(), ids[i], low, end, what);
    }
}

// Refuse ends of ranges that do not ascend from 0, or pass `end`.
inline void check_ends(const Vector<const int64_t>& ends, int64_t end, const char* what) {
    bool sound = ends.size() > 0 && ends[0] == 0;
    for (int64_t g = 1; sound && g < ends.size(); g++) sound = ends[g] >= ends[g - 1];
    if (!sound || ends[ends.size() - 1] > end) {
        throw nb::index_error((std::string(ends.name()) + " must ascend from 0 to at most " + std::to_string(end) +
                               ", the number of " + what)
                                  .c_str());
    }
}

}  // namespace fastann

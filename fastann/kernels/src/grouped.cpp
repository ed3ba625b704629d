#include "grouped.hpp"

#include <cstring>
#include <initializer_list>

#include "buffer.hpp"
#include "members.hpp"
#include "room.hpp"

namespace fastann {

namespace {

constexpr int64_t STEP = 32;  // int8 that the widest loop takes at once
constexpr int64_t MORE = 8;   // beyond the last row, as eight are read at once

}  // namespace

Grouped::Grouped(const int32_t* labels, const int32_t* rows_, int64_t n_, int64_t groups_, int64_t d_, bool rounded)
    : n(n_), groups(groups_), d(d_), stride(rounded ? (d_ + STEP - 1) / STEP * STEP : 0) {
    const int64_t held = rounded ? n : 0;
    for (const bool measured : {false, true}) {
        int64_t at = 0;
        offsets = room<int64_t>(memory_, at, groups + 1);
        order = room<int32_t>(memory_, at, n);
        rows = room<int32_t>(memory_, at, rows_ != nullptr ? n : 0);
        place = room<int32_t>(memory_, at, held);
        multiples = room<int8_t>(memory_, at, held * stride);
        step = room<float>(memory_, at, held + MORE);
        square = room<float>(memory_, at, held + MORE);
        moved = room<float>(memory_, at, held + MORE);
        if (!measured) memory_ = static_cast<char*>(allocate(at));
    }
    if (rows_ != nullptr) {
        std::memcpy(rows, rows_, static_cast<size_t>(n) * sizeof(int32_t));
    } else {
        rows = nullptr;
    }
    sort_by_label(labels, n, groups, offsets, order);
    for (int64_t q = 0; rounded && q < offsets[groups]; q++) place[order[q]] = static_cast<int32_t>(q);
}

Grouped::~Grouped() { release(memory_); }

}  // namespace fastann

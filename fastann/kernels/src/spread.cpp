#include "spread.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "buffer.hpp"
#include "room.hpp"

namespace fastann {

namespace {

constexpr float BEYOND = 3e38f;             // half score of what fills up a block
constexpr int64_t LEAST = 4, LARGEST = 32;  // a column is long if one in so many centroids has it: in 32, while all
constexpr int64_t BYTES = 1 << 20;          // such columns fit into a cache of this size
constexpr int64_t VECTOR = 16;              // values that may be read beyond the last one

// A float32 to the nearest bfloat16, ties to even.
uint32_t rounded(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// Square of what that adds.
double moved_by(float value) {
    const uint32_t bits = rounded(value) << 16;
    float other;
    std::memcpy(&other, &bits, 4);
    const double error = static_cast<double>(other) - static_cast<double>(value);
    return error * error;
}

bool ascending(const Rows& c) {
    for (int64_t j = 0; j < c.n; j++) {
        for (int64_t p = c.indptr[j] + 1; p < c.indptr[j + 1]; p++) {
            if (c.indices[p] <= c.indices[p - 1]) return false;
        }
    }
    return true;
}

int64_t size_of(const Rows& lists, int64_t column) { return lists.indptr[column + 1] - lists.indptr[column]; }

}  // namespace

Spread::Spread(const Rows& c, const Rows& lists, const double* csq)
    : usable(c.n > 0 && c.indptr[c.n] < UINT32_MAX && ascending(c)) {
    if (!usable) return;
    blocks = (c.n + MOST - 1) / MOST;
    block = (c.n + blocks * STEP - 1) / (blocks * STEP) * STEP;
    blocks = (c.n + block - 1) / block;

    int64_t share = 2 * LARGEST, values;
    do {
        share /= 2;
        longs = shorts = values = 0;
        for (int64_t t = 0; t < lists.n; t++) {
            const int64_t size = size_of(lists, t);
            const bool is_long = size > 0 && size * share >= c.n;
            longs += is_long;
            shorts += size > 0 && !is_long;
            values += is_long ? 0 : size;
        }
    } while (share > LEAST && longs * blocks * block * 2 > BYTES);

    for (const bool measured : {false, true}) {
        int64_t at = 0;
        words = room<uint32_t>(memory_, at, blocks * longs * (block / 2));
        half = room<float>(memory_, at, blocks * block);
        place = room<int32_t>(memory_, at, lists.n);
        starts = room<uint32_t>(memory_, at, blocks * (shorts + 1));
        entries = room<uint32_t>(memory_, at, values + VECTOR);
        if (measured) continue;
        memory_ = static_cast<char*>(allocate(at));
        std::memset(memory_, 0, static_cast<size_t>(at));
    }
    int32_t next_long = 0, next_short = 0;
    for (int64_t t = 0; t < lists.n; t++) {
        const int64_t size = size_of(lists, t);
        place[t] = size == 0 ? -1 : size * share >= c.n ? next_long++ : -2 - next_short++;
    }
    for (int64_t j = 0; j < blocks * block; j++) half[j] = j < c.n ? static_cast<float>(csq[j] / 2) : BEYOND;
    measure(c, csq);
    values = 0;
    for (int64_t b = 0; b < blocks; b++) values = fill(lists, b, values);
}

Spread::~Spread() { release(memory_); }

// Find `largest` and `moved`; 1e-6 of them is more than their own rounding.
void Spread::measure(const Rows& c, const double* csq) {
    for (int64_t j = 0; j < c.n; j++) {
        double off = 0;
        for (int64_t p = c.indptr[j]; p < c.indptr[j + 1]; p++) off += moved_by(c.data[p]);
        moved = std::max(moved, off);
        largest = std::max(largest, csq[j]);
    }
    moved = std::sqrt(moved) * (1 + 1e-6);
    largest = std::sqrt(largest) * (1 + 1e-6) + moved;
}

// Write down the values of a block; `at` is where its short columns begin in `entries`. Returns where they end.
int64_t Spread::fill(const Rows& lists, int64_t b, int64_t at) {
    const int32_t first = static_cast<int32_t>(b * block), end = static_cast<int32_t>(first + block);
    uint32_t* start = starts + b * (shorts + 1);
    for (int64_t t = 0; t < lists.n; t++) {
        const int32_t* stop = lists.indices + lists.indptr[t + 1];
        const int32_t* p = std::lower_bound(lists.indices + lists.indptr[t], stop, first);
        if (place[t] < -1) start[-2 - place[t]] = static_cast<uint32_t>(at);
        for (; p < stop && *p < end; p++) {
            const uint32_t j = static_cast<uint32_t>(*p - first), value = rounded(lists.data[p - lists.indices]);
            if (place[t] < 0) {
                entries[at++] = j << 16 | value;
            } else {
                uint32_t* column = words + (b * longs + place[t]) * (block / 2);
                column[j / GROUP * (GROUP / 2) + j % 16] |= j % GROUP < 16 ? value : value << 16;
            }
        }
    }
    start[shorts] = static_cast<uint32_t>(at);
    return at;
}

}  // namespace fastann

#include "packed.hpp"

#include <cstring>
#include <initializer_list>

#include "../buffer.hpp"
#include "../room.hpp"

namespace fastann {

Packed::Packed(const Screening& kind, int64_t k_, int64_t d_, const int32_t* order, const int64_t* offsets,
               int64_t cells_, const float* shift_)
    : screening(kind), k(k_), d(d_), cells(cells_) {
    int64_t total = 0;
    for (int64_t g = 0; g < cells; g++) total += (offsets[g + 1] - offsets[g] + kind.strip - 1) / kind.strip;
    const int64_t size = total * kind.strip;
    // The first time only measures: one block of memory holds everything.
    for (const bool measured : {false, true}) {
        int64_t at = 0;
        data = room<char>(memory_, at, total * strip_bytes());
        strips = room<int64_t>(memory_, at, cells + 1);
        columns = room<int32_t>(memory_, at, size);
        moved = room<float>(memory_, at, size);
        norm = room<float>(memory_, at, size);
        shift = room<float>(memory_, at, d + 16);
        if (!measured) {
            memory_ = static_cast<char*>(allocate(at));
            std::memset(memory_, 0, static_cast<size_t>(at));
        }
    }
    std::memcpy(shift, shift_, static_cast<size_t>(d) * sizeof(float));
    for (int64_t g = 0; g < cells; g++) {
        const int64_t members = offsets[g + 1] - offsets[g], first = strips[g] * kind.strip;
        strips[g + 1] = strips[g] + (members + kind.strip - 1) / kind.strip;
        for (int64_t j = 0; j < strips[g + 1] * kind.strip - first; j++) {
            columns[first + j] = j < members ? order[offsets[g] + j] : -1;
        }
    }
}

Packed::~Packed() { release(memory_); }

int64_t Packed::strip_bytes() const {
    return screening.constants + (d + screening.step - 1) / screening.step * screening.dimension;
}

void Packed::sum_up() {
    most_moved = largest = 0;
    for (int64_t j = 0; j < count(); j++) {
        if (columns[j] < 0) continue;
        most_moved = moved[j] > most_moved ? moved[j] : most_moved;
        largest = norm[j] > largest ? norm[j] : largest;
    }
    most_moved *= 1.0001f;
    largest *= 1.01f;
}

}  // namespace fastann

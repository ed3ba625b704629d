// Scalar twins of the screens: the same searches on any CPU, with instructions spelled out. For tests.
#define FASTANN_WIDTH 4
#include "bf16.hpp"
#include "int8.hpp"
#include "screenings.hpp"
#include "search.hpp"

namespace fastann {
namespace {

inline I32 dot_bytes(I32 sum, I32 rows, I32 columns) {
    for (int64_t lane = 0; lane < WIDTH; lane++) {
        uint8_t row[4];
        int8_t column[4];
        const int32_t r = rows[lane], c = columns[lane];
        std::memcpy(row, &r, 4);
        std::memcpy(column, &c, 4);
        for (int64_t t = 0; t < 4; t++) sum[lane] += static_cast<int32_t>(row[t]) * static_cast<int32_t>(column[t]);
    }
    return sum;
}

// Tiles as arrays. What is configured belongs to a thread, and is given back at the end of its task.
struct TwinTiles {
    float sums[1024] = {};

    void init(const float* constants) {
        for (int64_t i = 0; i < 32; i++) std::memcpy(sums + i * 32, constants, 32 * sizeof(float));
    }
    void read(const float* from) { std::memcpy(sums, from, sizeof sums); }
    void write(float* to) const { std::memcpy(to, sums, sizeof sums); }
    void step(const uint16_t* rows, const uint32_t* columns) {
        for (int64_t i = 0; i < 32; i++) {
            for (int64_t j = 0; j < 32; j++) {
                for (int64_t t = 0; t < 16; t++) {
                    const uint32_t pair = columns[j / 16 * 256 + t * 16 + j % 16];
                    sums[i * 32 + j] += widened(rows[i * 32 + 2 * t]) * widened(static_cast<uint16_t>(pair));
                    sums[i * 32 + j] += widened(rows[i * 32 + 2 * t + 1]) * widened(static_cast<uint16_t>(pair >> 16));
                }
            }
        }
    }
};

using Bf16Twin = Bf16Rows<TwinTiles>;

}  // namespace

constexpr Screening int8_twin_filled = screening_of<Int8Rows>();
const Screening int8_twin_screening = int8_twin_filled;
constexpr Screening bf16_twin_filled = screening_of<Bf16Twin>();
const Screening bf16_twin_screening = bf16_twin_filled;

}  // namespace fastann

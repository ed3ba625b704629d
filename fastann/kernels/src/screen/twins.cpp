// Scalar twins of the screens: the same searches on any CPU, with instructions spelled out. For tests.
#define FASTANN_WIDTH 4
#include "bf16.hpp"
#include "int8.hpp"
#include "screenings.hpp"
#include "search.hpp"

namespace fastann {
namespace {

// Four unsigned bytes times four signed ones.
struct Products {
    int32_t value[4];

    Products(int32_t rows, int32_t columns) {
        uint8_t row[4];
        int8_t column[4];
        std::memcpy(row, &rows, 4);
        std::memcpy(column, &columns, 4);
        for (int64_t t = 0; t < 4; t++) value[t] = static_cast<int32_t>(row[t]) * static_cast<int32_t>(column[t]);
    }
};

struct InInt32 : EightBits {
    static I32 add(I32 sum, const I32* rows, const I32* columns) {
        for (int64_t lane = 0; lane < WIDTH; lane++) {
            for (const int32_t v : Products(rows[0][lane], columns[0][lane]).value) sum[lane] += v;
        }
        return sum;
    }
};

struct InInt16 : SevenBits {
    static I32 add(I32 sum, const I32* rows, const I32* columns) {
        for (int64_t lane = 0; lane < WIDTH; lane++) {
            const Products one(rows[0][lane], columns[0][lane]), two(rows[1][lane], columns[1][lane]);
            for (int64_t t = 0; t < 4; t += 2) {
                const int32_t pairs =
                    saturated(one.value[t] + one.value[t + 1]) + saturated(two.value[t] + two.value[t + 1]);
                sum[lane] += static_cast<int16_t>(pairs);
            }
        }
        return sum;
    }

    static int32_t saturated(int32_t v) { return v < -32768 ? -32768 : v > 32767 ? 32767 : v; }
};

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

constexpr Screening int8_twin_filled = screening_of<Int8Rows<InInt32>>();
const Screening int8_twin_screening = int8_twin_filled;
constexpr Screening int7_twin_filled = screening_of<Int8Rows<InInt16>>();
const Screening int7_twin_screening = int7_twin_filled;
constexpr Screening bf16_twin_filled = screening_of<Bf16Twin>();
const Screening bf16_twin_screening = bf16_twin_filled;

}  // namespace fastann

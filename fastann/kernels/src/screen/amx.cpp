// Tiles of bfloat16. The instructions are assembly, as compilers' own names for them are unsafe before GCC 14: those
// claim to read less memory than they do, so that stores before them are optimised away.
#define FASTANN_WIDTH 16
#include "bf16.hpp"
#include "screenings.hpp"
#include "search.hpp"

namespace fastann {
namespace {

// A tile is 16 rows of 64 bytes. Four of the eight are the sums: upper left, upper right, lower left, lower right.
alignas(64) constexpr uint8_t CONFIG[64] = {
    1,  0,  0,  0,  0,  0,  0,  0,  0,  0, 0,  0, 0,  0, 0,  0,  // palette
    64, 0,  64, 0,  64, 0,  64, 0,  64, 0, 64, 0, 64, 0, 64, 0,  // bytes of a row
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0, 0,  0, 0,  0, 0,  0,
    16, 16, 16, 16, 16, 16, 16, 16, 0,  0, 0,  0, 0,  0, 0,  0};  // rows

struct AmxTiles {
    AmxTiles() { __asm__ volatile("ldtilecfg (%0)" : : "r"(CONFIG) : "memory"); }
    // Given back: otherwise every switch of threads saves 8 KiB.
    ~AmxTiles() { __asm__ volatile("tilerelease" : : : "memory"); }

    // Sums := constants[0..32) in each of 32 rows (loads with stride 0).
    void init(const float* constants) {
        __asm__ volatile(
            "tileloadd (%0,%1), %%tmm0\n\t tileloadd 64(%0,%1), %%tmm1\n\t"
            "tileloadd (%0,%1), %%tmm2\n\t tileloadd 64(%0,%1), %%tmm3"
            :
            : "r"(constants), "r"(int64_t{0})
            : "memory");
    }
    // Sums := a 32 x 32 block.
    void read(const float* from) {
        __asm__ volatile(
            "tileloadd (%0,%1), %%tmm0\n\t tileloadd 64(%0,%1), %%tmm1\n\t"
            "tileloadd 2048(%0,%1), %%tmm2\n\t tileloadd 2112(%0,%1), %%tmm3"
            :
            : "r"(from), "r"(int64_t{128})
            : "memory");
    }
    void write(float* to) const {
        __asm__ volatile(
            "tilestored %%tmm0, (%0,%1)\n\t tilestored %%tmm1, 64(%0,%1)\n\t"
            "tilestored %%tmm2, 2048(%0,%1)\n\t tilestored %%tmm3, 2112(%0,%1)"
            :
            : "r"(to), "r"(int64_t{128})
            : "memory");
    }
    // Sums += 32 rows times 32 columns over 32 dimensions. The columns are used by every block of rows and should stay
    // in the first-level cache; the streaming load of the rows (tileloaddt1) keeps them from pushing it out.
    void step(const uint16_t* rows, const uint32_t* columns) {
        __asm__ volatile(
            "tileloadd (%1,%2), %%tmm6\n\t tileloaddt1 (%0,%2), %%tmm4\n\t"
            "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
            "tileloadd 1024(%1,%2), %%tmm7\n\t"
            "tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
            "tileloaddt1 1024(%0,%2), %%tmm5\n\t"
            "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\t"
            "tdpbf16ps %%tmm7, %%tmm5, %%tmm3"
            :
            : "r"(rows), "r"(columns), "r"(int64_t{64})
            : "memory");
    }
};

using Rows32 = Bf16Rows<AmxTiles>;

}  // namespace

constexpr Screening bf16_filled = screening_of<Rows32>();
const Screening bf16_screening = bf16_filled;

}  // namespace fastann

// Products of seven bits by AVX2, for processors that have nothing better.
#define FASTANN_WIDTH 8
#include "int8.hpp"
#include "screenings.hpp"
#include "search.hpp"

namespace fastann {
namespace {

struct Product : SevenBits {
    static I32 add(I32 sum, const I32* rows, const I32* columns) {
        const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(__m256i(rows[0]), __m256i(columns[0])),
                                               _mm256_maddubs_epi16(__m256i(rows[1]), __m256i(columns[1])));
        return sum + I32(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
};

}  // namespace

constexpr Screening int7_filled = screening_of<Int8Rows<Product>>();
const Screening int7_screening = int7_filled;

}  // namespace fastann

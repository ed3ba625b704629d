// Products of seven bits by AVX-512, for processors that have it without VNNI.
#define FASTANN_WIDTH 16
#include "int8.hpp"
#include "screenings.hpp"
#include "search.hpp"

namespace fastann {
namespace {

struct Product : SevenBits {
    static I32 add(I32 sum, const I32* rows, const I32* columns) {
        const __m512i pairs = _mm512_add_epi16(_mm512_maddubs_epi16(__m512i(rows[0]), __m512i(columns[0])),
                                               _mm512_maddubs_epi16(__m512i(rows[1]), __m512i(columns[1])));
        return sum + I32(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    }
};

}  // namespace

constexpr Screening int7_wide_filled = screening_of<Int8Rows<Product>>();
const Screening int7_wide_screening = int7_wide_filled;

}  // namespace fastann

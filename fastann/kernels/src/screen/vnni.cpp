// int8 products of AVX-512 VNNI.
#define FASTANN_WIDTH 16
#include "dots.hpp"
#include "int8.hpp"
#include "screenings.hpp"
#include "search.hpp"

namespace fastann {
namespace {

struct Product : EightBits {
    static I32 add(I32 sum, const I32* rows, const I32* columns) {
        return I32(_mm512_dpbusd_epi32(__m512i(sum), __m512i(*rows), __m512i(*columns)));
    }
};

struct Product256 {
    static __m256i add(__m256i sum, __m256i a, __m256i b) { return _mm256_dpbusd_epi32(sum, a, b); }
};

}  // namespace

constexpr Screening int8_filled = screening_of<Int8Rows<Product>>();
const Screening int8_screening = int8_filled;
const Dots int8_dots = dots<Product256>;

}  // namespace fastann

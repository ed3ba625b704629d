// int8 products at 256 bits, on processors that have them without AVX-512.
#define FASTANN_WIDTH 8
#include "dots.hpp"
#include "int8.hpp"
#include "screenings.hpp"
#include "search.hpp"

namespace fastann {
namespace {

struct Product : EightBits {
    static I32 add(I32 sum, const I32* rows, const I32* columns) {
        return I32(add(__m256i(sum), __m256i(*rows), __m256i(*columns)));
    }
    static __m256i add(__m256i sum, __m256i a, __m256i b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
};

}  // namespace

constexpr Screening int8_avx_filled = screening_of<Int8Rows<Product>>();
const Screening int8_avx_screening = int8_avx_filled;
const Dots int8_avx_dots = dots<Product>;

}  // namespace fastann

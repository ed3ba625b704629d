// int8 products of AVX-512 VNNI.
#define FASTANN_WIDTH 16
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

}  // namespace

constexpr Screening int8_filled = screening_of<Int8Rows<Product>>();
const Screening int8_screening = int8_filled;

}  // namespace fastann

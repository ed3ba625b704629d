#define FASTANN_WIDTH 16
#include "subjects.hpp"

namespace fastann {

static constexpr Screening avx512_f32 = f32_screening();
static constexpr Table avx512_filled = filled(&avx512_f32);
const Table avx512_table = avx512_filled;

}  // namespace fastann

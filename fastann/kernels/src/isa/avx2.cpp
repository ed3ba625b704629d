#define FASTANN_WIDTH 8
#include "subjects.hpp"

namespace fastann {

static constexpr Screening avx2_f32 = f32_screening();
static constexpr Table avx2_filled = filled(&avx2_f32);
const Table avx2_table = avx2_filled;

}  // namespace fastann

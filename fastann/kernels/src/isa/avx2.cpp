#define FASTANN_WIDTH 8
#include "subjects.hpp"

namespace fastann {

static const Screening avx2_f32 = f32_filled;
static constexpr Table avx2_filled = filled(&avx2_f32);
const Table avx2_table = avx2_filled;

}  // namespace fastann

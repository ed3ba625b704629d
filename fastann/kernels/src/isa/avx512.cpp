#define FASTANN_WIDTH 16
#include "subjects.hpp"

namespace fastann {

static const Screening avx512_f32 = f32_filled;
static constexpr Table avx512_filled = filled(&avx512_f32);
const Table avx512_table = avx512_filled;

}  // namespace fastann

#define FASTANN_WIDTH 4
#include "subjects.hpp"

namespace fastann {

static constexpr Screening neon_f32 = f32_screening();
static constexpr Table neon_filled = filled(&neon_f32);
const Table neon_table = neon_filled;

}  // namespace fastann

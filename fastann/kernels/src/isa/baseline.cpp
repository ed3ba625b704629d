#define FASTANN_WIDTH 4
#include "subjects.hpp"

namespace fastann {

static constexpr Screening baseline_f32 = f32_screening();
static constexpr Table baseline_filled = filled(&baseline_f32);
const Table baseline_table = baseline_filled;

}  // namespace fastann

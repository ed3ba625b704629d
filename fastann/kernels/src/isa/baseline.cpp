#define FASTANN_WIDTH 4
#include "subjects.hpp"

namespace fastann {
extern const Table baseline_table;
constexpr Table baseline_filled = filled();
const Table baseline_table = baseline_filled;
}  // namespace fastann

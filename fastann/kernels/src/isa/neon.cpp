#define FASTANN_WIDTH 4
#include "subjects.hpp"

namespace fastann {
extern const Table neon_table;
constexpr Table neon_filled = filled();
const Table neon_table = neon_filled;
}  // namespace fastann

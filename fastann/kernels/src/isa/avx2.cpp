#define FASTANN_WIDTH 8
#include "subjects.hpp"

namespace fastann {
extern const Table avx2_table;
constexpr Table avx2_filled = filled();
const Table avx2_table = avx2_filled;
}  // namespace fastann

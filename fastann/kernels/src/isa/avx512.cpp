#define FASTANN_WIDTH 16
#include "subjects.hpp"

namespace fastann {
extern const Table avx512_table;
constexpr Table avx512_filled = filled();
const Table avx512_table = avx512_filled;
}  // namespace fastann

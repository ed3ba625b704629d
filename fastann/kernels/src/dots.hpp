// The type of products of int8 rows, which not every instruction set has: see screen/dots.hpp.
#pragma once

#include <cstdint>

namespace fastann {

// Of a row and the first `count` of `others` [8, stride], all padded with zeros to a multiple of 32 columns. `off` [8]
// is 128 times the sum of each; `out` has room for eight.
using Dots = void (*)(const int8_t* row, const int8_t* others, int64_t stride, int64_t count, const int32_t* off,
                      int32_t* out);

}  // namespace fastann

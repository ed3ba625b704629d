// The screens that this library was compiled with.
#pragma once

#include "../dots.hpp"
#include "packed.hpp"

namespace fastann {

extern const Screening int8_screening, int8_avx_screening, int7_screening, int7_wide_screening, bf16_screening;
extern const Screening int8_twin_screening, int7_twin_screening, bf16_twin_screening;

extern const Dots int8_dots, int8_avx_dots;

}  // namespace fastann

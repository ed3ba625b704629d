// The screens that this library was compiled with.
#pragma once

#include "packed.hpp"

namespace fastann {

extern const Screening int8_screening, int8_avx_screening, bf16_screening, int8_twin_screening, bf16_twin_screening;

}  // namespace fastann

#include "cells.hpp"

namespace fastann {

void bucket(const int32_t* probes, int64_t n, int64_t p, int64_t cells, int64_t* first, int32_t* members) {
    for (int64_t g = 0; g <= cells; g++) first[g] = 0;
    for (int64_t i = 0; i < n * p; i++) {
        if (probes[i] >= 0) first[probes[i] + 1]++;
    }
    for (int64_t g = 0; g < cells; g++) first[g + 1] += first[g];
    // A counting sort: `first` moves on as members are placed, and is moved back afterwards.
    for (int64_t i = 0; i < n * p; i++) {
        if (probes[i] >= 0) members[first[probes[i]]++] = static_cast<int32_t>(i / p);
    }
    for (int64_t g = cells; g > 0; g--) first[g] = first[g - 1];
    first[0] = 0;
}

}  // namespace fastann

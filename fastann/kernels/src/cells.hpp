// Rows grouped by the cells that they probe.
#pragma once

#include <cstdint>

namespace fastann {

// Group the (row, cell) pairs of `probes` [n, p] by cell; -1 is none. The rows that probe cell g are members[first[g]]
// to members[first[g + 1] - 1], in their order. `first` is [cells + 1], `members` [n * p].
void bucket(const int32_t* probes, int64_t n, int64_t p, int64_t cells, int64_t* first, int32_t* members);

}  // namespace fastann

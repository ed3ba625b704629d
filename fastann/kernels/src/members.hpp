// The rows of each cluster: grouped, counted, picked out by their place.
#pragma once

#include <cstdint>

namespace fastann {

// Fill offsets[0..k] and `order`, so that the rows of label j are order[offsets[j]..offsets[j + 1]), ascending: a
// counting sort. Negative labels are left out; the others must be below k.
void sort_by_label(const int32_t* labels, int64_t n, int64_t k, int64_t* offsets, int32_t* order);
void sort_by_label(const int32_t* labels, int64_t n, int64_t k, int64_t* offsets, int64_t* order);

// Group the (row, cell) pairs of `probes` [n, p] by cell; -1 is none. The rows that probe cell g are members[first[g]]
// to members[first[g + 1] - 1], in their order. `first` is [cells + 1], `members` [n * p].
void bucket(const int32_t* probes, int64_t n, int64_t p, int64_t cells, int64_t* first, int32_t* members);

// Add to out[j] the values of the rows of label j, times their weights; each is 1 where `values` or `weights` is null.
// False if it stopped at a label outside of [0, k).
bool tally(const int32_t* labels, int64_t n, int64_t k, const float* values, const double* weights, double* out);

// Find the row that is number left[g] among the rows of cluster g, whose label j has place[j] = g; `left` is used up.
void members_at(const int32_t* labels, int64_t n, const int64_t* place, int64_t* left, int64_t* out);

}  // namespace fastann

#include "members.hpp"

namespace fastann {

namespace {

template <class Place>
void sort_places(const int32_t* labels, int64_t n, int64_t k, int64_t* offsets, Place* order) {
    for (int64_t j = 0; j <= k; j++) offsets[j] = 0;
    for (int64_t i = 0; i < n; i++) {
        if (labels[i] >= 0) offsets[labels[i] + 1]++;
    }
    for (int64_t j = 0; j < k; j++) offsets[j + 1] += offsets[j];
    for (int64_t i = 0; i < n; i++) {
        if (labels[i] >= 0) order[offsets[labels[i]]++] = static_cast<Place>(i);
    }
    // Each offset has gone forward to the next one.
    for (int64_t j = k; j > 0; j--) offsets[j] = offsets[j - 1];
    offsets[0] = 0;
}

}  // namespace

void sort_by_label(const int32_t* labels, int64_t n, int64_t k, int64_t* offsets, int32_t* order) {
    sort_places(labels, n, k, offsets, order);
}

void sort_by_label(const int32_t* labels, int64_t n, int64_t k, int64_t* offsets, int64_t* order) {
    sort_places(labels, n, k, offsets, order);
}

void bucket(const int32_t* probes, int64_t n, int64_t p, int64_t cells, int64_t* first, int32_t* members) {
    sort_places(probes, n * p, cells, first, members);
    for (int64_t t = 0; t < first[cells]; t++) members[t] /= static_cast<int32_t>(p);
}

bool tally(const int32_t* labels, int64_t n, int64_t k, const float* values, const double* weights, double* out) {
    const uint32_t end = k < INT32_MAX ? static_cast<uint32_t>(k) : uint32_t{1} << 31;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t j = static_cast<uint32_t>(labels[i]);
        if (j >= end) return false;
        const double value = values != nullptr ? static_cast<double>(values[i]) : 1;
        out[j] += weights != nullptr ? value * weights[i] : value;
    }
    return true;
}

void members_at(const int32_t* labels, int64_t n, const int64_t* place, int64_t* left, int64_t* out) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t g = place[labels[i]];
        if (g < 0) continue;
        if (left[g] == 0) out[g] = i;
        left[g]--;
    }
}

}  // namespace fastann

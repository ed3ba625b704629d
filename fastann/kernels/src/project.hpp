// Products of all rows of a table with a few others, such as the directions in which they are looked at.
#pragma once

#include "buffer.hpp"
#include "parallel.hpp"
#include "products.hpp"
#include "table.hpp"

namespace fastann {
namespace {

constexpr int64_t PROJECTED = 256;  // rows a piece

void project(const float* x, int64_t n, int64_t d, const float* c, int64_t m, float* out) {
    const int64_t strips = (m + STRIP - 1) / STRIP, pieces = (n + PROJECTED - 1) / PROJECTED;
    const Buffer<float> packed(packed_size(m, d));
    for (int64_t s = 0; s < strips; s++) {
        const int64_t count = m - s * STRIP < STRIP ? m - s * STRIP : STRIP;
        pack_strip(c + s * STRIP * d, count, d, packed + s * STRIP * d);
    }
    const double work = 2 * static_cast<double>(n) * static_cast<double>(m) * static_cast<double>(d);
    parallel(pieces, work, [&](int64_t piece) {
        const int64_t first = piece * PROJECTED, count = n - first < PROJECTED ? n - first : PROJECTED;
        const Buffer<float> padded(count * strips * STRIP);
        multiply(x + first * d, count, d, packed, strips, d, padded, strips * STRIP);
        for (int64_t i = 0; i < count; i++) {
            std::memcpy(out + (first + i) * m, padded + i * strips * STRIP, static_cast<size_t>(m) * sizeof(float));
        }
    });
}

constexpr void fill_project(Table& table) { table.project = project; }

}  // namespace
}  // namespace fastann

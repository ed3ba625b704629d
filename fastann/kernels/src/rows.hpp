// Rows of numbers as the core is handed them: dense, or compressed sparse rows.
#pragma once

#include <cstdint>

namespace fastann {

// `n` rows of `d` columns, C-ordered float32; or, where `indptr` is not null, those of a CSR matrix: row i holds
// data[q] in column indices[q], for q from indptr[i] to indptr[i + 1].
struct Rows {
    const float* data;
    int64_t n, d;
    const int32_t* indices = nullptr;
    const int64_t* indptr = nullptr;

    bool sparse() const { return indptr != nullptr; }
};

}  // namespace fastann

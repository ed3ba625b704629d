// Centroids packed for a screen, and what a screen offers: see certificate.hpp for what a screen is.
#pragma once

#include <cstdint>

namespace fastann {

struct Packed;

// The searches of one kind of screen on one instruction set.
struct Screening {
    int64_t strip;      // columns that are packed and multiplied together
    int64_t constants;  // bytes of a strip beside its columns
    int64_t dimension;  // bytes of a strip for each `step` dimensions
    int64_t step;
    int64_t pays_from;  // centroids x dimensions from which it saves more than rounding the rows costs

    // Pack the centroids that `changed` says, or all if it is null.
    void (*pack)(Packed& packed, const float* c, const bool* changed);
    // Nearest centroid of each row, certified exact; `hint` may be null.
    void (*nearest)(const Packed& packed, const float* x, int64_t n, const float* c, const int32_t* hint,
                    int32_t* labels, float* sqdist);
    // The m nearest of each row, as float32 products tell; their distances are not yet in order.
    void (*nearest_m)(const Packed& packed, const float* x, int64_t n, const float* c, int64_t m, int32_t* ids,
                      float* sqdist);
    // About the `m` nearest, at most eight, of x[rows[0..n)], no farther than within[0..n); in all cells if `coarse` is
    // null.
    void (*eight)(const Packed& packed, const Packed* coarse, int64_t nprobe, const float* x, const int32_t* rows,
                  int64_t n, const float* c, const float* within, int64_t m, bool rough, int32_t* ids, float* dist);
};

// `k` centroids of `d` dimensions, cell by cell. Every cell begins with a strip, so that some columns are padding.
struct Packed {
    // `columns`: the centroids in the order of their cells; `offsets` [cells + 1]: where each cell begins in it.
    Packed(const Screening& screening, int64_t k, int64_t d, const int32_t* columns, const int64_t* offsets,
           int64_t cells, const float* shift);
    ~Packed();
    Packed(const Packed&) = delete;
    Packed& operator=(const Packed&) = delete;

    const Screening& screening;
    int64_t k, d, cells;
    int64_t* strips;   // [cells + 1]: where each cell begins
    int32_t* columns;  // [columns]: the centroid of each, -1 for padding
    float* shift;      // [d]: taken off rows and centroids before they are rounded
    char* data;        // strip after strip
    float* moved;      // [columns]: at most how far rounding moved each
    float* norm;       // [columns]: at least the norm of each, rounded
    float most_moved = 0, largest = 0;

    int64_t count() const { return strips[cells] * screening.strip; }
    int64_t strip_bytes() const;
    char* strip(int64_t s) const { return data + s * strip_bytes(); }
    // Take the largest of `moved` and `norm`, once all centroids are packed.
    void sum_up();

 private:
    char* memory_ = nullptr;  // of all the arrays
};

}  // namespace fastann

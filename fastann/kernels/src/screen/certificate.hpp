// What makes a screen trustworthy.
//
// A *screen* finds, for every row x, the centroids c whose score |c|^2 - 2 x.c is smallest, computed from operands that
// are rounded, or summed in float32. It rules centroids out and never decides: its few survivors are compared in
// float64. |c|^2 is the norm of the *rounded* centroid, so that a score is the squared distance between two points that
// were moved slightly, less |x|^2, and by the triangle inequality
//
//     | |x' - c'| - |x - c| |  <=  |x' - x| + |c' - c|        (' = rounded).
//
// Rows and centroids are both shifted by the mean of the centroids first, which makes scores smaller, and so their
// rounding.
#pragma once

#include "../products.hpp"
#include "../visit.hpp"
#include "packed.hpp"

namespace fastann {
namespace {

// At most by how much the float32 rounding of two scores of a row can change their difference. `xsq` is the row's
// squared norm, `largest` the largest norm of a centroid, both rounded. Never zero: products that are too small for a
// float32 vanish, and a limit must lie above the score that it was made of.
inline float slack_of(float xsq, int64_t d, float largest) {
    return 4 * UNIT * ((terms(d) + 3) * std::sqrt(xsq) * largest + largest * largest + xsq) + 1e-36f;
}

// Score below which a centroid may lie within `sqdist` of a row. `error` is at most how far rounding moved the row and
// a centroid together.
inline float limit_of(double sqdist, float xsq, float error, float slack) {
    const double reach = std::sqrt(sqdist * (1 + 1e-6)) + static_cast<double>(error);
    return static_cast<float>(reach * reach - static_cast<double>(xsq) + static_cast<double>(slack));
}

// Score that no centroid within a distance of the row exceeds.
inline float limit_within(float within, float xsq, float error, float slack) {
    if (within >= HUGE_SCORE) return HUGE_SCORE;
    return limit_of(static_cast<double>(within) * static_cast<double>(within), xsq, error, slack);
}

}  // namespace
}  // namespace fastann

// Sums over rows: their norms and total, the sums and means of clusters.
//
// A reduction over rows is cut into a number of pieces that does not depend on the threads, and no two pieces write to
// the same place, so that the same input gives the same bits on any number of threads.
#pragma once

#include "lanes.hpp"
#include "parallel.hpp"
#include "table.hpp"

namespace fastann {
namespace {

// Squared norm of each row, and the sum of the rows of each piece: float64 [pieces, d], zeros before.
void survey(const float* x, int64_t n, int64_t d, int64_t pieces, double* sqnorm, double* sums) {
    parallel(pieces, 2.0 * static_cast<double>(n) * static_cast<double>(d), [&](int64_t s) {
        double* total = sums + s * d;
        for (int64_t i = s * n / pieces; i < (s + 1) * n / pieces; i++) {
            const float* row = x + i * d;
            sqnorm[i] = sum64(
                d,
                [&](int64_t t) {
                    const F64 v = wide(row + t);
                    store(total + t, load<F64>(total + t) + v);
                    return v * v;
                },
                [&](int64_t t) {
                    const double v = static_cast<double>(row[t]);
                    total[t] += v;
                    return v * v;
                });
        }
    });
}

constexpr void fill_sums(Table& table) { table.survey = survey; }

}  // namespace
}  // namespace fastann

// Searches, by the instructions in use, against plain code in float64.
#include <cstdint>

#include "../src/cpu.hpp"
#include "../src/screen/packed.hpp"
#include "../src/table.hpp"
#include "check.hpp"

namespace {

// Nearest of `k` centroids; ties go to the lowest.
int32_t nearest_plain(const float* row, const std::vector<float>& c, int64_t k, int64_t d) {
    int32_t best = 0;
    double least = 1e300;
    for (int64_t j = 0; j < k; j++) {
        double total = 0;
        for (int64_t t = 0; t < d; t++) {
            const double u = static_cast<double>(row[t]) - c[j * d + t];
            total += u * u;
        }
        if (total < least) {
            least = total;
            best = static_cast<int32_t>(j);
        }
    }
    return best;
}

void nearest_is_exact(const fastann::Screening& screening, int64_t n, int64_t d, int64_t k, float offset) {
    const std::vector<float> x = random_floats(n * d, 4, 1, offset);
    std::vector<float> c = random_floats(k * d, 5, 1, offset), shift(d, offset);
    for (int64_t t = 0; t < d && k > 2; t++) c[2 * d + t] = c[t];  // a tie
    std::vector<int32_t> columns(k), labels(n), hint(n, 0);
    for (int64_t j = 0; j < k; j++) columns[j] = static_cast<int32_t>(j);
    const int64_t whole[2] = {0, k};
    fastann::Packed packed(screening, k, d, columns.data(), whole, 1, shift.data());
    screening.pack(packed, c.data(), nullptr);
    std::vector<float> sqdist(n);
    for (const int32_t* hints : {static_cast<const int32_t*>(nullptr), static_cast<const int32_t*>(hint.data())}) {
        screening.nearest(packed, x.data(), n, c.data(), hints, labels.data(), sqdist.data());
        for (int64_t i = 0; i < n; i++) CHECK(labels[i] == nearest_plain(x.data() + i * d, c, k, d));
    }
    std::vector<int32_t> rows(n), ids(n * 8);
    for (int64_t i = 0; i < n; i++) rows[i] = static_cast<int32_t>(n - 1 - i);
    std::vector<float> within(n, 3e38f), dist(n * 8);
    screening.eight(packed, nullptr, 0, x.data(), rows.data(), n, c.data(), within.data(), false, ids.data(),
                    dist.data());
    for (int64_t i = 0; i < n; i++) CHECK(ids[i * 8] == nearest_plain(x.data() + rows[i] * d, c, k, d));
}

}  // namespace

void test_searches() {
    for (const int64_t d : {1, 2, 3, 5, 8, 17, 32, 33, 70}) {
        for (const float offset : {0.0f, 100.0f}) {
            nearest_is_exact(*fastann::table().f32, 45, d, 37, offset);
            if (d >= 17 && fastann::level().rounded != nullptr) {
                nearest_is_exact(*fastann::level().rounded, 45, d, 70, offset);
            }
        }
    }
}

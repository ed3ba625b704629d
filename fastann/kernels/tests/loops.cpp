// Loops over rows, by the instructions in use, against plain code.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../src/cpu.hpp"
#include "../src/members.hpp"
#include "../src/table.hpp"
#include "check.hpp"

namespace {

constexpr int64_t SIZES[] = {1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100};

bool close(double a, double b) { return std::abs(a - b) <= 1e-9 * (1 + std::abs(a) + std::abs(b)); }

void sums_are_those_of_plain_code(int64_t d) {
    const int64_t n = 300, k = 7;
    const std::vector<float> x = random_floats(n * d, 1);
    std::vector<double> sqnorms(n), pieces(static_cast<size_t>(10 * d), 0), sums(static_cast<size_t>(k * d), 0);
    fastann::table().survey(x.data(), n, d, 10, sqnorms.data(), pieces.data());
    for (int64_t i = 0; i < n; i++) {
        double square = 0;
        for (int64_t t = 0; t < d; t++) square += static_cast<double>(x[i * d + t]) * x[i * d + t];
        CHECK(close(square, sqnorms[i]));
    }
    std::vector<int32_t> labels(n), order(n);
    for (int64_t i = 0; i < n; i++) labels[i] = static_cast<int32_t>(i < 150 ? 2 : i % k);
    std::vector<int64_t> offsets(k + 1);
    fastann::sort_by_label(labels.data(), n, k, offsets.data(), order.data());
    fastann::table().add_rows({x.data(), n, d}, nullptr, 1, offsets.data(), order.data(), k, sums.data(), nullptr);
    std::vector<double> expected(static_cast<size_t>(k * d), 0);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t t = 0; t < d; t++) expected[labels[i] * d + t] += x[i * d + t];
    }
    for (int64_t t = 0; t < k * d; t++) CHECK(close(expected[t], sums[t]));
}

void distances_are_those_of_plain_code(int64_t d) {
    const int64_t n = 20, k = 5;
    const std::vector<float> x = random_floats(n * d, 2), c = random_floats(k * d, 3);
    std::vector<int32_t> labels(n);
    for (int64_t i = 0; i < n; i++) labels[i] = static_cast<int32_t>(i % k);
    std::vector<double> sqdist(n);
    fastann::table().own_sqdist({x.data(), n, d}, c.data(), nullptr, labels.data(), sqdist.data());
    for (int64_t i = 0; i < n; i++) {
        double expected = 0;
        for (int64_t t = 0; t < d; t++) {
            const double u = static_cast<double>(x[i * d + t]) - c[labels[i] * d + t];
            expected += u * u;
        }
        CHECK(close(expected, sqdist[i]));
    }
}

void half_floats_are_widened() {
    std::vector<uint16_t> bits(1 << 16);
    for (size_t i = 0; i < bits.size(); i++) bits[i] = static_cast<uint16_t>(i);
    std::vector<float> out(bits.size());
    fastann::table().widen(bits.data(), static_cast<int64_t>(bits.size()), out.data());
    for (size_t i = 0; i < bits.size(); i++) {
        const int exponent = static_cast<int>(i >> 10 & 31), mantissa = static_cast<int>(i & 1023);
        const double sign = (i >> 15) != 0 ? -1 : 1;
        if (exponent == 31) {
            CHECK(mantissa != 0 ? std::isnan(out[i]) : std::isinf(out[i]));
        } else {
            const double value = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
            CHECK(static_cast<double>(out[i]) == sign * value);
        }
    }
}

}  // namespace

void test_loops() {
    for (const int64_t d : SIZES) {
        sums_are_those_of_plain_code(d);
        distances_are_those_of_plain_code(d);
    }
    half_floats_are_widened();
}

// Sums over rows and clusters, and half floats, by the instructions in use, against plain code.
#include "../src/cpu.hpp"
#include "../src/members.hpp"
#include "../src/table.hpp"
#include "check.hpp"

namespace {

constexpr int64_t K = 7;

void norms_and_totals(int64_t n, int64_t d) {
    Table x(n, d, 1);
    const int64_t stride = d + 3;
    const std::string size = std::to_string(n) + " x " + std::to_string(d);
    std::vector<double> sqnorms(n), again(n), pieces(10 * stride, 0.0);
    fastann::table().survey(x.data(), n, d, 10, sqnorms.data(), pieces.data(), stride);
    fastann::table().sqnorms(x.dense(), again.data());
    for (int64_t i = 0; i < n; i++) {
        double square = 0;
        for (int64_t t = 0; t < d; t++) square += static_cast<double>(x.row(i)[t]) * x.row(i)[t];
        CHECK(close(square, sqnorms[i]) && sqnorms[i] == again[i]);
    }
    for (int64_t t = 0; t < d; t++) {
        double expected = 0, total = 0;
        for (int64_t i = 0; i < n; i++) expected += x.row(i)[t];
        for (int64_t s = 0; s < 10; s++) total += pieces[s * stride + t];
        CHECK(close(expected, total));
    }
    same_bits("norms of " + size, sqnorms);
    same_bits("totals of " + size, pieces);
    const fastann::Rows sparse = x.thin_out();
    fastann::table().sqnorms(sparse, again.data());
    fastann::table().sqnorms(x.dense(), sqnorms.data());
    for (int64_t i = 0; i < n; i++) CHECK(close(sqnorms[i], again[i]));
}

void sums_of_clusters(int64_t n, int64_t d) {
    Table x(n, d, 2);
    const std::string size = std::to_string(n) + " x " + std::to_string(d);
    std::vector<int32_t> labels(n), order(n);
    for (int64_t i = 0; i < n; i++) labels[i] = static_cast<int32_t>(i < n / 2 ? 2 : i % (K - 1));  // the last is empty
    std::vector<int64_t> offsets(K + 1);
    fastann::sort_by_label(labels.data(), n, K, offsets.data(), order.data());
    const fastann::Rows sparse = x.thin_out();
    std::vector<double> weights(n), expected(K * d, 0.0), expected_mass(K, 0.0);
    for (int64_t i = 0; i < n; i++) weights[i] = 1 + static_cast<double>(i % 4);
    for (int64_t i = 0; i < n; i++) {
        expected_mass[labels[i]] += weights[i];
        for (int64_t t = 0; t < d; t++) expected[labels[i] * d + t] += weights[i] * x.row(i)[t];
    }
    for (const fastann::Rows& rows : {x.dense(), sparse}) {
        std::vector<double> sums(K * d, 0.0), mass(K, 0.0), explained(K);
        fastann::table().add_rows(rows, weights.data(), 1, offsets.data(), order.data(), K, sums.data(), mass.data());
        for (int64_t t = 0; t < K * d; t++) CHECK(close(expected[t], sums[t]));
        CHECK(mass == expected_mass);
        same_bits((rows.sparse() ? "sparse sums of " : "sums of ") + size, sums);
        const Table before(K, d, 3);
        std::vector<float> out(K * d), led(K * d);
        fastann::table().means(sums.data(), mass.data(), K, d, false, nullptr, before.data(), out.data(),
                               explained.data(), 2.0f, led.data(), nullptr);
        for (int64_t j = 0; j < K; j++) {
            for (int64_t t = 0; t < d; t++) {
                const double mean = mass[j] > 0 ? sums[j * d + t] / mass[j] : before.row(j)[t];
                CHECK(close(mean, out[j * d + t], 1e-7));
                CHECK(close(3 * mean - 2 * before.row(j)[t], led[j * d + t], 1e-5));
            }
        }
        same_bits((rows.sparse() ? "sparse means of " : "means of ") + size, out);
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

void test_sums() {
    for (const int64_t d : SIZES) {
        for (const int64_t n : {1, 65, 300}) {
            norms_and_totals(n, d);
            sums_of_clusters(n, d);
        }
    }
    norms_and_totals(5000, 33);  // enough for several threads
    sums_of_clusters(5000, 33);
    half_floats_are_widened();
}

// Near-duplicates, by the instructions in use, against plain code.
#include "../src/cpu.hpp"
#include "../src/table.hpp"
#include "check.hpp"

namespace {

double cosine_plain(const float* a, const float* b, int64_t d) {
    double product = 0, left = 0, right = 0;
    for (int64_t t = 0; t < d; t++) {
        product += static_cast<double>(a[t]) * b[t];
        left += static_cast<double>(a[t]) * a[t];
        right += static_cast<double>(b[t]) * b[t];
    }
    return product / std::sqrt(left * right);
}

// Rows, each of which has a near one after it, look for the first near one before them.
void the_first_near_row_is_found(int64_t n, int64_t d) {
    Table x(n, d, 20);
    for (int64_t i = 5; i < n; i += 3) {
        for (int64_t t = 0; t < d; t++) x.row(i)[t] = 2 * x.row(i - 5)[t] + 1e-4f * static_cast<float>(t % 3);
    }
    std::vector<float> unit(n * d), cosine(n);
    std::vector<double> norm(n);
    fastann::table().unit(x.data(), n, d, unit.data(), norm.data());
    std::vector<int32_t> low(n, 0), high(n), place(n), found(n);
    for (int64_t i = 0; i < n; i++) {
        CHECK(close(norm[i], std::sqrt(sqdist_plain(x.row(i), std::vector<float>(d, 0.0f).data(), d))));
        high[i] = place[i] = static_cast<int32_t>(i);
    }
    const fastann::Directed rows{x.data(), unit.data(), norm.data(), n};
    const double least = 0.999;
    fastann::table().first_near(
        {rows, rows, d, low.data(), high.data(), place.data(), least, found.data(), cosine.data()});
    for (int64_t i = 0; i < n; i++) {
        int32_t expected = fastann::CLEAR;
        for (int64_t j = 0; j < i && expected == fastann::CLEAR; j++) {
            if (cosine_plain(x.row(i), x.row(j), d) >= least) expected = static_cast<int32_t>(j);
        }
        CHECK(found[i] == expected);
    }
    same_bits("first near of " + std::to_string(n) + " x " + std::to_string(d), found);
}

// No border that is near is missed.
void near_borders_are_noted(int64_t n, int64_t d, int64_t k) {
    Table x(n, d, 21), c(k, d, 22);
    std::vector<float> rows(n * d), centres(k * d), own(n);
    std::vector<double> norm(n), norms(k);
    fastann::table().unit(x.data(), n, d, rows.data(), norm.data());
    fastann::table().unit(c.data(), k, d, centres.data(), norms.data());
    const auto product = [&](int64_t i, int64_t j) {
        double total = 0;
        for (int64_t t = 0; t < d; t++) total += static_cast<double>(rows[i * d + t]) * centres[j * d + t];
        return total;
    };
    std::vector<int32_t> labels(n), ids(n * k), count(n);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 1; j < k; j++) {
            if (product(i, j) > product(i, labels[i])) labels[i] = static_cast<int32_t>(j);
        }
        own[i] = static_cast<float>(product(i, labels[i]));
    }
    const double half = 0.05;  // of the distance between the two rows of a pair that is near
    fastann::table().borders(rows.data(), n, d, labels.data(), own.data(), centres.data(), k, static_cast<float>(half),
                             k, ids.data(), count.data());
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < k; j++) {
            const double apart = std::sqrt(sqdist_plain(&centres[labels[i] * d], &centres[j * d], d));
            if (j == labels[i] || product(i, labels[i]) - product(i, j) > half * apart) continue;
            bool noted = false;
            for (int64_t t = 0; t < k; t++) noted |= ids[i * k + t] == j;
            CHECK(noted);
        }
        CHECK(count[i] >= 0 && count[i] < k && (count[i] == k - 1 || ids[i * k + count[i]] == -1));
    }
}

}  // namespace

void test_duplicates() {
    for (const int64_t d : {3, 8, 17, 33, 64, 100}) {
        for (const int64_t n : {1, 63, 150}) the_first_near_row_is_found(n, d);
        for (const int64_t k : {2, 31, 40}) near_borders_are_noted(70, d, k);
    }
}

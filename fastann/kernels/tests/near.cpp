// Near-duplicates and searches of sparse rows, by the instructions in use, against plain code.
#include <cmath>
#include <cstdint>

#include "../src/cpu.hpp"
#include "../src/decisions.hpp"
#include "../src/table.hpp"
#include "check.hpp"

namespace {

double product(const float* a, const float* b, int64_t d) {
    double sum = 0;
    for (int64_t t = 0; t < d; t++) sum += static_cast<double>(a[t]) * b[t];
    return sum;
}

// Rows of which every third is nearly the one before.
std::vector<float> rows_with_copies(int64_t n, int64_t d) {
    std::vector<float> x = random_floats(n * d, 3);
    for (int64_t i = 2; i < n; i += 3) {
        for (int64_t t = 0; t < d; t++) x[i * d + t] = 2 * x[(i - 1) * d + t] + 0.001f * x[i * d + t];
    }
    return x;
}

void the_first_near_row_is_found(int64_t n, int64_t d) {
    const std::vector<float> x = rows_with_copies(n, d);
    std::vector<float> unit(n * d), cosine(n);
    std::vector<double> norm(n);
    std::vector<int32_t> low(n, 0), place(n), found(n);
    fastann::table().unit(x.data(), n, d, unit.data(), norm.data());
    for (int64_t i = 0; i < n; i++) place[i] = static_cast<int32_t>(i);
    const fastann::Directed rows{x.data(), unit.data(), norm.data(), n};
    fastann::table().first_near(
        {rows, rows, d, low.data(), place.data(), place.data(), 0.9, found.data(), cosine.data()});
    for (int64_t i = 0; i < n; i++) {
        CHECK(std::abs(norm[i] - std::sqrt(product(&x[i * d], &x[i * d], d))) <= 1e-9 * norm[i]);
        int32_t first = 0;
        while (first < i && product(&x[i * d], &x[first * d], d) < 0.9 * norm[i] * norm[first]) first++;
        CHECK(found[i] == (first < i ? first : fastann::CLEAR));
    }
}

void borders_are_in_order(int64_t n, int64_t k, int64_t d) {
    std::vector<float> x = random_floats(n * d, 4), unit(n * d), c(k * d), own(n, 0.5f);
    std::vector<double> norm(n);
    fastann::table().unit(x.data(), n, d, unit.data(), norm.data());
    for (int64_t t = 0; t < k * d; t++) c[t] = unit[t % (n * d)];
    const int64_t m = k < 4 ? k : 4;
    std::vector<int32_t> labels(n), ids(n * m), count(n);
    for (int64_t i = 0; i < n; i++) labels[i] = static_cast<int32_t>(i * k / n);
    fastann::table().borders(unit.data(), n, d, labels.data(), own.data(), c.data(), k, 0.3f, m, ids.data(),
                             count.data());
    for (int64_t i = 0; i < n; i++) {
        CHECK(count[i] >= 0 && count[i] < k);
        for (int64_t t = 0; t < m; t++)
            CHECK(t < count[i] ? ids[i * m + t] >= 0 && ids[i * m + t] != labels[i] : ids[i * m + t] == -1);
    }
}

void sparse_rows_find_the_nearest(int64_t k) {
    const int64_t n = 40, d = 20, m = k < 3 ? k : 3;
    const std::vector<float> values = random_floats(n * d, 5), by_column = random_floats(d * k, 6);
    std::vector<float> stored;
    std::vector<int32_t> indices, ids(n * m), others(n * m), all(d * k);
    std::vector<int64_t> indptr(n + 1), lists(d + 1);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t t = i % 3; t < d; t += 1 + i % 4) {
            stored.push_back(values[i * d + t]);
            indices.push_back(static_cast<int32_t>(t));
        }
        indptr[i + 1] = static_cast<int64_t>(stored.size());
    }
    std::vector<double> csq(k, 0);
    for (int64_t t = 0; t < d * k; t++) {
        csq[t % k] += static_cast<double>(by_column[t]) * by_column[t];
        all[t] = static_cast<int32_t>(t % k);
    }
    for (int64_t t = 0; t <= d; t++) lists[t] = t * k;
    std::vector<float> sqdist(n * m), other(n * m);
    const fastann::Rows x{stored.data(), n, d, indices.data(), indptr.data()};
    const fastann::Rows c{by_column.data(), d, k, all.data(), lists.data()};
    fastann::table().search_sparse(x, by_column.data(), k, csq.data(), m, ids.data(), sqdist.data());
    fastann::table().search_inverted(x, c, csq.data(), m, 1 << 30, others.data(), other.data());
    for (int64_t i = 0; i < n * m; i++) {
        CHECK(ids[i] == others[i]);
        CHECK(std::abs(sqdist[i] - other[i]) <= 1e-5f * (1 + sqdist[i]));
    }
}

}  // namespace

void test_near() {
    for (const int64_t d : SIZES) {
        for (const int64_t n : {1, 5, 64, 150}) the_first_near_row_is_found(n, d);
        borders_are_in_order(150, d, 10);
        borders_are_in_order(3, 3, d);
        sparse_rows_find_the_nearest(d);
    }
}

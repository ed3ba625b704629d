// Searches, by the instructions in use, against plain code in float64.
#include <algorithm>

#include "../src/cpu.hpp"
#include "../src/screen/packed.hpp"
#include "../src/spread.hpp"
#include "../src/table.hpp"
#include "check.hpp"

namespace {

std::vector<int32_t> counted(int64_t n) {
    std::vector<int32_t> out(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; i++) out[i] = static_cast<int32_t>(i);
    return out;
}

// Labels are exact, ties included; lists of the nearest are so but for rounding.
void dense(const fastann::Screening& screening, int64_t n, int64_t d, int64_t k, float offset) {
    const Table x(n, d, 4, offset);
    Table c(k, d, 5, offset);
    std::copy_n(c.row(0), k > 2 ? d : 0, c.row(k > 2 ? 2 : 0));  // a tie
    const std::vector<float> shift(d, offset);
    const std::vector<int32_t> columns = counted(k), hint(n, 0);
    const int64_t whole[2] = {0, k};
    fastann::Packed packed(screening, k, d, columns.data(), whole, 1, shift.data());
    screening.pack(packed, c.data(), nullptr);
    std::vector<int32_t> labels(n), ids(n * 8), rows(n);
    std::vector<float> sqdist(n), dist(n * 8);
    const std::vector<float> within(n, 3e38f);
    for (const int32_t* hints : {static_cast<const int32_t*>(nullptr), hint.data()}) {
        screening.nearest(packed, x.data(), n, c.data(), hints, labels.data(), sqdist.data());
        for (int64_t i = 0; i < n; i++) {
            CHECK(labels[i] == nearest_plain(x.row(i), c, 0, k, d));
            CHECK(close(sqdist[i], sqdist_plain(x.row(i), c.row(labels[i]), d), 1e-5));
        }
    }
    for (int64_t i = 0; i < n; i++) rows[i] = static_cast<int32_t>(n - 1 - i);
    screening.eight(packed, nullptr, 0, x.data(), rows.data(), n, c.data(), within.data(), 8, false, ids.data(),
                    dist.data());
    for (int64_t i = 0; i < n; i++) CHECK(ids[i * 8] == nearest_plain(x.row(rows[i]), c, 0, k, d));
}

void nearest_m(const fastann::Screening& screening, int64_t n, int64_t d, int64_t k, int64_t m, double rounding) {
    const Table x(n, d, 6), c(k, d, 7);
    const std::vector<float> shift(d, 0.0f);
    const std::vector<int32_t> columns = counted(k);
    const int64_t whole[2] = {0, k};
    fastann::Packed packed(screening, k, d, columns.data(), whole, 1, shift.data());
    screening.pack(packed, c.data(), nullptr);
    std::vector<int32_t> ids(n * m);
    std::vector<float> dist(n * m);
    screening.nearest_m(packed, x.data(), n, c.data(), m, ids.data(), dist.data());
    for (int64_t i = 0; i < n; i++) {
        std::vector<double> all(k);
        for (int64_t j = 0; j < k; j++) all[j] = sqdist_plain(x.row(i), c.row(j), d);
        std::vector<double> sorted = all;
        std::sort(sorted.begin(), sorted.end());
        for (int64_t t = 0; t < m; t++) CHECK(all[ids[i * m + t]] <= sorted[m - 1] * (1 + rounding) + 1e-4);
    }
}

// Cells: searched in all of them, the nearest is found; in some, what is found is in one of these.
void cells(const fastann::Screening& screening, int64_t n, int64_t d, int64_t k) {
    const Table x(n, d, 8), c(k, d, 9), centres(3, d, 10);
    const std::vector<int32_t> rows = counted(n), cell_columns = counted(3);
    const std::vector<float> shift(d, 0.0f), within(n, 3e38f);
    std::vector<int32_t> columns = counted(k);
    std::reverse(columns.begin(), columns.end());
    const int64_t offsets[] = {0, k / 3, k / 2, k}, whole[] = {0, 3};
    fastann::Packed packed(screening, k, d, columns.data(), offsets, 3, shift.data());
    screening.pack(packed, c.data(), nullptr);
    fastann::Packed coarse(screening, 3, d, cell_columns.data(), whole, 1, shift.data());
    screening.pack(coarse, centres.data(), nullptr);
    std::vector<int32_t> ids(n * 8);
    std::vector<float> dist(n * 8);
    for (const int64_t probes : {1, 3}) {
        screening.eight(packed, &coarse, probes, x.data(), rows.data(), n, c.data(), within.data(), 8, false,
                        ids.data(), dist.data());
        for (int64_t i = 0; i < n; i++) {
            const int32_t found = ids[i * 8];
            CHECK(found >= 0 && found < k);
            CHECK(probes < 3 || found == nearest_plain(x.row(i), c, 0, k, d));
        }
    }
}

void sparse(int64_t n, int64_t d, int64_t k, int64_t m) {
    Table x(n, d, 11), c(k, d, 12);
    const fastann::Rows rows = x.thin_out();
    const fastann::Rows centroids = c.thin_out();
    Table across(d, k, 0);
    for (int64_t j = 0; j < k; j++) {
        for (int64_t t = 0; t < d; t++) across.row(t)[j] = c.row(j)[t];
    }
    std::vector<double> csq(k);
    fastann::table().sqnorms(c.dense(), csq.data());
    std::vector<int32_t> ids(n * m), again(n * m), screened(n * m);
    std::vector<float> sqdist(n * m), far(n * m);
    fastann::table().search_sparse(rows, across.data(), k, csq.data(), m, ids.data(), sqdist.data());
    std::vector<int64_t> places = {0};
    std::vector<int32_t> stored;
    std::vector<float> values;
    for (int64_t t = 0; t < d; t++) {
        for (int32_t j = 0; j < k; j++) {
            if (across.row(t)[j] == 0) continue;
            stored.push_back(j);
            values.push_back(across.row(t)[j]);
        }
        places.push_back(static_cast<int64_t>(stored.size()));
    }
    const fastann::Rows lists{values.data(), d, k, stored.data(), places.data()};
    fastann::table().search_inverted(rows, lists, csq.data(), m, int64_t{1} << 40, again.data(), sqdist.data());
    const fastann::Spread spread(centroids, lists, csq.data());
    fastann::table().search_spread(rows, centroids, lists, spread, csq.data(), m, screened.data(), far.data());
    for (int64_t i = 0; i < n * m; i++) CHECK(screened[i] == again[i] && far[i] == sqdist[i]);
    for (int64_t i = 0; i < n; i++) {
        const double least = sqdist_plain(x.row(i), c.row(nearest_plain(x.row(i), c, 0, k, d)), d);
        for (const int32_t j : {ids[i * m], again[i * m]}) {
            CHECK(j >= 0 && j < k && close(sqdist_plain(x.row(i), c.row(j), d), least));
        }
        CHECK(close(sqdist[i * m], least, 1e-6));
    }
    same_bits("sparse search in " + std::to_string(d) + " of " + std::to_string(k), ids);
}

}  // namespace

void test_searches() {
    for (const int64_t d : {1, 2, 3, 5, 8, 17, 32, 33, 70}) {
        for (const float offset : {0.0f, 100.0f}) {
            dense(*fastann::table().f32, 45, d, 37, offset);
            const fastann::Screening* rounded = fastann::level().rounded;
            if (d >= 17 && rounded != nullptr) dense(*rounded, 45, d, 70, offset);
        }
        nearest_m(*fastann::table().f32, 30, d, 50, 10, 1e-5);
        if (d > 1) cells(*fastann::table().f32, 30, d, 90);
        for (const int64_t k : {3, 8, 37, 150}) sparse(20, d, k, 3);
    }
    dense(*fastann::table().f32, 1200, 33, 60, 0);  // enough for several threads
    if (fastann::level().rounded != nullptr) {
        nearest_m(*fastann::level().rounded, 30, 40, 90, 10, 1e-2);
        cells(*fastann::level().rounded, 30, 40, 90);
    }
}

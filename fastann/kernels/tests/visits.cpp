// Rows that keep candidates and bounds, by the instructions in use: they end where a search of all centroids does.
#include <algorithm>

#include "../src/cpu.hpp"
#include "../src/rules.hpp"
#include "../src/table.hpp"
#include "check.hpp"

namespace {

constexpr int64_t K = 14;

struct Kept {
    std::vector<int32_t> order, labels, ids;
    std::vector<float> sqdist, second, beyond;
    std::vector<double> mass;

    explicit Kept(int64_t n)
        : order(n), labels(n, -1), ids(n * fastann::LISTED, -1), sqdist(n), second(n), beyond(n), mass(K, 50.0) {
        for (int64_t i = 0; i < n; i++) order[i] = static_cast<int32_t>(n - 1 - i);
    }
    fastann::Visit visit(const fastann::Rows& rows, const Table& c, int rule) {
        return {rows,
                order.data(),
                static_cast<int64_t>(order.size()),
                c.data(),
                K,
                nullptr,
                rule,
                mass.data(),
                labels.data(),
                sqdist.data(),
                ids.data(),
                second.data(),
                beyond.data()};
    }
};

// What a search of the eight nearest finds, for the rows in the order of the visit.
void search(const Kept& kept, const Table& x, const Table& c, int64_t d, std::vector<int32_t>& ids,
            std::vector<float>& dist) {
    for (size_t q = 0; q < kept.order.size(); q++) {
        std::vector<std::pair<double, int32_t>> all;
        for (int32_t j = 0; j < K; j++) all.emplace_back(sqdist_plain(x.row(kept.order[q]), c.row(j), d), j);
        std::sort(all.begin(), all.end());
        for (size_t t = 0; t < fastann::LISTED; t++) {
            ids[q * fastann::LISTED + t] = all[t].second;
            dist[q * fastann::LISTED + t] = static_cast<float>(std::sqrt(all[t].first));
        }
    }
}

void visited_rows_have_the_nearest(const fastann::Rows& rows, const Table& x, int64_t d, int rule) {
    const int64_t n = rows.n;
    Table c(K, d, 15);
    Kept kept(n);
    std::vector<int32_t> found(n * fastann::LISTED);
    std::vector<float> dist(n * fastann::LISTED), drift(K);
    std::vector<uint8_t> status(n);
    search(kept, x, c, d, found, dist);
    CHECK(fastann::table().merge(kept.visit(rows, c, rule), fastann::LISTED, found.data(), dist.data()));
    for (int64_t i = 0; i < n; i++) CHECK(kept.labels[i] == nearest_plain(x.row(i), c, 0, K, d) || rule != 0);
    const Table before = c;
    std::vector<int32_t> every;
    for (int64_t j = 0; j < K; j++) {
        every.push_back(static_cast<int32_t>(j));
        for (int64_t t = 0; j % 2 == 0 && t < d; t++) c.row(j)[t] += 0.05f;
    }
    fastann::table().drift(c.data(), every.data(), before.data(), K, d, drift.data());
    CHECK(fastann::table().look(kept.visit(rows, c, rule), drift.data(), 1, status.data()));
    for (int64_t q = 0; q < n; q++) {
        const int64_t i = kept.order[q];
        CHECK(status[q] <= fastann::WANTING && kept.labels[i] >= 0 && kept.labels[i] < K);
        if (rule != fastann::LLOYD || status[q] == fastann::WANTING) continue;
        const double own = sqdist_plain(x.row(i), c.row(kept.labels[i]), d);
        CHECK(own <= sqdist_plain(x.row(i), c.row(nearest_plain(x.row(i), c, 0, K, d)), d) * (1 + 1e-5) + 1e-6);
    }
    kept.labels[n / 2] = K;  // out of range: said, and not followed
    CHECK(!fastann::table().look(kept.visit(rows, c, rule), drift.data(), 1, status.data()));
    CHECK(!fastann::table().merge(kept.visit(rows, c, rule), fastann::LISTED, found.data(), dist.data()));
}

}  // namespace

void test_visits() {
    for (const int64_t d : SIZES) {
        Table x(70, d, 14);
        for (const int rule : {fastann::LLOYD, fastann::SIZE_AWARE, fastann::SIZE_AWARE_COSINE}) {
            visited_rows_have_the_nearest(x.dense(), x, d, rule);
        }
        const fastann::Rows sparse = x.thin_out();
        visited_rows_have_the_nearest(sparse, x, d, fastann::LLOYD);
    }
    const Table x(3000, 33, 16);  // enough for several threads
    visited_rows_have_the_nearest(x.dense(), x, 33, fastann::LLOYD);
}

// Groups of rows, starts and descent, by the instructions in use, against plain code.
#include <algorithm>

#include "../src/cpu.hpp"
#include "../src/grouped.hpp"
#include "../src/members.hpp"
#include "../src/table.hpp"
#include "check.hpp"

namespace {

constexpr int64_t GROUPS = 5;

struct Sorted {
    std::vector<int32_t> labels, order;
    std::vector<int64_t> offsets;

    explicit Sorted(int64_t n) : labels(n), order(n), offsets(GROUPS + 1) {
        for (int64_t i = 0; i < n; i++) labels[i] = static_cast<int32_t>(i * i % GROUPS);  // 2 and 3 are empty
        fastann::sort_by_label(labels.data(), n, GROUPS, offsets.data(), order.data());
    }
};

void nearest_in_group(int64_t n, int64_t d) {
    Table x(n, d, 8);
    Table c(23, d, 9);
    const int64_t first[GROUPS + 1] = {0, 2, 2, 4, 9, 23};  // of each group; the second has none
    const Sorted g(n);
    const std::string size = std::to_string(n) + " x " + std::to_string(d);
    const auto check = [&](const fastann::Rows& rows, const fastann::Rows& centroids, const std::string& kind) {
        std::vector<int32_t> ids(n);
        std::vector<float> sqdist(n);
        fastann::table().nearest_in_group(rows, g.offsets.data(), g.order.data(), GROUPS, centroids, first, nullptr,
                                          ids.data(), sqdist.data());
        for (int64_t i = 0; i < n; i++) {
            const int32_t j = nearest_plain(x.row(i), c, first[g.labels[i]], first[g.labels[i] + 1], d);
            CHECK(ids[i] == j);
            CHECK(j < 0 ? std::isinf(sqdist[i]) : close(sqdist[i], sqdist_plain(x.row(i), c.row(j), d), 1e-6));
        }
        same_bits(kind + " in groups of " + size, sqdist);
        std::vector<double> within(n);  // half of what it is, or twice
        for (int64_t i = 0; i < n; i++) within[i] = static_cast<double>(sqdist[i]) * (i % 2 == 0 ? 0.5 : 2.0);
        std::vector<int32_t> near(n);
        std::vector<float> far(n);
        fastann::table().nearest_in_group(rows, g.offsets.data(), g.order.data(), GROUPS, centroids, first,
                                          within.data(), near.data(), far.data());
        for (int64_t i = 0; i < n; i++) {
            const bool left_out = near[i] < 0 && static_cast<double>(sqdist[i]) > within[i];
            CHECK(left_out ? std::isinf(far[i]) : near[i] == ids[i] && far[i] == sqdist[i]);
        }
    };
    check(x.dense(), c.dense(), "nearest");
    const fastann::Rows sparse = x.thin_out(), centroids = c.thin_out();
    if (d < 3) return;  // too many rows of zeros: ties
    check(sparse, c.dense(), "nearest of sparse");
    check(sparse, centroids, "sparse nearest of sparse");
    check(x.dense(), centroids, "sparse nearest");
}

std::vector<double> uniform(int64_t count) {
    std::mt19937 engine(10);
    std::vector<double> out(static_cast<size_t>(count));
    for (double& v : out) v = static_cast<double>(engine()) / 4294967296.0;
    return out;
}

// Centres are rows, each another one, and of their own group.
void starts(int64_t n, int64_t d) {
    Table x(n, d, 11);
    const int64_t k = 12, trials = 3;
    const std::vector<double> random = uniform(k * trials), weights(n, 2.0);
    std::vector<int64_t> picks(k, -1);
    for (const double* given : {static_cast<const double*>(nullptr), weights.data()}) {
        CHECK(fastann::table().greedy(x.data(), n, d, given, k, trials, random.data(), picks.data()) == k);
        std::vector<int64_t> sorted = picks;
        std::sort(sorted.begin(), sorted.end());
        CHECK(sorted.front() >= 0 && sorted.back() < n);
        CHECK(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end());
    }
    const int64_t first[] = {0, 4, k};
    std::vector<int32_t> labels(n);
    for (int64_t i = 0; i < n; i++) labels[i] = i % 3 == 0 ? 0 : 1;
    const fastann::Rows sparse = x.thin_out();
    for (const fastann::Rows& rows : {x.dense(), sparse, x.dense()}) {
        const bool rounded = !rows.sparse() && picks[0] >= 0 && d > 8;
        fastann::Grouped g(labels.data(), nullptr, n, 2, d, rounded);
        const std::vector<float> shift(d + 16, 0.5f);
        if (rounded) fastann::table().round_rows(rows.data, shift.data(), g);
        std::fill(picks.begin(), picks.end(), -1);
        std::vector<double> closest(n, INFINITY);
        fastann::table().plus_plus(rows, weights.data(), closest.data(), g, first, random.data(), trials,
                                   fastann::level().dots, picks.data());
        for (int64_t j = 0; j < k && d >= 7; j++) {
            CHECK(labels[picks[j]] == (j < 4 ? 0 : 1));
            CHECK(std::count(picks.begin(), picks.end(), picks[j]) == 1);
        }
        const int64_t told[] = {0, d >= 7 ? 3 : 0, d >= 7 ? 3 : 0};  // of fewer columns there are not enough rows
        std::vector<double> before = closest;
        fastann::table().hear(rows, closest.data(), g, picks.data() + 4, told, fastann::level().dots);
        for (int64_t i = 0; i < n; i++) CHECK(closest[i] <= before[i] && (labels[i] == 0 || closest[i] == before[i]));
        same_bits(std::string(rows.sparse() ? "sparse"
                              : rounded     ? "rounded"
                                            : "exact") +
                      " starts in " + std::to_string(d),
                  picks);
    }
    const std::vector<float> equal(static_cast<size_t>(n * d), 1.0f);
    CHECK(fastann::table().greedy(equal.data(), n, d, nullptr, k, trials, random.data(), picks.data()) == 1);
}

// Rows whose values are next to nothing, or too large to be rounded, are as far from others as they are.
void extreme_rows(int64_t d) {
    const int64_t n = 12;
    std::vector<float> x(static_cast<size_t>(n * d));
    for (int64_t i = 0; i < n; i++) {
        const float scale = i < 4 ? 1e-38f : i < 8 ? 1.0f : 1e18f;
        for (int64_t t = 0; t < d; t++) x[i * d + t] = scale * static_cast<float>((i * 5 + t * 3) % 7 - 3);
    }
    const std::vector<int32_t> labels(n, 0);
    fastann::Grouped g(labels.data(), nullptr, n, 1, d, true);
    const std::vector<float> shift(d, 0.0f);
    fastann::table().round_rows(x.data(), shift.data(), g);
    std::vector<double> closest(n, INFINITY);
    const int64_t first[] = {0, 1}, pick[] = {5};
    fastann::table().hear({x.data(), n, d}, closest.data(), g, pick, first, fastann::level().dots);
    for (int64_t i = 0; i < n; i++) {
        const double far = sqdist_plain(x.data() + i * d, x.data() + 5 * d, d);
        CHECK(std::abs(closest[i] - far) <= 0.15 * far);  // an eighth at most is what rounding changes
    }
}

// A step of descent lowers a loss that falls with the scores of all pairs.
void descent(int64_t n, int64_t d) {
    const int64_t k = 6, m = 2;
    Table x(n, d, 12), p(k, d, 13);
    std::vector<int32_t> ids(n * m), places(n * m);
    for (int64_t q = 0; q < n * m; q++) ids[q] = static_cast<int32_t>((q / m + q % m * 2) % k);
    std::vector<int64_t> first(k + 1), taken(k, 0);
    fastann::sort_by_label(ids.data(), n * m, k, first.data(), places.data());
    const fastann::PrototypePairs pairs{first.data(), places.data(), m};
    std::vector<float> before(n * m), after(n * m), slope(n * m, -1.0f);
    fastann::table().pair_scores(x.dense(), p.dense(), pairs, true, before.data());
    for (int64_t q = 0; q < n * m; q++) {
        CHECK(close(-before[q], sqdist_plain(x.row(q / m), p.row(ids[q]), d), 1e-4));
    }
    std::vector<float> mean(k * d, 0.0f), square(k * d, 0.0f);
    const fastann::Adam adam{true, 1, 1e-3f, 1e-8f, mean.data(), square.data(), taken.data()};
    fastann::table().descend(x.dense(), p.dense(), p.row(0), pairs, slope.data(), adam);
    fastann::table().pair_scores(x.dense(), p.dense(), pairs, true, after.data());
    double gain = 0;
    for (int64_t q = 0; q < n * m; q++) gain += static_cast<double>(after[q]) - before[q];
    CHECK(gain > 0 && taken == std::vector<int64_t>(k, 1));
    const fastann::Rows sparse = x.thin_out();
    fastann::table().pair_scores(x.dense(), p.dense(), pairs, false, before.data());
    fastann::table().pair_scores(sparse, p.dense(), pairs, false, after.data());
    for (int64_t q = 0; q < n * m; q++) CHECK(close(before[q], after[q], 1e-4));
    fastann::table().descend(sparse, p.dense(), p.row(0), pairs, slope.data(), adam);
}

}  // namespace

void test_groups() {
    for (const int64_t d : SIZES) {
        nearest_in_group(60, d);
        starts(50, d);
        descent(40, d);
        extreme_rows(d);
    }
    nearest_in_group(3000, 33);  // enough for several threads
    descent(3000, 33);
}

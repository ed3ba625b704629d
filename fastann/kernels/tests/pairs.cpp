// Distances of given pairs of a row and a centroid, by the instructions in use, against plain code.
#include "../src/cpu.hpp"
#include "../src/table.hpp"
#include "check.hpp"

namespace {

constexpr int64_t K = 9, M = 4;

struct Pairs {
    std::vector<int32_t> labels, ids;

    explicit Pairs(int64_t n) : labels(n), ids(n * M) {
        for (int64_t i = 0; i < n; i++) {
            labels[i] = static_cast<int32_t>(i % K);
            for (int64_t t = 0; t < M; t++) ids[i * M + t] = static_cast<int32_t>((i * 3 + t * 2) % (K + 1)) - 1;
        }
    }
};

void distances(const fastann::Rows& rows, const Table& x, const Table& c, const double* csq, const std::string& name) {
    const int64_t n = rows.n, d = rows.d;
    const Pairs pairs(n);
    std::vector<double> own(n), far(n);
    std::vector<int32_t> second(n), ids = pairs.ids;
    std::vector<float> sqdist(n * M);
    fastann::table().own_sqdist(rows, c.data(), csq, pairs.labels.data(), own.data());
    fastann::table().runner_up(rows, c.data(), csq, pairs.labels.data(), ids.data(), M, second.data(), far.data());
    fastann::table().rescore(rows, c.data(), csq, M, ids.data(), sqdist.data());
    for (int64_t i = 0; i < n; i++) {
        const auto to = [&](int32_t j) { return sqdist_plain(x.row(i), c.row(j), d); };
        CHECK(close(own[i], to(pairs.labels[i])));
        double least = 1e300;
        for (int64_t t = 0; t < M; t++) {
            const int32_t j = pairs.ids[i * M + t];
            if (j >= 0 && j != pairs.labels[i]) least = std::fmin(least, to(j));
        }
        CHECK(second[i] >= 0 && close(far[i], least) && close(far[i], to(second[i])));
        for (int64_t t = 0; t < M; t++) {
            const int32_t j = ids[i * M + t];
            CHECK(j < 0 ? std::isinf(sqdist[i * M + t]) : close(sqdist[i * M + t], to(j), 1e-5));
            CHECK(t == 0 || sqdist[i * M + t - 1] <= sqdist[i * M + t]);
        }
    }
    same_bits(name + ", own", own);
    same_bits(name + ", second", second);
    same_bits(name + ", distances of the second", far);
}

void of_all_kinds(int64_t n, int64_t d) {
    const std::string size = std::to_string(n) + " x " + std::to_string(d);
    Table x(n, d, 4);
    const Table c(K, d, 5);
    std::vector<double> csq(K);
    fastann::table().sqnorms(c.dense(), csq.data());
    distances(x.dense(), x, c, nullptr, "pairs of " + size);
    const fastann::Rows sparse = x.thin_out();
    distances(sparse, x, c, csq.data(), "sparse pairs of " + size);
}

void drift_is_the_distance_to_the_former(int64_t d) {
    const Table before(K, d, 6), after(K, d, 7);
    std::vector<int32_t> ids;
    for (int64_t j = 0; j < K; j++) {
        if (j % 3 != 1) ids.push_back(static_cast<int32_t>(K - 1 - j));
    }
    std::vector<float> out(K, -1);
    fastann::table().drift(after.data(), ids.data(), before.data(), static_cast<int64_t>(ids.size()), d, out.data());
    for (size_t r = 0; r < ids.size(); r++) {
        const float* was = before.row(static_cast<int64_t>(r));
        CHECK(close(out[ids[r]], std::sqrt(sqdist_plain(was, after.row(ids[r]), d)), 1e-5));
    }
    for (int64_t j = 0; j < K; j++) CHECK((K - 1 - j) % 3 != 1 || out[j] == -1);
}

void ids_have_a_range() {
    const Pairs pairs(100);
    for (int64_t n : {0, 1, 5, 399}) {
        int64_t least = 7, most = 7, low = 0, high = -1;
        for (int64_t i = 0; i < n; i++) {
            low = pairs.ids[i] < low ? pairs.ids[i] : low;
            high = pairs.ids[i] > high ? pairs.ids[i] : high;
        }
        fastann::table().range(pairs.ids.data(), n, &least, &most);
        CHECK(least == low && most == high);
    }
}

}  // namespace

void test_pairs() {
    for (const int64_t d : SIZES) {
        of_all_kinds(40, d);
        drift_is_the_distance_to_the_former(d);
    }
    of_all_kinds(4000, 33);  // enough for several threads
    ids_have_a_range();
}

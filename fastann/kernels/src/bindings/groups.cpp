#include <nanobind/stl/unique_ptr.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "../buffer.hpp"
#include "../cpu.hpp"
#include "../grouped.hpp"
#include "../members.hpp"
#include "../table.hpp"
#include "arrays.hpp"
#include "bindings.hpp"
#include "ranges.hpp"

namespace fastann {

namespace {

nb::tuple nearest_in_group(nb::handle x_, nb::handle labels_, nb::handle centroids_, nb::handle first_,
                           nb::handle within_) {
    const Table2 x(x_, "x"), centroids(centroids_, "centroids");
    const Vector<const int32_t> labels(labels_, "labels");
    const Vector<const int64_t> first(first_, "first");
    const Vector<const double> within(within_, "within", true);
    const int64_t n = x.rows.n, groups = first.size() - 1;
    x.sound();
    centroids.sound();
    labels.sized(n, "one for each row of x");
    within.sized(n, "one for each row of x");
    if (centroids.rows.d != x.rows.d) throw nb::value_error("centroids must have as many columns as x");
    check_ends(first, centroids.rows.n, "rows of centroids");
    check_ids(labels, INT32_MIN, groups, "groups");
    const New<int32_t, 1> ids(n);
    const New<float, 1> sqdist(n);
    unlocked([&] {
        const Buffer<int64_t> offsets(groups + 1);
        const Buffer<int32_t> order(n);
        sort_by_label(labels, n, groups, offsets, order);
        table().nearest_in_group(x, offsets, order, groups, centroids, first, within, ids, sqdist);
    });
    return nb::make_tuple(ids.array, sqdist.array);
}

constexpr int64_t WIDEST = 1 << 16;  // columns whose products of int8 an int32 holds the sum of

// Mean of some rows, evenly spaced.
std::vector<float> middle(const Rows& x, const Grouped& g) {
    constexpr int64_t SOME = 4096;
    const int64_t apart = (g.n + SOME - 1) / SOME;
    std::vector<double> sums(static_cast<size_t>(x.d), 0.0);
    for (int64_t i = 0; i < g.n; i += apart) {
        const float* row = x.data + g.row(i) * x.d;
        for (int64_t t = 0; t < x.d; t++) sums[static_cast<size_t>(t)] += static_cast<double>(row[t]);
    }
    std::vector<float> mean;
    for (const double v : sums) mean.push_back(static_cast<float>(v / static_cast<double>((g.n + apart - 1) / apart)));
    return mean;
}

std::unique_ptr<Grouped> grouped(nb::handle x_, nb::handle labels_, int64_t groups, bool rounded, nb::handle rows_) {
    const Table2 x(x_, "x");
    const Vector<const int32_t> labels(labels_, "labels"), rows(rows_, "rows", true);
    const int64_t n = rows.given() ? rows.size() : x.rows.n;
    labels.sized(n, rows.given() ? "one for each entry of rows" : "one for each row of x");
    check_ids(labels, INT32_MIN, groups, "groups");
    if (rows.given()) check_ids(rows, 0, x.rows.n, "rows of x");
    const bool rounds = rounded && !x.rows.sparse() && n > 0 && x.rows.d <= WIDEST;
    std::unique_ptr<Grouped> g;
    unlocked([&] {
        g = std::make_unique<Grouped>(labels.data(), rows.data(), n, groups, x.rows.d, rounds);
        if (rounds) table().round_rows(x.rows.data, middle(x.rows, *g).data(), *g);
    });
    g->table = x.rows.n;
    return g;
}

// Refuse rows that are not those that were grouped, or `closest` that are not theirs.
void check(const Grouped& g, const Table2& x) {
    if (x.rows.n != g.table || x.rows.d != g.d) throw nb::value_error("x must be the rows that were grouped");
    x.sound();
}

nb::object plus_plus(nb::handle x_, nb::handle weights_, const Grouped& g, nb::handle sizes_, nb::handle uniform_,
                     nb::handle closest_) {
    const Table2 x(x_, "x");
    const Vector<double> closest(closest_, "closest", true);
    const Vector<const double> weights(weights_, "weights");
    const Vector<const int64_t> sizes(sizes_, "sizes");
    const Matrix<const double> uniform(uniform_, "uniform");
    check(g, x);
    weights.sized(g.n, "one for each row that was grouped");
    closest.sized(g.n, "one for each row that was grouped");
    sizes.sized(g.groups, "one for each group");
    const Buffer<int64_t> first(g.groups + 1, 0);
    for (int64_t j = 0; j < g.groups; j++) {
        if (sizes.data()[j] < 0 || sizes.data()[j] > uniform.size(0))
            throw nb::value_error("sizes must be in [0, rows of uniform]");
        first[j + 1] = first[j] + sizes.data()[j];
    }
    uniform.sized(first[g.groups], "the sum of sizes");
    const New<int64_t, 1> picks(first[g.groups]);
    for (int64_t i = 0; i < first[g.groups]; i++) picks.data()[i] = -1;
    unlocked([&] {
        const Buffer<double> own(closest.data() == nullptr ? g.n : 0);
        double* known = closest.data() == nullptr ? static_cast<double*>(own) : closest.data();
        if (closest.data() == nullptr) std::fill_n(known, g.n, std::numeric_limits<double>::infinity());
        table().plus_plus(x, weights, known, g, first, uniform, uniform.size(1), level().dots, picks);
    });
    return picks.array;
}

void hear(nb::handle x_, const Grouped& g, nb::handle picks_, nb::handle first_, nb::handle closest_) {
    const Table2 x(x_, "x");
    const Vector<const int64_t> picks(picks_, "picks"), first(first_, "first");
    const Vector<double> closest(closest_, "closest");
    check(g, x);
    closest.sized(g.n, "one for each row that was grouped");
    first.sized(g.groups + 1, "one for each group, and the end");
    check_ends(first, picks.size(), "picks");
    for (int64_t t = 0; t < picks.size(); t++) {
        if (picks.data()[t] < 0 || picks.data()[t] >= g.n)
            throw nb::index_error("picks must be rows that were grouped");
    }
    unlocked([&] { table().hear(x, closest, g, picks, first, level().dots); });
}

nb::object greedy(nb::handle x_, nb::handle weights_, nb::handle uniform_) {
    const Matrix<const float> x(x_, "x");
    const Vector<const double> weights(weights_, "weights", true);
    const Matrix<const double> uniform(uniform_, "uniform");
    const int64_t k = uniform.size(0);
    weights.sized(x.size(0), "one for each row of x");
    if (uniform.size(1) < 1) throw nb::value_error("uniform must have at least one column");
    const New<int64_t, 1> picks(k);
    int64_t found = 0;
    unlocked([&] { found = table().greedy(x, x.size(0), x.size(1), weights, k, uniform.size(1), uniform, picks); });
    return picks.array[nb::slice(found)];
}

}  // namespace

void bind_groups(nb::module_& m) {
    m.def("nearest_in_group", nearest_in_group, nb::arg("x"), nb::arg("labels"), nb::arg("centroids"), nb::arg("first"),
          nb::arg("within").none() = nb::none(),
          nb::sig("def nearest_in_group(x: NDArray[np.float32] | csr_matrix, labels: NDArray[np.int32], "
                  "centroids: NDArray[np.float32] | csr_matrix, first: NDArray[np.int64], "
                  "within: NDArray[np.float64] | None = None) "
                  "-> tuple[NDArray[np.int32], NDArray[np.float32]]"),
          R"(Nearest centroid among those of each row's group, by float64 distances; ties go to the lowest.

Parameters
----------
x : float32 [n, d], or a float32 CSR matrix
labels : int32 [n]
    Group of each row; negative for none.
centroids : float32 [k, d], or a float32 CSR matrix
first : int64 [groups + 1]
    Centroids of group g are first[g] to first[g + 1].
within : float64 [n] or None
    Squared distances from which on the nearest centroid of a row does not matter: this is faster.

Returns
-------
ids : int32 [n]
    -1 for rows of no group, or of one without centroids; also, of dense rows, for most with none `within`.
sqdist : float32 [n]
    Infinite there.
)");
    nb::class_<Grouped>(m, "Grouped", "Rows in groups, within which k-means++ draws centres.");
    m.def("grouped", grouped, nb::arg("x"), nb::arg("labels"), nb::arg("groups"), nb::arg("rounded") = false,
          nb::arg("rows") = nb::none(),
          nb::sig("def grouped(x: NDArray[np.float32] | csr_matrix, labels: NDArray[np.int32], groups: int, "
                  "rounded: bool = False, rows: NDArray[np.int32] | None = None) -> Grouped"),
          R"(Rows in groups, as `plus_plus` and `hear` take them.

Parameters
----------
x : float32 [t, d], or a float32 CSR matrix
labels : int32 [n]
    Group of each row; negative for none.
groups : int
rounded : bool, default=False
    Round dense rows to int8, in a quarter of their memory: pays where many centres are drawn of each group. What is
    drawn is the same.
rows : int32 [n], optional
    The rows of x in question, which go by their place in this list from here on; all when not given.
)");
    m.def("plus_plus", plus_plus, nb::arg("x"), nb::arg("weights"), nb::arg("grouped"), nb::arg("sizes"),
          nb::arg("uniform"), nb::arg("closest").none() = nb::none(),
          nb::sig("def plus_plus(x: NDArray[np.float32] | csr_matrix, weights: NDArray[np.float64], "
                  "grouped: Grouped, sizes: NDArray[np.int64], uniform: NDArray[np.float64], "
                  "closest: NDArray[np.float64] | None = None) -> NDArray[np.int64]"),
          R"(Greedy k-means++ (Arthur and Vassilvitskii, 2007) within each group of rows, all groups at once.

Parameters
----------
x : float32 [t, d], or a float32 CSR matrix
weights : float64 [n]
grouped : Grouped
    These rows.
sizes : int64 [groups]
    Centres wanted of each.
uniform : float64 [sum(sizes), trials]
    Random numbers in [0, 1): the draws of each centre, of which the best is kept.
closest : float64 [n] or None
    Squared distance of each row to the nearest centre there is, infinite for all rows of a group where there is
    none; updated in place. None: there are none.

Returns
-------
int64 [sum(sizes)]
    Rows chosen, group after group; -1 where a group has fewer distinct rows than that.
)");
    m.def("hear", hear, nb::arg("x"), nb::arg("grouped"), nb::arg("picks"), nb::arg("first"), nb::arg("closest"),
          nb::sig("def hear(x: NDArray[np.float32] | csr_matrix, grouped: Grouped, picks: NDArray[np.int64], "
                  "first: NDArray[np.int64], closest: NDArray[np.float64]) -> None"),
          R"(Tell groups of new centres near to them, which are rows as well.

Parameters
----------
x : float32 [t, d], or a float32 CSR matrix
grouped : Grouped
    These rows.
picks : int64 array
    New centres, sorted by the group that is to hear of them; one may be there several times.
first : int64 [groups + 1]
    Group g is to hear of picks[first[g]] to picks[first[g + 1] - 1].
closest : float64 [n]
    Squared distance of each row to the nearest centre there is; lowered in place.
)");
    m.def(
        "greedy", greedy, nb::arg("x"), nb::arg("weights").none(), nb::arg("uniform"),
        nb::sig(
            "def greedy(x: NDArray[np.float32], weights: NDArray[np.float64] | None, uniform: NDArray[np.float64]) -> "
            "NDArray[np.int64]"),
        R"(Greedy k-means++ (Arthur and Vassilvitskii, 2007): rows to start from, by squared differences.

Parameters
----------
x : float32 [n, d]
weights : float64 [n] or None
uniform : float64 [k, trials]
    Random numbers in [0, 1): the draws of each centre, of which the best is kept.

Returns
-------
int64 [k]
    Rows chosen; fewer where there are fewer distinct rows of some weight.
)");
}

}  // namespace fastann

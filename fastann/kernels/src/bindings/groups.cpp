#include <algorithm>
#include <limits>

#include "../buffer.hpp"
#include "../cpu.hpp"
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

nb::object plus_plus(nb::handle x_, nb::handle weights_, nb::handle offsets_, nb::handle sizes_, nb::handle uniform_,
                     nb::handle closest_) {
    const Table2 x(x_, "x");
    const Vector<double> closest(closest_, "closest", true);
    const Vector<const double> weights(weights_, "weights");
    const Vector<const int64_t> offsets(offsets_, "offsets"), sizes(sizes_, "sizes");
    const Matrix<const double> uniform(uniform_, "uniform");
    const int64_t groups = sizes.size();
    x.sound();
    weights.sized(x.rows.n, "one for each row of x");
    closest.sized(x.rows.n, "one for each row of x");
    offsets.sized(groups + 1, "one for each group, and the end");
    check_ends(offsets, x.rows.n, "rows of x");
    const Buffer<int64_t> first(groups + 1, 0);
    for (int64_t g = 0; g < groups; g++) {
        if (sizes.data()[g] < 0 || sizes.data()[g] > uniform.size(0))
            throw nb::value_error("sizes must be in [0, rows of uniform]");
        first[g + 1] = first[g] + sizes.data()[g];
    }
    uniform.sized(first[groups], "the sum of sizes");
    const New<int64_t, 1> picks(first[groups]);
    for (int64_t i = 0; i < first[groups]; i++) picks.data()[i] = -1;
    unlocked([&] {
        const Buffer<double> own(closest.data() == nullptr ? x.rows.n : 0);
        double* known = closest.data() == nullptr ? static_cast<double*>(own) : closest.data();
        if (closest.data() == nullptr) std::fill_n(known, x.rows.n, std::numeric_limits<double>::infinity());
        table().plus_plus(x, weights, known, offsets, groups, first, uniform, uniform.size(1), picks);
    });
    return picks.array;
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
    m.def("plus_plus", plus_plus, nb::arg("x"), nb::arg("weights"), nb::arg("offsets"), nb::arg("sizes"),
          nb::arg("uniform"), nb::arg("closest").none() = nb::none(),
          nb::sig("def plus_plus(x: NDArray[np.float32] | csr_matrix, weights: NDArray[np.float64], "
                  "offsets: NDArray[np.int64], sizes: NDArray[np.int64], uniform: NDArray[np.float64], "
                  "closest: NDArray[np.float64] | None = None) -> NDArray[np.int64]"),
          R"(Greedy k-means++ (Arthur and Vassilvitskii, 2007) within each group of rows, all groups at once.

Parameters
----------
x : float32 [n, d], or a float32 CSR matrix
    Rows sorted by group.
weights : float64 [n]
offsets : int64 [groups + 1]
    Rows of group g are offsets[g] to offsets[g + 1].
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

// Searches of sparse rows.
#include <nanobind/stl/optional.h>

#include <limits>
#include <memory>
#include <optional>

#include "../cpu.hpp"
#include "../spread.hpp"
#include "../table.hpp"
#include "arrays.hpp"
#include "bindings.hpp"

namespace fastann {

namespace {

constexpr int64_t MOST_SCREENED = 16;  // more centroids asked for are decided by float64 products of all

void check_m(int64_t m, int64_t k) {
    if (m < 1 || m > k) {
        throw nb::value_error(
            ("m must be from 1 to the number of centroids, " + std::to_string(k) + ", got " + std::to_string(m))
                .c_str());
    }
}

nb::tuple search_sparse(nb::handle x_, nb::handle by_column_, nb::handle csq_, int64_t m) {
    const Table2 x(x_, "x");
    const Matrix<const float> by_column(by_column_, "by_column");
    const Vector<const double> csq(csq_, "csq");
    const int64_t n = x.compressed().rows.n, k = csq.size();
    by_column.sized(x.rows.d, "one for each column of x").sized(k, "one for each entry of csq", 1);
    check_m(m, k);
    const New<int32_t, 2> ids(n, m);
    const New<float, 2> sqdist(n, m);
    unlocked([&] { table().search_sparse(x, by_column, k, csq, m, ids, sqdist); });
    return nb::make_tuple(ids.array, sqdist.array);
}

nb::tuple search_inverted(nb::handle x_, nb::handle lists_, nb::handle csq_, int64_t m, std::optional<int64_t> budget) {
    const Table2 x(x_, "x"), lists(lists_, "lists");
    const Vector<const double> csq(csq_, "csq");
    const int64_t n = x.compressed().rows.n, k = csq.size();
    if (lists.compressed().rows.n != x.rows.d || lists.rows.d != k) {
        throw nb::value_error(
            "lists must have a row for each column of x, and a column for each entry of csq: the centroids, "
            "transposed");
    }
    check_m(m, k);
    const New<int32_t, 2> ids(n, m);
    const New<float, 2> sqdist(n, m);
    const int64_t most = budget.value_or(std::numeric_limits<int64_t>::max());
    unlocked([&] { table().search_inverted(x, lists, csq, m, most, ids, sqdist); });
    return nb::make_tuple(ids.array, sqdist.array);
}

// Arrays of centroids, checked once, and what they are laid out as.
struct SpreadCentroids {
    SpreadCentroids(nb::handle c_, nb::handle lists_, nb::handle csq_)
        : c(c_, "centroids"), lists(lists_, "lists"), csq(csq_, "csq") {
        c.compressed();
        if (lists.compressed().rows.n != c.rows.d || lists.rows.d != c.rows.n) {
            throw nb::value_error(
                "lists must have a row for each column of centroids, and a column for each: their "
                "transpose");
        }
        csq.sized(c.rows.n, "one for each row of centroids");
        unlocked([&] { spread = std::make_unique<Spread>(c, lists, csq); });
    }

    const Table2 c, lists;
    const Vector<const double> csq;
    std::unique_ptr<Spread> spread;
};

nb::tuple search_spread(nb::handle x_, const SpreadCentroids& over, int64_t m) {
    const Table2 x(x_, "x");
    const int64_t n = x.compressed().rows.n, k = over.c.rows.n;
    if (x.rows.d != over.c.rows.d) {
        throw nb::value_error(("x has " + std::to_string(x.rows.d) + " columns, " + std::to_string(over.c.rows.d) +
                               " are needed: those of the centroids")
                                  .c_str());
    }
    check_m(m, k);
    const New<int32_t, 2> ids(n, m);
    const New<float, 2> sqdist(n, m);
    if (over.spread->usable && m <= MOST_SCREENED) {
        unlocked([&] { table().search_spread(x, over.c, over.lists, *over.spread, over.csq, m, ids, sqdist); });
    } else {
        const int64_t most = std::numeric_limits<int64_t>::max();
        unlocked([&] { table().search_inverted(x, over.lists, over.csq, m, most, ids, sqdist); });
    }
    return nb::make_tuple(ids.array, sqdist.array);
}

}  // namespace

void bind_sparse(nb::module_& m) {
    m.def("search_sparse", search_sparse, nb::arg("x"), nb::arg("by_column"), nb::arg("csq"), nb::arg("m"),
          nb::sig("def search_sparse(x: csr_matrix, by_column: NDArray[np.float32], csq: NDArray[np.float64], m: int) "
                  "-> tuple[NDArray[np.int32], NDArray[np.float32]]"),
          R"(The `m` nearest centroids of each row, nearest first, certified exact; equal distances in the order of ids.

Scores come from float32 sums over the row's stored values, vectorised over centroids; those closer than the worst
rounding error are decided by float64 distances.

Parameters
----------
x : float32 CSR matrix [n, d]
by_column : float32 [d, k]
    The centroids, transposed.
csq : float64 [k]
    Their squared L2 norms.
m : int
    At most k.

Returns
-------
ids : int32 [n, m]
sqdist : float32 [n, m]
    Squared L2 distances.
)");
    m.def(
        "search_inverted", search_inverted, nb::arg("x"), nb::arg("lists"), nb::arg("csq"), nb::arg("m"),
        nb::arg("budget") = nb::none(),
        nb::sig("def search_inverted(x: csr_matrix, lists: csr_matrix, csq: NDArray[np.float64], m: int, budget: int | "
                "None = None) -> tuple[NDArray[np.int32], NDArray[np.float32]]"),
        R"(The `m` nearest centroids of each row, nearest first, exactly; equal distances in the order of their ids.

A row costs as much as centroids have stored values in the row's columns, plus one comparison per centroid.

Parameters
----------
x : float32 CSR matrix [n, d]
lists : float32 CSR matrix [d, k]
    The centroids by column: the transpose of their matrix.
csq : float64 [k]
    Squared L2 norms of the centroids.
m : int
    At most k.
budget : int, optional
    Most stored values of centroids to multiply per row. The columns that most centroids have are left out until that
    suffices, which makes the search approximate. None: no limit.

Returns
-------
ids : int32 [n, m]
sqdist : float32 [n, m]
    Squared L2 distances.
)");
    nb::class_<SpreadCentroids>(m, "Spread",
                                R"(Sparse centroids laid out for `search_spread`, in about half the memory of `lists`.

Values are rounded to bfloat16. Columns that many centroids have are spread out over all of them, the others are lists.

Parameters
----------
centroids : float32 CSR matrix [k, d]
    Searched without a screen if its columns do not ascend in every row. None of the arrays may change afterwards.
lists : float32 CSR matrix [d, k]
    The transpose.
csq : float64 [k]
    Squared L2 norms of the centroids.
)")
        .def(nb::init<nb::handle, nb::handle, nb::handle>(), nb::arg("centroids"), nb::arg("lists"), nb::arg("csq"),
             nb::sig("def __init__(self, centroids: csr_matrix, lists: csr_matrix, csq: NDArray[np.float64]) -> None"));
    m.def("search_spread", search_spread, nb::arg("x"), nb::arg("spread"), nb::arg("m"),
          nb::sig("def search_spread(x: csr_matrix, spread: Spread, m: int) -> tuple[NDArray[np.int32], "
                  "NDArray[np.float32]]"),
          R"(What `search_inverted` finds without a budget, to the bit, with a fraction of its memory traffic.

Float32 scores of rounded centroids rule out those that are farther by more than rounding; what is left is compared by
the same float64 sums. More than 16 nearest are searched as there.

Parameters
----------
x : float32 CSR matrix [n, d]
spread : Spread
m : int
    At most k.

Returns
-------
ids : int32 [n, m]
sqdist : float32 [n, m]
    Squared L2 distances.
)");
}

}  // namespace fastann

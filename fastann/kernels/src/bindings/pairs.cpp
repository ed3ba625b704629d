#include "../buffer.hpp"
#include "../cpu.hpp"
#include "../table.hpp"
#include "bindings.hpp"
#include "ranges.hpp"

namespace fastann {

namespace {

// Rows, centroids, and the squared norms of the latter where rows are sparse.
class Pairs {
 public:
    Pairs(nb::handle x_, nb::handle c_) : x(x_, "x"), c(c_, "c"), csq_(x.sound().rows.sparse() ? c.size(0) : 0) {
        c.sized(x.rows.d, "as many as x has", 1);
    }
    // To be called without the GIL.
    const double* squares() const {
        if (!x.rows.sparse()) return nullptr;
        table().sqnorms({c, c.size(0), c.size(1)}, csq_);
        return csq_;
    }

    const Table2 x;
    const Matrix<const float> c;

 private:
    const Buffer<double> csq_;
};

nb::tuple rescore(nb::handle x_, nb::handle c_, nb::handle ids_) {
    const Pairs p(x_, c_);
    const Matrix<int32_t> ids(ids_, "ids");
    const Matrix<const int32_t> given(ids_, "ids");
    const int64_t n = ids.size(0), m = ids.size(1);
    ids.sized(p.x.rows.n, "one for each row of x");
    check_ids(given, -1, p.c.size(0), "centroids");
    const New<float, 2> sqdist(n, m);
    unlocked([&] { table().rescore(p.x, p.c, p.squares(), m, ids, sqdist); });
    return nb::make_tuple(nb::borrow(ids_), sqdist.array);
}

nb::object own_sqdist(nb::handle x_, nb::handle c_, nb::handle labels_) {
    const Pairs p(x_, c_);
    const Vector<const int32_t> labels(labels_, "labels");
    labels.sized(p.x.rows.n, "one for each row of x");
    check_ids(labels, 0, p.c.size(0), "centroids");
    const New<double, 1> sqdist(labels.size());
    unlocked([&] { table().own_sqdist(p.x, p.c, p.squares(), labels, sqdist); });
    return sqdist.array;
}

nb::tuple runner_up(nb::handle x_, nb::handle c_, nb::handle labels_, nb::handle ids_) {
    const Pairs p(x_, c_);
    const Vector<const int32_t> labels(labels_, "labels");
    const Matrix<const int32_t> ids(ids_, "ids");
    const int64_t n = p.x.rows.n, m = ids.size(1);
    labels.sized(n, "one for each row of x");
    ids.sized(n, "one for each row of x");
    check_ids(ids, -1, p.c.size(0), "centroids");
    const New<int32_t, 1> second(n);
    const New<double, 1> sqdist(n);
    unlocked([&] { table().runner_up(p.x, p.c, p.squares(), labels, ids, m, second, sqdist); });
    return nb::make_tuple(second.array, sqdist.array);
}

void drift(nb::handle c_, nb::handle ids_, nb::handle before_, nb::handle out_) {
    const Matrix<const float> c(c_, "c"), before(before_, "before");
    const Vector<const int32_t> ids(ids_, "ids");
    const Vector<float> out(out_, "out");
    const int64_t count = ids.size(), d = c.size(1);
    before.sized(count, "one for each of ids").sized(d, "as many as c has", 1);
    out.sized(c.size(0), "one for each row of c");
    check_ids(ids, 0, c.size(0), "rows of c");
    unlocked([&] { table().drift(c, ids, before, count, d, out); });
}

}  // namespace

void bind_pairs(nb::module_& m) {
    m.def("rescore", rescore, nb::arg("x"), nb::arg("c"), nb::arg("ids"),
          nb::sig("def rescore(x: NDArray[np.float32] | csr_matrix, c: NDArray[np.float32], ids: NDArray[np.int32]) -> "
                  "tuple[NDArray[np.int32], NDArray[np.float32]]"),
          R"(Sort each row's candidate centroids by float32 squared L2 distance; -1 goes last, at infinity.

Parameters
----------
x : float32 [n, d], or a float32 CSR matrix
c : float32 [k, d]
ids : int32 [n, m]
    Centroid ids or -1. Sorted in place.

Returns
-------
ids : int32 [n, m]
sqdist : float32 [n, m]
)");
    m.def("own_sqdist", own_sqdist, nb::arg("x"), nb::arg("c"), nb::arg("labels"),
          nb::sig(
              "def own_sqdist(x: NDArray[np.float32] | csr_matrix, c: NDArray[np.float32], labels: NDArray[np.int32]) "
              "-> NDArray[np.float64]"),
          R"(Squared L2 distance of each row to one centroid, float64 [n].

Parameters
----------
x : float32 [n, d], or a float32 CSR matrix
c : float32 [k, d]
labels : int32 [n]
    The centroid of each row.
)");
    m.def(
        "runner_up", runner_up, nb::arg("x"), nb::arg("c"), nb::arg("labels"), nb::arg("ids"),
        nb::sig("def runner_up(x: NDArray[np.float32] | csr_matrix, c: NDArray[np.float32], labels: NDArray[np.int32], "
                "ids: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]"),
        R"(Nearest of some centroids that is not the row's own.

Parameters
----------
x : float32 [n, d], or a float32 CSR matrix
c : float32 [k, d]
labels : int32 [n]
    The row's own centroid.
ids : int32 [n, m]
    The centroids to choose from; -1 for none.

Returns
-------
second : int32 [n]
    -1 where `ids` names no other.
sqdist : float64 [n]
    Squared L2 distance, infinite there.
)");
    m.def("drift", drift, nb::arg("c"), nb::arg("ids"), nb::arg("before"), nb::arg("out"),
          nb::sig("def drift(c: NDArray[np.float32], ids: NDArray[np.int32], before: NDArray[np.float32], "
                  "out: NDArray[np.float32]) -> None"),
          R"(How far some centroids moved: L2 distances (not squared).

Parameters
----------
c : float32 [k, d]
ids : int32 [r]
    Which of them, each once.
before : float32 [r, d]
    Where these were.
out : float32 [k]
    Gets the distances of these, at their ids.
)");
}

}  // namespace fastann

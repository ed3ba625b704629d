#include "../cpu.hpp"
#include "../rules.hpp"
#include "../table.hpp"
#include "arrays.hpp"
#include "bindings.hpp"

namespace fastann {

namespace {

int checked(int rule) {
    if (rule < LLOYD || rule > SIZE_AWARE_COSINE)
        throw nb::value_error("rule must be LLOYD, SIZE_AWARE or SIZE_AWARE_COSINE");
    return rule;
}

// The arguments that both visits have.
struct Visited {
    Table2 x;
    Vector<const int32_t> order;
    Matrix<const float> c;
    Vector<const double> weights, mass;
    Vector<int32_t> labels;
    Vector<float> sqdist;
    Matrix<int32_t> ids;
    Vector<float> second, beyond;
    Visit visit;

    Visited(nb::handle x_, nb::handle order_, nb::handle c_, nb::handle weights_, int rule, nb::handle mass_,
            nb::handle labels_, nb::handle sqdist_, nb::handle ids_, nb::handle second_, nb::handle beyond_)
        : x(x_, "x"),
          order(order_, "order"),
          c(c_, "c"),
          weights(weights_, "weights", true),
          mass(mass_, "mass"),
          labels(labels_, "labels"),
          sqdist(sqdist_, "sqdist"),
          ids(ids_, "ids"),
          second(second_, "second"),
          beyond(beyond_, "beyond") {
        const int64_t n = x.rows.n, k = c.size(0);
        const char *row = "one for each row of x", *centroid = "one for each row of c";
        if (x.rows.sparse()) x.placed();
        c.sized(x.rows.d, "as many as x has", 1);
        weights.sized(n, row);
        mass.sized(k, centroid);
        labels.sized(n, row);
        sqdist.sized(n, row);
        ids.sized(n, row).sized(LISTED, "the candidates of a row", 1);
        second.sized(n, row);
        beyond.sized(n, row);
        visit = {x.rows, order, order.size(), c, k, weights, checked(rule), mass, labels, sqdist, ids, second, beyond};
    }
};

// Indices are checked where they are used: rows are visited in no order, and what lies far apart is read once.
void require(bool sound, const char* what) {
    if (!sound) throw nb::index_error(what);
}

nb::object look(nb::handle x, nb::handle order, nb::handle c, nb::handle weights, int rule, nb::handle mass,
                nb::handle drift_, float caution, nb::handle labels, nb::handle sqdist, nb::handle ids,
                nb::handle second, nb::handle beyond) {
    const Visited v(x, order, c, weights, rule, mass, labels, sqdist, ids, second, beyond);
    const Vector<const float> drift(drift_, "drift");
    drift.sized(v.visit.k, "one for each row of c");
    const New<uint8_t, 1> status(v.visit.count);
    bool sound = true;
    unlocked([&] { sound = table().look(v.visit, drift, caution, status); });
    require(sound,
            "order must be in [0, rows of x), labels in [0, rows of c), ids in [-1, rows of c), columns in [0, columns "
            "of x)");
    return status.array;
}

void merge(nb::handle x, nb::handle order, nb::handle c, nb::handle weights, int rule, nb::handle mass, int64_t most,
           nb::handle found_, nb::handle found_dist_, nb::handle labels, nb::handle sqdist, nb::handle ids,
           nb::handle second, nb::handle beyond) {
    const Visited v(x, order, c, weights, rule, mass, labels, sqdist, ids, second, beyond);
    const Matrix<const int32_t> found(found_, "found");
    const Matrix<const float> found_dist(found_dist_, "found_dist");
    if (most < 1 || most > LISTED) throw nb::value_error("most must be from 1 to 8");
    found.sized(v.visit.count, "one for each entry of order").sized(LISTED, "as many as a row has candidates", 1);
    found_dist.sized(v.visit.count, "one for each entry of order").sized(LISTED, "as many as a row has candidates", 1);
    bool sound = true;
    unlocked([&] { sound = table().merge(v.visit, most, found, found_dist); });
    require(sound,
            "order must be in [0, rows of x), labels, ids and found in [-1, rows of c), columns in [0, columns of x)");
}

// `own` may be a bool of NumPy.
double checked_cost(int rule, double sqdist, double mass, double w, nb::object own) {
    return cost(checked(rule), sqdist, mass, w, nb::cast<bool>(nb::bool_(own)));
}

}  // namespace

void bind_bounds(nb::module_& m) {
    m.attr("LLOYD") = LLOYD;
    m.attr("SIZE_AWARE") = SIZE_AWARE;
    m.attr("SIZE_AWARE_COSINE") = SIZE_AWARE_COSINE;
    m.attr("WANTING") = static_cast<int>(WANTING);
    m.def(
        "cost", checked_cost, nb::arg("rule"), nb::arg("sqdist"), nb::arg("mass"), nb::arg("w"), nb::arg("own"),
        nb::sig("def cost(rule: int, sqdist: float, mass: float, w: float, own: bool) -> float"),
        R"(What a row of weight `w` costs in a cluster of `mass`: lower is better, comparable between clusters of one row.

By Lloyd's rule, the squared distance d^2. Size-aware, what being in the cluster adds to the objective:

- Euclidean (Hartigan, 1975): W d^2 / (W + w), or W d^2 / (W - w) for the row's own cluster, W being its weight.
- Cosine: minus how much longer the row makes the cluster's sum, whose length without it, or with it if it is the
  row's own, is R: R - sqrt(R^2 + 2 R w s + w^2), or sqrt(R^2 - 2 R w s + w^2) - R for the own, s being the cosine.
)");
    m.def("look", look, nb::arg("x"), nb::arg("order"), nb::arg("c"), nb::arg("weights").none(), nb::arg("rule"),
          nb::arg("mass"), nb::arg("drift"), nb::arg("caution"), nb::arg("labels"), nb::arg("sqdist"), nb::arg("ids"),
          nb::arg("second"), nb::arg("beyond"),
          nb::sig("def look(x: NDArray[np.float32] | csr_matrix, order: NDArray[np.int32], c: NDArray[np.float32], "
                  "weights: NDArray[np.float64] | None, rule: int, mass: NDArray[np.float64], "
                  "drift: NDArray[np.float32], caution: float, labels: NDArray[np.int32], sqdist: NDArray[np.float32], "
                  "ids: NDArray[np.int32], second: NDArray[np.float32], beyond: NDArray[np.float32]) "
                  "-> NDArray[np.uint8]"),
          R"(Decide for each row whether it can move at all, and compare those that can with their candidates.

Parameters
----------
x : float32 [n, d], or a float32 CSR matrix
order : int32 [r]
    Which rows to visit, none twice; rows of one cluster together keep its candidates in cache.
c : float32 [k, d]
weights : float64 [n] or None
rule : LLOYD, SIZE_AWARE or SIZE_AWARE_COSINE
    How centroids are compared, see `cost`.
mass : float64 [k]
    Weight of each cluster, or length of its sum for cosine.
drift : float32 [k]
    How far each centroid moved (distance, not squared) since the last visit.
caution : float
    Centroids that are no candidates are taken to have moved at most this share of the largest drift among the
    row's candidates.
labels : int32 [n]
    Updated in place.
sqdist : float32 [n]
    Updated in place. The squared distance of a row that was not looked at is an upper bound.
ids : int32 [n, 8]
    Candidates of each row, -1 where there are fewer.
second, beyond : float32 [n]
    Lower bounds on the distance (not squared) to the nearest candidate other than the row's own centroid, and to
    the nearest centroid that is no candidate. Updated in place.

Returns
-------
status : uint8 [r]
    In the order of `order`: 0 (the bounds held), 1 (looked at), or WANTING (a centroid that is no candidate might be
    better).
)");
    m.def("merge", merge, nb::arg("x"), nb::arg("order"), nb::arg("c"), nb::arg("weights").none(), nb::arg("rule"),
          nb::arg("mass"), nb::arg("most"), nb::arg("found"), nb::arg("found_dist"), nb::arg("labels"),
          nb::arg("sqdist"), nb::arg("ids"), nb::arg("second"), nb::arg("beyond"),
          nb::sig("def merge(x: NDArray[np.float32] | csr_matrix, order: NDArray[np.int32], c: NDArray[np.float32], "
                  "weights: NDArray[np.float64] | None, rule: int, mass: NDArray[np.float64], most: int, "
                  "found: NDArray[np.int32], found_dist: NDArray[np.float32], labels: NDArray[np.int32], "
                  "sqdist: NDArray[np.float32], ids: NDArray[np.int32], second: NDArray[np.float32], "
                  "beyond: NDArray[np.float32]) -> None"),
          R"(Merge what a search found into the candidates of some rows, and assign these rows.

Parameters
----------
order : int32 [r]
    Which rows were searched for.
most : int
    Candidates kept per row, at most 8.
found : int32 [r, 8]
    Centroids found, nearest first, then -1.
found_dist : float32 [r, 8]
    Their distances, not squared.
x, c, weights, rule, mass, labels, sqdist, ids, second, beyond
    As for `look`. A label of -1 is a row that has none yet.
)");
}

}  // namespace fastann

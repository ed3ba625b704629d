#include "../cpu.hpp"
#include "../members.hpp"
#include "../softmax.hpp"
#include "../table.hpp"
#include "arrays.hpp"
#include "bindings.hpp"
#include "ranges.hpp"

namespace fastann {

namespace {

nb::tuple pairs_by_prototype(nb::handle ids_, int64_t k) {
    const Matrix<const int32_t> ids(ids_, "ids");
    const int64_t n = ids.size(0) * ids.size(1);
    if (k < 0 || n >= INT32_MAX)
        throw nb::value_error("ids must have fewer than 2^31 entries, and k be no less than 0");
    int64_t pairs = 0;
    bool sound = true;
    for (int64_t i = 0; i < n; i++) {
        pairs += ids.data()[i] >= 0;
        sound &= ids.data()[i] < k;
    }
    if (!sound) throw nb::index_error("ids must be below k");
    const New<int64_t, 1> first(k + 1);
    const New<int32_t, 1> places(pairs);
    unlocked([&] { sort_by_label(ids, n, k, first, places); });
    return nb::make_tuple(first.array, places.array);
}

// The pairs of a batch, as `pairs_by_prototype` made them.
struct Paired {
    Table2 x, prototypes;
    Vector<const int64_t> first;
    Vector<const int32_t> places;
    PrototypePairs pairs;

    Paired(nb::handle x_, nb::handle prototypes_, nb::handle first_, nb::handle places_, int64_t m)
        : x(x_, "x"), prototypes(prototypes_, "prototypes"), first(first_, "first"), places(places_, "places") {
        x.sound();
        prototypes.sound();
        if (prototypes.rows.d != x.rows.d) throw nb::value_error("prototypes must have as many columns as x");
        first.sized(prototypes.rows.n + 1, "one for each prototype, and the end");
        check_ends(first, places.size(), "places");
        const int64_t all = x.rows.n * m;
        bool sound = true;
        for (int64_t q = 0; q < places.size(); q++) sound &= places.data()[q] >= 0 && places.data()[q] < all;
        if (!sound) throw nb::index_error("places must be in [0, rows of x times m)");
        pairs = {first, places, m};
    }
};

nb::object pair_scores(nb::handle x, nb::handle prototypes, nb::handle first, nb::handle places, int64_t m,
                       bool euclidean) {
    if (m < 0) throw nb::value_error("m must be no less than 0");
    const Paired p(x, prototypes, first, places, m);
    const New<float, 2> out(p.x.rows.n, m);
    for (int64_t q = 0; q < p.x.rows.n * m; q++) out.data()[q] = 0;
    unlocked([&] { table().pair_scores(p.x, p.prototypes, p.pairs, euclidean, out); });
    return out.array;
}

nb::tuple coefficients(nb::handle ids_, nb::handle owner_, nb::handle labels_, nb::handle weights_, double scale,
                       double smooth, nb::handle score_) {
    const Matrix<const int32_t> ids(ids_, "ids");
    const Vector<const int32_t> owner(owner_, "owner"), labels(labels_, "labels");
    const Vector<const double> weights(weights_, "weights");
    const Matrix<const float> score(score_, "score");
    const int64_t b = ids.size(0), m = ids.size(1);
    labels.sized(b, "one for each row of ids");
    weights.sized(b, "one for each row of ids");
    score.sized(b, "as many as ids has").sized(m, "as many as ids has", 1);
    bool sound = true;
    for (int64_t i = 0; i < b * m; i++) sound &= ids.data()[i] < owner.size();
    if (!sound) throw nb::index_error("ids must be below the number of entries of owner");
    const New<float, 2> slope(b, m);
    const New<double, 2> loss(b, 2);
    unlocked([&] { cross_entropy(Softmax{ids, b, m, owner, labels, weights, scale, smooth, score, slope, loss}); });
    return nb::make_tuple(slope.array, loss.array);
}

void descend(nb::handle x, nb::handle prototypes_, nb::handle first, nb::handle places, nb::handle slope_,
             bool euclidean, float scale, float rate, float least, nb::handle mean_, nb::handle square_,
             nb::handle taken_) {
    const Matrix<const float> slope(slope_, "slope");
    const Paired p(x, prototypes_, first, places, slope.size(1));
    const Rows& prototypes = p.prototypes.rows;
    slope.sized(p.x.rows.n, "one for each row of x");
    const bool sparse = prototypes.sparse();
    const Matrix<float> dense(sparse ? nb::none() : nb::borrow(prototypes_), "prototypes", sparse);
    const Vector<float> stored(sparse ? nb::object(prototypes_.attr("data")) : nb::none(), "prototypes", !sparse);
    const Vector<float> mean(mean_, "mean"), square(square_, "square");
    const Vector<int64_t> taken(taken_, "taken");
    const int64_t values = sparse ? prototypes.indptr[prototypes.n] : prototypes.n * prototypes.d;
    mean.sized(values, "one for each value of prototypes");
    square.sized(values, "one for each value of prototypes");
    taken.sized(prototypes.n, "one for each prototype");
    const Adam adam{euclidean, scale, rate, least, mean, square, taken};
    unlocked([&] { table().descend(p.x, prototypes, sparse ? stored.data() : dense.data(), p.pairs, slope, adam); });
}

}  // namespace

void bind_gradient(nb::module_& m) {
    m.def("pairs_by_prototype", pairs_by_prototype, nb::arg("ids"), nb::arg("k"),
          nb::sig("def pairs_by_prototype(ids: NDArray[np.int32], k: int) "
                  "-> tuple[NDArray[np.int64], NDArray[np.int32]]"),
          R"(Group the pairs of a row and a prototype by prototype.

Parameters
----------
ids : int32 [b, m]
    Prototypes of each row of a batch, -1 for none. The pair of a row and one of its slots has the place
    ``row * m + slot`` in all that is computed of it.
k : int
    Prototypes that there are.

Returns
-------
first : int64 [k + 1]
places : int32
    The pairs of prototype j are at ``places[first[j]:first[j + 1]]``.
)");
    m.def(
        "pair_scores", pair_scores, nb::arg("x"), nb::arg("prototypes"), nb::arg("first"), nb::arg("places"),
        nb::arg("m"), nb::arg("euclidean"),
        nb::sig("def pair_scores(x: NDArray[np.float32] | csr_matrix, prototypes: NDArray[np.float32] | csr_matrix, "
                "first: NDArray[np.int64], places: NDArray[np.int32], m: int, euclidean: bool) "
                "-> NDArray[np.float32]"),
        R"(Score of each pair: minus the squared L2 distance if `euclidean`, the product otherwise (cosine of unit vectors).

Parameters
----------
x : float32 [b, d], or a float32 CSR matrix
prototypes : float32 [k, d], or a float32 CSR matrix
first, places : from `pairs_by_prototype`
m : int
    Slots of a row.
euclidean : bool

Returns
-------
float32 [b, m]
    0 where there is no pair. For Euclidean, ``2 x.p - |p|^2 - |x|^2`` in float32.
)");
    m.def("coefficients", coefficients, nb::arg("ids"), nb::arg("owner"), nb::arg("labels"), nb::arg("weights"),
          nb::arg("scale"), nb::arg("smooth"), nb::arg("score"),
          nb::sig("def coefficients(ids: NDArray[np.int32], owner: NDArray[np.int32], labels: NDArray[np.int32], "
                  "weights: NDArray[np.float64], scale: float, smooth: float, score: NDArray[np.float32]) "
                  "-> tuple[NDArray[np.float32], NDArray[np.float64]]"),
          R"(Cross-entropy of each row, and its derivative by each score, divided by the scale.

The softmax is that of the scores times `scale`; a class is as likely as the sum over its prototypes.

Parameters
----------
ids : int32 [b, m]
owner : int32 [k]
    Class of each prototype.
labels : int32 [b]
    Class of each row.
weights : float64 [b]
scale : float
smooth : float
    Label smoothing: this share of the target is spread evenly over the row's prototypes.
score : float32 [b, m]

Returns
-------
slope : float32 [b, m]
    The derivatives, times the row's weight; 0 where there is no prototype.
loss : float64 [b, 2]
    The cross-entropy of each row, and its derivative by the logarithm of the scale, both weighted.
)");
    m.def("descend", descend, nb::arg("x"), nb::arg("prototypes"), nb::arg("first"), nb::arg("places"),
          nb::arg("slope"), nb::arg("euclidean"), nb::arg("scale"), nb::arg("rate"), nb::arg("least"), nb::arg("mean"),
          nb::arg("square"), nb::arg("taken"),
          nb::sig("def descend(x: NDArray[np.float32] | csr_matrix, prototypes: NDArray[np.float32] | csr_matrix, "
                  "first: NDArray[np.int64], places: NDArray[np.int32], slope: NDArray[np.float32], euclidean: bool, "
                  "scale: float, rate: float, least: float, mean: NDArray[np.float32], square: NDArray[np.float32], "
                  "taken: NDArray[np.int64]) -> None"),
          R"(One step of Adam (Kingma and Ba, 2015) on every prototype that has pairs; others stay as they are.

A coordinate that is zero stays zero, whether it is stored or not: no row of the prototype has a value there.

Parameters
----------
x, first, places, euclidean : as for `pair_scores`
prototypes : float32 [k, d], or a float32 CSR matrix
    Updated in place; scaled to unit norm again unless `euclidean`.
slope : float32 [b, m]
    From `coefficients`.
scale : float
    As of `coefficients`.
rate : float
    Length of a step of each coordinate.
least : float
    Added to the root of the second moment, so that gradients much smaller than it get no full step.
mean, square : float32, one for each value that `prototypes` stores
    First and second moment of the gradient, updated in place.
taken : int64 [k]
    Steps of each prototype so far, updated in place.
)");
}

}  // namespace fastann

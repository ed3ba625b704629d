#include "../assignment.hpp"
#include "../cpu.hpp"
#include "../table.hpp"
#include "arrays.hpp"
#include "bindings.hpp"

namespace fastann {

namespace {

int64_t boxes_of(int64_t n) { return (n + BOXED - 1) / BOXED; }

nb::tuple in_lanes(nb::handle x_) {
    const Matrix<const float> x(x_, "x");
    const int64_t n = x.size(0), d = x.size(1);
    const New<float, 3> out(boxes_of(n) * (BOXED / LANES), d, LANES), boxes(boxes_of(n), 2, d);
    for (int64_t i = 0; i < boxes_of(n) * BOXED; i++) {
        float* to = out.data() + i / LANES * LANES * d + i % LANES;
        float* box = boxes.data() + i / BOXED * 2 * d;
        for (int64_t t = 0; t < d; t++) {
            const float value = i < n ? x.data()[i * d + t] : 0;
            to[t * LANES] = value;
            if (i >= n) continue;
            box[t] = i % BOXED == 0 || value < box[t] ? value : box[t];
            box[d + t] = i % BOXED == 0 || value > box[d + t] ? value : box[d + t];
        }
    }
    return nb::make_tuple(out.array, boxes.array);
}

nb::object project(nb::handle x_, nb::handle c_) {
    const Matrix<const float> x(x_, "x"), c(c_, "directions");
    c.sized(x.size(1), "as many as x has", 1);
    const New<float, 2> out(x.size(0), c.size(0));
    unlocked([&] { table().project(x, x.size(0), x.size(1), c, c.size(0), out.data()); });
    return out.array;
}

nb::tuple assign(nb::handle lanes_, nb::handle boxes_, nb::handle x_, nb::handle weights_, nb::handle c_, bool two) {
    const Array<const float, 3> lanes(lanes_, "lanes"), boxes(boxes_, "boxes");
    const Matrix<const float> x(x_, "x"), c(c_, "centroids");
    const Vector<const double> weights(weights_, "weights", true);
    const int64_t n = x.size(0), d = x.size(1), k = c.size(0);
    boxes.sized(boxes_of(n), "those of x").sized(2, "the least and the largest", 1).sized(d, "as many as x has", 2);
    lanes.sized(boxes_of(n) * (BOXED / LANES), "those of x")
        .sized(d, "as many as x has", 1)
        .sized(LANES, "rows side by side", 2);
    weights.sized(n, "one for each row of x");
    c.sized(d, "as many as x has", 1);
    if (d < 1 || k < 1) throw nb::value_error("there must be a column and a centroid");
    const New<int32_t, 2> ids(two ? 2 : 0, n);
    const New<float, 2> sqdist(two ? 2 : 0, n);
    const New<double, 2> sums(k, d);
    const New<double, 1> mass(k), loss(k);
    double cost = 0;
    int64_t compared = 0;
    for (int64_t t = 0; t < k * d; t++) sums.data()[t] = 0;
    for (int64_t j = 0; j < k; j++) mass.data()[j] = loss.data()[j] = 0;
    unlocked([&] {
        table().assign({lanes, boxes, x, weights, n, d, c, k, two ? ids.data() : nullptr, two ? sqdist.data() : nullptr,
                        &compared, sums.data(), mass.data(), loss.data(), &cost});
    });
    return nb::make_tuple(ids.array, sqdist.array, sums.array, mass.array, loss.array, cost, compared);
}

}  // namespace

void bind_assign(nb::module_& m) {
    m.def("in_lanes", in_lanes, nb::arg("x"),
          nb::sig("def in_lanes(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]"),
          R"(Rows side by side, as `assign` reads them.

Parameters
----------
x : float32 [n, d]

Returns
-------
lanes : float32 [blocks, d, 16]
    Sixteen rows a block, column by column; zeros after the last row.
boxes : float32 [boxes, 2, d]
    The least and the largest value of 64 rows each. Where such rows are near each other, they are compared with few
    centroids.
)");
    m.def("project", project, nb::arg("x"), nb::arg("directions"),
          nb::sig("def project(x: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.float32]"),
          R"(Products of rows with others, by float32.

Parameters
----------
x : float32 [n, d]
directions : float32 [m, d]

Returns
-------
products : float32 [n, m]
)");
    m.def("assign", assign, nb::arg("lanes"), nb::arg("boxes"), nb::arg("x"), nb::arg("weights").none(),
          nb::arg("centroids"), nb::arg("two"),
          nb::sig("def assign(lanes: NDArray[np.float32], boxes: NDArray[np.float32], x: NDArray[np.float32], weights: "
                  "NDArray[np.float64] | None, "
                  "centroids: NDArray[np.float32], two: bool) "
                  "-> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], "
                  "NDArray[np.float64], float, int]"),
          R"(One look at a table of few columns: nearest centroids, by float32, and the sums of their rows.

Parameters
----------
lanes : float32 [blocks, d, 16]
boxes : float32 [boxes, 2, d]
    What `in_lanes` makes of `x`.
x : float32 [n, d]
weights : float64 [n] or None
centroids : float32 [k, d]
two : bool
    Whether to tell the two nearest of each row.

Returns
-------
ids : int32 [2, n]
    Nearest and second nearest; [0, n] without `two`. -1 if there is none.
sqdist : float32, of the same shape
sums : float64 [k, d]
    Weighted sums of each cluster's rows.
mass : float64 [k]
    Weight of these.
loss : float64 [k]
    What these rows would cost more without the centroid; 0 without `two`.
cost : float
    Weighted sum of squared distances to the nearest.
compared : int
    Pairs of a row and a centroid that were compared.
)");
}

}  // namespace fastann

#include "../buffer.hpp"
#include "../cpu.hpp"
#include "../members.hpp"
#include "../table.hpp"
#include "bindings.hpp"
#include "ranges.hpp"

namespace fastann {

namespace {

constexpr int64_t PIECES = 64;  // a reduction over rows is cut into so many, whatever the number of threads

nb::tuple survey(nb::handle x_) {
    const Matrix<const float> x(x_, "x");
    const int64_t n = x.size(0), d = x.size(1);
    const int64_t pieces = n / 32 + 1 < PIECES ? n / 32 + 1 : PIECES;  // few rows are not worth many sums
    const New<double, 1> sqnorms(n), sum(d);
    unlocked([&] {
        const int64_t stride = (d + 7) / 8 * 8;
        const Buffer<double> sums(pieces * stride, 0);
        table().survey(x, n, d, pieces, sqnorms, sums, stride);
        for (int64_t t = 0; t < d; t++) {
            sum.data()[t] = 0;
            for (int64_t s = 0; s < pieces; s++) sum.data()[t] += sums[s * stride + t];
        }
    });
    return nb::make_tuple(sqnorms.array, sum.array);
}

// Of sparse rows in float64, such as sums are.
nb::object sqnorms_of_doubles(nb::handle x) {
    if (!is_csr(x)) throw nb::type_error("x must be a CSR matrix, or an array of float32");
    const nb::object values_ = x.attr("data").attr("astype")("f8", nb::arg("copy") = false);
    const nb::object places_ = x.attr("indptr").attr("astype")("i8", nb::arg("copy") = false);
    const Vector<const double> values(values_, "x");
    const Vector<const int64_t> places(places_, "x");
    const int64_t n = nb::cast<int64_t>(x.attr("shape")[0]);
    check_places(places, n, values.size(), "x");
    const New<double, 1> out(n);
    unlocked([&] {
        for (int64_t i = 0; i < n; i++) {
            double total = 0;
            for (int64_t q = places[i]; q < places[i + 1]; q++) total += values[q] * values[q];
            out.data()[i] = total;
        }
    });
    return out.array;
}

nb::object sqnorms(nb::handle x_) {
    if (nb::hasattr(x_, "indptr") && nb::cast<int>(x_.attr("dtype").attr("itemsize")) != 4) {
        return sqnorms_of_doubles(x_);
    }
    const Table2 x(x_, "x");
    const New<double, 1> out(x.sound().rows.n);
    unlocked([&] { table().sqnorms(x, out); });
    return out.array;
}

void add_rows(nb::handle x_, nb::handle weights_, nb::handle labels_, nb::handle sums_, nb::handle counts_,
              nb::handle rows_, int sign) {
    const Table2 x(x_, "x");
    const Vector<const double> weights(weights_, "weights", true);
    const Vector<const int32_t> labels(labels_, "labels"), rows(rows_, "rows", true);
    const Matrix<double> sums(sums_, "sums");
    const bool weighted = weights.given();
    const Vector<double> mass(weighted ? counts_ : nb::handle(nb::none()), "counts", true);
    const Vector<int64_t> counts(weighted ? nb::handle(nb::none()) : counts_, "counts", true);
    const int64_t k = sums.size(0), n = labels.size();
    if (n > INT32_MAX) throw nb::value_error("labels must have fewer than 2^31 entries");
    weights.sized(x.sound().rows.n, "one for each row of x");
    labels.sized(rows.given() ? rows.size() : x.rows.n, "one for each row that is added");
    sums.sized(x.rows.d, "as many as x has", 1);
    mass.sized(k, "one for each row of sums");
    counts.sized(k, "one for each row of sums");
    check_ids(labels, 0, k, "clusters");
    if (rows.given()) check_ids(rows, 0, x.rows.n, "rows of x");
    unlocked([&] {
        const Buffer<int64_t> offsets(k + 1);
        const Buffer<int32_t> order(n);
        sort_by_label(labels, n, k, offsets, order.data());
        for (int64_t i = 0; rows.given() && i < n; i++) order[i] = rows[order[i]];
        table().add_rows(x, weights, sign, offsets, order, k, sums, mass);
        for (int64_t j = 0; !weighted && j < k; j++) counts[j] += sign * (offsets[j + 1] - offsets[j]);
    });
}

nb::tuple means(nb::handle sums_, nb::handle counts_, nb::handle before_, bool cosine, nb::handle changed_,
                nb::handle explained_, double lead, nb::handle led_, nb::handle out_, nb::handle back_) {
    const Matrix<const double> sums(sums_, "sums");
    const nb::object as_float = counts_.attr("astype")("f8", nb::arg("copy") = false);
    const Vector<const double> counts(as_float, "counts");
    const Matrix<const float> before(before_, "before");
    const Vector<const bool> changed(changed_, "changed", true);
    const Matrix<float> led(led_, "led", true);
    const Vector<const bool> back(back_, "back", true);
    const int64_t k = sums.size(0), d = sums.size(1);
    const nb::object explained = explained_.is_none() ? New<double, 1>(k).array : nb::borrow(explained_);
    const Vector<double> into(explained, "explained");
    counts.sized(k, "one for each row of sums");
    changed.sized(k, "one for each row of sums");
    into.sized(k, "one for each row of sums");
    before.sized(k, "one for each row of sums").sized(d, "as many as sums has", 1);
    led.sized(k, "one for each row of sums");
    led.sized(d, "as many as sums has", 1);
    back.sized(k, "one for each row of sums");
    const nb::object array = out_.is_none() ? New<float, 2>(k, d).array : nb::borrow(out_);
    const Matrix<float> out(array, "out");
    out.sized(k, "one for each row of sums");
    out.sized(d, "as many as sums has", 1);
    if (led.given() && (led.data() == out.data() || led.data() == before.data())) {
        throw nb::value_error("led must be another array than before and out");
    }
    unlocked([&] {
        table().means(sums, counts, k, d, cosine, changed, before, out, into, static_cast<float>(lead), led.data(),
                      back.data());
    });
    return nb::make_tuple(array, explained);
}

void bind_means(nb::module_& m) {
    m.def(
        "means", means, nb::arg("sums"), nb::arg("counts"), nb::arg("before"), nb::kw_only(), nb::arg("cosine"),
        nb::arg("changed") = nb::none(), nb::arg("explained") = nb::none(), nb::arg("lead") = 0.0,
        nb::arg("led") = nb::none(), nb::arg("out") = nb::none(), nb::arg("back") = nb::none(),
        nb::sig(
            "def means(sums: NDArray[np.float64], counts: NDArray[Any], before: NDArray[np.float32], *, cosine: bool, "
            "changed: NDArray[np.bool_] | None = None, explained: NDArray[np.float64] | None = None, "
            "lead: float = 0.0, led: NDArray[np.float32] | None = None, out: NDArray[np.float32] | None = None, "
            "back: NDArray[np.bool_] | None = None) -> "
            "tuple[NDArray[np.float32], NDArray[np.float64]]"),
        R"(Mean of each cluster, scaled to unit norm for cosine; clusters without rows keep their centroid.

Parameters
----------
sums : float64 [k, d]
counts : float64 or int64 [k]
before : float32 [k, d]
changed : bool [k], optional
    Clusters whose sums changed since `before` was made of them; all when not given.
explained : float64 [k], optional
    What was returned with `before`; updated in place, and returned.
lead : float, default=0
led : float32 [k, d], optional
    Written to: points beyond the means of clusters that changed, by `lead` times the way from `before` to these.
out : float32 [k, d], optional
    Where the means go; it may be `before`. By default a new array.
back : bool [k], optional
    Of clusters that did not change, those whose row of `led` gets what `before` has; the others stay. By default all.

Returns
-------
means : float32 [k, d]
explained : float64 [k]
    By how much representing a cluster's rows by their mean lowers the weighted sum of squared norms:
    ``|S|^2 / W`` of its sum S and weight W; for cosine half of that, which is ``|S|``.
)");
}

}  // namespace

void bind_sums(nb::module_& m) {
    m.def("survey", survey, nb::arg("x"),
          nb::sig("def survey(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]"),
          R"(Squared L2 norm of each row of a float32 array [n, d], and the sum of the rows.

NaN and infinity show in the norms, which is how they are found.

Returns
-------
sqnorms : float64 [n]
sum : float64 [d]
)");
    m.def("sqnorms", sqnorms, nb::arg("x"),
          nb::sig("def sqnorms(x: NDArray[np.float32] | csr_matrix) -> NDArray[np.float64]"),
          R"(Squared L2 norms of the rows of a matrix: float64 [n].

Parameters
----------
x : float32 [n, d], or a CSR matrix of any floats
)");
    m.def("add_rows", add_rows, nb::arg("x"), nb::arg("weights").none(), nb::arg("labels"), nb::arg("sums"),
          nb::arg("counts"), nb::arg("rows") = nb::none(), nb::kw_only(), nb::arg("sign") = 1,
          nb::sig("def add_rows(x: NDArray[np.float32] | csr_matrix, weights: NDArray[np.float64] | None, labels: "
                  "NDArray[np.int32], sums: NDArray[np.float64], counts: NDArray[Any], rows: NDArray[np.int32] | None "
                  "= None, "
                  "*, sign: int = 1) -> None"),
          R"(Add each row, times its weight, to the sum of its cluster, in place; or take it away, with sign -1.

Parameters
----------
x : float32 [n, d], or a float32 CSR matrix
weights : float64 [n] or None
labels : int32 [n], or [r] with `rows`
sums : float64 [k, d]
    Written to.
counts : int64 [k], or float64 [k] when weighted
    Rows of each cluster, or their weight; written to.
rows : int32 [r], optional
    Add only these rows.
)");
    bind_means(m);
}

}  // namespace fastann

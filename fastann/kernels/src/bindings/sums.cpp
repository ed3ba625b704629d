#include "../cpu.hpp"
#include "../table.hpp"
#include "arrays.hpp"
#include "bindings.hpp"

namespace fastann {

namespace {

constexpr int64_t PIECES = 64;  // a reduction over rows is cut into so many, whatever the number of threads

nb::tuple survey(nb::handle x_) {
    const Matrix<const float> x(x_, "x");
    const int64_t n = x.size(0), d = x.size(1);
    const int64_t pieces = n / 32 + 1 < PIECES ? n / 32 + 1 : PIECES;  // few rows are not worth many sums
    const New<double, 1> sqnorms(n);
    nb::object sums = nb::module_::import_("numpy").attr("zeros")(nb::make_tuple(pieces, d));
    const Matrix<double> into(sums, "sums");
    unlocked([&] { table().survey(x, n, d, pieces, sqnorms, into); });
    return nb::make_tuple(sqnorms.array, sums.attr("sum")(nb::arg("axis") = 0));
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
}

}  // namespace fastann

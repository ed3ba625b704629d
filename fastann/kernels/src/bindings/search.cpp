// Searches for the nearest centroids, through centroids that are packed once.
#include <nanobind/stl/unique_ptr.h>

#include <memory>

#include "../cpu.hpp"
#include "../screen/packed.hpp"
#include "../table.hpp"
#include "bindings.hpp"
#include "ranges.hpp"

namespace fastann {

namespace {

constexpr int64_t MOST_COLUMNS =
    4096;  // wider rows are mostly zeros: rounding them to a scale of their own says little

// Whether screening by rounded products pays for `k` centroids of `d` columns, and the arithmetic has room for them.
bool suits_screen(int64_t k, int64_t d, double spread) {
    const Screening* kind = level().rounded;
    return kind != nullptr && k >= 64 && d >= 24 && k * d >= kind->pays_from && d <= MOST_COLUMNS && spread > 1e-12 &&
           spread < 1e15;
}

std::unique_ptr<Packed> pack(nb::handle c_, bool rounded, nb::handle shift_, nb::handle columns_, nb::handle offsets_) {
    const Matrix<const float> c(c_, "centroids");
    const Vector<const float> shift(shift_, "shift");
    const Vector<const int32_t> columns(columns_, "columns", true);
    const Vector<const int64_t> offsets(offsets_, "offsets", true);
    const int64_t k = c.size(0), d = c.size(1);
    shift.sized(d, "one for each column of centroids");
    columns.sized(k, "each centroid once");
    check_ids(columns, 0, k, "centroids");
    if (columns.given() != offsets.given())
        throw nb::value_error("columns and offsets are given together, or not at all");
    if (offsets.given()) {
        check_ends(offsets, k, "centroids");
        if (offsets[offsets.size() - 1] != k) throw nb::value_error("offsets must end with the number of centroids");
    }
    const Screening* kind = rounded && level().rounded != nullptr ? level().rounded : table().f32;
    const std::unique_ptr<int32_t[]> all(new int32_t[static_cast<size_t>(k) + 1]);
    for (int64_t j = 0; j < k; j++) all[static_cast<size_t>(j)] = static_cast<int32_t>(j);
    const int64_t whole[2] = {0, k};
    auto packed = std::make_unique<Packed>(*kind, k, d, columns.given() ? columns.data() : all.get(),
                                           offsets.given() ? offsets.data() : whole,
                                           offsets.given() ? offsets.size() - 1 : 1, shift.data());
    unlocked([&] { kind->pack(*packed, c, nullptr); });
    return packed;
}

void update(Packed& packed, nb::handle c_, nb::handle changed_) {
    const Matrix<const float> c(c_, "centroids");
    const Vector<const bool> changed(changed_, "changed");
    c.sized(packed.k, "as many centroids as were packed").sized(packed.d, "as many columns as were packed", 1);
    changed.sized(packed.k, "one for each centroid");
    unlocked([&] { packed.screening.pack(packed, c, changed); });
}

void check(const Packed& packed, const Matrix<const float>& x, const Matrix<const float>& c) {
    x.sized(packed.d, "those of the packed centroids", 1);
    c.sized(packed.k, "as many centroids as were packed").sized(packed.d, "those of the packed centroids", 1);
}

nb::tuple nearest(nb::handle x_, nb::handle c_, const Packed& packed, nb::handle hint_) {
    const Matrix<const float> x(x_, "x"), c(c_, "c");
    const Vector<const int32_t> hint(hint_, "hint", true);
    check(packed, x, c);
    hint.sized(x.size(0), "one for each row of x");
    check_ids(hint, -1, packed.k, "centroids");
    const New<int32_t, 1> labels(x.size(0));
    const New<float, 1> sqdist(x.size(0));
    unlocked([&] { packed.screening.nearest(packed, x, x.size(0), c, hint, labels, sqdist); });
    return nb::make_tuple(labels.array, sqdist.array);
}

nb::tuple nearest_m(nb::handle x_, nb::handle c_, const Packed& packed, int64_t m) {
    const Matrix<const float> x(x_, "x"), c(c_, "c");
    check(packed, x, c);
    if (m < 1) throw nb::value_error(("m must be at least 1, got " + std::to_string(m)).c_str());
    const New<int32_t, 2> ids(x.size(0), m);
    const New<float, 2> sqdist(x.size(0), m);
    unlocked([&] { packed.screening.nearest_m(packed, x, x.size(0), c, m, ids, sqdist); });
    return nb::make_tuple(ids.array, sqdist.array);
}

nb::tuple eight(nb::handle x_, nb::handle rows_, nb::handle c_, const Packed& packed, nb::handle within_,
                const Packed* coarse, int64_t nprobe, bool rough, int64_t m) {
    const Matrix<const float> x(x_, "x"), c(c_, "c");
    const Vector<const int32_t> rows(rows_, "rows");
    const Vector<const float> limits(within_, "within");
    check(packed, x, c);
    check_ids(rows, 0, x.size(0), "rows of x");
    limits.sized(rows.size(), "one for each of rows");
    if (coarse != nullptr) {
        if (coarse->k != packed.cells || coarse->d != packed.d || &coarse->screening != &packed.screening) {
            throw nb::value_error(
                "coarse must have the centre of each cell of packed, packed for the same instructions");
        }
        if (nprobe < 1) throw nb::value_error(("nprobe must be at least 1, got " + std::to_string(nprobe)).c_str());
        nprobe = nprobe < packed.cells ? nprobe : packed.cells;
    }
    if (m < 1 || m > 8) throw nb::value_error(("m must be from 1 to 8, got " + std::to_string(m)).c_str());
    const New<int32_t, 2> ids(rows.size(), 8);
    const New<float, 2> dist(rows.size(), 8);
    unlocked(
        [&] { packed.screening.eight(packed, coarse, nprobe, x, rows, rows.size(), c, limits, m, rough, ids, dist); });
    return nb::make_tuple(ids.array, dist.array);
}

}  // namespace

void bind_search(nb::module_& m) {
    nb::class_<Packed>(m, "Packed",
                       R"(Centroids packed for the searches, by the instructions in use when they were packed.

Attributes
----------
rounded : bool
    Whether they are rounded, to int8 or bfloat16, so that products only screen.
)")
        .def("update", update, nb::arg("centroids"), nb::arg("changed"),
             nb::sig("def update(self, centroids: NDArray[np.float32], changed: NDArray[np.bool_]) -> None"),
             "Pack again, in place, the centroids (float32 [k, d]) that `changed` (bool [k]).")
        .def_prop_ro("rounded", [](const Packed& p) { return &p.screening == level().rounded; });
    m.def("pack", pack, nb::arg("centroids"), nb::arg("rounded"), nb::arg("shift"), nb::arg("columns") = nb::none(),
          nb::arg("offsets") = nb::none(),
          nb::sig("def pack(centroids: NDArray[np.float32], rounded: bool, shift: NDArray[np.float32], columns: "
                  "NDArray[np.int32] | None = None, offsets: NDArray[np.int64] | None = None) -> Packed"),
          R"(Pack centroids for the searches.

Parameters
----------
centroids : float32 [k, d]
rounded : bool
    Round them to screen, where the instructions in use have a screen: see `suits_screen`.
shift : float32 [d]
    Taken off rows and centroids before they are rounded: best their mean.
columns : int32 [k], optional
    The centroids, cell by cell.
offsets : int64 [cells + 1], optional
    Where each cell begins in `columns`.
)");
    m.def(
        "nearest", nearest, nb::arg("x"), nb::arg("c"), nb::arg("packed"), nb::arg("hint") = nb::none(),
        nb::sig("def nearest(x: NDArray[np.float32], c: NDArray[np.float32], packed: Packed, hint: NDArray[np.int32] | "
                "None = None) -> tuple[NDArray[np.int32], NDArray[np.float32]]"),
        R"(Nearest centroid of each row, certified exact.

A centroid that its score rules out, with room for all rounding, is never looked at; where several are left they are
compared by float64 distances, equal ones going to the lowest. So labels depend neither on the instructions nor on threads.

Parameters
----------
x : float32 [n, d]
c : float32 [k, d]
packed : Packed
    All of `c`.
hint : int32 [n], optional
    A centroid believed near each row, or -1: rounded screens then look at fewer.

Returns
-------
labels : int32 [n]
sqdist : float32 [n]
    Squared L2 distances, to float32 rounding of ``|x|^2 + |c|^2``.
)");
    m.def("nearest_m", nearest_m, nb::arg("x"), nb::arg("c"), nb::arg("packed"), nb::arg("m"),
          nb::sig("def nearest_m(x: NDArray[np.float32], c: NDArray[np.float32], packed: Packed, m: int) -> "
                  "tuple[NDArray[np.int32], NDArray[np.float32]]"),
          R"(The `m` nearest centroids of each row, nearest first, certified exact as in `nearest`.

Parameters
----------
x : float32 [n, d]
c : float32 [k, d]
packed : Packed
    All of `c`, not rounded.
m : int

Returns
-------
ids : int32 [n, m]
    -1 where m > k.
sqdist : float32 [n, m]
    Squared L2 distances, those of float64 rounded; infinite there.
)");
    m.def("eight", eight, nb::arg("x"), nb::arg("rows"), nb::arg("c"), nb::arg("packed"), nb::arg("within"),
          nb::arg("coarse").none() = nb::none(), nb::arg("nprobe") = 0, nb::arg("rough") = false, nb::arg("m") = 8,
          nb::sig(
              "def eight(x: NDArray[np.float32], rows: NDArray[np.int32], c: NDArray[np.float32], packed: Packed, "
              "within: "
              "NDArray[np.float32], coarse: Packed | None = None, nprobe: int = 0, rough: bool = False, m: int = 8) -> "
              "tuple[NDArray[np.int32], NDArray[np.float32]]"),
          R"(About the eight nearest centroids of some rows, nearest first.

All queries being known, the (row, cell) pairs of a block of rows are grouped by cell, and each cell is searched for all
its rows at once: several times faster than query by query.

Parameters
----------
x : float32 [n, d]
rows : int32 [r]
    Which rows of `x`.
c : float32 [k, d]
packed : Packed
    All of `c`, cell by cell if there are cells.
within : float32 [r]
    Distances beyond which no centroid is wanted; infinite for any.
coarse : Packed, optional
    The centres of the cells, of which only the `nprobe` nearest to a row are searched; by default everything is.
rough : bool
    Whether the distances that the screen gives will do: good to about 1% if it is rounded.
m : int
    How many are wanted of each row, at most 8. Fewer are found sooner, but chosen by the screen alone.

Returns
-------
ids : int32 [r, 8]
    -1 where fewer were found.
dist : float32 [r, 8]
    Distances (not squared), infinite where the id is -1.
)");
    m.def("suits_screen", suits_screen, nb::arg("k"), nb::arg("d"), nb::arg("spread"),
          R"(Whether rounded screening pays for `k` centroids of `d` columns, and the arithmetic has room for them.

`spread` is their root mean squared distance to their mean.
)");
}

}  // namespace fastann

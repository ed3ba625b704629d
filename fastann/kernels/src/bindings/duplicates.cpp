// What near-duplicate rows are found and decided with.
#include "../cpu.hpp"
#include "../decisions.hpp"
#include "../table.hpp"
#include "arrays.hpp"
#include "bindings.hpp"
#include "ranges.hpp"

namespace fastann {

namespace {

nb::tuple unit(nb::handle x_) {
    const Matrix<const float> x(x_, "x");
    const int64_t n = x.size(0), d = x.size(1);
    const New<float, 2> out(n, d);
    const New<double, 1> norms(n);
    unlocked([&] { table().unit(x, n, d, out, norms); });
    return nb::make_tuple(out.array, norms.array);
}

nb::object hashes(nb::handle x_) {
    const Matrix<const float> x(x_, "x");
    const New<uint64_t, 1> out(x.size(0));
    unlocked([&] { fingerprints(reinterpret_cast<const uint32_t*>(x.data()), x.size(0), x.size(1), out); });
    return out.array;
}

nb::tuple borders(nb::handle x_, nb::handle labels_, nb::handle own_, nb::handle c_, double half, int64_t m) {
    const Matrix<const float> x(x_, "x"), c(c_, "c");
    const Vector<const int32_t> labels(labels_, "labels");
    const Vector<const float> own(own_, "own");
    const int64_t n = x.size(0), d = x.size(1), k = c.size(0);
    c.sized(d, "one for each column of x", 1);
    labels.sized(n, "one for each row of x");
    own.sized(n, "one for each row of x");
    check_ids(labels, 0, k, "centres");
    if (m < 0) throw nb::value_error(("m must not be negative, got " + std::to_string(m)).c_str());
    const New<int32_t, 2> ids(n, m);
    const New<int32_t, 1> count(n);
    unlocked([&] { table().borders(x, n, d, labels, own, c, k, static_cast<float>(half), m, ids, count); });
    return nb::make_tuple(ids.array, count.array);
}

// Rows, the same of unit norm, and their norms: a tuple, as Python holds them.
struct Block {
    Matrix<const float> values, unit;
    Vector<const double> norm;

    explicit Block(const nb::tuple& parts, const char* name)
        : values(part(parts, 0, name), name), unit(parts[1], name), norm(parts[2], name) {
        unit.sized(values.size(0), "as many rows as they are").sized(values.size(1), "as many columns as they are", 1);
        norm.sized(values.size(0), "the norm of each row");
    }
    Directed directed() const { return {values, unit, norm, values.size(0)}; }

 private:
    static nb::object part(const nb::tuple& parts, size_t i, const char* name) {
        if (parts.size() != 3) {
            throw nb::value_error(
                (std::string(name) + " must be three arrays: rows, their directions, their norms").c_str());
        }
        return parts[i];
    }
};

nb::tuple first_near(const nb::tuple& rows_, nb::handle low_, nb::handle high_, const nb::tuple& columns_,
                     nb::handle place_, double least) {
    const Block rows(rows_, "rows"), columns(columns_, "columns");
    const Vector<const int32_t> low(low_, "low"), high(high_, "high"), place(place_, "place");
    const int64_t n = rows.values.size(0), d = rows.values.size(1);
    columns.values.sized(d, "as many as rows have", 1);
    low.sized(n, "one for each of rows");
    high.sized(n, "one for each of rows");
    place.sized(columns.values.size(0), "one for each of columns");
    const New<int32_t, 1> found(n);
    const New<float, 1> cosine(n);
    const FirstNear search{rows.directed(), columns.directed(), d, low, high, place, least, found, cosine};
    unlocked([&] { table().first_near(search); });
    return nb::make_tuple(found.array, cosine.array);
}

// The arguments that both steps of a decision have; those that only `decide` writes are checked as such by it.
struct Task {
    Vector<const int32_t> rows, columns, found;
    Vector<const float> cosine;
    Vector<int8_t> status;
    Vector<int32_t> duplicate_of;
    Vector<float> similarity;
    Memberships memberships;

    Task(nb::handle rows_, nb::handle columns_, nb::handle found_, nb::handle cosine_, nb::handle status_,
         nb::handle duplicate_of_, nb::handle similarity_)
        : rows(rows_, "rows"),
          columns(columns_, "columns"),
          found(found_, "found"),
          cosine(cosine_, "cosine"),
          status(status_, "status"),
          duplicate_of(duplicate_of_, "duplicate_of"),
          similarity(similarity_, "similarity"),
          memberships{rows, rows.size(), columns, found, cosine, status, duplicate_of, similarity} {
        const char* member = "one for each of rows";
        found.sized(rows.size(), member);
        cosine.sized(rows.size(), member);
        duplicate_of.sized(status.size(), "one for each of status");
        similarity.sized(status.size(), "one for each of status");
        check_ids(rows, 0, status.size(), "rows");
        check_ids(columns, 0, status.size(), "rows");
        check_ids(found, CLEAR, columns.size(), "columns");
    }
};

nb::object ready(nb::handle rows, nb::handle columns, nb::handle found, nb::handle cosine, nb::handle status,
                 nb::handle duplicate_of, nb::handle similarity) {
    const Task task(rows, columns, found, cosine, status, duplicate_of, similarity);
    const New<int32_t, 1> places(task.rows.size());
    int64_t count = 0;
    unlocked([&] { count = ready(task.memberships, places); });
    return places.array[nb::slice(nb::int_(0), nb::int_(count), nb::none())].attr("copy")();
}

void decide(nb::handle rows, nb::handle columns, nb::handle places_, nb::handle near_, nb::handle value_,
            nb::handle found_, nb::handle cosine_, nb::handle waits_, nb::handle status, nb::handle duplicate_of,
            nb::handle similarity) {
    const Task task(rows, columns, found_, cosine_, status, duplicate_of, similarity);
    const Vector<int32_t> found(found_, "found"), waits(waits_, "waits");
    const Vector<float> cosine(cosine_, "cosine");
    const Vector<const int32_t> places(places_, "places"), near(near_, "near");
    const Vector<const float> value(value_, "value");
    near.sized(places.size(), "one for each of places");
    value.sized(places.size(), "one for each of places");
    waits.sized(task.status.size(), "one for each of status");
    check_ids(places, 0, task.rows.size(), "rows");
    check_ids(near, CLEAR, task.columns.size(), "columns");
    for (int64_t t = 0; t < near.size(); t++) {
        if (near[t] == UNSEEN) throw nb::value_error("near has -1, it must be a place in columns, or CLEAR");
    }
    unlocked([&] { decide(task.memberships, places, places.size(), near, value, found, cosine, waits); });
}

void bind_decisions(nb::module_& m) {
    m.attr("UNDECIDED") = nb::int_(UNDECIDED);
    m.attr("KEPT") = nb::int_(KEPT);
    m.attr("DROPPED") = nb::int_(DROPPED);
    m.attr("UNSEEN") = nb::int_(UNSEEN);
    m.attr("CLEAR") = nb::int_(CLEAR);
    m.def("ready",
          nb::overload_cast<nb::handle, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle>(ready),
          nb::arg("rows"), nb::arg("columns"), nb::arg("found"), nb::arg("cosine"), nb::arg("status"),
          nb::arg("duplicate_of"), nb::arg("similarity"),
          nb::sig("def ready(rows: NDArray[np.int32], columns: NDArray[np.int32], found: NDArray[np.int32], cosine: "
                  "NDArray[np.float32], status: NDArray[np.int8], duplicate_of: NDArray[np.int32], similarity: "
                  "NDArray[np.float32]) -> NDArray[np.int32]"),
          R"(Drop rows whose near row is kept; return which memberships are to be compared now, or compared again.

A row is compared within its own cluster, and within those whose border it is near to; each of these is a membership.
A row waits while the near row it found is undecided; once that one is dropped, it is to look on behind it.

Parameters
----------
rows : int32 [r]
    Row of each membership of a task.
columns : int32
    Rows they are compared with.
found : int32 [r]
    Place in `columns` of the near row found, or `UNSEEN`, or `CLEAR`.
cosine : float32 [r]
    Cosine with it.
status : int8 [n]
    `UNDECIDED`, `KEPT` or `DROPPED`; written to.
duplicate_of, similarity : int32 and float32 [n]
    Of each dropped row the kept one, and their cosine; written to.

Returns
-------
int32
    Places in `rows`.
)");
    m.def(
        "decide",
        nb::overload_cast<nb::handle, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle,
                          nb::handle, nb::handle, nb::handle, nb::handle>(decide),
        nb::arg("rows"), nb::arg("columns"), nb::arg("places"), nb::arg("near"), nb::arg("value"), nb::arg("found"),
        nb::arg("cosine"), nb::arg("waits"), nb::arg("status"), nb::arg("duplicate_of"), nb::arg("similarity"),
        nb::sig("def decide(rows: NDArray[np.int32], columns: NDArray[np.int32], places: NDArray[np.int32], near: "
                "NDArray[np.int32], value: NDArray[np.float32], found: NDArray[np.int32], cosine: NDArray[np.float32], "
                "waits: NDArray[np.int32], status: NDArray[np.int8], duplicate_of: NDArray[np.int32], similarity: "
                "NDArray[np.float32]) -> None"),
        R"(Note what a comparison found for the memberships at `places`; decide the rows for which that is enough.

A row is dropped if its near row is kept, and kept once all its memberships are `CLEAR`. Memberships are taken in order,
so that a row kept here drops later ones.

Parameters
----------
places : int32 [p]
    From `ready`.
near, value : int32 and float32 [p]
    From `first_near`: place in `columns` or `CLEAR`, and cosine.
waits : int32 [n]
    Memberships of each row that are not `CLEAR` yet; written to.
rows, columns, found, cosine, status, duplicate_of, similarity : as for `ready`
    All but the first two are written to.
)");
}

}  // namespace

void bind_duplicates(nb::module_& m) {
    bind_decisions(m);
    m.def("unit", unit, nb::arg("x"),
          nb::sig("def unit(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]"),
          "Rows scaled to unit norm in float64 (float32 [n, d]; zero rows stay zero), and their norms (float64 [n]).");
    m.def("fingerprints", hashes, nb::arg("x"),
          nb::sig("def fingerprints(x: NDArray[np.float32]) -> NDArray[np.uint64]"),
          "Hash of each row of a float32 array [n, d]: uint64 [n], the same for equal rows, 0.0 and -0.0 being equal.");
    m.def(
        "borders", borders, nb::arg("x"), nb::arg("labels"), nb::arg("own"), nb::arg("c"), nb::arg("half"),
        nb::arg("m"),
        nb::sig("def borders(x: NDArray[np.float32], labels: NDArray[np.int32], own: NDArray[np.float32], c: "
                "NDArray[np.float32], half: float, m: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]"),
        R"(For each row, the clusters whose border with the row's own cluster is near: at most `m`, and how many there are.

The border of two clusters is the plane of points that are as far from one centre as from the other. Products are in
float32, with room for their rounding: no border that is near is missed.

Parameters
----------
x : float32 [n, d]
    Unit rows, those of one cluster together.
labels : int32 [n]
    Their nearest centres.
own : float32 [n]
    Their products with these.
c : float32 [k, d]
    Unit centres.
half : float
    A border at up to this distance is near.
m : int

Returns
-------
ids : int32 [n, m]
    Nearest border first; -1 where there are fewer.
count : int32 [n]
)");
    m.def(
        "first_near", first_near, nb::arg("rows"), nb::arg("low"), nb::arg("high"), nb::arg("columns"),
        nb::arg("place"), nb::arg("least"),
        nb::sig("def first_near(rows: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]], low: "
                "NDArray[np.int32], high: NDArray[np.int32], columns: tuple[NDArray[np.float32], NDArray[np.float32], "
                "NDArray[np.float64]], place: NDArray[np.int32], least: float) -> tuple[NDArray[np.int32], "
                "NDArray[np.float32]]"),
        R"(For each row the first of some columns whose cosine with it reaches `least`.

Products of unit rows in float32 say which pairs may reach it; these are decided in float64, so the answer depends
neither on the instructions nor on threads.

Parameters
----------
rows, columns : tuple of (float32 [n, d], the same of unit norm, float64 norms [n])
low, high : int32 [n]
    Columns from place `low` on, before place `high`, are wanted.
place : int32 [columns]
    Ascending.
least : float

Returns
-------
found : int32 [n]
    Place of that column, or `CLEAR`.
cosine : float32 [n]
)");
}

}  // namespace fastann

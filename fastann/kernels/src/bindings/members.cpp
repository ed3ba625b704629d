#include "../members.hpp"

#include "bindings.hpp"
#include "ranges.hpp"

namespace fastann {

namespace {

// Rows of clusters are numbered in int32 below 2^31 rows.
template <class Place>
nb::tuple group_as(const Vector<const int32_t>& labels, int64_t k) {
    const New<int64_t, 1> offsets(k + 1);
    const New<Place, 1> order(labels.size());
    unlocked([&] { sort_by_label(labels, labels.size(), k, offsets, order.data()); });
    return nb::make_tuple(offsets.array, order.array[nb::slice(offsets.data()[k])]);
}

nb::tuple group(nb::handle labels_, int64_t k) {
    const Vector<const int32_t> labels(labels_, "labels");
    check_ids(labels, INT32_MIN, k, "clusters");
    return labels.size() < INT32_MAX ? group_as<int32_t>(labels, k) : group_as<int64_t>(labels, k);
}

nb::object tally_of(nb::handle labels_, int64_t k, nb::handle values_, nb::handle weights_) {
    const Vector<const int32_t> labels(labels_, "labels");
    const Vector<const float> values(values_, "values", true);
    const Vector<const double> weights(weights_, "weights", true);
    if (k < 0) throw nb::value_error("k must not be negative");
    values.sized(labels.size(), "one for each of labels");
    weights.sized(labels.size(), "one for each of labels");
    const New<double, 1> out(k);
    for (int64_t j = 0; j < k; j++) out.data()[j] = 0;
    bool sound = true;
    unlocked([&] { sound = tally(labels, labels.size(), k, values, weights, out); });
    if (!sound) check_ids(labels, 0, k, "clusters");
    return out.array;
}

nb::object members_at_of(nb::handle labels_, nb::handle clusters_, nb::handle at_) {
    const Vector<const int32_t> labels(labels_, "labels");
    const Vector<const int64_t> clusters(clusters_, "clusters"), at(at_, "at");
    at.sized(clusters.size(), "one for each of clusters");
    int64_t least, most;
    table().range(labels, labels.size(), &least, &most);
    const int64_t k = most + 1;
    check_ids(labels, 0, k, "clusters");
    check_ids(clusters, 0, k, "clusters that have rows");
    const New<int64_t, 1> out(clusters.size()), place(k), left(clusters.size());
    for (int64_t j = 0; j < k; j++) place.data()[j] = -1;
    for (int64_t g = 0; g < clusters.size(); g++) {
        place.data()[clusters[g]] = g;
        left.data()[g] = at[g];
        out.data()[g] = -1;
    }
    unlocked([&] { members_at(labels, labels.size(), place, left, out); });
    return out.array;
}

}  // namespace

void bind_members(nb::module_& m) {
    m.def("group", group, nb::arg("labels"), nb::arg("k"),
          nb::sig("def group(labels: NDArray[np.int32], k: int) -> tuple[NDArray[np.int64], NDArray[Any]]"),
          R"(Members of each cluster, in row order.

Parameters
----------
labels : int32 [n]
    Below k; rows whose label is negative are left out.
k : int

Returns
-------
offsets : int64 [k + 1]
order : int32 [rows of all clusters], or int64 from 2^31 rows on
    Rows of cluster `j` are ``order[offsets[j]:offsets[j + 1]]``.
)");
    m.def("tally", tally_of, nb::arg("labels"), nb::arg("k"), nb::arg("values") = nb::none(),
          nb::arg("weights") = nb::none(),
          nb::sig("def tally(labels: NDArray[np.int32], k: int, values: NDArray[np.float32] | None = None, weights: "
                  "NDArray[np.float64] | None = None) -> NDArray[np.float64]"),
          R"(Sum of the values of each cluster's rows, times their weights: float64 [k].

Unlike ``numpy.bincount``, it copies neither labels nor values to 64 bits.

Parameters
----------
labels : int32 [n]
k : int
values : float32 [n], optional
    1 each when not given.
weights : float64 [n], optional
    1 each when not given.
)");
    m.def("members_at", members_at_of, nb::arg("labels"), nb::arg("clusters"), nb::arg("at"),
          nb::sig("def members_at(labels: NDArray[np.int32], clusters: NDArray[np.int64], at: NDArray[np.int64]) -> "
                  "NDArray[np.int64]"),
          R"(Pick one row of each of some clusters, by its place among the cluster's rows: int64 [c].

Parameters
----------
labels : int32 [n]
clusters : int64 [c]
    No cluster twice.
at : int64 [c]
    Places, from 0 and below the cluster's size.
)");
}

}  // namespace fastann

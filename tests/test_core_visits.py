"""Candidates and bounds, groups and gradients of the core against plain NumPy, at every level that this CPU has."""

import numpy as np
import pytest
from scipy import sparse

from fastann.kernels import _core

COLUMNS = [1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64]


@pytest.fixture(params=["dense", "sparse"])
def kind(request):
    return request.param


def of_kind(kind, x):
    return sparse.csr_matrix(x) if kind == "sparse" else x


def whole(rng, *shape):
    """Small whole numbers, many of them 0, of which every sum is exact."""
    return (rng.integers(-3, 4, size=shape) * (rng.random(shape) < 0.7)).astype("f")


def plain(x):
    return np.asarray(x.toarray() if sparse.issparse(x) else x, np.float64)


def distances(x, c):
    return ((plain(x)[:, None] - plain(c)) ** 2).sum(axis=2)


def everywhere(call):
    """What a call returns at every level, and on one, two and three threads."""
    before, threads, results = _core.level(), _core.threads(), []
    try:
        for name in _core.levels():
            assert _core.use(name)
            for count in (1, 2, 3):
                _core.set_threads(count)
                results.append(call())
    finally:
        _core.use(before)
        _core.set_threads(threads)
    return results


# --------------------------------------------------------------------------- candidates and bounds


class Remembered:
    """What a pass remembers of `n` rows: nothing as yet."""

    def __init__(self, n):
        self.labels, self.sqdist = np.full(n, -1, np.int32), np.zeros(n, "f")
        self.ids = np.full((n, 8), -1, np.int32)
        self.second, self.beyond = np.zeros(n, "f"), np.full(n, np.inf, "f")

    def arrays(self):
        return self.labels, self.sqdist, self.ids, self.second, self.beyond


def found_of(x, c):
    """The eight nearest centroids of each row, and their distances."""
    far = distances(x, c)
    ids = np.full((len(far), 8), -1, np.int32)
    best = np.argsort(far, axis=1, kind="stable")[:, :8]
    ids[:, : best.shape[1]] = best
    dist = np.full(ids.shape, np.inf, "f")
    dist[:, : best.shape[1]] = np.sqrt(np.take_along_axis(far, best, axis=1))
    return ids, dist


def visited(x, c, mass, *, rule=_core.LLOYD, weights=None, most=8):
    rows = Remembered(x.shape[0])
    order = np.arange(x.shape[0], dtype=np.int32)
    _core.merge(x, order, c, weights, rule, mass, most, *found_of(x, c), *rows.arrays())
    return rows, order


def costs(rule, x, c, mass, weights, labels):
    far = distances(x, c)
    w = np.ones(len(far)) if weights is None else weights
    return np.array(
        [
            [_core.cost(rule, far[i, j], mass[j], w[i], labels[i] == j) for j in range(far.shape[1])]
            for i in range(len(far))
        ]
    )


@pytest.mark.parametrize("d", [*COLUMNS, 200])
def test_rows_are_merged_with_what_was_found(level, kind, rng, d):
    x, c = of_kind(kind, whole(rng, 60, d)), whole(rng, 20, d)
    for most in (1, 3, 8):
        rows, _ = visited(x, c, np.ones(20), most=most)
        ids, dist = found_of(x, c)
        np.testing.assert_array_equal(rows.ids[:, :most], ids[:, :most])
        assert (rows.ids[:, most:] == -1).all()
        np.testing.assert_array_equal(rows.labels, ids[:, 0])
        np.testing.assert_allclose(rows.sqdist, distances(x, c).min(axis=1), rtol=1e-6)
        np.testing.assert_allclose(rows.second, dist[:, 1] if most > 1 else np.inf)
        np.testing.assert_allclose(rows.beyond, dist[:, most - 1])


def test_former_candidates_stay_if_they_are_near(level, kind, rng):
    x, c = of_kind(kind, rng.standard_normal((80, 9), dtype="f")), rng.standard_normal((30, 9), dtype="f")
    rows, order = visited(x, c, np.ones(30))
    ids, dist = found_of(x, c)
    half, far = ids.copy(), dist.copy()
    half[:, 4:], far[:, 4:] = -1, np.inf  # a search that found the nearest four only
    _core.merge(x, order, c, None, _core.LLOYD, np.ones(30), 8, half, far, *rows.arrays())
    np.testing.assert_array_equal(rows.ids, ids)
    np.testing.assert_array_equal(rows.labels, ids[:, 0])


def test_of_few_centroids_all_are_known(level, kind, rng):
    x, c = of_kind(kind, whole(rng, 40, 5)), whole(rng, 3, 5)
    rows, _ = visited(x, c, np.ones(3))
    assert np.isinf(rows.beyond).all()
    assert (rows.ids[:, 3:] == -1).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rule", [_core.LLOYD, _core.SIZE_AWARE, _core.SIZE_AWARE_COSINE])
@pytest.mark.parametrize("d", [*COLUMNS, 200])
def test_rows_that_are_looked_at_go_where_it_costs_least(level, kind, rng, d, rule, weighted):
    """All eight centroids are candidates; with bounds of 0, every row is compared with all of them."""
    x, c = whole(rng, 70, d), whole(rng, 8, d)
    if rule == _core.SIZE_AWARE_COSINE:
        x, c = (
            a / np.maximum(1e-6, np.linalg.norm(a, axis=1, keepdims=True)) + 1e-3 * rng.random(a.shape, "f")
            for a in (x, c)
        )
    x, w = of_kind(kind, x), rng.random(70) + 0.5 if weighted else None
    mass = rng.random(8) * 20 + 2
    rows, order = visited(x, c, mass, rule=_core.LLOYD, weights=w)
    rows.second[:] = 0
    before = rows.labels.copy()
    status = _core.look(x, order, c, w, rule, mass, np.zeros(8, "f"), 0.25, *rows.arrays())
    expected = costs(rule, x, c, mass, w, before)
    chosen = np.take_along_axis(expected, rows.labels[:, None], 1)[:, 0]
    assert (chosen <= expected.min(axis=1) + 1e-5 * (1 + np.abs(expected).min(axis=1))).all()
    assert ((rows.sqdist == 0) | (status > 0)).all()
    assert not (status == _core.WANTING).any()  # there is no other centroid
    np.testing.assert_allclose(rows.sqdist, distances(x, c)[order, rows.labels], rtol=1e-5, atol=1e-5)
    other = distances(x, c)
    other[order, rows.labels] = np.inf
    looked = (status > 0) & (rows.second > 0)
    np.testing.assert_allclose(rows.second[looked] ** 2, other.min(axis=1)[looked], rtol=1e-4, atol=1e-5)


def test_bounds_that_hold_spare_the_row(level, kind, rng):
    """Rows that are not looked at have the nearest of their candidates, and none that is nearer drops out."""
    c = rng.standard_normal((60, 17), dtype="f")
    x = of_kind(kind, (c[rng.integers(60, size=3000)] + 0.9 * rng.standard_normal((3000, 17))).astype("f"))
    rows, order = visited(x, c, np.ones(60))
    moved = (c + 0.05 * rng.standard_normal(c.shape)).astype("f")
    drift = np.linalg.norm(moved - c, axis=1).astype("f")
    status = _core.look(x, order, moved, None, _core.LLOYD, np.ones(60), drift, 1.0, *rows.arrays())
    far = distances(x, moved)
    assert 0.3 < (status == 0).mean() < 1
    known = status != _core.WANTING
    np.testing.assert_array_equal(rows.labels[known], far.argmin(axis=1)[known])
    own = far[order, rows.labels]
    assert (rows.sqdist >= own * (1 - 1e-5)).all()
    np.testing.assert_allclose(rows.sqdist[status > 0], own[status > 0], rtol=1e-5)
    far[order, rows.labels] = np.inf
    near = np.sqrt(np.take_along_axis(far, rows.ids, axis=1).min(axis=1))
    assert (rows.second <= near * (1 + 1e-5)).all()


def test_without_any_bound_every_row_wants_a_search(level, kind, rng):
    x, c = of_kind(kind, rng.standard_normal((50, 6), dtype="f")), rng.standard_normal((30, 6), dtype="f")
    rows, order = visited(x, c, np.ones(30))
    for drift in (np.zeros(30, "f"), np.full(30, 0.1, "f")):
        again = [a.copy() for a in rows.arrays()]
        status = _core.look(x, order, c, None, _core.LLOYD, np.ones(30), drift, np.inf, *again)
        assert (status == _core.WANTING).all()


def test_a_row_alone_in_its_cluster_stays(level, kind, rng):
    x, c = of_kind(kind, rng.standard_normal((20, 6), dtype="f")), rng.standard_normal((8, 6), dtype="f")
    for rule in (_core.SIZE_AWARE, _core.SIZE_AWARE_COSINE):
        rows, order = visited(x, c, np.ones(8))
        rows.labels[:] = (rows.labels + 1) % 8  # any cluster but the nearest
        before = rows.labels.copy()
        rows.second[:] = 0
        _core.look(x, order, c, None, rule, np.ones(8), np.full(8, 1, "f"), 0.25, *rows.arrays())
        np.testing.assert_array_equal(rows.labels, before)


@pytest.mark.parametrize("rows", ["dense", "sparse"])
def test_visits_are_the_same_on_any_number_of_threads(rng, rows):
    x, c = of_kind(rows, rng.standard_normal((5000, 33), dtype="f")), rng.standard_normal((100, 33), dtype="f")
    drift, before = rng.random(100).astype("f") / 10, _core.threads()
    results = []
    try:
        for count in (1, 2, 3):
            _core.set_threads(count)
            seen, order = visited(x, c, np.ones(100))
            status = _core.look(x, order, c, None, _core.LLOYD, np.ones(100), drift, 0.25, *seen.arrays())
            results.append((status, *seen.arrays()))
    finally:
        _core.set_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["order", "labels", "ids", "found", "columns"])
def test_indices_outside_of_the_rows_or_centroids_are_refused(level, name, rng):
    x, c, mass = of_kind("sparse", whole(rng, 30, 5)), whole(rng, 9, 5), np.ones(9)
    for wrong in (-2, 2**31 - 1, 30, -(2**31)):
        rows, order = visited(x, c, mass)
        found, dist = found_of(x, c)
        bad = x.copy()
        array = {"order": order, "labels": rows.labels, "ids": rows.ids, "found": found, "columns": bad.indices}[name]
        array.flat[len(array) // 2] = wrong
        rows.second[:] = 0
        with pytest.raises(IndexError, match=name):
            _core.merge(bad, order, c, None, _core.LLOYD, mass, 8, found, dist, *rows.arrays())
        if name != "found":
            drift = np.ones(9, "f")
            with pytest.raises(IndexError, match=name):
                _core.look(bad, order, c, None, _core.LLOYD, mass, drift, 0.25, *rows.arrays())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((30, 5))}, "x must be a C-contiguous array of float32"),
        ({"c": np.zeros((9, 4), "f")}, "c has 4 columns, 5 are needed"),
        ({"mass": np.ones(8)}, "mass has 8 entries, 9 are needed"),
        ({"weights": np.ones(7)}, "weights has 7 entries, 30 are needed"),
        ({"drift": np.ones(9)}, "drift must be a C-contiguous array of float32"),
        ({"rule": 3}, "rule must be LLOYD"),
        ({"labels": np.zeros(30, np.int64)}, "labels must be a C-contiguous, writable array of int32"),
        ({"ids": np.zeros((30, 7), np.int32)}, "ids has 7 columns, 8 are needed"),
        ({"second": np.zeros(29, "f")}, "second has 29 entries, 30 are needed"),
    ],
)
def test_arrays_of_a_visit_are_checked(rng, change, message):
    rows = Remembered(30)
    names = dict(zip(("labels", "sqdist", "ids", "second", "beyond"), rows.arrays(), strict=True))
    given = {"x": whole(rng, 30, 5), "order": np.arange(30, dtype=np.int32), "c": whole(rng, 9, 5), "weights": None}
    given |= {"rule": _core.LLOYD, "mass": np.ones(9), "drift": np.zeros(9, "f"), "caution": 0.25}
    with pytest.raises((TypeError, ValueError), match=message):
        _core.look(**given | names | change)

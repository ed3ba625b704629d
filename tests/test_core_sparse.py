"""The compiled searches of sparse rows against plain NumPy, at every level that this CPU has."""

import numpy as np
import pytest
from scipy import sparse

from fastann.kernels import _core

COLUMNS = [1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64]


def some(rng, n, d, density=0.4):
    return sparse.random(n, d, density, "csr", np.float32, rng)


def by_column(c):
    c = c.toarray() if sparse.issparse(c) else c
    return np.ascontiguousarray(c.T), (c.astype(np.float64) ** 2).sum(axis=1)


def truth(x, c, m):
    x, c = (a.toarray() if sparse.issparse(a) else a for a in (x, c))
    sqdist = ((x[:, None].astype(np.float64) - c) ** 2).sum(axis=2)
    ids = np.argsort(sqdist, axis=1, kind="stable")[:, :m]
    return ids, np.take_along_axis(sqdist, ids, axis=1)


@pytest.mark.parametrize("k", COLUMNS + [129, 300])
def test_sparse_rows_find_the_nearest_dense_centroids(level, rng, k):
    x, c = some(rng, 90, 50), rng.standard_normal((k, 50), dtype="f")
    for m in {1, min(k, 5), k}:
        ids, sqdist = _core.search_sparse(x, *by_column(c), m)
        expected, distances = truth(x, c, m)
        np.testing.assert_array_equal(ids, expected)
        np.testing.assert_allclose(sqdist, distances, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("k", COLUMNS)
def test_sparse_rows_find_the_nearest_sparse_centroids(level, rng, k):
    x, c = some(rng, 90, 50), some(rng, k, 50)
    for m in {1, min(k, 5), k}:
        ids, sqdist = _core.search_inverted(x, c.T.tocsr(), by_column(c)[1], m)
        expected, distances = truth(x, c, m)
        np.testing.assert_array_equal(ids, expected)
        np.testing.assert_allclose(sqdist, distances, rtol=1e-6, atol=1e-6)


def test_equal_distances_are_in_the_order_of_ids(level, rng):
    """Small whole numbers, of which every sum is exact; and copies, more than any list."""
    x, c = (sparse.csr_matrix(rng.integers(-1, 2, size=(n, 6)).astype("f")) for n in (70, 150))
    columns, csq = by_column(c)
    for m in (1, 4, 40):
        expected, distances = truth(x, c, m)
        for ids, sqdist in (_core.search_sparse(x, columns, csq, m), _core.search_inverted(x, c.T.tocsr(), csq, m)):
            np.testing.assert_array_equal(ids, expected)
            np.testing.assert_array_equal(sqdist, distances)


def test_float32_scores_that_cancel_do_not_decide(level, rng):
    x = sparse.csr_matrix((rng.random((60, 20)) * 1e-3 + 1000).astype("f"))
    c = x[:40].toarray()[rng.permutation(40)]
    np.testing.assert_array_equal(_core.search_sparse(x, *by_column(c), 3)[0], truth(x, c, 3)[0])


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e15])
def test_tiny_and_large_values(level, rng, scale):
    x, c = some(rng, 40, 20) * np.float32(scale), some(rng, 50, 20) * np.float32(scale)
    columns, csq = by_column(c)
    expected = truth(x, c, 1)[0]
    np.testing.assert_array_equal(_core.search_sparse(x, columns, csq, 1)[0], expected)
    np.testing.assert_array_equal(_core.search_inverted(x, c.T.tocsr(), csq, 1)[0], expected)


def test_no_rows_and_empty_rows(level):
    c = sparse.csr_matrix(np.array([[1, 0, 0], [0, 0, 0.5]], np.float32))
    columns, csq = by_column(c)
    for rows, expected in ((0, []), (2, [[1], [1]])):
        x = sparse.csr_matrix((rows, 3), dtype=np.float32)
        for ids, sqdist in (_core.search_sparse(x, columns, csq, 1), _core.search_inverted(x, c.T.tocsr(), csq, 1)):
            assert ids.tolist() == expected
            np.testing.assert_array_equal(sqdist, np.full((rows, 1), 0.25))


def test_a_budget_leaves_the_commonest_columns_out(level, rng):
    x = np.zeros((1, 3), np.float32)
    x[0] = 1
    c = np.array([[5, 0, 0], [5, 0, 0], [5, 0, 0], [5, 0, 3], [0, 1, 0]], np.float32)
    lists, csq = sparse.csr_matrix(c).T.tocsr(), np.zeros(5)
    assert _core.search_inverted(sparse.csr_matrix(x), lists, csq, 1)[0].tolist() == [[3]]
    assert _core.search_inverted(sparse.csr_matrix(x), lists, csq, 2, 2)[0].tolist() == [[3, 4]]


def test_the_same_on_every_level_and_any_number_of_threads(rng):
    x, c = some(rng, 700, 60), some(rng, 129, 60)
    columns, csq = by_column(c)
    before, found = (_core.level(), _core.threads()), set()
    for name in _core.levels():
        for threads in (1, 2, 3):
            _core.use(name)
            _core.set_threads(threads)
            found.add(
                b"".join(
                    part.tobytes()
                    for part in (
                        *_core.search_sparse(x, columns, csq, 3),
                        *_core.search_inverted(x, c.T.tocsr(), csq, 3, 200),
                    )
                )
            )
    _core.use(before[0])
    _core.set_threads(before[1])
    assert len(found) == 1


# --------------------------------------------------------------------------- sparse centroids that are laid out


def spread(c):
    """Sparse centroids laid out, and what is searched without: their transpose and squared norms."""
    lists, csq = c.T.tocsr(), _core.sqnorms(c)
    return _core.Spread(c, lists, csq), lists, csq


def assert_as_inverted(x, c, m):
    """A screen changes no bit of what is found."""
    laid_out, lists, csq = spread(c)
    ids, sqdist = _core.search_spread(x, laid_out, m)
    expected, distances = _core.search_inverted(x, lists, csq, m)
    np.testing.assert_array_equal(ids, expected)
    assert sqdist.tobytes() == distances.tobytes()
    return ids


@pytest.mark.parametrize("k", COLUMNS + [127, 128, 129, 300])
def test_a_screen_finds_what_is_nearest(level, rng, k):
    x, c = some(rng, 90, 50), some(rng, k, 50)
    for m in {1, min(k, 5), min(k, 16), k}:
        np.testing.assert_array_equal(assert_as_inverted(x, c, m), truth(x, c, m)[0])


@pytest.mark.parametrize(("k", "m"), [(8193, 1), (17000, 3)])
def test_a_screen_of_several_blocks(level, rng, k, m):
    """Common columns are long, rare ones short; the nearest may be in any block."""
    shares = np.array([1, 0.5, 0.2] + [0.02] * 37)
    x, c = (sparse.csr_matrix(rng.random((n, 40), dtype="f") * (rng.random((n, 40)) < shares)) for n in (150, k))
    ids = assert_as_inverted(x, c, m)
    assert len(np.unique(ids // 8000)) > 1


def hostile(rng, kind):
    """Rows and centroids whose rounded scores say little of which is nearest."""
    x, c = some(rng, 60, 30), some(rng, 200, 30)
    if kind == "copies, fewer and more than a list of open ones holds":
        c = sparse.vstack([c[:20]] * 2 + [c[20:23]] * 60 + [c[:20]], format="csr")
    elif kind == "copies of rows that differ in the last bit":
        c = sparse.vstack([x[:50]] * 4, format="csr")
        c.data = np.nextafter(c.data, np.where(rng.random(c.nnz) < 0.5, np.float32(9), np.float32(0)))
    elif kind == "equal distances of whole numbers":
        x, c = (sparse.csr_matrix(rng.integers(-1, 2, size=(n, 30)).astype("f")) for n in (60, 200))
    elif kind == "scores that cancel":
        x, c = (sparse.csr_matrix(1000 + rng.random((n, 30), dtype="f") / 1000) for n in (60, 200))
    elif kind == "values of all sizes":
        for a in (x, c):
            a.data *= np.float32(10) ** rng.integers(-18, 18, a.nnz).astype("f")
    elif kind == "huge":
        x, c = x * np.float32(1e18), c * np.float32(1e18)
    elif kind == "beyond what a float32 score holds":
        x, c = x * np.float32(1e38), c * np.float32(3e38)
    elif kind == "tiny":
        x, c = x * np.float32(1e-30), c * np.float32(1e-30)
    elif kind == "below the smallest normal number":
        x, c = x * np.float32(1e30), c * np.float32(1e-40)
    elif kind == "nothing in common, empty, and stored zeros":
        c[:, 15:] *= 0
        x[:20, :15] *= 0
        x = sparse.vstack([x, sparse.csr_matrix((5, 30), dtype="f")], format="csr")
        c = sparse.vstack([c, sparse.csr_matrix((2, 30), dtype="f")], format="csr")
    elif kind == "columns of rows in any order, and twice":
        x.indices = rng.integers(30, size=x.nnz).astype(np.int32)
    elif kind == "columns of centroids in any order":
        c = c[:, rng.permutation(30)]
        assert not c.has_sorted_indices
    return x.tocsr().astype("f"), c.tocsr().astype("f")


@pytest.mark.parametrize(
    "kind",
    [
        "copies, fewer and more than a list of open ones holds",
        "copies of rows that differ in the last bit",
        "equal distances of whole numbers",
        "scores that cancel",
        "values of all sizes",
        "huge",
        "beyond what a float32 score holds",
        "tiny",
        "below the smallest normal number",
        "nothing in common, empty, and stored zeros",
        "columns of rows in any order, and twice",
        "columns of centroids in any order",
    ],
)
@pytest.mark.parametrize("m", [1, 4, 16, 17])
def test_rounding_never_decides(level, rng, kind, m):
    for _ in range(3):
        assert_as_inverted(*hostile(rng, kind), m)


def test_a_row_that_stores_a_column_many_times_is_screened_by_the_sum(level):
    """Rounding, by 2^-9 of 256, makes the second look farther by 0.17; the norm of its values allows 0.06."""
    c = sparse.csr_matrix(np.array([[1, 0.75], [1 + 2.0**-9, 0.375]], np.float32))
    x = sparse.csr_matrix((np.ones(257, np.float32), np.array([0] * 256 + [1], np.int32), [0, 257]), (1, 2))
    assert assert_as_inverted(x, c, 1).tolist() == [[1]]


def test_a_screen_is_the_same_on_every_level_and_any_number_of_threads(rng):
    x, c = some(rng, 700, 60), some(rng, 300, 60)
    laid_out = spread(c)[0]
    before, found = (_core.level(), _core.threads()), set()
    for name in _core.levels():
        for threads in (1, 2, 3):
            _core.use(name)
            _core.set_threads(threads)
            found.add(b"".join(part.tobytes() for part in _core.search_spread(x, laid_out, 3)))
    _core.use(before[0])
    _core.set_threads(before[1])
    assert len(found) == 1


def test_what_cannot_be_laid_out_or_searched_is_refused(rng):
    x, c = some(rng, 5, 4, 0.9), some(rng, 3, 4, 0.9)
    laid_out, lists, csq = spread(c)
    with pytest.raises(ValueError, match="lists must have a row for each column of centroids, and a column for each"):
        _core.Spread(c, c, csq)
    with pytest.raises(ValueError, match="csq has 2 entries, 3 are needed: one for each row of centroids"):
        _core.Spread(c, lists, csq[:2])
    with pytest.raises(TypeError, match="centroids must be a CSR matrix of float32"):
        _core.Spread(c.toarray(), lists, csq)
    with pytest.raises(ValueError, match="x has 3 columns, 4 are needed: those of the centroids"):
        _core.search_spread(x[:, :3].tocsr(), laid_out, 1)
    with pytest.raises(ValueError, match="m must be from 1 to the number of centroids, 3, got 4"):
        _core.search_spread(x, laid_out, 4)
    assert _core.search_spread(x[:0], laid_out, 2)[0].shape == (0, 2)
    with pytest.raises(ValueError, match="m must be from 1 to the number of centroids, 0, got 1"):
        _core.search_spread(x, spread(c[:0])[0], 1)


def broken(x, **parts):
    """A copy of a CSR matrix whose parts were tampered with."""
    other = x.copy()
    for name, value in parts.items():
        setattr(other, name, value)
    return other


def test_what_does_not_fit_is_refused(rng):
    x, c = some(rng, 5, 4, 0.9), some(rng, 3, 4, 0.9)
    columns, csq = by_column(c)
    lists = c.T.tocsr()
    outside, before, backwards = x.indices.copy(), x.indices.copy(), x.indptr[::-1].copy()
    outside[2], before[1] = 4, -1
    for bad, message in [
        (x.toarray(), "x must be a CSR matrix of float32"),
        (x.tocsc(), "x must be a CSR matrix of float32"),
        (x.astype(np.float64), "x must be a C-contiguous array of float32 with 1 dimension, got float64"),
        (broken(x, indices=outside), "x has 4 at 2, but there are 4 columns"),
        (broken(x, indices=before), "x has -1 at 1, but there are 4 columns"),
        (broken(x, indptr=backwards), r"x.indptr must ascend, one for each row and the end, within what is stored"),
        (broken(x, indptr=x.indptr[:-1]), "x.indptr must ascend"),
        (broken(x, indptr=x.indptr * 2), "x.indptr must ascend"),
    ]:
        for search, centroids in ((_core.search_sparse, columns), (_core.search_inverted, lists)):
            with pytest.raises((TypeError, ValueError), match=message):
                search(bad, centroids, csq, 1)
    with pytest.raises(ValueError, match="by_column has 3 rows, 4 are needed: one for each column of x"):
        _core.search_sparse(x, columns[:3], csq, 1)
    with pytest.raises(ValueError, match="by_column has 3 columns, 2 are needed: one for each entry of csq"):
        _core.search_sparse(x, columns, csq[:2], 1)
    with pytest.raises(ValueError, match="lists must have a row for each column of x"):
        _core.search_inverted(x, c, csq, 1)
    with pytest.raises(TypeError, match="csq must be a C-contiguous array of float64"):
        _core.search_inverted(x, lists, csq.astype("f"), 1)
    for m in (0, 4):
        with pytest.raises(ValueError, match=f"m must be from 1 to the number of centroids, 3, got {m}"):
            _core.search_sparse(x, columns, csq, m)
        with pytest.raises(ValueError, match=f"m must be from 1 to the number of centroids, 3, got {m}"):
            _core.search_inverted(x, lists, csq, m)

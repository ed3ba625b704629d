"""Sums, members, pairs and half floats of the core against plain NumPy, at every level that this CPU has."""

import numpy as np
import pytest
from scipy import sparse

from fastann.kernels import _core

COLUMNS = [1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64]


@pytest.fixture(params=["dense", "sparse"])
def kind(request):
    return request.param


def some(rng, kind, n, d):
    x = rng.standard_normal((n, d), dtype="f")
    if kind == "dense":
        return x
    x[rng.random((n, d)) < 0.6] = 0
    return sparse.csr_matrix(x)


def wide(x):
    return np.asarray(x.toarray() if sparse.issparse(x) else x, np.float64)


def distances(x, c):
    return ((wide(x)[:, None] - c) ** 2).sum(axis=2)


def broken(x, **parts):
    """A copy of a CSR matrix whose parts were tampered with."""
    other = x.copy()
    for name, value in parts.items():
        setattr(other, name, value)
    return other


# --------------------------------------------------------------------------- sums


@pytest.mark.parametrize("d", COLUMNS)
@pytest.mark.parametrize("n", [0, 1, 5, 300])
def test_survey_gives_norms_and_sum(level, rng, n, d):
    x = rng.standard_normal((n, d), dtype="f")
    sqnorms, total = _core.survey(x)
    np.testing.assert_allclose(sqnorms, (wide(x) ** 2).sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(total, wide(x).sum(axis=0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("d", COLUMNS)
def test_norms_of_dense_rows_are_those_of_survey(level, rng, d):
    x = rng.standard_normal((70, d), dtype="f")
    np.testing.assert_array_equal(_core.sqnorms(x), _core.survey(x)[0])


@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
def test_norms_of_sparse_rows(level, rng, dtype):
    x = some(rng, "sparse", 90, 33)
    x.data = x.data.astype(dtype)
    np.testing.assert_allclose(_core.sqnorms(x), (wide(x) ** 2).sum(axis=1), rtol=1e-14)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("d", COLUMNS)
def test_rows_that_are_added_and_taken_away(level, rng, kind, d, weighted):
    n, k = 400, 7
    x, labels = some(rng, kind, n, d), rng.integers(k, size=n).astype(np.int32)
    labels[:150] = 2  # more rows than a piece has
    w = rng.random(n) if weighted else None
    sums, counts = np.zeros((k, d)), np.zeros(k, float if weighted else np.int64)
    _core.add_rows(x, w, labels, sums, counts)
    rows = rng.choice(n, 90, replace=False).astype(np.int32)
    _core.add_rows(x, w, labels[rows], sums, counts, rows, sign=-1)
    kept = np.delete(np.arange(n), rows)
    each = np.ones(n) if w is None else w
    expected = np.zeros((k, d))
    np.add.at(expected, labels[kept], wide(x)[kept] * each[kept, None])
    np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(counts, np.bincount(labels[kept], each[kept], k), rtol=1e-12)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("d", COLUMNS)
def test_means(level, rng, d, cosine):
    k = 40
    sums, counts, before = rng.standard_normal((k, d)), rng.integers(1, 9, k), rng.standard_normal((k, d), dtype="f")
    counts[3], sums[3] = 0, 0
    sums[4] = 0
    changed, given = rng.random(k) < 0.7, rng.random(k)
    changed[:6] = [True, False, True, True, True, False]
    means, explained = _core.means(sums, counts, before, cosine=cosine, changed=changed, explained=given.copy())
    square = (sums**2).sum(axis=1)
    scale = np.sqrt(square) if cosine else counts.astype(float)
    usable = (counts > 0) & (scale > 0)
    by = np.where(usable, scale, 1)
    expected = np.where(usable[:, None], sums / by[:, None], before)
    np.testing.assert_allclose(means[changed], expected[changed], rtol=2e-7)
    np.testing.assert_array_equal(means[~changed], before[~changed])
    lowers = np.where(usable, np.sqrt(square) if cosine else square / by, 0)
    np.testing.assert_allclose(explained[changed], lowers[changed], rtol=1e-13)
    np.testing.assert_array_equal(explained[~changed], given[~changed])

    led = np.empty_like(before)
    again, _ = _core.means(
        sums, counts, before, cosine=cosine, changed=changed, explained=given.copy(), lead=0.5, led=led
    )
    np.testing.assert_array_equal(again, means)
    ahead = means + 0.5 * (means.astype(float) - before)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) if cosine else 1
    moved = changed & usable
    np.testing.assert_allclose(led[moved], ahead[moved], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(led[~moved], before[~moved])
    back, there = rng.random(k) < 0.5, np.full_like(before, 7)
    _core.means(
        sums, counts, before, cosine=cosine, changed=changed, explained=given.copy(), lead=0.5, led=there, back=back
    )
    np.testing.assert_array_equal(there[changed | back], led[changed | back])
    assert (there[~changed & ~back] == 7).all()
    # What is asked for again may be written over what there was.
    over, inside, twice = before.copy(), before.copy(), np.empty_like(before)
    for out, lead in ((over, None), (inside, twice)):
        got, _ = _core.means(
            sums, counts, out, cosine=cosine, changed=changed, explained=given.copy(), lead=0.5, led=lead, out=out
        )
        assert got is out
        np.testing.assert_array_equal(out, means)
    np.testing.assert_array_equal(twice, led)
    with pytest.raises(ValueError, match="led must be another array"):
        _core.means(sums, counts, before, cosine=cosine, lead=0.5, led=before)


# --------------------------------------------------------------------------- members


@pytest.mark.parametrize(("n", "k"), [(0, 1), (1, 1), (500, 7), (50, 300)])
def test_members_are_grouped_counted_and_picked(rng, n, k):
    labels = rng.integers(k, size=n).astype(np.int32)
    offsets, order = _core.group(labels, k)
    np.testing.assert_array_equal(order, np.argsort(labels, kind="stable"))
    np.testing.assert_array_equal(np.diff(offsets), np.bincount(labels, minlength=k))
    values, weights = rng.random(n, dtype="f"), rng.random(n)
    np.testing.assert_array_equal(_core.tally(labels, k), np.bincount(labels, minlength=k))
    np.testing.assert_array_equal(_core.tally(labels, k, values), np.bincount(labels, values, k))
    np.testing.assert_array_equal(_core.tally(labels, k, values, weights), np.bincount(labels, values * weights, k))
    clusters, at = np.unique(labels).astype(np.int64)[::-1].copy(), []
    at = rng.integers(np.bincount(labels, minlength=k)[clusters])
    np.testing.assert_array_equal(_core.members_at(labels, clusters, at), order[offsets[clusters] + at])


# --------------------------------------------------------------------------- pairs


@pytest.mark.parametrize("d", COLUMNS)
def test_pairs_of_rows_and_centroids(level, rng, kind, d):
    n, k, m = 130, 12, 5
    x, c = some(rng, kind, n, d), rng.standard_normal((k, d), dtype="f")
    truth, labels = distances(x, c), rng.integers(k, size=n).astype(np.int32)
    np.testing.assert_allclose(_core.own_sqdist(x, c, labels), truth[np.arange(n), labels], rtol=1e-12, atol=1e-12)
    ids = np.array([rng.choice(k, m, replace=False) for _ in range(n)], np.int32)
    ids[:, 1], ids[0] = -1, -1
    far = np.where(ids < 0, np.inf, np.take_along_axis(truth, np.maximum(ids, 0), axis=1))
    other = np.where(ids == labels[:, None], np.inf, far)
    second, sqdist = _core.runner_up(x, c, labels, ids)
    nearest = np.where(np.isinf(other.min(axis=1)), -1, np.take_along_axis(ids, other.argmin(1)[:, None], 1)[:, 0])
    np.testing.assert_array_equal(second, nearest)
    np.testing.assert_allclose(sqdist, other.min(axis=1), rtol=1e-12, atol=1e-12)
    sorted_ids, sorted_far = _core.rescore(x, c, ids)
    assert sorted_ids is ids
    np.testing.assert_allclose(sorted_far, np.sort(far, axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ids == -1, np.isinf(sorted_far))
    again = np.where(ids < 0, np.inf, np.take_along_axis(truth, np.maximum(ids, 0), axis=1))
    np.testing.assert_allclose(again, sorted_far, rtol=1e-5, atol=1e-6)


def test_equal_distances_go_to_the_lowest_id_or_the_first(level, rng, kind):
    c = np.repeat(rng.integers(-2, 3, (3, 6)).astype("f"), 4, axis=0)
    x = some(rng, kind, 20, 6)
    ids = np.tile(np.array([7, 5, 6, 4, -1], np.int32), (20, 1))
    assert (_core.runner_up(x, c, np.full(20, 7, np.int32), ids)[0] == 5).all()
    assert (_core.rescore(x, c, ids)[0] == [4, 5, 6, 7, -1]).all()


@pytest.mark.parametrize("d", COLUMNS)
def test_drift(level, rng, d):
    c, before = rng.standard_normal((50, d), dtype="f"), rng.standard_normal((20, d), dtype="f")
    ids, out = rng.permutation(50)[:20].astype(np.int32), rng.random(50, dtype="f")
    expected = out.copy()
    expected[ids] = np.sqrt(((wide(c[ids]) - before) ** 2).sum(axis=1))
    _core.drift(c, ids, before, out)
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    with pytest.raises(IndexError, match="ids"):
        _core.drift(c, ids + 40, before, out)


# --------------------------------------------------------------------------- half floats


def test_every_half_float_is_widened(level):
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    found = _core.widened(halves)
    assert (found.dtype, found.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(found, halves.astype(np.float32))
    numbers = ~np.isnan(halves)
    assert (np.signbit(found) == np.signbit(halves))[numbers].all()
    for n in COLUMNS:
        np.testing.assert_array_equal(_core.widened(halves[:2, :n].copy()), halves[:2, :n].astype(np.float32))


def test_half_floats_of_any_layout_and_byte_order(level, rng):
    halves = rng.standard_normal((40, 31)).astype(np.float16)
    locked = halves.copy()
    locked.flags.writeable = False
    for block in (halves[::2], halves[:, ::3], np.asfortranarray(halves), halves.astype(">f2"), locked, halves[:0]):
        np.testing.assert_array_equal(_core.widened(block), block.astype(np.float32))


# --------------------------------------------------------------------------- bits


def all_of_it(rng):
    """Every float64 result, and what is rounded from one."""
    x, s = some(rng, "dense", 3000, 45), some(rng, "sparse", 3000, 45)
    c, labels, w = (
        rng.standard_normal((40, 45), dtype="f"),
        rng.integers(40, size=3000).astype(np.int32),
        rng.random(3000),
    )
    ids = rng.integers(40, size=(3000, 6)).astype(np.int32)
    yield from _core.survey(x)
    for rows in (x, s):
        sums, mass = np.zeros((40, 45)), np.zeros(40)
        _core.add_rows(rows, w, labels, sums, mass)
        yield from (sums, mass, _core.sqnorms(rows), _core.own_sqdist(rows, c, labels))
        yield from _core.runner_up(rows, c, labels, ids)
        for cosine in (False, True):
            yield from _core.means(sums, mass, c, cosine=cosine)
    yield _core.rescore(s, c, ids.copy())[1]
    yield _core.widened(np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(16, -1))


def test_the_same_bits_on_every_level_and_any_number_of_threads():
    before, found = (_core.level(), _core.threads()), set()
    try:
        for name in _core.levels():
            for threads in (1, 2, 3):
                assert _core.use(name)
                _core.set_threads(threads)
                found.add(b"".join(part.tobytes() for part in all_of_it(np.random.default_rng(0))))
    finally:
        _core.use(before[0])
        _core.set_threads(before[1])
    assert len(found) == 1


# --------------------------------------------------------------------------- what is refused


def refused(message, function, *args, **options):
    with pytest.raises((TypeError, ValueError, IndexError), match=message):
        function(*args, **options)


def test_sums_of_what_does_not_fit_are_refused(rng):
    x, labels, sums, counts = (
        rng.standard_normal((5, 4), dtype="f"),
        np.zeros(5, np.int32),
        np.zeros((2, 4)),
        np.zeros(2),
    )
    whole, w = np.zeros(2, np.int64), np.ones(5)
    refused("x must be a C-contiguous array of float32 with 2 dimensions", _core.survey, x.astype(float))
    refused("x must be .* not contiguous", _core.survey, x[:, ::2])
    refused("labels has 2, it must be at least 0 and below 2", _core.add_rows, x, None, labels + 2, sums, whole)
    refused("labels has -1, it must be at least 0", _core.add_rows, x, None, labels - 1, sums, whole)
    refused("labels has 4 entries, 5 are needed", _core.add_rows, x, None, labels[:4], sums, whole)
    refused("weights has 4 entries, 5 are needed", _core.add_rows, x, w[:4], labels, sums, counts)
    refused("sums has 3 columns, 4 are needed", _core.add_rows, x, None, labels, sums[:, :3].copy(), whole)
    refused("counts must be .* of int64", _core.add_rows, x, None, labels, sums, counts)
    refused("counts must be .* of float64", _core.add_rows, x, w, labels, sums, whole)
    refused("rows has 5, it must be at least 0 and below 5", _core.add_rows, x, None, labels, sums, whole, labels + 5)
    sums.flags.writeable = False
    refused("sums must be .*writable.* read-only", _core.add_rows, x, None, labels, sums, whole)
    before = np.zeros((2, 4), "f")
    refused("before has 1 rows, 2 are needed", _core.means, sums, counts, before[:1], cosine=False)
    refused("counts has 1 entries, 2 are needed", _core.means, sums, counts[:1], before, cosine=False)


def test_members_that_are_not_there_are_refused():
    labels, at = np.array([0, 2, 1], np.int32), np.zeros(1, np.int64)
    refused("labels has 2, .* below 2, the number of clusters", _core.group, labels, 2)
    refused("labels has 2, .* below 2, the number of clusters", _core.tally, labels, 2)
    refused("labels has -1, it must be at least 0", _core.tally, labels - 1, 3)
    refused("k must not be negative", _core.tally, labels, -1)
    refused("values has 2 entries, 3 are needed", _core.tally, labels, 3, np.zeros(2, "f"))
    refused("clusters has 3, .* below 3", _core.members_at, labels, at + 3, at)
    refused("at has 2 entries, 1 are needed", _core.members_at, labels, at, np.zeros(2, np.int64))


def test_pairs_that_are_not_there_are_refused(rng):
    x, c = rng.standard_normal((5, 4), dtype="f"), rng.standard_normal((3, 4), dtype="f")
    labels, ids = np.zeros(5, np.int32), np.zeros((5, 2), np.int32)
    refused("c has 3 columns, 4 are needed", _core.own_sqdist, x, c[:, :3].copy(), labels)
    refused("labels has 3, .* below 3, the number of centroids", _core.own_sqdist, x, c, labels + 3)
    refused("ids has 3, .* below 3, the number of centroids", _core.runner_up, x, c, labels, ids + 3)
    refused("ids has -2, it must be at least -1", _core.rescore, x, c, ids - 2)
    refused("ids has 4 rows, 5 are needed", _core.rescore, x, c, ids[:4])
    moved, far = np.arange(3, dtype=np.int32), np.zeros(3, np.float32)
    refused("before has 3 rows, 2 are needed", _core.drift, c, moved[:2], c, far)
    refused("out has 2 entries, 3 are needed", _core.drift, c, moved, c, far[:2])


def test_sparse_rows_that_point_outside_are_refused(rng):
    x, c, labels = some(rng, "sparse", 5, 4), rng.standard_normal((3, 4), dtype="f"), np.zeros(5, np.int32)
    sums, counts, ids = np.zeros((2, 4)), np.zeros(2, np.int64), np.zeros((5, 2), np.int32)
    outside, before = x.indices.copy(), x.indices.copy()
    outside[1], before[0] = 4, -1
    for bad, message in [
        (x.tocsc(), "x must be a CSR matrix"),
        (broken(x, indices=outside), "x has 4 at 1, but there are 4 columns"),
        (broken(x, indices=before), "x has -1 at 0, but there are 4 columns"),
        (broken(x, indptr=x.indptr[::-1].copy()), "x.indptr must ascend"),
        (broken(x, indptr=x.indptr[:-1]), "x.indptr must ascend"),
        (broken(x, indptr=x.indptr * 2), "x.indptr must ascend"),
    ]:
        refused(message, _core.sqnorms, bad)
        refused(message, _core.add_rows, bad, None, labels, sums, counts)
        refused(message, _core.own_sqdist, bad, c, labels)
        refused(message, _core.runner_up, bad, c, labels, ids)
        refused(message, _core.rescore, bad, c, ids)
    for bad in (broken(x, indptr=x.indptr * 2), x.tocsc()):
        bad.data = bad.data.astype(float)
        refused("x.indptr must ascend|x must be a CSR matrix", _core.sqnorms, bad)
    assert (sums == 0).all()

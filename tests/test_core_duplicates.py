"""The compiled loops that find near-duplicates against plain NumPy, at every level that this CPU has."""

import numpy as np
import pytest

from fastann.kernels import _core

COLUMNS = [1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64]


def rows(rng, n, d):
    """Rows of which some are near to others."""
    x = rng.standard_normal((n, d), dtype="f")
    near = rng.integers(n, size=n // 3)
    x[rng.integers(n, size=n // 3)] = x[near] * 2 + 0.05 * rng.standard_normal((n // 3, d), dtype="f")
    return x


def block(x):
    return (x, *_core.unit(x))


def cosines(x, y):
    x, y = (a.astype(np.float64) for a in (x, y))
    return x @ y.T / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))


# --------------------------------------------------------------------------- rows


@pytest.mark.parametrize("d", [*COLUMNS, 300])
def test_unit_rows_and_norms(level, rng, d):
    x = rows(rng, 45, d)
    x[7] = 0
    unit, norms = _core.unit(x)
    expected = np.linalg.norm(x.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, expected, rtol=1e-14)
    np.testing.assert_allclose(unit, x / np.maximum(expected, 1e-300)[:, None], rtol=1e-7)
    assert not unit[7].any()
    assert norms[7] == 0


def test_units_of_the_largest_and_smallest_rows(level):
    x = np.array([[3e38, -3e38, 0], [1e-40, 0, 1e-40], [0, 0, 0]], np.float32)
    unit, _ = _core.unit(x)
    np.testing.assert_allclose(unit, np.array([[1, -1, 0], [1, 0, 1], [0, 0, 0]]) / 2**0.5, rtol=1e-6)


@pytest.mark.parametrize("d", COLUMNS)
def test_fingerprints(rng, d):
    x = rng.integers(0, 3, size=(50, d)).astype("f")
    x[rng.random(x.shape) < 0.5] *= -1  # zeros of both signs
    for n in (50, 3, 0):
        found = _core.fingerprints(x[:n])
        assert found.dtype == np.uint64
        same = (x[:n, None] == x[:n]).all(axis=2)
        np.testing.assert_array_equal(found[:, None] == found, same)
    np.testing.assert_array_equal(_core.fingerprints(x[9:10]), _core.fingerprints(x)[9:10])


# --------------------------------------------------------------------------- borders


def near_borders(x, labels, own, c, half):
    """How far each row is from the border with each cluster, as a part of what is near at most; infinite beyond."""
    x, c = x.astype(np.float64), c.astype(np.float64)
    off = 4 * (x.shape[1] + 8) * 2.0**-24
    gap = half * np.sqrt(np.maximum(0, 2 - 2 * c[labels] @ c.T) + off) + off
    ratio = (own[:, None] - x @ c.T) / gap
    ratio[np.arange(len(x)), labels] = np.inf
    return np.where(ratio <= 1, ratio, np.inf)


@pytest.mark.parametrize("d", COLUMNS)
@pytest.mark.parametrize("k", [1, 33, 90])
def test_borders(level, rng, d, k):
    x, c = _core.unit(rows(rng, 150, d))[0], _core.unit(rng.standard_normal((k, d), dtype="f"))[0]
    x = x[np.argsort((x @ c.T).argmax(axis=1), kind="stable")]
    labels = (x @ c.T).argmax(axis=1).astype(np.int32)
    own = (x.astype(np.float64) * c[labels]).sum(axis=1).astype("f")
    for half, m in ((0.1, 0), (0.1, 3), (0.4, max(1, k - 1))):
        ids, count = _core.borders(x, labels, own, c, half, m)
        ratio = near_borders(x, labels, own, c, half)
        clear = (np.abs(ratio - 1) > 1e-3).all(axis=1)  # not so near to the limit that rounding decides
        np.testing.assert_array_equal(count[clear], np.isfinite(ratio).sum(axis=1)[clear])
        assert (count <= k - 1).all()
        assert ids.shape == (150, m)
        for i in np.flatnonzero(clear):
            taken = ids[i][ids[i] >= 0]
            assert len(taken) == min(m, count[i])
            assert (ids[i][len(taken) :] == -1).all()
            np.testing.assert_allclose(ratio[i][taken], np.sort(ratio[i])[: len(taken)], atol=1e-3)


# --------------------------------------------------------------------------- the first near row


def first_near(x, low, high, y, place, least):
    found, cosine = np.full(len(x), _core.CLEAR, np.int32), np.zeros(len(x), "f")
    wanted = (cosines(x, y) >= least) & (place >= low[:, None]) & (place < high[:, None])
    some = wanted.any(axis=1)
    first = wanted.argmax(axis=1)
    found[some] = place[first[some]]
    cosine[some] = np.minimum(1, cosines(x, y)[np.arange(len(x)), first])[some]
    return found, cosine


@pytest.mark.parametrize("d", COLUMNS)
@pytest.mark.parametrize(("n", "q"), [(1, 90), (70, 33), (150, 150)])
def test_the_first_near_column(level, rng, d, n, q):
    x, place = rows(rng, n + q, d), np.sort(rng.choice(3 * q, q, replace=False)).astype(np.int32)
    x, y = x[:n], np.ascontiguousarray(x[n:])
    low, high = (rng.integers(0, 3 * q + 1, n).astype(np.int32) for _ in range(2))
    for bounds in ((low * 0, high), (low // 3, high), (low * 0, high * 0 + 3 * q)):
        for least in (0.95, 0.3, -0.5):
            found, cosine = _core.first_near(block(x), *bounds, block(y), place, least)
            expected, values = first_near(x, *bounds, y, place, least)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_allclose(cosine, values, rtol=1e-6, atol=1e-7)


def test_the_first_of_rows_compared_with_those_before_them(level, rng):
    """As clusters are compared: a triangle, more than a thousand columns, copies everywhere."""
    x = rows(rng, 1500, 20)
    place = np.arange(1500, dtype=np.int32)
    found, cosine = _core.first_near(block(x), place * 0, place, block(x), place, 0.97)
    expected, values = first_near(x, place * 0, place, x, place, 0.97)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(cosine, values, rtol=1e-6)


def test_equal_and_parallel_rows_are_near_at_any_number_of_columns(level, rng):
    for d in (*COLUMNS, 5000):
        x = rng.standard_normal((3, d), dtype="f")
        y = x * np.array([[1], [2], [0.5]], np.float32)
        zeros = np.zeros(3, np.int32)
        found, _ = _core.first_near(block(x), zeros, zeros + 3, block(y), np.arange(3, dtype=np.int32), 1 - 1e-12)
        assert (found >= 0).all()
        if d > 1:
            assert found.tolist() == [0, 1, 2]


def test_the_same_on_every_level_and_any_number_of_threads(rng):
    x = rows(rng, 700, 50)
    place = np.arange(700, dtype=np.int32)
    c = _core.unit(rng.standard_normal((40, 50), dtype="f"))[0]
    u = _core.unit(x)[0]
    labels = np.sort((u @ c.T).argmax(axis=1).astype(np.int32))
    own = (u * c[labels]).sum(axis=1)
    before, decided, screened = (_core.level(), _core.threads()), set(), {}
    for name in _core.levels():
        for threads in (1, 2, 3):
            _core.use(name)
            _core.set_threads(threads)
            found = _core.first_near(block(x), place * 0, place, block(x), place, 0.95)
            decided.add(b"".join(part.tobytes() for part in (*_core.unit(x), _core.fingerprints(x), *found)))
            borders = _core.borders(u, labels, own, c, 0.2, 8)
            screened.setdefault(name, set()).add(b"".join(part.tobytes() for part in borders))
    _core.use(before[0])
    _core.set_threads(before[1])
    assert len(decided) == 1
    assert all(len(bits) == 1 for bits in screened.values())


# --------------------------------------------------------------------------- decisions


def known(n):
    return np.zeros(n, np.int8), np.arange(n, dtype=np.int32), np.ones(n, np.float32)


def ints(*values):
    return np.array(values, np.int32)


def test_which_memberships_are_ready():
    status, of, similarity = known(8)
    status[[5, 6]] = _core.KEPT, _core.DROPPED
    rows, columns = ints(0, 1, 2, 3, 4, 6), ints(5, 6, 7)
    # Near to a kept row, to a dropped one, to an undecided one; not compared; clear; dropped itself.
    found, cosine = ints(0, 1, 2, -1, -2, -1), np.array([0.99, 0.98, 0.97, 0, 0, 0], np.float32)
    places = _core.ready(rows, columns, found, cosine, status, of, similarity)
    assert places.tolist() == [1, 3]
    assert places.dtype == np.int32
    assert status.tolist() == [2, 0, 0, 0, 0, 1, 2, 0]
    assert of.tolist() == [5, 1, 2, 3, 4, 5, 6, 7]
    assert similarity.tolist() == [np.float32(0.99)] + [1] * 7


def test_what_a_comparison_decides():
    status, of, similarity = known(4)
    waits = ints(1, 1, 2, 1)
    rows, columns = ints(0, 1, 2, 3), ints(0, 3)
    found, cosine = ints(-1, -1, -1, -1), np.zeros(4, np.float32)
    # The first is clear and kept, so that the second is dropped; the others wait, for a task and a row.
    near, value = ints(-2, 0, -2, 1), np.array([0, 0.99, 0, 0.98], np.float32)
    _core.decide(rows, columns, ints(0, 1, 2, 3), near, value, found, cosine, waits, status, of, similarity)
    assert status.tolist() == [_core.KEPT, _core.DROPPED, _core.UNDECIDED, _core.UNDECIDED]
    assert waits.tolist() == [0, 1, 1, 1]
    assert found.tolist() == near.tolist()
    assert cosine.tolist() == value.tolist()
    assert of.tolist() == [0, 0, 2, 3]
    assert similarity.tolist() == [1, np.float32(0.99), 1, 1]


# --------------------------------------------------------------------------- what is refused


def test_arrays_that_do_not_fit_are_refused(rng):
    x, c = rows(rng, 6, 4), rows(rng, 3, 4)
    labels, own = np.zeros(6, np.int32), np.zeros(6, np.float32)
    with pytest.raises(TypeError, match="x must be a C-contiguous array of float32 with 2 dimensions, got float64"):
        _core.unit(x.astype(np.float64))
    with pytest.raises(TypeError, match="x must be a C-contiguous array of float32 with 2 dimensions"):
        _core.fingerprints(x.T)
    with pytest.raises(ValueError, match="c has 4 columns, 3 are needed: one for each column of x"):
        _core.borders(np.ascontiguousarray(x[:, :3]), labels, own, c, 0.1, 2)
    with pytest.raises(ValueError, match="labels has 5 entries, 6 are needed: one for each row of x"):
        _core.borders(x, labels[:5], own, c, 0.1, 2)
    with pytest.raises(IndexError, match="labels has 3, it must be at least 0 and below 3, the number of centres"):
        _core.borders(x, labels + 3, own, c, 0.1, 2)
    with pytest.raises(ValueError, match="m must not be negative, got -1"):
        _core.borders(x, labels, own, c, 0.1, -1)


def test_blocks_that_do_not_fit_are_refused(rng):
    x, y = block(rows(rng, 6, 4)), block(rows(rng, 3, 4))
    low, place = np.zeros(6, np.int32), np.arange(3, dtype=np.int32)
    with pytest.raises(ValueError, match="rows must be three arrays: rows, their directions, their norms"):
        _core.first_near(x[:2], low, low, y, place, 0.9)
    with pytest.raises(ValueError, match="rows has 3 rows, 6 are needed: as many rows as they are"):
        _core.first_near((x[0], y[1], x[2]), low, low, y, place, 0.9)
    with pytest.raises(ValueError, match="columns has 2 entries, 3 are needed: the norm of each row"):
        _core.first_near(x, low, low, (y[0], y[1], y[2][:2]), place, 0.9)
    with pytest.raises(ValueError, match="columns has 5 columns, 4 are needed: as many as rows have"):
        _core.first_near(x, low, low, block(rows(rng, 3, 5)), place, 0.9)
    with pytest.raises(ValueError, match="high has 5 entries, 6 are needed: one for each of rows"):
        _core.first_near(x, low, low[:5], y, place, 0.9)
    with pytest.raises(ValueError, match="place has 2 entries, 3 are needed: one for each of columns"):
        _core.first_near(x, low, low, y, place[:2], 0.9)


def test_decisions_outside_of_their_arrays_are_refused():
    def ready(rows=(0, 1), columns=(2,), found=(-1, 0)):
        cosine = np.zeros(len(rows), np.float32)
        return _core.ready(ints(*rows), ints(*columns), ints(*found), cosine, *known(3))

    assert ready().tolist() == [0]
    for change, message in [
        ({"rows": (0, 3)}, "rows has 3, it must be at least 0 and below 3, the number of rows"),
        ({"rows": (0, -1)}, "rows has -1"),
        ({"columns": (3,)}, "columns has 3"),
        ({"found": (-3, 0)}, "found has -3, it must be at least -2 and below 1, the number of columns"),
        ({"found": (1, 0)}, "found has 1"),
    ]:
        with pytest.raises(IndexError, match=message):
            ready(**change)
    with pytest.raises(ValueError, match="found has 1 entries, 2 are needed: one for each of rows"):
        ready(found=(0,))

    def decide(places=(1,), near=(0,), waits=3):
        value, found, cosine = np.zeros(len(places), np.float32), ints(-1, -1), np.zeros(2, np.float32)
        task = ints(0, 1), ints(2), ints(*places), ints(*near), value, found, cosine
        _core.decide(*task, np.ones(waits, np.int32), *known(3))

    decide()
    for change, message in [
        ({"places": (2,)}, "places has 2, it must be at least 0 and below 2, the number of rows"),
        ({"near": (1,)}, "near has 1, it must be at least -2 and below 1, the number of columns"),
        ({"near": (-1,)}, "near has -1, it must be a place in columns, or CLEAR"),
        ({"waits": 2}, "waits has 2 entries, 3 are needed: one for each of status"),
        ({"near": (0, 0)}, "near has 2 entries, 1 are needed: one for each of places"),
    ]:
        with pytest.raises((IndexError, ValueError), match=message):
            decide(**change)
    frozen = known(3)
    frozen[0].flags.writeable = False
    with pytest.raises(TypeError, match="status must be a C-contiguous, writable array of int8"):
        _core.ready(ints(0), ints(2), ints(-1), np.zeros(1, np.float32), *frozen)

"""Groups of rows, and gradients of prototypes, of the core against plain NumPy, at every level that this CPU has."""

import numpy as np
import pytest
from scipy import sparse
from test_core_visits import COLUMNS, distances, everywhere, of_kind, plain, whole

from fastann.kernels import _core

KINDS = ["dense", "sparse"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


# --------------------------------------------------------------------------- groups


@pytest.mark.parametrize("d", [*COLUMNS, 200])
def test_rows_find_the_nearest_of_their_group(level, kind, rng, d):
    first = np.array([0, 1, 1, 4, 23])
    x, c = whole(rng, 150, d), whole(rng, 23, d)
    c[20] = c[9]  # ties, which go to the lowest
    labels = rng.integers(-1, 4, 150).astype(np.int32)
    ids, sqdist = _core.nearest_in_group(of_kind(kind, x), labels, of_kind(kind, c), first)
    far = distances(x, c)
    for i, g in enumerate(labels):
        if g < 0 or first[g] == first[g + 1]:
            assert (ids[i], sqdist[i]) == (-1, np.inf)
            continue
        own = far[i, first[g] : first[g + 1]]
        assert (ids[i], sqdist[i]) == (first[g] + own.argmin(), own.min())


@pytest.mark.parametrize("sizes", [[0, 1, 3, 40], [0, 9, 30, 40]])
def test_the_nearest_within_a_distance_are_all_found(level, kind, rng, sizes):
    first, labels = np.array(sizes), rng.integers(0, 3, 300).astype(np.int32)
    x, c = of_kind(kind, whole(rng, 300, 70)), of_kind(kind, whole(rng, 40, 70))
    all_ids, all_sqdist = _core.nearest_in_group(x, labels, c, first)
    within = np.median(all_sqdist) * np.ones(300)
    ids, sqdist = _core.nearest_in_group(x, labels, c, first, within)
    inside = all_sqdist <= within
    np.testing.assert_array_equal(ids[inside], all_ids[inside])
    np.testing.assert_array_equal(sqdist[inside], all_sqdist[inside])
    assert (sqdist[~inside] > within[0]).all()
    np.testing.assert_array_equal(sqdist == np.inf, ids == -1)
    with pytest.raises(ValueError, match="within"):
        _core.nearest_in_group(x, labels, c, first, within[1:])


def test_the_nearest_is_certain_where_float32_is_not(level, rng):
    """Centroids so near to each other that the distances to them differ in the last bits of float32, or less."""
    c = (1 + 1e-6 * rng.standard_normal((40, 70))).astype("f")
    x = (3 + rng.standard_normal((200, 70))).astype("f")
    ids, _ = _core.nearest_in_group(x, np.zeros(200, np.int32), c, np.array([0, 40]))
    np.testing.assert_array_equal(ids, distances(x, c).argmin(axis=1))


def test_the_nearest_of_huge_and_of_tiny_rows(level, rng):
    for scale in (1e19, 1e-21):
        c = (scale * rng.standard_normal((30, 20))).astype("f")
        x = (scale * rng.standard_normal((50, 20))).astype("f")
        ids, _ = _core.nearest_in_group(x, np.zeros(50, np.int32), c, np.array([0, 30]))
        np.testing.assert_array_equal(ids, distances(x, c).argmin(axis=1))


@pytest.mark.parametrize("rows", KINDS)
def test_groups_have_the_same_bits_everywhere(rng, rows):
    x, c = (of_kind(rows, rng.standard_normal((n, 70), dtype="f") * (rng.random((n, 70)) < 0.5)) for n in (4000, 40))
    labels, first = rng.integers(0, 8, 4000).astype(np.int32), np.arange(0, 41, 5)
    uniform, w = rng.random((48, 3)), rng.random(4000)
    picks, told = np.arange(40) * 100, np.arange(0, 41, 5)

    def start(rounded):
        closest = np.full(4000, np.inf)
        grouped = _core.grouped(x, labels, 8, rounded)
        drawn = _core.plus_plus(x, w, grouped, np.full(8, 6), uniform, closest)
        _core.hear(x, grouped, picks, told, closest)
        return drawn, closest

    calls = [lambda: _core.nearest_in_group(x, labels, c, first), lambda: start(False), lambda: start(True)]
    for call in calls:
        one, *others = everywhere(call)
        for other in others:
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)


def centres(x, w, size, uniform):
    """Greedy k-means++ of one group, as plainly as can be."""
    x, closest, picks = plain(x), np.full(x.shape[0], np.inf), []
    mass = w.copy()
    for draws in uniform[:size]:
        tried = []
        for u in draws if picks else draws[:1]:
            seen = np.cumsum(mass)
            if seen[-1] <= 0:
                return picks
            pick = int(np.searchsorted(seen, u * seen[-1], side="right"))
            near = np.minimum(closest, ((x - x[pick]) ** 2).sum(axis=1))
            tried.append((w @ near, pick, near))
        _, pick, closest = min(tried, key=lambda t: t[0])
        picks.append(pick)
        mass = w * closest
    return picks


@pytest.mark.parametrize("d", [1, 7, 17, 64, 100])
def test_plus_plus_picks_what_it_says(level, kind, rng, d):
    x, w, labels = whole(rng, 60, d), rng.integers(0, 3, 60).astype(float), rng.choice([-1, 0, 2], 60).astype(np.int32)
    sizes, uniform = np.array([4, 2, 7]), rng.random((13, 3))
    rows = of_kind(kind, x)
    picks = _core.plus_plus(rows, w, _core.grouped(rows, labels, 3), sizes, uniform)
    for g, start in enumerate(np.cumsum(sizes) - sizes):
        own = np.flatnonzero(labels == g)
        expected = np.full(sizes[g], -1)
        if len(own):
            got = centres(x[own], w[own], sizes[g], uniform[start : start + sizes[g]])
            expected[: len(got)] = own[got]
        np.testing.assert_array_equal(picks[start : start + sizes[g]], expected)


@pytest.mark.parametrize("rounded", [False, True])
def test_some_rows_of_a_table_are_drawn_as_if_they_were_alone(level, kind, rng, rounded):
    x, some = of_kind(kind, rng.standard_normal((900, 40), dtype="f")), rng.permutation(900)[:400].astype(np.int32)
    labels, w, uniform = rng.integers(-1, 5, 400).astype(np.int32), rng.random(400), rng.random((40, 3))
    found = []
    for table, rows in ((x, some), (x[some], None)):
        closest, grouped = np.full(400, np.inf), _core.grouped(table, labels, 5, rounded, rows)
        picks = _core.plus_plus(table, w, grouped, np.full(5, 8), uniform, closest)
        told = np.repeat(picks[:5], 2)
        _core.hear(table, grouped, told, np.array([0, 0, 4, 10, 10, 10]), closest)
        found.append((picks, closest))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    with pytest.raises(IndexError, match="rows"):
        _core.grouped(x, labels, 5, rounded, some + 900)


@pytest.mark.parametrize("d", [1, 33, 64, 384])
def test_rounded_rows_are_as_far_apart_as_rounding_leaves_them(level, rng, d):
    x = (rng.standard_normal((300, d)) + 5).astype(np.float32)
    x[150:] = x[:150]  # each twice: no distance of zero may become another
    labels, closest = rng.integers(0, 4, 300).astype(np.int32), np.full(300, np.inf)
    grouped = _core.grouped(x, labels, 4, True)
    picks = _core.plus_plus(x, np.ones(300), grouped, np.full(4, 5), rng.random((20, 3)), closest)
    assert (labels[picks] == np.repeat(np.arange(4), 5)).all()
    told, first = np.repeat(picks[:5], 2), np.array([0, 0, 4, 10, 10])
    _core.hear(x, grouped, told, first, closest)
    for g in range(4):
        own, centres = labels == g, np.concatenate([picks[5 * g : 5 * g + 5], told[first[g] : first[g + 1]]])
        far = ((x[own, None].astype(float) - x[centres]) ** 2).sum(axis=2).min(axis=1)
        np.testing.assert_allclose(closest[own], far, rtol=0.3)
        np.testing.assert_array_equal(closest[own] == 0, far == 0)


def test_rounded_starts_leave_as_little_as_exact_ones(rng):
    modes = rng.standard_normal((60, 100))
    x = (modes[rng.integers(0, 60, 6000)] + 0.1 * rng.standard_normal((6000, 100))).astype(np.float32)
    labels, left = np.zeros(6000, np.int32), []
    for rounded in (False, True):
        closest = np.full(6000, np.inf)
        grouped = _core.grouped(x, labels, 1, rounded)
        _core.plus_plus(x, np.ones(6000), grouped, np.array([60]), rng.random((60, 6)), closest)
        left.append(closest.sum())
    assert left[1] < 1.05 * left[0]


def test_arrays_of_groups_are_checked(rng):
    x, c, labels = whole(rng, 20, 3), whole(rng, 4, 3), np.zeros(20, np.int32)
    with pytest.raises(IndexError, match="labels has 2, it must be"):
        _core.nearest_in_group(x, labels + 2, c, np.array([0, 2, 4]))
    with pytest.raises(IndexError, match="first must ascend from 0 to at most 4"):
        _core.nearest_in_group(x, labels, c, np.array([0, 5]))
    with pytest.raises(ValueError, match="as many columns"):
        _core.nearest_in_group(x, labels, whole(rng, 4, 2), np.array([0, 4]))
    with pytest.raises(TypeError, match="labels must be a C-contiguous array of int32"):
        _core.nearest_in_group(x, labels.astype(np.int64), c, np.array([0, 4]))
    broken = sparse.csr_matrix(c)
    broken.indices[1] = 3
    with pytest.raises(ValueError, match="centroids has 3"):
        _core.nearest_in_group(sparse.csr_matrix(x), labels, broken, np.array([0, 4]))
    ones, grouped = np.ones(20), _core.grouped(x, labels, 1)
    with pytest.raises(IndexError, match="labels has 2, it must be"):
        _core.grouped(x, labels + 2, 2)
    with pytest.raises(ValueError, match="x must be the rows that were grouped"):
        _core.plus_plus(x[1:], ones[1:], grouped, np.array([2]), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="sizes must be"):
        _core.plus_plus(x, ones, grouped, np.array([-1]), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="uniform has 3 rows, 2 are needed"):
        _core.plus_plus(x, ones, grouped, np.array([2]), np.zeros((3, 3)))
    with pytest.raises(IndexError, match="picks must be rows that were grouped"):
        _core.hear(x, grouped, np.array([20]), np.array([0, 1]), ones)
    with pytest.raises(IndexError, match="first must ascend from 0 to at most 1"):
        _core.hear(x, grouped, np.array([0]), np.array([0, 2]), ones)


# --------------------------------------------------------------------------- gradients


def batch(rng, b=40, k=9, m=4):
    """Lists of prototypes, each once in a row, some missing; and the classes of prototypes and rows."""
    ids = np.stack([rng.permutation(k)[:m] for _ in range(b)]).astype(np.int32)
    ids[rng.random(ids.shape) < 0.3] = -1
    return ids, (np.arange(k) % 3).astype(np.int32), rng.integers(0, 3, b).astype(np.int32)


def test_pairs_are_grouped_by_prototype(rng):
    ids, _, _ = batch(rng)
    first, places = _core.pairs_by_prototype(ids, 9)
    for j in range(9):
        np.testing.assert_array_equal(places[first[j] : first[j + 1]], np.flatnonzero(ids == j))
    assert first[-1] == len(places)


@pytest.mark.parametrize("prototypes", KINDS)
@pytest.mark.parametrize("d", [*COLUMNS, 200])
def test_scores_of_pairs(level, kind, rng, d, prototypes):
    ids, _, _ = batch(rng)
    x, v = whole(rng, 40, d), whole(rng, 9, d)
    first, places = _core.pairs_by_prototype(ids, 9)
    for euclidean, truth in ((True, -distances(x, v)), (False, plain(x) @ plain(v).T)):
        score = _core.pair_scores(of_kind(kind, x), of_kind(prototypes, v), first, places, 4, euclidean)
        expected = np.where(ids >= 0, np.take_along_axis(truth, np.maximum(ids, 0), axis=1), 0)
        np.testing.assert_array_equal(score, expected)


def test_coefficients_are_the_derivatives_of_the_loss(rng):
    ids, owner, labels = batch(rng)
    ids[3] = -1  # a row without any
    w, score = rng.random(40), rng.standard_normal((40, 4)).astype("f")
    scale, smooth = 1.7, 0.15
    slope, loss = _core.coefficients(ids, owner, labels, w, scale, smooth, score)
    for i in range(40):
        there = ids[i] >= 0
        right = there & (owner[ids[i]] == labels[i])
        if not right.any():
            assert np.isfinite(loss[i]).all()
            continue
        e = np.where(there, np.exp(scale * score[i].astype(float)), 0)
        q, own = e / e.sum(), np.where(right, e, 0) / e[right].sum()
        np.testing.assert_allclose(loss[i, 0], -w[i] * np.log(e[right].sum() / e.sum()), rtol=1e-6, atol=1e-7)
        expected = np.where(there, q - (1 - smooth) * own - smooth / there.sum(), 0)
        np.testing.assert_allclose(slope[i], w[i] * expected, rtol=1e-5, atol=1e-6)
        by_scale = w[i] * scale * (expected @ (score[i] - score[i][there].max()))
        np.testing.assert_allclose(loss[i, 1], by_scale, rtol=1e-4, atol=1e-6)
    assert not loss[3].any()
    assert not slope[3].any()


def adam(v, gradient, one, two, taken, rate, least):
    """One step, in float64."""
    one, two = 0.9 * one + 0.1 * gradient, 0.99 * two + 0.01 * gradient**2
    move = rate * (one / (1 - 0.9**taken)) / (np.sqrt(two / (1 - 0.99**taken)) + least)
    return np.where(v != 0, v - move, v), one, two


@pytest.mark.parametrize("euclidean", [True, False])
@pytest.mark.parametrize("prototypes", KINDS)
@pytest.mark.parametrize("d", [1, 7, 8, 17, 33, 64])
def test_prototypes_descend_by_adam(level, kind, rng, d, prototypes, euclidean):
    ids, _, _ = batch(rng)
    ids[ids == 5] = -1  # a prototype without pairs
    x, v = whole(rng, 40, d), whole(rng, 9, d) + np.eye(9, d, dtype="f") * 5
    v[(v == 0).all(axis=1), 0] = 1
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    given = of_kind(prototypes, v.copy())
    stored = np.ones(v.shape, bool) if prototypes == "dense" else v != 0
    mean, square, taken = np.zeros(stored.sum(), "f"), np.zeros(stored.sum(), "f"), np.zeros(9, np.int64)
    first, places = _core.pairs_by_prototype(ids, 9)
    expected, one, two = plain(v), np.zeros(v.shape), np.zeros(v.shape)
    for step in (1, 2):
        slope = rng.standard_normal(ids.shape).astype("f")
        _core.descend(of_kind(kind, x), given, first, places, slope, euclidean, 1.5, 0.01, 1e-3, mean, square, taken)
        for j in set(range(9)) - {5}:
            i, s = np.nonzero(ids == j)
            g = (slope[i, s, None] * plain(x)[i]).sum(axis=0)
            pull = slope[i, s].sum() if euclidean else g @ np.where(stored[j], expected[j], 0)
            g = (3.0 if euclidean else 1.5) * (g - pull * expected[j])
            expected[j], one[j], two[j] = adam(expected[j], g, one[j], two[j], step, 0.01, 1e-3)
            if not euclidean:
                expected[j] /= np.linalg.norm(expected[j])
        np.testing.assert_allclose(plain(given), expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(mean, one[stored], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(taken, np.where(np.arange(9) == 5, 0, 2))
    np.testing.assert_array_equal(plain(given)[5], v[5])
    assert (plain(given)[v == 0] == 0).all()


def test_arrays_of_a_step_are_checked(rng):
    ids, owner, labels = batch(rng)
    x, v, w, score = whole(rng, 40, 5), whole(rng, 9, 5), np.ones(40), np.zeros((40, 4), "f")
    first, places = _core.pairs_by_prototype(ids, 9)
    with pytest.raises(IndexError, match="ids must be below k"):
        _core.pairs_by_prototype(ids, int(ids.max()))
    with pytest.raises(IndexError, match="places must be"):
        _core.pair_scores(x[:30].copy(), v, first, places, 4, True)
    with pytest.raises(IndexError, match="first must ascend"):
        _core.pair_scores(x, v, first[::-1].copy(), places, 4, True)
    with pytest.raises(ValueError, match="as many columns"):
        _core.pair_scores(x, whole(rng, 9, 4), first, places, 4, True)
    with pytest.raises(IndexError, match="ids must be below"):
        _core.coefficients(ids, owner[:4].copy(), labels, w, 1.0, 0.1, score)
    with pytest.raises(ValueError, match="score has 3 columns, 4 are needed"):
        _core.coefficients(ids, owner, labels, w, 1.0, 0.1, score[:, :3].copy())
    rest = (score, True, 1.0, 0.1, 0.1)
    moments = np.zeros(45, "f"), np.zeros(45, "f"), np.zeros(9, np.int64)
    with pytest.raises(ValueError, match="mean has 44 entries, 45 are needed"):
        _core.descend(x, v, first, places, *rest, moments[0][:44].copy(), *moments[1:])
    v.flags.writeable = False
    with pytest.raises(TypeError, match="prototypes must be a C-contiguous, writable array"):
        _core.descend(x, v, first, places, *rest, *moments)

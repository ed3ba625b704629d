"""One look of iterations at rows side by side against plain NumPy, at every level that this CPU has."""

import numpy as np
import pytest

from fastann import kernels


def clusters(rng, n, d, k):
    """Rows in clear groups, those of a group side by side as far as `n` is, weights, and some centroids."""
    means = rng.normal(0, 9, (k, d))
    x = (means[np.sort(rng.integers(k, size=n))] + rng.normal(0, 1, (n, d))).astype("f")
    return x, rng.random(n), (means + rng.normal(0, 1, (k, d))).astype("f")


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 7, 8, 17, 64])
@pytest.mark.parametrize(("n", "k"), [(1, 2), (63, 3), (64, 16), (65, 17), (700, 33), (5000, 130)])
def test_the_two_nearest_the_sums_and_the_cost(level, rng, n, d, k):
    for x, weights, c in (
        clusters(rng, n, d, k),
        (rng.standard_normal((n, d), dtype="f"), None, rng.random((k, d), "f")),
    ):
        ids, sqdist, sums, mass, loss, cost, compared = kernels.assign(*kernels.in_lanes(x), x, weights, c, True)
        all_ = ((x[:, None].astype(np.float64) - c) ** 2).sum(axis=2)
        two, w = np.sort(all_, axis=1)[:, :2].T, np.ones(n) if weights is None else weights
        np.testing.assert_allclose(sqdist, two, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(all_, ids.T.astype(int), 1).T, two, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(mass, np.bincount(ids[0], w, k))
        np.testing.assert_allclose(loss, np.bincount(ids[0], w * (sqdist[1] - sqdist[0]), k), rtol=1e-4, atol=1e-4)
        expected = np.zeros((k, d))
        np.add.at(expected, ids[0], w[:, None] * x.astype(np.float64))
        np.testing.assert_allclose(sums, expected, rtol=1e-9, atol=1e-9)
        assert cost == pytest.approx(float(sqdist[0].astype(np.float64) @ w))
        assert n <= compared <= -(-n // 64) * 64 * k
        none, _, again, *_, same, _ = kernels.assign(*kernels.in_lanes(x), x, weights, c, False)
        assert none.shape == (0, n)
        np.testing.assert_allclose(again, sums, rtol=1e-4, atol=1e-3)
        assert same == pytest.approx(cost)


def test_one_centroid_has_no_second(level, rng):
    x = rng.standard_normal((100, 3), dtype="f")
    ids, sqdist, _, mass, loss, _, _ = kernels.assign(*kernels.in_lanes(x), x, None, x[:1].copy(), True)
    assert set(ids[0]) == {0}
    assert set(ids[1]) == {-1}
    assert np.isinf(sqdist[1]).all()
    assert (mass[0], loss[0]) == (100, 0)


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_rows_that_are_not_numbers_add_nothing(level, rng, bad, two):
    x, weights, c = clusters(rng, 400, 3, 5)
    x[37, 1] = x[38, 2] = bad
    ids, _, sums, mass, loss, _, _ = kernels.assign(*kernels.in_lanes(x), x, weights, c, two)
    weights[37:39] = 0
    x[37:39] = 0
    _, _, expected, others, lost, _, _ = kernels.assign(*kernels.in_lanes(x), x, weights, c, two)
    np.testing.assert_allclose(sums, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mass, others)
    np.testing.assert_allclose(loss, lost, rtol=1e-3, atol=1e-3)
    assert not two or set(ids[0, 37:39]) == {-1}


def test_rows_near_each_other_are_compared_with_few(rng):
    c = rng.normal(0, 100, (100, 2)).astype("f")
    x = (np.repeat(c, 64, axis=0) + rng.standard_normal((6400, 2))).astype("f")
    assert kernels.assign(*kernels.in_lanes(x), x, None, c, False)[-1] < 0.1 * 6400 * 100


def test_the_same_bits_on_any_number_of_threads(rng):
    x, weights, c = clusters(rng, 20_000, 3, 40)
    looks = []
    for threads in (1, 2, 5):
        with kernels.limit_threads(threads):
            looks.append(kernels.assign(*kernels.in_lanes(x), x, weights, c, True))
    for other in looks[1:]:
        for one, two in zip(looks[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_what_does_not_fit_is_refused(rng):
    x = rng.standard_normal((70, 3), dtype="f")
    lanes, boxes = kernels.in_lanes(x)
    with pytest.raises(ValueError, match="lanes has 8 rows, 4 are needed"):
        kernels.assign(lanes, boxes[:1], x[:60], None, x[:2], False)
    with pytest.raises(ValueError, match="boxes has 1 rows, 2 are needed"):
        kernels.assign(lanes, boxes[:1], x, None, x[:2], False)
    with pytest.raises(ValueError, match="centroids has 2 columns, 3 are needed"):
        kernels.assign(lanes, boxes, x, None, x[:2, :2].copy(), False)
    with pytest.raises(ValueError, match="a column and a centroid"):
        kernels.assign(lanes, boxes, x, None, x[:0], False)

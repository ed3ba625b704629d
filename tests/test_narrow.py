"""Starts of wide rows: looked at in few directions, unless rows lie where these do not tell them apart."""

import numpy as np
import pytest
import sklearn.cluster
from scipy import sparse

from fastann import KMeans, kernels
from fastann.cluster import narrow, start
from fastann.cluster.memory import Memory
from fastann.cluster.space import Euclidean
from fastann.data.open import as_source


def rows_of(n=4000, d=200, groups=60, seed=0):
    """Overlapping groups in few directions of many, and noise in all."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(0, 1, (12, d)) / np.sqrt(d)
    means = rng.normal(0, 2, (groups, 12)) @ basis
    return (means[rng.integers(groups, size=n)] + rng.normal(0, 0.1, (n, d))).astype(np.float32)


def cost(x, centres):
    total = 0.0
    for part in np.array_split(x.astype(np.float64), 10):
        total += ((part[:, None] - centres[None]) ** 2).sum(2).min(1).sum()
    return total


def view(x, k, weights=None, seed=0):
    lot = start.Whole(as_source(x), weights)
    return narrow.Narrow.of(lot, k, Euclidean(), np.random.default_rng(seed), Memory())


@pytest.mark.parametrize(
    ("n", "d", "m"), [(1, 1, 1), (3, 7, 5), (257, 130, 33), (700, 65, 96), (0, 4, 3), (20, 5000, 3)]
)
def test_products_of_rows(level, n, d, m, rng):
    x, c = rng.standard_normal((n, d), dtype="f"), rng.standard_normal((m, d), dtype="f")
    np.testing.assert_allclose(kernels.project(x, c), x.astype(float) @ c.T, rtol=1e-4, atol=1e-4 * np.sqrt(d))


def test_products_need_rows_of_one_width():
    with pytest.raises(ValueError, match="directions"):
        kernels.project(np.ones((3, 4), "f"), np.ones((2, 5), "f"))


def test_directions_are_orthonormal_and_hold_what_varies(rng):
    x = rows_of()
    mean, q = narrow.directions(x, None, rng)
    np.testing.assert_allclose(q @ q.T, np.eye(len(q)), atol=1e-5)
    centred = x - x.mean(0)
    np.testing.assert_allclose(mean, x.mean(0), atol=0.1)
    best = np.linalg.svd(centred, full_matrices=False)[1] ** 2
    assert ((centred @ q.T) ** 2).sum() > 0.97 * best[: len(q)].sum()


@pytest.mark.parametrize("x", [np.ones((50, 128), "f"), np.zeros((50, 128), "f"), np.eye(128, dtype="f")[:20] * 1e15])
def test_rows_that_differ_in_few_directions(x, rng):
    _, q = narrow.directions(x, None, rng)
    assert np.isfinite(q).all()
    lot = start.Whole(as_source(x), None)
    some = narrow.Narrow.of(lot, 2, Euclidean(), rng, Memory())
    assert some is not None
    assert np.isfinite(some.best(len(x), Euclidean(), rng)).all()


@pytest.mark.parametrize("columns", [1, 2, 3, 10])
@pytest.mark.parametrize("rest", [0.0, 7.1])
def test_distances_in_directions_are_no_larger_than_they_are(columns, rest, rng):
    x = np.full((3000, 200), rest, np.float32)
    x[:, :columns] = rng.normal(0, 1, (3000, columns)) * np.geomspace(1, 0.1, columns)
    _, q = narrow.directions(x, None, rng)
    among = (x[:1500] - x[1500:]).astype(float)
    np.testing.assert_allclose(((among @ q.T) ** 2).sum(1), (among**2).sum(1), rtol=1e-4)


@pytest.mark.parametrize("heavy", [40, 300])
def test_directions_and_starts_are_those_of_rows_that_have_a_weight(heavy):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (20_000, 130)).astype(np.float32)
    weights = np.zeros(len(x))
    some = rng.choice(len(x), heavy, replace=False)
    weights[some] = 1
    found = [view(x, 20, weights, s).best(len(x), Euclidean(), np.random.default_rng(s)) for s in range(4)]
    alone = [view(x[some], 20, seed=s).best(heavy, Euclidean(), np.random.default_rng(s)) for s in range(4)]
    assert np.mean([cost(x[some], c) for c in found]) < 1.02 * np.mean([cost(x[some], c) for c in alone])


@pytest.mark.parametrize("shared", [0.0, 10.0])
def test_directions_are_clustered_by_their_angles(shared):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1.5, (70, 130))[rng.integers(70, size=6000)] + rng.normal(0, 1, (6000, 130))
    x[:, 0] += shared  # what all rows have in common, which makes the sums of clusters long
    x = x.astype(np.float32)
    found = [KMeans(40, metric="cosine", random_state=s).fit(x).inertia_ for s in range(4)]
    plain = [KMeans(40, metric="cosine", swaps=False, random_state=s).fit(x).inertia_ for s in range(4)]
    assert np.mean(found) < 0.99 * np.mean(plain)


def test_what_is_looked_at_in_directions():
    assert narrow.suits(as_source(np.ones((9, 128), "f")))
    assert not narrow.suits(as_source(np.ones((9, 127), "f")))
    assert not narrow.suits(as_source(sparse.csr_matrix(np.ones((9, 128), "f"))))


def test_rows_far_from_all_others_keep_centres_of_their_own():
    x = rows_of(n=20_000, d=384)
    x[:, 5] = 0
    assert view(x, 20) is not None
    x[:3, 5] = 200  # too few for the rows that tell directions
    assert view(x, 20) is None
    found = KMeans(20, random_state=0).fit(x)
    assert not set(found.labels_[:3]) & set(found.labels_[3:])


def test_weights_say_what_matters():
    x = rows_of()
    weights = np.where(np.arange(len(x)) < 2000, 1.0, 1e-9)
    some = view(x, 60, weights)
    found = some.best(len(x), Euclidean(), np.random.default_rng(0))
    alone = view(x[:2000], 60).best(2000, Euclidean(), np.random.default_rng(0))
    assert cost(x[:2000], found) < 1.03 * cost(x[:2000], alone)


def test_the_same_for_a_seed_on_any_threads():
    x = rows_of()
    found = [KMeans(60, n_jobs=jobs, random_state=3).fit(x).cluster_centers_ for jobs in (1, 2)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_no_higher_than_ten_starts_of_scikit_learn(metric):
    x = rows_of(groups=90, seed=1)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    theirs = sklearn.cluster.KMeans(60, n_init=10, random_state=0).fit(x).cluster_centers_
    if metric == "cosine":
        theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    found = [KMeans(60, metric=metric, random_state=s).fit(x).cluster_centers_ for s in range(3)]
    assert np.mean([cost(x, each) for each in found]) < cost(x, theirs)

"""Swaps: a start that gave two centres to one group and one to two is mended before the iterations."""

import numpy as np
import pytest
import sklearn.cluster
from scipy import sparse
from sklearn.datasets import load_digits, make_blobs

from fastann import KMeans
from fastann.cluster import plan
from fastann.cluster.deep import DeepSwaps
from fastann.cluster.space import Euclidean
from fastann.cluster.swap import Swaps


def misplaced(groups=12, d=5, per=200):
    """Clear groups, the cost of their means, and centres of which the first three lie in the first group."""
    rng = np.random.default_rng(0)
    means = rng.normal(0, 20, (groups, d))
    x = (np.repeat(means, per, axis=0) + rng.normal(0, 1, (groups * per, d))).astype(np.float32)
    cost = ((x - x.reshape(groups, per, d).mean(1).repeat(per, axis=0)) ** 2).sum()
    return x, float(cost), np.concatenate([x[:3], x[3 * per :: per]])


def cost(x, centres, weights=None):
    least = ((x[:, None].astype(np.float64) - centres) ** 2).sum(2).min(1)
    return float(least.sum() if weights is None else least @ weights)


def improved(x, weights, centres, seed=0, n=None, again=None):
    swaps = Swaps(x, weights, len(centres), Euclidean(), np.random.default_rng(seed))
    return swaps.best(centres, x.shape[0] if n is None else n, again or (lambda: centres))


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_misplaced_centres_find_the_groups_without_one(kind):
    x, best, centres = misplaced()
    assert sklearn.cluster.KMeans(12, init=centres, n_init=1).fit(x).inertia_ > 5 * best
    found = improved(kind(x), None, centres)
    assert cost(x, found) < 1.01 * best


def test_weights_say_what_matters():
    x, _, centres = misplaced()
    weights = np.repeat([1.0] * 10 + [1e-9] * 2, 200)  # the last two groups weigh nothing
    found = improved(x, weights, centres[:10])
    own = x[:2000].reshape(10, 200, 5).mean(1).repeat(200, axis=0)
    assert cost(x, found, weights) < 1.01 * float(((x[:2000] - own) ** 2).sum())


def test_centres_that_are_right_stay():
    x = misplaced()[0]
    right = x.reshape(12, 200, 5).mean(1)
    found = improved(x, None, right)
    np.testing.assert_allclose(found, right, atol=1e-4)


@pytest.mark.parametrize("k", [2, 3, 40])
def test_never_worse_and_the_same_for_a_seed(k):
    x = np.random.default_rng(0).standard_t(3, (700, 4)).astype(np.float32)
    found = [improved(x, None, x[:k], s) for s in (0, 0)]
    np.testing.assert_array_equal(*found)
    assert cost(x, found[0]) <= cost(x, x[:k])


def test_equal_rows_have_nothing_to_gain():
    x = np.ones((50, 3), np.float32)
    np.testing.assert_array_equal(improved(x, None, x[:4]), x[:4])


def test_other_starts_are_tried_where_the_sample_is_a_small_part():
    x = np.random.default_rng(0).standard_t(3, (700, 80)).astype(np.float32)  # too many columns for quick looks
    calls, starts = [], np.random.default_rng(1)

    def again():
        calls.append(1)
        return x[starts.choice(700, 9, replace=False)]

    found = [cost(x, improved(x, None, x[:9], n=n, again=again)) for n in (700, 700_000)]
    assert found[1] <= found[0]
    assert len(calls) == 4


def test_breaths_of_many_clusters_are_deeper_where_clusters_overlap():
    rng = np.random.default_rng(5)
    x = (rng.normal(0, 1, (120, 24))[rng.integers(120, size=6000)] + rng.normal(0, 0.7, (6000, 24))).astype(np.float32)
    few, many = [], []
    for seed in range(3):
        start = x[np.random.default_rng(seed).choice(len(x), 60, replace=False)]
        few.append(cost(x, Swaps(x, None, 60, Euclidean(), np.random.default_rng(seed)).improved(start)))
        many.append(cost(x, improved(x, None, start, seed)))
    assert np.mean(many) < np.mean(few)


def deep(x, weights=None, k=30, seed=0):
    return DeepSwaps(x, weights, k, Euclidean(), np.random.default_rng(seed))


def test_more_rows_have_the_last_word():
    x = make_blobs(50_000, 2, centers=60, random_state=0)[0].astype(np.float32)
    few, calls = x[:8000], []

    def again():
        calls.append(1)
        return x[100:130]

    assert deep(few).more(50_000) == 50_000
    assert deep(few).more(8000) == 0
    assert deep(few).more(10**7) == 2**17
    found = deep(few).best(x[:30], 50_000, again)
    assert len(calls) == 1
    assert cost(few, found) < cost(few, x[:30])
    last = deep(x).closed(found)
    assert cost(x, last) <= cost(x, found)
    np.testing.assert_array_equal(deep(x).closed(found), last)


def test_what_is_looked_at_quickly():
    def suits(n, d, k, kind=np.asarray):
        return DeepSwaps.suits(kind(np.ones((n, d), np.float32)), k)

    assert suits(20_000, 2, 500)
    assert suits(1797, 64, 10)
    assert not suits(20_000, 64, 100)
    assert not suits(1797, 65, 10)
    assert not suits(1000, 2, 10, sparse.csr_matrix)


def test_deep_breaths_lower_what_breaths_leave():
    x = make_blobs(6000, 2, centers=60, random_state=1)[0].astype(np.float32)
    plain, lower = [], []
    for seed in range(4):
        start = x[np.random.default_rng(seed).choice(len(x), 60, replace=False)]
        plain.append(cost(x, Swaps(x, None, 60, Euclidean(), np.random.default_rng(seed)).improved(start)))
        lower.append(cost(x, deep(x, k=60, seed=seed).best(start, len(x), lambda: x[:60])))
    assert np.mean(lower) < np.mean(plain)


ROWS = {
    "blobs": (10, lambda: make_blobs(3000, 2, centers=10, random_state=1)[0]),
    "many blobs": (100, lambda: make_blobs(9000, 8, centers=100, random_state=2)[0]),
    "digits": (10, lambda: load_digits().data),
    "digits in 64": (64, lambda: load_digits().data),
}


@pytest.mark.parametrize("name", ROWS)
def test_ten_starts_of_scikit_learn_are_no_better(name):
    k, rows = ROWS[name][0], ROWS[name][1]()
    theirs = sklearn.cluster.KMeans(k, n_init=10, random_state=0).fit(rows).inertia_
    ours = [KMeans(k, random_state=s).fit(rows).inertia_ for s in range(5)]
    assert np.mean(ours) < 1.003 * theirs
    assert np.mean([KMeans(k, swaps=False, random_state=s).fit(rows).inertia_ for s in range(5)]) > np.mean(ours)


def test_the_plan_swaps_where_it_was_measured_to_pay():
    def swaps(k, wish="auto", index="auto"):
        return plan.choose(plan.Wishes(index, swaps=wish), 10_000, 16, k).swaps

    assert swaps(2)
    assert swaps(512)
    assert not swaps(513)
    assert swaps(513, True)
    assert not swaps(100, False)
    assert not swaps(100, index="flat")
    assert swaps(100, True, "flat")
    assert not swaps(1, True)
    assert not plan.choose(plan.Wishes(), 10_000, 16, 100, sparse=True, columns=100_000).swaps
    assert not plan.choose(plan.Wishes(), 10_000, 20_000, 300).swaps


def test_given_centres_stay_and_wrong_words_are_refused():
    x, _, centres = misplaced()
    given = [KMeans(12, init=centres, swaps=swaps, random_state=0).fit(x).inertia_ for swaps in (True, False)]
    assert given[0] == given[1]
    with pytest.raises(ValueError, match="swaps must be True, False or 'auto', got 'often'"):
        KMeans(3, swaps="often").fit(x)


def test_a_few_rows_end_at_the_best_of_all_ways_to_part_them():
    x = np.array([-1.94, -0.59, -0.04, 0.86, 1.19], "f")
    best = min(sum(part.var() * len(part) for part in np.split(x, [cut])) for cut in range(1, 5))
    for seed in range(10):
        assert KMeans(2, random_state=seed).fit(x[:, None]).inertia_ == pytest.approx(best, rel=1e-4)

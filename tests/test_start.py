"""Starts: structure that the data plainly has is found, whatever the number of clusters, scales, weights, far rows."""

import numpy as np
import pytest
import sklearn.cluster
from conftest import limited
from scipy import sparse

from fastann import KMeans
from fastann.cluster import start
from fastann.cluster.memory import Memory
from fastann.cluster.start import Whole
from fastann.data.csr import CSRSource
from fastann.data.source import ArraySource


def groups(count, d, per, seed, spread=10.0):
    """Clear groups, and the inertia of the truth."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, spread, (count, d))
    x = (np.repeat(centres, per, axis=0) + rng.normal(0, 1, (count * per, d))).astype(np.float32)
    return x, float(((x - np.repeat(centres, per, axis=0)) ** 2).sum())


def lot(x, weights=None):
    return Whole(ArraySource(np.ascontiguousarray(x, np.float32)), weights)


# ----------------------------------------------------------------- many clusters


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_one_cluster_more_than_256_is_no_jump(metric):
    x, _ = groups(300, 16, 30, 0)
    found = {k: min(KMeans(k, metric=metric, random_state=s).fit(x).inertia_ for s in (0, 1)) for k in (250, 256, 257)}
    assert found[257] < 1.1 * found[256] < 1.21 * found[250]


@pytest.mark.parametrize(("count", "d", "per"), [(300, 16, 30), (400, 2, 40), (1000, 8, 20)])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_clear_groups_are_found_above_256_clusters(count, d, per, kind):
    x, truth = groups(count, d, per, 1, spread=10 if d > 2 else 300)
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    assert KMeans(count, random_state=0).fit(rows).inertia_ < 1.5 * truth
    assert KMeans(count, swaps=False, random_state=0).fit(rows).inertia_ < 2.5 * truth
    assert KMeans(count, swaps=False, init="random", random_state=0).fit(rows).inertia_ > 3 * truth


def test_many_starts_are_different_rows_and_the_same_for_a_seed():
    x, _ = groups(300, 4, 30, 2)
    found = [start.start("auto", lot(x), 700, np.random.default_rng(s), Memory()).rows for s in (0, 0, 1)]
    assert len(np.unique(found[0])) == 700
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("name", list(start.STARTS))
@pytest.mark.parametrize("k", [5, 300])
def test_fewer_distinct_rows_than_clusters_still_give_as_many_rows(name, k):
    x = np.repeat(np.arange(4.0, dtype=np.float32)[:, None], 100, axis=0)
    found = start.start(name, lot(x), k, np.random.default_rng(0), Memory()).rows
    assert len(found) == len(np.unique(found)) == k
    if name != "random":
        assert len(np.unique(x[found])) == 4


# ----------------------------------------------------------------- scales


def flagged(seed=0):
    """Twenty groups, half of them a million away in one column."""
    rng = np.random.default_rng(seed)
    flag, group = rng.integers(0, 2, 6000), rng.integers(0, 10, 6000)
    centres = np.c_[np.repeat([0.0, 1e6], 10), rng.normal(0, 5, (20, 6))]
    x = centres[group + 10 * flag]
    x[:, 1:] += rng.normal(0, 1, (6000, 6))
    return x, centres


@pytest.mark.parametrize("init", ["auto", "k-means||"])
@pytest.mark.parametrize("kind", [np.float64, np.float32, sparse.csr_matrix])
def test_a_column_of_large_units_hides_no_others(init, kind):
    x, centres = flagged()
    x = kind(x) if kind is sparse.csr_matrix else x.astype(kind)
    best = KMeans(20, init=centres.astype(np.float32)).fit(x).inertia_
    assert np.median([KMeans(20, random_state=s, init=init).fit(x).inertia_ for s in range(3)]) < 2 * best


def test_metres_of_two_cities():
    rng = np.random.default_rng(0)
    cities = np.array([[393_000.0, 5_820_000.0], [691_000.0, 5_335_000.0]])  # UTM, as exact in float32 as in float64
    spots = np.repeat(cities, 15, axis=0) + rng.normal(0, 4000, (30, 2))
    x = np.round(spots[rng.integers(30, size=9000)] + rng.normal(0, 60, (9000, 2)))
    theirs = sklearn.cluster.KMeans(30, n_init=5, random_state=0).fit(x).inertia_
    assert np.median([KMeans(30, random_state=s).fit(x.astype(np.float32)).inertia_ for s in range(5)]) < 1.5 * theirs


# ----------------------------------------------------------------- few rows far away


@pytest.mark.parametrize("k", [12, 300])
@pytest.mark.parametrize("rows", ["at once", "from samples"])
def test_a_few_rows_far_away_are_found_in_many(k, rows):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (300_000, 2)).astype(np.float32)
    far = rng.choice(len(x), 6, replace=False)
    x[far] = [[2000, 0], [0, 2000], [-2000, 0], [0, -2000], [1500, 1500], [1500, -1500]]
    kind = limited(small=0, rows_per_cluster=64) if rows == "from samples" else limited(small=2**40)
    km = kind(k, random_state=0, max_iter=8).fit(x)
    assert (len({record.rows for record in km.history_}) > 1) == (rows == "from samples")
    assert len(np.unique(km.labels_[far])) == 6
    assert km.distances_[far].max() < 1


def test_a_coreset_costs_what_all_rows_cost():
    rng = np.random.default_rng(0)
    x = rng.standard_t(4, (50_000, 3)).astype(np.float32)
    weights, centres = rng.random(len(x)), x[:9].copy()
    other = rng.normal(0, 3, (5, 3)).astype(np.float32)

    def cost(rows, w):
        return float(w @ ((rows[:, None] - other) ** 2).sum(2).min(1))

    ratios = []
    for seed in range(20):
        ids, w = start.coreset(lot(x, weights), centres, 2000, np.random.default_rng(seed), Memory())
        assert abs(len(ids) - 2000) < 300
        ratios.append(cost(x[ids], w) / cost(x, weights))
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)


# ----------------------------------------------------------------- weights


def heavy():
    """Six groups of 300 rows in all, of weight 1, among 60,000 that weigh next to nothing."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (60_000, 4)).astype(np.float32)
    w = np.full(len(x), 1e-7)
    some = rng.choice(len(x), 300, replace=False)
    x[some] = rng.normal(0, 30, (6, 4))[np.arange(300) % 6] + rng.normal(0, 0.1, (300, 4))
    w[some] = 1
    return x, w


@pytest.mark.parametrize(
    "options",
    [{}, {"index": "flat"}, {"sample": 2000}, {"index": "flat", "sample": 900}, {"init": "k-means||"}, "levels"],
    ids=str,
)
def test_heavy_rows_are_found_wherever_rows_are_drawn(options):
    x, w = heavy()
    kind, options = (limited(small=0), {"effort": 100}) if options == "levels" else (KMeans, options)
    best = sklearn.cluster.KMeans(6, n_init=3, random_state=0).fit(x, sample_weight=w).inertia_
    for seed in range(3):
        assert kind(6, random_state=seed, **options).fit(x, sample_weight=w).inertia_ < 1.05 * best


def test_random_starts_are_heavy_rows():
    x, w = heavy()
    found = KMeans(6, init="random", max_iter=1, random_state=0).fit(x, sample_weight=w)
    assert found.inertia_ < 0.9 * float(w @ ((x - np.average(x, axis=0, weights=w)) ** 2).sum(1))
    for seed in range(5):
        assert np.mean(w[start.draw(len(x), w, 100, np.random.default_rng(seed))] == 1) > 0.9


def test_rows_drawn_by_weight_stand_for_all():
    weights = 1 / np.arange(1, 3001.0)
    values = np.sin(np.arange(3000) / 300)
    sums, masses = [], []
    for seed in range(200):
        picks, w = start.by_weight(weights, 200, np.random.default_rng(seed))
        assert len(np.unique(picks)) == 200
        sums.append(w @ values[picks])
        masses.append(w.sum())
    assert np.mean(sums) == pytest.approx(weights @ values, rel=0.02)
    assert np.mean(masses) == pytest.approx(weights.sum(), rel=0.01)


def test_rows_of_no_weight_come_last():
    weights = np.array([0, 1, 0, 2, 0.0])
    picks, w = start.by_weight(weights, 3, np.random.default_rng(0))
    assert {1, 3} < set(picks)
    np.testing.assert_array_equal(np.sort(w), [0, 1, 2])


@pytest.mark.parametrize("d", [8, 130])
@pytest.mark.parametrize("light", [0, 1e-12])
@pytest.mark.parametrize("k", [50, 300])
def test_few_rows_with_nearly_all_the_weight(d, light, k):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (60_000, d)).astype(np.float32)
    w = np.full(len(x), float(light))
    w[rng.choice(len(x), 20, replace=False)] = 1
    km = KMeans(k, random_state=0).fit(x, sample_weight=w)
    assert km.cluster_centers_.shape == (k, d)
    assert km.inertia_ < 60_000 * 1.1 * d * light + 1e-9  # as many clusters are there for the heavy rows as these are


def test_a_sample_has_as_many_rows_as_wanted_whatever_they_weigh():
    rng = np.random.default_rng(0)
    x, w = rng.normal(0, 1, (50_000, 3)).astype(np.float32), np.full(50_000, 1e-9)
    w[:30] = 1
    for seed in range(5):
        ids, kept = start.coreset(lot(x, w), x[:9].copy(), 2000, np.random.default_rng(seed), Memory())
        assert set(range(30)) < set(ids)
        assert len(ids) == pytest.approx(2000, rel=0.15)
        assert kept[30:].sum() == pytest.approx(w[30:].sum(), rel=0.15)
    w[30:] = 0
    found = start.chosen(lot(x, w), 100, 2000, rng, Memory())
    assert len(found.ids) == 100
    assert found.weights.sum() == 30


@pytest.mark.parametrize("k", [200, 300])
def test_rows_of_no_weight_that_lie_far_away_change_no_start(k):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (9000, 8)).astype(np.float32)
    x[1500:3000] += 300
    w = np.repeat([1.0, 0.0], [1500, 7500])

    def cost(seen):
        begun = [start.start("auto", seen, k, np.random.default_rng(s), Memory()).rows for s in range(5)]
        return np.mean([((x[:1500, None] - x[rows]) ** 2).sum(2).min(1).sum() for rows in begun])

    assert cost(lot(x, w)) < 1.05 * cost(lot(x[:1500]))


def test_empty_clusters_go_to_rows_that_have_a_weight():
    x = np.concatenate([np.linspace(0, 9, 10), np.linspace(0, 9, 1001) + 0.003])[:, None].astype(np.float32)
    w = np.repeat([1.0, 0.0], [10, 1001])
    init = np.concatenate([[0.0, 9.0], np.linspace(100, 200, 8)])[:, None]
    for empty in ("split", "farthest"):
        km = KMeans(10, init=init, empty=empty, tol=0, max_iter=300, random_state=0).fit(x, sample_weight=w)
        assert km.inertia_ < 2.1  # four to a cluster would be 5, and two 0.5
        assert np.bincount(km.labels_[:10], minlength=10).max() <= 3


# ----------------------------------------------------------------- when there is nothing more to find


@pytest.mark.parametrize(
    "options", [{}, {"metric": "cosine"}, {"index": "flat", "empty": "farthest"}, {"tol": 0}], ids=str
)
@pytest.mark.parametrize("weighted", [False, True])
def test_more_clusters_than_distinct_rows_end_at_once(options, weighted):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (7, 5)).astype(np.float32)[rng.integers(7, size=500)]
    with pytest.warns(sklearn.exceptions.ConvergenceWarning, match="distinct"):
        km = KMeans(20, max_iter=300, random_state=0, **options).fit(
            x, sample_weight=rng.random(500) if weighted else None
        )
    assert km.n_iter_ < 20
    assert km.stop_reason_ == "converged"
    assert km.inertia_ < 1e-10


@pytest.mark.parametrize("max_iter", [1, 2, 3, 7, 30])
def test_iterations_on_samples_count(max_iter):
    x = np.random.default_rng(0).normal(0, 1, (30_000, 4)).astype(np.float32)
    km = limited(small=0, rows_per_cluster=16)(7, max_iter=max_iter, tol=0, effort=1000, random_state=0).fit(x)
    assert km.n_iter_ == len(km.history_) <= max_iter
    assert km.history_[-1].rows == len(x)


# ----------------------------------------------------------------- Markov chains


def chained(x, k, seed, weights=None):
    some = Whole(CSRSource(x), weights) if sparse.issparse(x) else lot(x, weights)
    return start.start("afk-mc2", some, k, np.random.default_rng(seed), Memory()).rows


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_chains_end_in_all_clear_groups(kind):
    x, _ = groups(20, 8, 50, 0, spread=50)
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    found = [len(np.unique(chained(rows, 20, seed) // 50)) for seed in range(5)]
    drawn = [
        len(np.unique(start.start("random", lot(x), 20, np.random.default_rng(s), Memory()).rows // 50))
        for s in range(5)
    ]
    assert np.mean(found) >= 19
    assert np.mean(drawn) < 16


def test_ends_of_chains_are_different_rows_and_the_same_for_a_seed():
    x, _ = groups(30, 4, 30, 2)
    found = [chained(x, 200, seed) for seed in (0, 0, 1)]
    assert found[0].dtype == np.int64
    assert len(np.unique(found[0])) == 200
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_chains_go_by_weight():
    x = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    weights = np.where(np.arange(1000) % 10 == 0, 1.0, 0.0)
    assert (chained(x, 60, 0, weights) % 10 == 0).all()
    heavy = np.where(np.arange(1000) < 100, 20.0, 1.0)
    share = np.mean([np.mean(chained(x, 20, seed, heavy) < 100) for seed in range(20)])
    assert 0.5 < share < 0.85  # 0.69 of the weight


def test_chains_draw_by_squared_distance():
    """Three points: after the first, the others are drawn as k-means++ draws them, which is known."""
    x = np.repeat(np.array([[0.0], [1.0], [3.0]], np.float32), 10, axis=0)
    seconds = [x[chained(x, 2, seed), 0] for seed in range(600)]
    far = [b for a, b in seconds if a == 0]
    assert abs(np.mean(np.array(far) == 3) - 0.9) < 0.07
    assert {a for a, _ in seconds} == {0.0, 1.0, 3.0}

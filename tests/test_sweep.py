"""The automatic mode: passes that remember candidates, and the plan that chooses them."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import limited
from sklearn.metrics import euclidean_distances

from fastann import HNSW, Cells, Flat, KMeans, kernels
from fastann.cluster import fit as fitting
from fastann.cluster import lloyd
from fastann.cluster.criterion import NEAREST, SIZE_AWARE
from fastann.cluster.empty import EMPTY
from fastann.cluster.passes.bounded import Bounded
from fastann.cluster.passes.every import Every
from fastann.cluster.passes.past import Past
from fastann.cluster.passes.rows import Rows
from fastann.cluster.plan import searcher
from fastann.cluster.space import space_of
from fastann.data.limits import Limits
from fastann.data.open import as_source
from fastann.data.source import ArraySource, Subset
from fastann.index.own import FlatIndex


@pytest.fixture(scope="module")
def many():
    """Twenty thousand rows of 32 columns in 500 overlapping blobs: enough that nothing is decided by chance."""
    rng = np.random.default_rng(3)
    centers = rng.standard_normal((500, 32))
    return (centers[rng.integers(500, size=20_000)] + 0.6 * rng.standard_normal((20_000, 32))).astype(np.float32)


Large = limited(small=0, cells_from=256)


@pytest.fixture(params=["rounded", "float32"])
def arithmetic(request, monkeypatch):
    if request.param == "float32":
        monkeypatch.setattr(kernels, "suits_screen", lambda k, d, spread: False)


def visited(
    x, k, index=None, *, weights=None, metric="euclidean", iterations=6, caution=np.inf, aware=False, batches=1
):
    """Visit rows by hand; returns the pass, and the inertia and the counts of the last iteration."""
    rows = Rows.new(len(x), weights)
    work = Bounded(ArraySource(x), rows, k, space_of(metric), batches=batches, candidates=8, caution=caution)
    work.centroids = x[:k].copy()
    for iteration in range(iterations):
        for batch in range(work.batches):
            built = (index or Flat()).build(work.centroids, seed=iteration)
            tally = work.assign(built, batch, SIZE_AWARE if aware and iteration > 1 else NEAREST)
            _, inertia = work.update()
    return work, inertia, tally


@pytest.mark.usefixtures("arithmetic")
def test_with_every_row_searched_it_is_exact_lloyd(many):
    work, _, _ = visited(many, 300)
    flat = KMeans(300, index="flat", init=many[:300], max_iter=6, tol=0, empty="keep").fit(many)
    np.testing.assert_allclose(work.centroids, flat.cluster_centers_, atol=2e-3)
    work.close(FlatIndex(work.centroids), NEAREST)
    assert (work.rows.labels == flat.labels_).mean() > 0.999


@pytest.mark.usefixtures("arithmetic")
def test_fits_search_small_cells_where_rows_are_wide_and_large_ones_where_clusters_are_many():
    assert searcher("auto", 2047, 384) == searcher("auto", 4095, 64) == Flat()
    assert searcher("auto", 3000, 384) == Cells(nlist=3000 // 32, nprobe=8, train_iter=2)
    assert searcher("auto", 4096, 16) == Cells(nlist=32, nprobe=8, train_iter=2)
    assert searcher("auto", 3000, 384, device="cuda") == Flat()
    assert searcher(Flat(), 10_000, 384) == Flat()


def test_centroids_that_lead_end_at_means(many):
    for lead in (0.0, 0.5):
        Model = limited(small=0, lead=lead)
        km = Model(600, init=many[:600], max_iter=30, effort=1e3).fit(many)
        means = np.zeros((600, many.shape[1]))
        np.add.at(means, km.labels_, many)
        counts = np.bincount(km.labels_, minlength=600)
        off = np.linalg.norm(means / np.maximum(counts, 1)[:, None] - km.cluster_centers_, axis=1)[counts > 0]
        assert np.median(off) < 0.1 * np.sqrt(km.inertia_ / len(many))  # of the labels before the closing visit


def test_centroids_that_lead_are_there_in_half_the_iterations(many):
    needed = {0.0: 0, 0.5: 0}
    for seed in range(4):
        init, last = many[600 * seed : 600 * seed + 600], None
        for lead in needed:
            Model = limited(small=0, lead=lead)
            km = Model(600, init=init, max_iter=30, effort=1e3, random_state=seed).fit(many)
            inertias = np.array([record.inertia for record in km.history_])
            last = inertias[-1] if last is None else last
            assert inertias[-1] <= 1.002 * last
            needed[lead] += int(np.argmax(inertias <= 1.002 * last)) + 1
    assert needed[0.5] < 0.6 * needed[0.0]


def test_a_lead_ends_when_the_inertia_rises(many):
    Model = limited(small=0, lead=3.0)
    km = Model(600, init=many[:600], max_iter=30, effort=1e3).fit(many)
    plain = limited(small=0, lead=0.0)(600, init=many[:600], max_iter=30, effort=1e3).fit(many)
    assert km.inertia_ < 1.02 * plain.inertia_


def test_a_cluster_that_was_empty_leads_nothing_at_first_and_the_others_go_on(many):
    init = many[:600].copy()
    init[300:303] = 40  # far from all: without a row at first
    work = Bounded(
        ArraySource(many), Rows.new(len(many), None), 600, space_of("euclidean"), batches=4, candidates=8, caution=1.0,
        lead=0.5,
    )  # fmt: skip
    work.centroids, rng = init, np.random.default_rng(0)
    for batch in (0, 0, 1):
        work.assign(FlatIndex(work.centroids), batch, NEAREST)
        work.update()
    ahead = (work.settled != work.centroids).any(axis=1)
    assert ahead.mean() > 0.5
    assert work.refill(EMPTY["split"], rng) == 3
    assert np.count_nonzero((work.settled != work.centroids).any(axis=1) != ahead) <= 6  # they, and who gave them rows
    np.testing.assert_array_equal(work.settled[300:303], work.centroids[300:303])
    work.assign(FlatIndex(work.centroids), 2, NEAREST)
    work.update()
    held = np.bincount(work.rows.labels, minlength=600)[300:303]
    assert held.any()
    np.testing.assert_array_equal(work.settled[300:303], work.centroids[300:303])
    assert (work.settled != work.centroids).any(axis=1).mean() > 0.5


def test_the_past_knows_how_far_centroids_are_from_where_a_batch_saw_them(rng):
    past, now = Past(), rng.standard_normal((50, 7)).astype(np.float32)
    seen, number = [now.copy() for _ in range(4)], [0] * 4
    for step in range(60):
        for done in (False, True)[: 1 + (step % 3 == 0)]:  # some are moved again after an update
            ids = np.flatnonzero(rng.random(50) < rng.choice([0.0, 0.1, 1.0]))
            past.keep(ids, now[ids], done=done)
            now[ids] += rng.standard_normal((len(ids), 7)).astype(np.float32)
            past.number += not done
        batch = step % 4
        expected = np.linalg.norm(now - seen[batch], axis=1)
        np.testing.assert_allclose(past.drift(now, number[batch]), expected, rtol=1e-5)
        seen[batch], number[batch] = now.copy(), past.number
        past.forget(min(number))
        assert len(past.moves) <= 8


@pytest.mark.parametrize("small", [0, 2**24])  # rows that remember candidates, and exact passes
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_an_empty_cluster_far_from_all_rows_draws_none(rng, metric, small):
    x = np.abs(rng.standard_normal((4000, 2))).astype(np.float32)
    init = np.concatenate([x[:6], [[300, 300] if metric == "euclidean" else [-1, -1]]])
    km = limited(small=small)(7, init=init, empty="keep", size_aware=True, metric=metric, max_iter=12, tol=0).fit(x)
    assert len(km.history_) > 4
    assert not (km.labels_ == 6).any()
    inertias = [record.inertia for record in km.history_]
    assert all(b <= a * (1 + 1e-6) for a, b in pairwise(inertias))


def test_what_a_fit_is_given_and_what_it_tells_stays_as_it_is(many):
    init, told = many[:600].copy(), []
    note = lambda state: told.append((state.centroids, state.centroids.copy()))  # noqa: E731
    Large(600, init=init, max_iter=8, effort=1e3, callback=note).fit(many)
    np.testing.assert_array_equal(init, many[:600])
    assert len(told) > 4
    for kept, then in told:
        np.testing.assert_array_equal(kept, then)


@pytest.mark.parametrize("options", [{}, {"trim": 0.05}, {"metric": "cosine"}, {"empty": "farthest"}])
def test_centroids_written_over_others_are_the_same(many, monkeypatch, options):
    init = many[:600].copy()
    init[50:60] = init[0]  # clusters that are empty
    fits = []
    for callback in (None, lambda state: None, lambda state: None):  # who is told may hold what was settled
        if len(fits) == 2:
            monkeypatch.setattr(Bounded, "batch", property(lambda self: 0, lambda self, value: None), raising=False)
        given = {"init": init, "max_iter": 10, "effort": 1e3, "random_state": 0, "callback": callback, **options}
        fits.append(Large(600, **given).fit(many))
    for other in fits[1:]:
        np.testing.assert_array_equal(fits[0].cluster_centers_, other.cluster_centers_)
        assert [r.inertia for r in fits[0].history_] == [r.inertia for r in other.history_]


def test_small_cells_end_as_low_as_exact_search(rng):
    x = rng.standard_normal((6000, 3)).astype(np.float32) @ rng.standard_normal((3, 48)).astype(np.float32)
    x += 0.1 * rng.standard_normal(x.shape).astype(np.float32)
    ends = []
    for values in (1, 2**30):
        Small = limited(small=0, cells_from=400, cells_values=values, small_cell=8)
        ends.append(Small(300, random_state=0, swaps=False).fit(x))
    assert "cells" in ends[0].history_[0].plan
    assert "cells" not in ends[1].history_[0].plan
    assert ends[0].inertia_ < 1.01 * ends[1].inertia_
    assert ends[0].assignment_recall_ > 0.98


@pytest.mark.parametrize("index", [Flat(), Cells(nlist=12, nprobe=4), HNSW(m=16)])
def test_bounds_spare_most_searches_and_cost_little(many, index):
    _, inertia, tally = visited(many, 300, index, caution=0.25, iterations=10)
    _, exact, _ = visited(many, 300, iterations=10)
    assert inertia < 1.02 * exact
    assert tally.searched < 0.3 * len(many)
    assert tally.looked < len(many)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
def test_running_sums_are_those_of_the_labels(many, rng, weighted, metric):
    x = many / np.linalg.norm(many, axis=1, keepdims=True) if metric == "cosine" else many
    w = rng.random(len(x)) if weighted else None
    work, inertia, _ = visited(x, 200, weights=w, metric=metric, caution=0.25, aware=True, batches=4, iterations=8)
    sums, counts = np.zeros((200, 32)), np.zeros(200, float if weighted else np.int64)
    kernels.add_rows(x, w, work.rows.labels, sums, counts)
    np.testing.assert_allclose(work.sums.sums, sums, atol=1e-8)
    np.testing.assert_allclose(work.sums.counts, counts, rtol=1e-9)
    ones = np.ones(len(x)) if w is None else w
    means = sums / (np.linalg.norm(sums, axis=1) if metric == "cosine" else counts)[:, None]
    assert inertia == pytest.approx(((x - means[work.rows.labels]) ** 2).sum(1) @ ones, rel=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_pass_over_every_row_goes_by_what_the_criterion_costs(rng, weighted, metric):
    """Each row ends where the compiled cost, of all centroids, is least: the criterion says the same in NumPy."""
    space = space_of(metric)
    x = rng.standard_normal((300, 5)).astype(np.float32)
    x = x / np.linalg.norm(x, axis=1, keepdims=True) if space.unit else x
    w = rng.random(300) + 0.5 if weighted else None
    work = Every.over(ArraySource(x), w, x[:7].copy(), space)
    work.assign(Flat().build(work.centroids), 0, NEAREST)
    work.update()
    before, sums = work.rows.labels.copy(), work.sums
    mass = np.linalg.norm(sums.sums, axis=1) if space.unit else sums.counts.astype(float)
    moved = work.assign(Flat().build(work.centroids), 0, SIZE_AWARE).moved
    far = euclidean_distances(x.astype(float), work.centroids.astype(float), squared=True)
    for i, own in enumerate(before):
        heavy = 1.0 if w is None else w[i]
        cost = [kernels.cost(SIZE_AWARE.rule(space), far[i, j], mass[j], heavy, j == own) for j in range(7)]
        assert work.rows.labels[i] == np.argmin(cost)
    assert moved == (work.rows.labels != before).sum() > 5


@pytest.mark.parametrize("rule", [kernels.SIZE_AWARE, kernels.SIZE_AWARE_COSINE])
def test_size_aware_costs_are_the_change_of_the_objective(rng, rule):
    """Move one row from cluster to cluster, recompute both means: the objective changes by what the costs say."""
    cosine = rule == kernels.SIZE_AWARE_COSINE
    x = rng.standard_normal((40, 5))
    if cosine:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    w = rng.random(40) + 0.1
    labels = rng.integers(2, size=40)

    def sums(of):
        return (w[of, None] * x[of]).sum(0)

    def objective(labels):
        parts = [sums(labels == j) for j in (0, 1)]
        if cosine:
            return -sum(np.linalg.norm(s) for s in parts)
        return -sum(s @ s / w[labels == j].sum() for j, s in enumerate(parts))

    for i in range(40):
        own, other = labels[i], 1 - labels[i]
        moved = labels.copy()
        moved[i] = other
        cost = []
        for j, mine in ((other, False), (own, True)):
            s = sums(labels == j)
            mass = np.linalg.norm(s) if cosine else w[labels == j].sum()
            cost.append(kernels.cost(rule, ((x[i] - s / mass) ** 2).sum(), mass, w[i], mine))
        change = objective(moved) - objective(labels)
        assert (cost[0] - cost[1]) * (1 if cosine else w[i]) == pytest.approx(change, abs=1e-9)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_size_aware_ends_below_exact_lloyd_run_to_convergence(many, metric):
    common = {"init": many[:1000], "metric": metric, "index": "flat", "max_iter": 300, "tol": 0}
    lloyd = KMeans(1000, **common).fit(many)
    aware = KMeans(1000, **common | {"size_aware": True, "max_iter": 30}).fit(many)
    assert lloyd.stop_reason_ == "converged"
    assert aware.inertia_ < lloyd.inertia_


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [100, 600])
def test_auto_is_as_good_as_flat_and_says_how_good(many, rng, k, metric):
    w = rng.random(len(many)) + 0.1
    flat = Large(k, index="flat", metric=metric, random_state=0).fit(many, sample_weight=w)
    auto = Large(k, metric=metric, swaps=False, random_state=0).fit(many, sample_weight=w)
    assert auto.inertia_ < 1.01 * flat.inertia_
    x = many.astype(np.float64)
    if metric == "cosine":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    table = euclidean_distances(x, auto.cluster_centers_.astype(np.float64), squared=True)
    assert auto.inertia_ == pytest.approx(table[np.arange(len(x)), auto.labels_] @ w, rel=1e-6)
    low, high = auto.assignment_recall_interval_
    share = (table.argmin(1) == auto.labels_).mean()
    assert low - 1e-3 <= share <= high + 1e-3  # 20 rows of 20,000: the interval may miss by a little
    assert low > 0.95
    assert "candidates" in auto.history_[0].plan
    assert sum(record.searched for record in auto.history_) < 0.5 * len(many) * auto.n_iter_


@pytest.mark.parametrize("layout", ["float16", "Fortran", "memmap", "chunks"])
def test_auto_gives_the_same_labels_for_every_layout(many, tmp_path, layout):
    x = many.astype(np.float16).astype(np.float32)
    one = Large(300, random_state=0).fit(x)
    if layout == "float16":
        other = x.astype(np.float16)
    elif layout == "Fortran":
        other = np.asfortranarray(x)
    elif layout == "memmap":
        np.save(tmp_path / "x.npy", x)
        other = tmp_path / "x.npy"
    else:
        other = as_source(x.astype(np.float64), limits=Limits(chunk_bytes=4 * 32 * 777))
    two = Large(300, random_state=0).fit(other)
    assert (one.labels_ == two.labels_).mean() > 0.999
    assert two.inertia_ == pytest.approx(one.inertia_, rel=1e-5)


@pytest.mark.parametrize("k", [100, 600])
def test_auto_is_deterministic_on_any_number_of_threads(many, k):
    one, two = (Large(k, random_state=5, n_jobs=jobs).fit(many) for jobs in (1, 2))
    np.testing.assert_array_equal(one.labels_, two.labels_)
    np.testing.assert_array_equal(one.cluster_centers_, two.cluster_centers_)


def test_many_rows_a_cluster_train_on_samples_first(many):
    x = np.concatenate([many] * 40)
    km = Large(64, random_state=0).fit(x)
    sizes = [record.rows for record in km.history_]
    assert len(x) // 4 <= sizes[0] <= len(x) // 4 + 64  # and the rows it starts from
    assert sizes[-1] == len(x)
    assert sizes == sorted(sizes)


def test_exact_labels(many):
    km = Large(600, exact_labels=True, random_state=0).fit(many)
    truth = euclidean_distances(many.astype(np.float64), km.cluster_centers_.astype(np.float64)).argmin(1)
    np.testing.assert_array_equal(km.labels_, truth)
    assert km.assignment_recall_ == 1.0


def test_more_effort_is_better(many):
    runs = [np.mean([Large(600, effort=e, random_state=s).fit(many).inertia_ for s in range(3)]) for e in (0.25, 4)]
    assert runs[1] < runs[0]


def test_candidates_with_a_given_index(many):
    every = KMeans(600, index=HNSW(m=16), max_iter=8, random_state=0).fit(many)
    km = KMeans(600, index=HNSW(m=16), candidates=8, max_iter=8, random_state=0).fit(many)
    assert km.inertia_ < 1.01 * every.inertia_
    assert sum(r.searched for r in km.history_) < 0.6 * sum(r.searched for r in every.history_)
    few = KMeans(600, index=HNSW(m=16), candidates=2, max_iter=8, random_state=0).fit(many)
    assert few.inertia_ < 1.02 * every.inertia_


def test_weights_of_very_different_sizes(many, rng):
    """A cluster of feathers beside clusters of lead is neither empty nor lost."""
    w = 10.0 ** rng.integers(-12, 3, len(many))
    work, _, _ = visited(many, 100, weights=w, caution=0.25, batches=4, iterations=8)
    sums, counts = np.zeros((100, 32)), np.zeros(100)
    kernels.add_rows(many, w, work.rows.labels, sums, counts)
    np.testing.assert_array_equal(work.sizes, np.bincount(work.rows.labels, minlength=100))
    heavy = counts > 1e-6
    np.testing.assert_allclose(work.sums.counts[heavy], counts[heavy], rtol=1e-6)
    assert np.isfinite(work.centroids).all()


def test_a_subset_is_read_like_the_rows_it_names(many, rng):
    picks = np.sort(rng.choice(len(many), 5000, replace=False))
    subset = Subset(ArraySource(many.astype(np.float16)), picks)
    rows = np.concatenate([block for _, block in subset.chunks(700)])
    np.testing.assert_array_equal(rows, many.astype(np.float16)[picks].astype(np.float32))
    np.testing.assert_array_equal(subset.take(np.array([7, 3])), rows[[7, 3]])


def test_a_cell_search_finds_the_nearest(many):
    km = KMeans(2000, init="random", max_iter=1, random_state=0, index=Cells(nprobe=16)).fit(many)
    exact = euclidean_distances(many[:3000].astype(np.float64), km.cluster_centers_.astype(np.float64)).argmin(1)
    assert (km.predict(many[:3000]) == exact).mean() > 0.98
    few = (km.set_search(nprobe=1).predict(many[:3000]) == exact).mean()
    assert few < 0.95
    assert km.kneighbors(many[:5], 20, return_distance=False).shape == (5, 20)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("d", [5, 24, 100, 700])
def test_lists_of_eight_are_the_eight_nearest(rng, d):
    """Whole index and cells that are all probed, with and without a distance to stay within."""
    x, c = rng.standard_normal((700, d), dtype="f"), rng.standard_normal((200, d), dtype="f")
    truth = np.sqrt(euclidean_distances(x.astype(np.float64), c.astype(np.float64), squared=True))
    rows = rng.permutation(700).astype(np.int32)[:600]
    nearest = np.sort(truth[rows], axis=1)[:, :8]
    anywhere = np.full(600, np.inf, np.float32)
    for index in (Flat().build(c), Cells(nlist=7, nprobe=7).build(c), Cells(nlist=40, nprobe=40).build(c)):
        ids, dist = index.listed(x, rows, 8, anywhere)
        np.testing.assert_allclose(dist, nearest, rtol=1e-2)  # int8 may miss the eighth by as much
        np.testing.assert_allclose(truth[rows[:, None], ids], nearest, rtol=2e-2)
        assert (ids[:, 0] == truth[rows].argmin(1)).mean() > 0.99
        near, _ = index.listed(x, rows, 8, nearest[:, 3].astype(np.float32))
        assert (near[:, :4] == ids[:, :4]).mean() > 0.98


def test_memory_beyond_the_data():
    """At most 64 bytes a row, and a few arrays of centroids."""
    n, d, k = 600_000, 24, 300
    x = np.random.default_rng(0).standard_normal((n, d), dtype="f")
    Large(k, max_iter=2, init="random", random_state=0).fit(x[:20_000])
    tracemalloc.start()
    Large(k, max_iter=4, init="random", random_state=0).fit(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * n + 30 * 4 * k * d


def test_a_rise_under_the_size_aware_rule_does_not_end_a_fit(monkeypatch):
    """It is followed by an iteration without the rule, which a stopping rule must wait for."""
    x = np.random.default_rng(0).standard_normal((500, 4)).astype("f")
    real = lloyd.lloyd

    def rising(*args, **kwargs):
        for i, state in enumerate(real(*args, **kwargs)):
            risen = i == 2
            record = replace(state.record, inertia=state.record.inertia * (2 if risen else 1))
            yield replace(state, record=record, rose=risen)

    monkeypatch.setattr(fitting, "lloyd", rising)
    assert KMeans(20, init="random", index="flat", random_state=0, tol=1e-3).fit(x).n_iter_ > 4

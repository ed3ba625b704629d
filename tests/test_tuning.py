"""Search effort from recall, in fits and by `tune`; estimates."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

import fastann
from fastann import HNSW, IVF, Cells, Flat, KMeans, parse_index
from fastann.cluster.clock import PHASES
from fastann.cluster.memory import PER_CENTROID
from fastann.index.recall import Audit, Recall, least
from fastann.study import tune as tuning
from fastann.study.estimate import table


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(3)
    centers = rng.standard_normal((300, 24), dtype="f")
    return centers[rng.integers(300, size=12_000)] + 0.4 * rng.standard_normal((12_000, 24), dtype="f")


# --------------------------------------------------------------------------- the least effort


@given(high=st.integers(1, 300), border=st.integers(1, 400), start=st.integers(-5, 500))
def test_the_least_value_that_passes_is_found(high, border, start):
    asked = []
    found = least(lambda v: asked.append(v) or v >= border, start, high)
    assert found == min(border, high)
    assert all(1 <= v <= high for v in asked)


def test_recall_is_measured_with_ties_counted_as_right(rng):
    x, c = rng.standard_normal((50, 8), dtype="f"), rng.standard_normal((20, 8), dtype="f")

    class Other:
        """Names the other of two equal centroids."""

        exact = False

        def search(self, x, m, hint=None):
            ids, sqdist = Flat().build(c).search(x, 1)
            return (ids + 20).astype(np.int32), sqdist

    assert Audit(x, np.concatenate([c, c])).measure(Other()).value == 1


def test_a_recall_reaches_a_target_with_its_whole_interval():
    assert not Recall(990, 1000).reaches(0.99)
    assert Recall(9970, 10_000).reaches(0.99)


# --------------------------------------------------------------------------- inside a fit


@pytest.mark.parametrize(("index", "option"), [(IVF(nprobe="auto"), "nprobe"), ("hnsw:ef_search=auto", "ef_search"),
                                               ("cells:nprobe=auto", "nprobe")])  # fmt: skip
def test_a_fit_finds_the_effort_for_a_recall(clouds, index, option):
    low, high = (
        KMeans(200, index=index, recall=recall, max_iter=4, init="random", random_state=0).fit(clouds)
        for recall in (0.8, 0.995)
    )
    assert high.assignment_recall_interval_[1] >= 0.995
    assert 1 <= getattr(low.index_, option) < getattr(high.index_, option)
    assert parse_index(high.history_[-1].index) == high.index_
    assert "recall of 0.995" in high.history_[0].plan


def test_the_effort_is_found_anew_as_centroids_move(clouds):
    km = KMeans(200, index="ivf:nprobe=auto", max_iter=6, init="random", random_state=1).fit(clouds)
    assert len({record.index for record in km.history_}) > 1
    again = KMeans(200, index="ivf:nprobe=auto", max_iter=6, init="random", random_state=1).fit(clouds)
    np.testing.assert_array_equal(km.labels_, again.labels_)
    assert again.index_ == km.index_


def test_an_open_effort_works_with_candidates_and_survives_saving(clouds, tmp_path):
    km = KMeans(200, index="ivf:nprobe=auto", recall=0.95, candidates=4, max_iter=4, random_state=0).fit(clouds)
    km.save(tmp_path / "run")
    back = KMeans.load(tmp_path / "run")
    assert back.index_ == km.index_
    assert back.index == "ivf:nprobe=auto"
    np.testing.assert_array_equal(back.predict(clouds[:500]), km.predict(clouds[:500]))


def test_a_recall_out_of_reach_is_a_warning(rng):
    x = rng.standard_normal((3000, 40), dtype="f")  # no structure at all, and hardly any links
    with pytest.warns(ConvergenceWarning, match=r"reaches a recall of 0\.\d+, less than the 0.9999 asked"):
        KMeans(500, index="hnsw:m=2,ef_search=auto,ef_construction=1", recall=0.9999, max_iter=1, random_state=0).fit(x)


@pytest.mark.parametrize("index", ["auto", "flat", "ivf:nprobe=4", HNSW()])
def test_a_recall_needs_an_open_effort(clouds, index):
    with pytest.raises(ValueError, match=r"recall=0.9 is what an index whose search option is 'auto' must reach"):
        KMeans(20, index=index, recall=0.9).fit(clouds)


def test_open_specs_go_back_and_forth_but_do_not_build(rng):
    assert parse_index("ivf:nlist=8,nprobe=auto") == IVF(nlist=8, nprobe="auto")
    assert str(IVF(nlist=8, nprobe="auto")) == "ivf:nlist=8,nprobe=auto"
    with pytest.raises(ValueError, match=r"nprobe='auto' is found while fitting"):
        IVF(nprobe="auto").build(rng.standard_normal((10, 4), dtype="f"))
    with pytest.raises(ValueError, match="nlist must be an integer"):
        parse_index("ivf:nlist=auto")
    with pytest.raises(TypeError, match="nlist"):
        IVF(nlist="auto")


# --------------------------------------------------------------------------- tune


@pytest.fixture(scope="module")
def tuned(clouds):
    return fastann.tune(clouds, 128, recall=0.97, random_state=0)


def test_the_choice_reaches_the_recall_on_other_rows(clouds, tuned):
    rng = np.random.default_rng(9)
    other = clouds[rng.permutation(12_000)[:6000]] + 0.05 * rng.standard_normal((6000, 24), dtype="f")
    km = KMeans(128, index=tuned.index, max_iter=3, random_state=1).fit(clouds)
    exact = ((other[:, None] - km.cluster_centers_) ** 2).sum(-1).argmin(1)
    assert (km.predict(other) == exact).mean() > 0.96
    assert tuned.interval[0] >= 0.97 or isinstance(tuned.index, Flat)


def test_all_kinds_are_tried_and_the_evidence_is_shown(tuned):
    assert {type(trial.index) for trial in tuned.trials} == {Flat, Cells, IVF, HNSW}
    assert tuned.complete
    reached = [trial for trial in tuned.trials if trial.reached]
    assert reached == tuned.trials[: len(reached)]
    assert [t.seconds for t in reached] == sorted(t.seconds for t in reached)
    for trial in tuned.trials:
        assert trial.interval[0] <= trial.recall <= trial.interval[1]
    text = tuned.summary()
    assert text.splitlines()[-1] == tuned.call
    assert all(str(trial.index) in text for trial in tuned.trials)
    assert eval(tuned.call, {"KMeans": KMeans}).n_clusters == 128


def test_the_call_says_how_rows_are_compared(clouds):
    found = fastann.tune(clouds, 128, index="flat", metric="cosine", random_state=0)
    assert eval(found.call, {"KMeans": KMeans}).metric == "cosine"


def test_a_given_kind_keeps_its_options(clouds):
    found = fastann.tune(clouds, 128, recall=0.9, index="ivf:nlist=16", random_state=0)
    assert {t.index.nlist for t in found.trials} == {16}
    fixed = fastann.tune(clouds, 128, recall=0.5, index="ivf:nlist=16,nprobe=9", random_state=0)
    assert {t.index for t in fixed.trials} == {IVF(nlist=16, nprobe=9)}


def test_an_index_that_cannot_reach_the_recall_is_an_error(clouds):
    with pytest.raises(ValueError, match=r"no setting of ivf:nlist=32,nprobe=1 reaches a recall of 0.999"):
        fastann.tune(clouds, 128, recall=0.999, index="ivf:nlist=32,nprobe=1", random_state=0)


def test_a_budget_ends_the_search_with_an_answer(clouds):
    found = fastann.tune(clouds, 128, recall=0.9, budget=1e-6, random_state=0)
    assert not found.complete
    assert [type(trial.index) for trial in found.trials] == [Flat]
    assert "budget ended" in found.summary()
    head, first = found.summary().splitlines()[:2]
    assert head.index("recall@1") == first.index("1.0000")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recall": 1.0}, "recall must be below 1, got 1.0"),
        ({"recall": 0}, "recall must be"),
        ({"budget": 0}, "budget must be"),
        ({"index": "tree"}, "unknown index 'tree'"),
    ],
)
def test_bad_requests_say_what_is_wrong(clouds, change, message):
    with pytest.raises(ValueError, match=message):
        fastann.tune(clouds, **{"n_clusters": 50, **change})


def test_exact_search_is_an_answer_however_few_rows_there_are(clouds):
    found = fastann.tune(clouds[:600], 10, recall=0.999, index="flat", random_state=0)
    assert (found.index, found.trials[0].reached) == (Flat(), True)
    assert found.interval[0] < 0.999


def test_too_few_rows_are_refused(clouds):
    with pytest.raises(ValueError, match="tuning 1000 clusters needs at least 4000 rows, got 2000"):
        fastann.tune(clouds[:2000], 1000)


def test_cosine_and_float16_can_be_tuned(clouds):
    found = fastann.tune(clouds.astype(np.float16), 100, metric="cosine", index="cells", recall=0.9, random_state=0)
    assert isinstance(found.index, Cells)


@pytest.mark.parametrize("kind", ["matrix", "file"])
def test_sparse_rows_are_searched_exactly(kind, tmp_path):
    matrix = sparse.random(3000, 60, 0.1, "csr", np.float32, random_state=0)
    sparse.save_npz(tmp_path / "x.npz", matrix)
    given = matrix if kind == "matrix" else tmp_path / "x.npz"
    for metric, index in (("euclidean", None), ("euclidean", "flat")):
        found = fastann.tune(given, 20, metric=metric, index=index, random_state=0)
        assert found.index == Flat()
        assert (found.recall, len(found.trials)) == (1.0, 1)
    with pytest.raises(ValueError, match=r"sparse rows are searched by index='flat' alone, got 'ivf'; leave index out"):
        fastann.tune(given, 20, index="ivf")


# --------------------------------------------------------------------------- estimate


def test_estimates_scale_as_they_must():
    small, large = (fastann.estimate(rows, 16, 2000, index=["flat", "ivf"]) for rows in (1e6, 1e8))
    for one in small:
        other = next(e for e in large if e.index == one.index)
        assert other.operations == pytest.approx(100 * one.operations)
        assert other.distances == one.distances
        assert other.memory > 90 * one.memory
    flat = next(e for e in small if e.index == "flat")
    assert flat.distances == 2000
    assert flat.operations == pytest.approx(2 * 16 * 2000 * 1e6 * 26, rel=1e-3)
    assert flat.seconds > flat.seconds_pass > 0
    assert flat.memory == 1e6 * (4 * 16 + 8) + PER_CENTROID * 2000 * 16  # rows, label and distance, centroids
    assert next(e for e in small if e.index == "ivf").memory == flat.memory


def test_operations_are_those_of_three_phases():
    n, d, k = 1e5, 16, 300
    for one in fastann.estimate(n, d, k, index=["flat", "ivf:nlist=10,nprobe=2"], iterations=7):
        distances = k if one.index == "flat" else 10 + 2 * k / 10
        assert one.operations_assign == pytest.approx(2 * d * distances * n * 7)
        assert one.operations_update == d * n * 7  # each row is added to a sum
        assert one.operations_close == pytest.approx(2 * d * distances * n)
        assert one.operations == one.operations_assign + one.operations_update + one.operations_close
    (auto,) = fastann.estimate(1e6, 32, 1000, index="auto")
    assert auto.operations == auto.operations_assign + auto.operations_update + auto.operations_close
    assert auto.operations_close == 2 * 32 * 8 * 1e6  # among the candidates of each row
    assert auto.operations_update < 32 * 1e6 * 25  # of the rows that moved


@pytest.mark.parametrize("index", ["auto", "flat", "ivf:nlist=16,nprobe=2"])
def test_estimated_seconds_are_those_of_phases(index):
    (small,), (large,) = (fastann.estimate(rows, 16, 100, index=index) for rows in (2e4, 2e6))
    for one in (small, large):
        assert set(one.seconds_by_phase) == set(PHASES)
        assert one.seconds == pytest.approx(sum(one.seconds_by_phase.values()))
        assert min(one.seconds_by_phase[phase] for phase in ("read", "start", "assign", "close")) > 0
        assert f"{one.index}  " in table([one]).split("seconds of a fit by phase")[1]
    assert large.seconds > 10 * small.seconds
    assert large.seconds_by_phase["start"] < 20 * small.seconds_by_phase["start"]  # it goes by clusters, not by rows
    assert (large.seconds_by_phase["swaps"] > 0) == (index == "auto")


def test_rows_that_are_given_tell_how_soon_a_fit_stops(tmp_path):
    rng = np.random.default_rng(0)
    x = (100 * rng.standard_normal((50, 16))[rng.integers(50, size=30_000)]).astype(np.float32)
    x += rng.standard_normal(x.shape, dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    (made,) = fastann.estimate(3e4, 16, 50, index="auto")
    (given,) = fastann.estimate(n_clusters=50, data=x, index="auto")
    km = fastann.KMeans(50, random_state=0).fit(x)
    passes = given.operations_assign / given.distances / 2 / 16 / 3e4  # its iterations
    assert passes == pytest.approx(km.n_iter_)
    assert passes <= made.operations_assign / made.distances / 2 / 16 / 3e4
    (more,) = fastann.estimate(1e6, n_clusters=50, data=str(tmp_path / "x.npy"), index="auto")
    assert more.memory > 30 * given.memory


def test_estimates_ask_for_sizes_or_data():
    x = np.zeros((10, 3), np.float32)
    with pytest.raises(ValueError, match="rows is needed where there is no data"):
        fastann.estimate(dims=3, n_clusters=2)
    with pytest.raises(ValueError, match="data has 3 columns and dims is 4"):
        fastann.estimate(dims=4, n_clusters=2, data=x)
    with pytest.raises(ValueError, match="n_clusters is needed"):
        fastann.estimate(data=x)


def test_the_automatic_mode_remembers_48_bytes_a_row_where_it_keeps_candidates():
    small, large = (fastann.estimate(rows, 8, 100, index="auto")[0] for rows in (1e4, 1e8))
    assert small.memory == 1e4 * (4 * 8 + 8) + PER_CENTROID * 100 * 8
    assert large.memory == 1e8 * (4 * 8 + 48) + PER_CENTROID * 100 * 8


def test_all_indexes_are_estimated_and_shown():
    found = fastann.estimate(200_000, 8, 300)
    assert {e.index for e in found} == {"auto", "flat", "cells", "ivf", "hnsw"}
    assert [e.seconds for e in found] == sorted(e.seconds for e in found)
    assert all(re.search(rf"^{e.index}\b.*GiB", table(found), flags=re.M) for e in found)


@pytest.mark.parametrize(("rows", "dims", "k"), [(0, 4, 2), (100, 0, 2), (100, 4, 101), (float("nan"), 4, 2)])
def test_impossible_sizes_are_refused(rows, dims, k):
    with pytest.raises(ValueError, match=r"rows|dims|n_clusters"):
        fastann.estimate(rows, dims, k)


def test_the_grid_of_ways_to_build_is_sane():
    for k in (1, 10, 64, 5000):
        specs = list(tuning._candidates(None, k))
        assert specs[0] == Flat()
        assert len(set(specs)) == len(specs)

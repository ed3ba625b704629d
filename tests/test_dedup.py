"""Near-duplicates: against brute force in float64, planted pairs across borders, every rule, files, bad input."""

import csv
import json
import sys
import tracemalloc

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.exceptions import NotFittedError

import fastann
from fastann import Duplicates, KMeans, dedup
from fastann.cli import main
from fastann.data.open import as_source
from fastann.duplicates.find import find
from fastann.kernels import unit

RULES = ["central", "outlying", "first"]
METRICS = ["euclidean", "cosine"]
DONE, FAILED, USAGE = 0, 1, 2


def rows(n=1500, d=12, copies=300, noise=0.1, seed=0):
    """Rows in all directions, the last of which are copies of others, some exact, some moved a little."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float32)
    origin = rng.integers(0, n - copies, copies)
    moved = rng.uniform(0, noise, (copies, 1)) * (rng.random((copies, 1)) < 0.7)
    x[n - copies :] = x[origin] + moved * rng.standard_normal((copies, d))
    return x[rng.permutation(n)]


def fit(x, k, metric="cosine", **options):
    return KMeans(k, metric=metric, random_state=0, max_iter=5, **options).fit(x)


def cosines(x):
    u = x.astype(np.float64)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    return u @ u.T


def turned(x, cosine, seed=1):
    """Rows at this cosine from those of `x`, float64."""
    x = x.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    away = np.random.default_rng(seed).standard_normal(x.shape)
    away -= (away * x).sum(axis=1, keepdims=True) * x
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return cosine * x + np.sqrt(1 - cosine**2) * away


def is_true(found, x, threshold):
    """Kept and dropped share out the rows, and every dropped one reaches the threshold with a kept one."""
    np.testing.assert_array_equal(np.sort(np.concatenate([found.kept, found.dropped])), np.arange(len(x)))
    assert np.isin(found.duplicate_of, found.kept).all()
    u = x.astype(np.float64)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    actual = (u[found.dropped] * u[found.duplicate_of]).sum(axis=1)
    assert (actual >= threshold - 1e-9).all()
    np.testing.assert_allclose(found.similarity, actual, atol=1e-7)
    assert found.groups == len(np.unique(found.duplicate_of))


def greedy(similar, order):
    """Which rows the rule keeps: each, unless it is similar to a kept one of a better rank."""
    kept = np.zeros(len(similar), bool)
    for row in order:
        kept[row] = not (similar[row] & kept).any()
    return np.flatnonzero(kept)


def ranked(model, x, keep):
    """Rows in the order of the rule, from squared distances of unit rows (rounded to float32, as they are compared)."""
    c = model.cluster_centers_.astype(np.float64)
    c = (c / np.linalg.norm(c, axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    best = ((unit(x)[0].astype(np.float64)[:, None] - c) ** 2).sum(axis=2).min(axis=1)
    return np.argsort({"central": best, "outlying": -best, "first": np.arange(len(x))}[keep], kind="stable")


def refusal(error, *args, **kwargs):
    with pytest.raises(error) as caught:
        dedup(*args, **kwargs)
    return str(caught.value)


def has(message, *parts):
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in {message!r}"


@pytest.fixture(scope="module")
def x():
    return rows()


@pytest.fixture(scope="module", params=METRICS)
def km(request, x):
    return fit(x, 15, request.param)


# --------------------------------------------------------------------------- which rows


@pytest.mark.filterwarnings("ignore:a threshold of 0.3 is a cosine:UserWarning")
@pytest.mark.parametrize("keep", RULES)
@pytest.mark.parametrize("threshold", [0.999, 0.95, 0.8, 0.3])
def test_keeps_what_brute_force_keeps(x, km, keep, threshold):
    found = dedup(km, x, threshold=threshold, keep=keep)
    assert found.unchecked == 0
    is_true(found, x, threshold)
    similar = cosines(x) >= threshold - 1e-12
    np.testing.assert_array_equal(found.kept, greedy(similar, ranked(km, x, keep)))


@pytest.mark.filterwarnings("ignore:a threshold of .* is a cosine:UserWarning")
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    k=st.integers(1, 40),
    threshold=st.floats(0.0, 1.0),
    keep=st.sampled_from(RULES),
    metric=st.sampled_from(METRICS),
    d=st.integers(2, 20),
)
def test_no_two_kept_rows_reach_the_threshold(seed, k, threshold, keep, metric, d):
    x = rows(400, d, 150, 0.3, seed) + np.float32(0.3)
    found = dedup(fit(x, k, metric, init="random"), x, threshold=threshold, keep=keep)
    is_true(found, x, threshold)
    assert found.unchecked == 0
    left = cosines(x[found.kept])
    np.fill_diagonal(left, -1)
    assert left.max(initial=-1) < threshold + 1e-9


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_across_borders_are_found(metric):
    """Rows on the border of two clusters, whose copies lie on the other side of it."""
    x = rows(4000, 16, 0)
    model = fit(x, 30, metric)
    c = model.cluster_centers_.astype(np.float64)
    c /= np.linalg.norm(c, axis=1, keepdims=True)
    rng = np.random.default_rng(5)
    a, b = np.array([rng.choice(30, 2, replace=False) for _ in range(400)]).T
    middle, across = c[a] + c[b], c[a] - c[b]
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    half = np.arccos(0.951) / 2
    pairs = [np.cos(half) * middle + side * np.sin(half) * across for side in (1, -1)]
    y = np.concatenate([x, *pairs]).astype(np.float32)
    model.labels_ = np.zeros(len(y), np.int32)
    one, two = 4000 + np.arange(400), 4400 + np.arange(400)
    home = (y[one].astype(float) @ c.T).argmax(axis=1) != (y[two].astype(float) @ c.T).argmax(axis=1)
    assert home.sum() > 300
    found = dedup(model, y)
    is_true(found, y, 0.95)
    assert found.unchecked == 0
    assert not (np.isin(one, found.kept) & np.isin(two, found.kept)).any()
    inside = dedup(model, y, neighbours=0)
    is_true(inside, y, 0.95)
    assert (np.isin(one, inside.kept) & np.isin(two, inside.kept)).sum() > 200
    assert inside.unchecked > 0


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.95, 0.999])
def test_the_threshold_is_sharp(threshold):
    x = rows(300, 200, 0)
    above, below = (turned(x, threshold + step) for step in (2e-7, -2e-7))
    for y, dropped in ((above, 300), (below, 0)):
        both = np.concatenate([x, y]).astype(np.float32)
        found = dedup(fit(both, 5), both, threshold=threshold, keep="first")
        cosine = (cosines(both)[np.arange(300), 300 + np.arange(300)] >= threshold).sum()
        assert len(found.dropped) == cosine == dropped
        assert (found.duplicate_of == np.arange(dropped)).all()


def test_parallel_rows_are_duplicates_at_one(x):
    y = np.concatenate([x[:100], 3 * x[:100], 1e-3 * x[:100]])
    found = dedup(fit(y, 4), y, threshold=1.0, keep="first")
    expected = dedup(fit(x[:100], 4), x[:100], threshold=1.0, keep="first")
    np.testing.assert_array_equal(found.kept, expected.kept)


def test_dropped_rows_are_near_their_kept_row_not_chained():
    angle = np.arange(7) * 0.1  # each within 0.15 of the next, and of no other
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    found = dedup(fit(x, 1), x, threshold=np.cos(0.15), keep="first")
    assert found.kept.tolist() == [0, 2, 4, 6]
    assert found.dropped.tolist() == [1, 3, 5]


@pytest.mark.parametrize(("keep", "kept"), [("central", 1), ("outlying", 2), ("first", 0)])
def test_each_rule_keeps_its_row(keep, kept):
    angle = np.array([0.02, 0.0, -0.05])  # a single cluster, whose centre is set to angle 0
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    model = fit(x, 1)
    model.cluster_centers_ = np.array([[1, 0]], np.float32)
    assert dedup(model, x, keep=keep).kept.tolist() == [kept]


@pytest.mark.parametrize("keep", RULES)
def test_equal_rows_leave_the_lowest(keep):
    x = np.tile(rows(3, 8, 0), (5, 1))
    found = dedup(fit(x, 3), x, threshold=0.99, keep=keep)
    assert found.kept.tolist() == [0, 1, 2]
    assert found.duplicate_of.tolist() == [0, 1, 2] * 4
    assert (found.similarity == 1).all()


def test_all_rows_equal():
    x = np.ones((20_000, 16), np.float32)
    with pytest.warns(UserWarning, match="distinct"):
        model = fit(x, 3)
    found = dedup(model, x)
    assert found.kept.tolist() == [0]
    assert found.groups == 1
    assert "19,999 of 20,000 rows" in found.sentence


def test_a_large_group_of_near_copies_takes_no_square_of_time():
    rng = np.random.default_rng(0)
    x = np.ones((60_000, 8), np.float32) + np.float32(1e-4) * rng.standard_normal((60_000, 8), dtype=np.float32)
    found = dedup(KMeans(2, max_iter=2, random_state=0).fit(x), x)  # 1.8 billion pairs
    assert len(found.kept) == 1
    is_true(found, x, 0.95)


def test_distinct_rows_all_stay():
    x = np.eye(200, dtype=np.float32)
    found = dedup(fit(x, 10), x)
    assert found.kept.tolist() == list(range(200))
    assert (len(found.dropped), found.groups) == (0, 0)
    has(found.sentence, "no two of 200 rows", "exact")


@pytest.mark.filterwarnings("ignore:a threshold of -0.5 is a cosine:UserWarning")
def test_zero_rows_are_duplicates_of_each_other_only(x):
    y = x[:200].copy()
    y[[7, 20, 50]] = 0
    y[50, 3] = -0.0
    model = fit(y, 5, "euclidean")
    for threshold in (0.9, -0.5):
        found = dedup(model, y, threshold=threshold)
        assert 7 in found.kept
        assert found.duplicate_of[np.isin(found.dropped, [20, 50])].tolist() == [7, 7]
        assert np.count_nonzero(found.duplicate_of == 7) == 2


def test_nothing_but_zero_rows():
    x = np.zeros((5, 3), np.float32)
    found = dedup(fit(x, 1, "euclidean"), x)
    assert (found.kept.tolist(), found.duplicate_of.tolist(), found.unchecked) == ([0], [0] * 4, 0)


def test_centres_without_direction_do_no_harm():
    x = np.concatenate([rows(60, 4, 0), -rows(60, 4, 0)])
    found = dedup(fit(x, 1, "euclidean"), x, threshold=0.9)  # the mean is zero
    is_true(found, x, 0.9)
    left = cosines(x[found.kept])
    np.fill_diagonal(left, -1)
    assert left.max() < 0.9


# --------------------------------------------------------------------------- what it does not depend on


def same(a, b):
    for name in ("kept", "dropped", "duplicate_of", "similarity"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.groups, a.unchecked) == (b.groups, b.unchecked)


@pytest.mark.parametrize("neighbours", [2, 64])
def test_threads_change_nothing(x, km, neighbours):
    results = [dedup(km, x, threshold=0.8, neighbours=neighbours, n_jobs=jobs) for jobs in (1, 2, None)]
    same(results[0], results[1])
    same(results[0], results[2])


def test_the_size_of_blocks_changes_no_row(x, km):
    whole = dedup(km, x, threshold=0.7)
    options = {"threshold": 0.7, "keep": "central", "neighbours": 64}
    blocks = find(as_source(x), km.cluster_centers_, **options, block_rows=64)
    np.testing.assert_array_equal(whole.kept, blocks.kept)
    is_true(blocks, x, 0.7)


def test_storage_and_weights_change_nothing(x, tmp_path):
    half = x.astype(np.float16)
    model = fit(half, 15)
    weighted = KMeans(15, metric="cosine", random_state=0, max_iter=5).fit(half, sample_weight=np.full(len(x), 3.0))
    weighted.cluster_centers_ = model.cluster_centers_
    np.save(tmp_path / "x.npy", half)
    expected = dedup(model, half)
    csr = sparse.csr_matrix(half.astype(np.float32))
    for other in (half.astype(np.float64), np.asfortranarray(half), tmp_path / "x.npy", csr):
        same(dedup(model, other), expected)
    same(dedup(weighted, half), expected)


def test_the_caller_s_rows_are_untouched(x):
    before = x.copy()
    x.flags.writeable = False
    dedup(fit(x, 5), x)
    np.testing.assert_array_equal(x, before)
    x.flags.writeable = True


def test_hashes_that_collide_are_told_apart(x, km):
    options = {"threshold": 0.95, "keep": "central", "neighbours": 64}
    collide = find(as_source(x), km.cluster_centers_, **options, hashes=lambda block: np.zeros(len(block), np.uint64))
    assert collide.kept.tolist() == dedup(km, x).kept.tolist()


def test_memory_is_bounded_for_one_huge_cluster(tmp_path):
    rng = np.random.default_rng(0)
    x = np.full((24_000, 64), 2, np.float32) + rng.standard_normal((24_000, 64), dtype=np.float32)
    x[-30:] *= -1
    np.save(tmp_path / "x.npy", x)
    model = fit(x, 2)
    model.cluster_centers_ = np.array([[1.0], [-1.0]], np.float32) * np.ones(64, np.float32)  # 30 rows in the second
    dedup(model, tmp_path / "x.npy", threshold=0.99)
    tracemalloc.start()
    try:
        found = dedup(model, tmp_path / "x.npy", threshold=0.99)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.kept) > 20_000
    blocks = 3 * 2 * 4096 * 64 * 4  # rows, columns and what is left of the rows, each with its unit rows
    assert peak < 1.5 * x.nbytes + blocks + 200 * len(x), peak  # 24 MB; products of the cluster would be 2.3 GB


# --------------------------------------------------------------------------- files


def test_a_folder_round_trips(x, km, tmp_path):
    found = dedup(km, x)
    found.save(tmp_path / "out", ids=[f"row {i}" for i in range(len(x))])
    stored = {p.stem: np.load(p) for p in (tmp_path / "out").glob("*.npy")}
    for name in ("kept", "dropped", "duplicate_of", "similarity"):
        np.testing.assert_array_equal(stored[name], getattr(found, name))
        assert stored[name].dtype == getattr(found, name).dtype
    assert stored["kept_ids"].tolist() == [f"row {i}" for i in found.kept]
    assert stored["duplicate_of_ids"].tolist() == [f"row {i}" for i in found.duplicate_of]
    record = json.loads((tmp_path / "out" / "dedup.json").read_text())
    assert (record["kept"], record["dropped"], record["groups"]) == (len(found.kept), len(found.dropped), found.groups)
    assert record["settings"] == {"threshold": 0.95, "keep": "central", "neighbours": 64}
    assert set(record["files"]) == {f"{name}.npy" for name in stored}
    with pytest.raises(FileExistsError, match="pass force"):
        found.save(tmp_path / "out")
    found.save(tmp_path / "out", force=True)
    assert not (tmp_path / "out" / "kept_ids.npy").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_force_replaces_nothing_else(x, km, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    km.save(tmp_path / "run")
    for folder in ("mine", "run"):
        with pytest.raises(FileExistsError, match="force does not replace it"):
            dedup(km, x).save(tmp_path / folder, force=True)


def test_a_table_as_csv_and_parquet(x, km, tmp_path):
    found = dedup(km, x)
    ids = 10 * np.arange(len(x))
    found.save(tmp_path / "out.csv", ids=ids)
    with (tmp_path / "out.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["row", "id", "kept", "duplicate_of", "similarity", "duplicate_of_id"]
    assert [int(line["row"]) for line in lines if line["kept"] == "true"] == found.kept.tolist()
    dropped = [line for line in lines if line["kept"] == "false"]
    assert [int(line["duplicate_of_id"]) for line in dropped] == ids[found.duplicate_of].tolist()
    np.testing.assert_allclose([float(line["similarity"]) for line in dropped], found.similarity)
    with pytest.raises(FileExistsError, match="exists already"):
        found.save(tmp_path / "out.csv")
    found.save(tmp_path / "out.csv", force=True)
    parquet = pytest.importorskip("pyarrow.parquet")
    found.save(tmp_path / "out.parquet", ids=ids.astype(str))
    table = parquet.read_table(tmp_path / "out.parquet")
    assert np.flatnonzero(table["kept"]).tolist() == found.kept.tolist()
    assert table["id"].to_pylist() == ids.astype(str).tolist()


def test_parquet_without_pyarrow_says_what_to_install(x, km, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"out\.parquet needs pyarrow.*pip install 'fastann\[files\]'"):
        dedup(km, x).save(tmp_path / "out.parquet")
    assert not list(tmp_path.iterdir())


def test_names_of_rows_are_checked(x, km):
    found = dedup(km, x)
    with pytest.raises(ValueError, match=r"ids has shape \(3,\), but there are 1500 rows"):
        found.table([1, 2, 3])
    with pytest.raises(TypeError, match="integers or strings"):
        found.table(np.zeros(len(x)))


def test_names_of_rows_come_from_the_model_or_the_data(x, tmp_path):
    model = fit(x, 15)
    assert dedup(model, x).ids is None
    model.ids_ = np.array([f"row {i}" for i in range(len(x))])
    found = dedup(model, x)
    assert found.table()["duplicate_of_id"].tolist() == [f"row {i}" for i in found.table()["duplicate_of"]]
    assert found.table(np.arange(len(x)))["id"].tolist() == list(range(len(x)))
    found.save(tmp_path / "out")
    assert np.load(tmp_path / "out" / "dropped_ids.npy").tolist() == [f"row {i}" for i in found.dropped]
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"id": arrow.array(range(len(x))), "x": arrow.array(x.tolist(), arrow.list_(arrow.float32()))}
    parquet.write_table(arrow.table(columns), tmp_path / "x.parquet")
    given = dedup(model, fastann.open_source(tmp_path / "x.parquet", id_column="id"))
    assert given.ids.tolist() == list(range(len(x)))
    same(given, found)


# --------------------------------------------------------------------------- other rows than the model's own


OTHERS = {
    "more": lambda x: np.concatenate([x, rows(700, seed=5)]),
    "fewer": lambda x: x[100:400],
    "as many": lambda x: rows(seed=6),
    "one": lambda x: x[:1],
    "twice": lambda x: np.concatenate([x[:300], x[:300]]),
    "sparse": lambda x: sparse.csr_matrix(rows(600, seed=7)),
    "float64": lambda x: rows(600, seed=8).astype(np.float64),
}


@pytest.mark.parametrize("kind", ["sample", "stream", "loaded", "without labels"])
@pytest.mark.parametrize("other", OTHERS)
def test_any_rows_of_as_many_columns_are_taken(x, tmp_path, kind, other):
    model = fit(x, 15)
    if kind == "stream":
        model.partial_fit(x[:60]).partial_fit(x[60:90])
    elif kind != "sample":
        model.save(tmp_path / "run", labels=kind == "loaded")
        model = KMeans.load(tmp_path / "run")
    y = OTHERS[other](x)
    found = dedup(model, y, threshold=0.9)
    y = (y.toarray() if sparse.issparse(y) else y).astype(np.float32)
    assert (found.rows, found.unchecked) == (len(y), 0)
    is_true(found, y, 0.9)
    np.testing.assert_array_equal(found.kept, greedy(cosines(y) >= 0.9 - 1e-12, ranked(model, y, "central")))


def test_names_go_with_the_rows_they_name(x, tmp_path):
    model = fit(x, 15)
    model.ids_ = np.array([f"row {i}" for i in range(len(x))])
    assert dedup(model, x).ids is not None
    for other in (rows(seed=6), x[::-1], x[:-1], np.concatenate([x, x[:1]])):
        assert dedup(model, other).ids is None
    model.partial_fit(x[:60])
    assert dedup(model, x).ids is None


def test_a_stream_knows_its_last_batch_only(x, tmp_path):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", x[500 * i : 500 * i + 500])
    model = KMeans(15, metric="cosine", random_state=0).partial_fit(tmp_path / "0.npy")
    assert dedup(model).rows == 500
    model.partial_fit(tmp_path / "1.npy")
    with pytest.raises(ValueError, match=r"a stream of 2 batches, of which it knows the last one only; pass the rows"):
        dedup(model)
    assert dedup(model, f"{tmp_path}/*.npy").rows == 1000


@pytest.mark.parametrize("threshold", [0.05, 0.49, 0.0, -0.3])
def test_a_threshold_that_may_be_a_distance_is_warned_of(x, threshold):
    model = fit(x, 4)
    with pytest.warns(
        UserWarning, match=rf"a threshold of {threshold:g} is a cosine similarity.*SemDeDup's eps"
    ) as said:
        dedup(model, x, threshold=threshold)
    assert (f"{1 - threshold:g} for an eps of {threshold:g}" in str(said[0].message)) == (threshold > 0)
    assert said[0].filename == __file__


@pytest.mark.parametrize("threshold", [0.5, 0.95, 1.0])
def test_a_threshold_that_is_a_similarity_is_not(x, threshold):
    dedup(fit(x, 4), x, threshold=threshold)  # warnings are errors


@pytest.mark.filterwarnings("default:a threshold of:UserWarning")
def test_command_warns_of_a_distance(here):
    result = run("run", "x.npy", "--threshold", 0.05, "--out", "out")
    assert result.exit_code == DONE
    has(result.stderr, "warning: a threshold of 0.05 is a cosine similarity", "0.95 for an eps of 0.05")


# --------------------------------------------------------------------------- the rows of the model's own fit


def test_rows_in_files_need_not_be_given(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    model = fit(tmp_path / "x.npy", 15)
    expected = dedup(model, x)
    same(dedup(model), expected)
    model.save(tmp_path / "run")
    same(dedup(KMeans.load(tmp_path / "run")), expected)


@pytest.mark.parametrize("rows_of", [lambda x: x, lambda x: sparse.csr_matrix(x), lambda x: lambda: [x]])
def test_rows_that_were_in_memory_must_be_given(x, rows_of):
    model = KMeans(4, random_state=0, max_iter=2).fit(rows_of(x))
    with pytest.raises(ValueError, match="cannot be opened again from files; pass them"):
        dedup(model)


def test_files_that_changed_are_refused(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    model = fit(tmp_path / "x.npy", 4)
    np.save(tmp_path / "x.npy", x[:-1])
    with pytest.raises(ValueError, match=r"x\.npy is not as it was before \(size \d+ -> \d+ bytes\)"):
        dedup(model)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*x\.npy any more"):
        dedup(model)


# --------------------------------------------------------------------------- bad input


def test_bad_arguments(x):
    model = fit(x, 4)
    for threshold in (-1, 1.01, 95, np.nan, np.inf):
        has(refusal(ValueError, model, x, threshold=threshold), "threshold", "-1", str(threshold))
    has(refusal(TypeError, model, x, threshold="0.9"), "threshold must be a number", "'0.9'")
    has(refusal(ValueError, model, x, keep="last"), "'central', 'outlying', 'first'", "'last'")
    has(refusal(ValueError, model, x, neighbours=-1), "neighbours must be >= 0", "-1")
    has(refusal(TypeError, model, x, neighbours=1.5), "neighbours must be an integer", "1.5")
    has(refusal(ValueError, model, x, n_jobs=0), "n_jobs")
    has(refusal(ValueError, model, x[:, :5]), "5 features", "12 features")
    bad = x.copy()
    bad[3, 2] = np.nan
    has(refusal(ValueError, model, bad), "NaN", "row 3, column 2")


def test_bad_models(x):
    from sklearn.cluster import KMeans as Theirs

    has(refusal(TypeError, Theirs(3), x), "model must be a fitted fastann.KMeans, got KMeans")
    has(refusal(TypeError, x, x), "got ndarray", "KMeans.load")
    with pytest.raises(NotFittedError):
        dedup(KMeans(3), x)


def test_the_name_stays_a_function():
    assert callable(fastann.dedup)
    assert fastann.Duplicates is Duplicates


# --------------------------------------------------------------------------- command line


@pytest.fixture
def here(x, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    fit(x, 15).save("run")
    return tmp_path


def run(*args):
    return CliRunner().invoke(main, ["dedup", *map(str, args)], catch_exceptions=False)


def test_command(here, x):
    result = run("run", "x.npy", "--threshold", 0.9, "--keep", "first", "--neighbours", 3, "--jobs", 1, "--out", "out")
    assert (result.exit_code, result.stderr) == (DONE, "")
    found = dedup(KMeans.load("run"), x, threshold=0.9, keep="first", neighbours=3)
    np.testing.assert_array_equal(np.load("out/kept.npy"), found.kept)
    np.testing.assert_array_equal(np.load("out/similarity.npy"), found.similarity)
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert list(lines) == ["rows", "kept", "dropped", "threshold", "certainty", "seconds", "written"]
    has(lines["dropped"], f"{len(found.dropped):,} (", f"near-duplicates of {found.groups:,} of the kept rows")
    has(lines["dropped"], f"the least similar pair has a cosine of {found.similarity.min():.4f}")
    assert lines["kept"] == f"{len(found.kept):,} (first)"
    assert {line.index(value) for line, value in zip(result.stdout.splitlines(), lines.values(), strict=True)} == {11}
    assert run("run", "x.npy", "--out", "out", "--force").exit_code == DONE
    assert run("run", "x.npy", "--out", "out.csv").exit_code == DONE


def test_command_opens_the_rows_of_the_run(here, x):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {name: arrow.array(x.tolist(), arrow.list_(arrow.float32())) for name in ("a", "b")}
    names = [f"doc {i}" for i in range(len(x))]
    parquet.write_table(arrow.table({"id": names} | columns), "my rows.parquet")
    done = CliRunner().invoke(
        main, "fit 'my rows.parquet' --column b --id-column id -k 15 --metric cosine --quiet --out own"
    )
    assert done.exit_code == DONE, done.output
    assert run("own", "--out", "own.csv").exit_code == DONE
    options = ("--column", "a", "--id-column", "id")
    assert run("own", "my rows.parquet", *options, "--out", "given.csv").exit_code == DONE
    with open("own.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == names
    assert (here / "own.csv").read_bytes() == (here / "given.csv").read_bytes()


def test_command_refuses(here, x):
    np.save("narrow.npy", x[:, :5])
    (here / "full").mkdir()
    (here / "full" / "a").touch()
    for args, part in (
        (("run", "narrow.npy", "--out", "out"), "DATA has 5 features"),
        (("run", "none.npy", "--out", "out"), "none.npy"),
        (("none", "x.npy", "--out", "out"), "no run directory none"),
        (("run", "x.npy", "--out", "out", "--threshold", "2"), "threshold must be a cosine"),
        (("run", "x.npy", "--out", "out", "--keep", "best"), "keep must be one of"),
        (("run", "x.npy", "--out", "out", "--neighbours", "-3"), "neighbours must be >= 0"),
        (("run", "x.npy", "--out", "full"), "exists already"),
        (("run", "x.npy", "--out", "full", "--force"), "force does not replace it"),
        (("run", "x.npy", "--out", "run", "--force"), "force does not replace it"),
        (("run", "x.npy"), "--out"),
        (("run", "--out", "out"), "in memory"),
        (("run", "--out", "out", "--column", "a"), "give DATA too"),
    ):
        result = run(*args)
        assert (result.exit_code, result.stdout) == (USAGE, ""), args
        assert part in result.stderr, result.stderr
    assert not (here / "out").exists()

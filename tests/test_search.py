"""Nearest rows: through any index over rows, through the clusters of a fit, saved and read, from the command line."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import sparse
from sklearn.metrics import pairwise_distances

from fastann import HNSW, IVF, KMeans, PrototypeClassifier, RowIndex, RunError, build_index, open_source
from fastann.cli import main
from fastann.data.limits import Limits
from fastann.data.open import as_source
from fastann.search import rows as rows_module
from fastann.search.exact import nearest

# index, and the recall@10 that it must have on the blobs
INDEXES = [
    ("flat", 1.0),
    ("brute", 1.0),
    ("ivf:nlist=20,nprobe=8", 0.9),
    ("ivf:nlist=20,nprobe=20", 1.0),
    ("hnsw:m=16,ef_search=64", 0.95),
    ("cells:nlist=20,nprobe=8", 0.9),
    ("kd_tree:leaf_size=10", 1.0),
    ("ball_tree", 1.0),
    ("lsh:bits=64,rerank=200", 0.9),
    ("factory:SQ8", 0.9),
    ("factory:IVF16,Flat;nprobe=16", 1.0),
    ("factory:PQ8x4,RFlat;k_factor_rf=20", 0.7),
]


@pytest.fixture(scope="module")
def x(blobs):
    return blobs[:3000]


@pytest.fixture(scope="module")
def q(blobs):
    return blobs[5000:5120]


def truth(x, q, m, metric="euclidean"):
    """Distances of the `m` nearest rows of each query."""
    far = pairwise_distances(np.asarray(q, np.float64), np.asarray(x, np.float64), metric=metric)
    return np.sort(far, axis=1)[:, :m]


def shared(distances, x, q, metric="euclidean"):
    """Share of the nearest rows among those found, by their distances."""
    best = truth(x, q, distances.shape[1], metric)[:, -1:]
    return (distances <= best * (1 + 1e-5) + 1e-7).mean()


def check(distances, ids, x, q, metric="euclidean"):
    """Whatever was found, its distances are true, in order, and no row is found twice."""
    assert (distances.dtype, ids.dtype) == (np.float32, np.int64)
    assert (ids >= 0).all()
    assert all(len(set(own)) == len(own) for own in ids)
    far = pairwise_distances(np.asarray(q, np.float64), np.asarray(x, np.float64), metric=metric)
    np.testing.assert_allclose(distances, np.take_along_axis(far, ids, 1), rtol=1e-3, atol=1e-4)
    assert (np.diff(distances, axis=1) >= -1e-6).all()


# --------------------------------------------------------------------- an index over rows


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(("index", "least"), INDEXES, ids=[name for name, _ in INDEXES])
def test_every_index_finds_rows(x, q, index, least, metric):
    built = build_index(x, index, metric=metric, random_state=0)
    for m in (1, 10, 40):
        distances, ids = built.search(q, m)
        assert distances.shape == ids.shape == (len(q), m)
        check(distances, ids, x, q, metric)
        assert shared(distances, x, q, metric) >= least - 0.05 * (least < 1)
    assert built.measure(q, 10).value >= least - 0.05 * (least < 1)
    assert built.measure(q, 10).value == pytest.approx(shared(built.search(q, 10)[0], x, q, metric), abs=0.01)


@pytest.mark.parametrize("index", ["flat", "ivf:nlist=20,nprobe=8", "factory:SQ8"])
@pytest.mark.parametrize("kind", ["float16", "uint8", "float64", "path", "memmap", "Fortran", "list of paths"])
def test_rows_of_every_kind_are_found(x, q, kind, index, tmp_path):
    given = np.asarray(x)
    if kind == "uint8":
        given = np.clip(10 * x + 100, 0, 255).astype(np.uint8)
        q = 10 * q + 100
    elif kind in ("float16", "float64"):
        given = x.astype(kind)
    elif kind == "Fortran":
        given = np.asfortranarray(x)
    else:
        np.save(tmp_path / "a.npy", x[:1000])
        np.save(tmp_path / "b.npy", x[1000:])
        np.save(tmp_path / "x.npy", x)
    rows = {
        "path": tmp_path / "x.npy",
        "memmap": np.load(tmp_path / "x.npy", mmap_mode="r") if kind == "memmap" else None,
        "list of paths": [tmp_path / "a.npy", tmp_path / "b.npy"],
    }.get(kind, given)
    distances, ids = build_index(rows, index, random_state=0).search(q, 5)
    check(distances, ids, given, q)


def test_rows_that_are_not_held_are_searched_where_they_lie(x, q, monkeypatch):
    monkeypatch.setattr(rows_module, "HELD", 1)
    source = as_source(x.astype(np.float16), limits=Limits(chunk_bytes=4 * 24 * 700))
    built = build_index(source, "flat")
    assert built._built is None
    distances, ids = built.search(q, 10)
    check(distances, ids, x.astype(np.float16), q)
    assert shared(distances, x.astype(np.float16), q) == 1


def test_ties_go_to_the_lowest_row_whatever_the_blocks():
    x = np.zeros((50, 3), np.float32)
    x[20:] = 1
    source = as_source(x, limits=Limits(chunk_bytes=4 * 3 * 7))
    ids, sqdist = nearest(source, np.ones((2, 3), np.float32), 33)
    np.testing.assert_array_equal(ids[0], [*range(20, 50), 0, 1, 2])
    np.testing.assert_array_equal(sqdist[1], [0] * 30 + [3] * 3)


def test_sparse_rows_are_found_by_sparse_and_dense_queries(rng):
    x, q = (sparse.random(n, 60, 0.1, "csr", np.float32, rng).toarray() for n in (400, 30))
    x[3], q[4] = 0, 0
    x, q = sparse.csr_matrix(x), sparse.csr_matrix(q)
    for metric in ("euclidean", "cosine"):
        built = build_index(x, metric=metric)
        for queries in (q, q.toarray()):
            distances, ids = built.search(queries, 7)
            some = np.arange(30) != 4
            check(distances[some], ids[some], x.toarray(), q.toarray()[some], metric)
            assert shared(distances[some], x.toarray(), q.toarray()[some], metric) == 1
            if metric == "cosine":
                assert (ids != 3).all()
                np.testing.assert_allclose(distances[4], 1)
    with pytest.raises(ValueError, match=r"sparse rows are searched by index='flat' or 'auto', got 'hnsw'"):
        build_index(x, "hnsw")


def test_zero_rows_have_no_direction_and_are_never_found(x, q):
    x, q = x.copy(), q.copy()
    x[[0, 5, 99]], q[2] = 0, 0
    built = build_index(x, "ivf:nlist=8,nprobe=8", metric="cosine")
    distances, ids = built.search(q, 10)
    assert not set(ids.ravel()) & {0, 5, 99}
    np.testing.assert_allclose(distances[2], 1)
    some = np.arange(len(q)) != 2
    check(distances[some], ids[some], x, q[some], "cosine")
    with pytest.raises(ValueError, match=r"m=2998 rows are asked for, and there are 2,997 that are not zero, of 3,000"):
        built.search(q, 2998)
    with pytest.raises(ValueError, match="every row is zero"):
        build_index(np.zeros((5, 3)), metric="cosine")


def test_rows_far_from_the_origin_keep_their_digits(x, q):
    distances, ids = build_index(x.astype(np.float64) + 1e7, "flat").search(q.astype(np.float64) + 1e7, 5)
    check(distances, ids, x, q)


def groups_far_apart(rng, offset=1e4):
    """Rows whose distances to their neighbours are small beside those between groups."""
    centres = offset * rng.standard_normal((20, 8))
    return (centres[rng.integers(20, size=2000)] + rng.standard_normal((2000, 8))).astype("f")


@pytest.mark.parametrize("m", [2, 5, 20])
def test_flat_is_exact_in_groups_far_apart(rng, m):
    x = groups_far_apart(rng)
    q = x[:100] + np.float32(0.25)
    distances, ids = build_index(x, "flat").search(q, m)
    truth = pairwise_distances(q.astype(float), x.astype(float))
    np.testing.assert_array_equal(ids, np.argsort(truth, axis=1, kind="stable")[:, :m])
    np.testing.assert_allclose(distances, np.sort(truth, axis=1)[:, :m], rtol=1e-5)
    through = KMeans(20, random_state=0).fit(x).search(q, m, rows=x, probe=20)
    np.testing.assert_array_equal(through[1], ids)


def test_the_distance_of_a_single_neighbour_is_as_exact_as_of_several(rng):
    x = groups_far_apart(rng, 1e3)
    q, y = x[:100], rng.integers(3, size=len(x))
    assert (build_index(x, "flat").search(q, 1)[0] == 0).all()
    km = KMeans(20, random_state=0).fit(x)
    assert (km.search(q, 1, rows=x, probe=20)[0] == 0).all()
    np.testing.assert_allclose(km.kneighbors(q, 1)[0][:, 0], km.transform(q).min(axis=1), rtol=1e-5)
    classifier = PrototypeClassifier(8, metric="euclidean", random_state=0).fit(x, y)
    truth = pairwise_distances(q.astype(float), classifier.prototypes_.astype(float)).min(axis=1)
    np.testing.assert_allclose(classifier.kneighbors(q, 1)[0][:, 0], truth, rtol=1e-5)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_an_index_of_saved_rows_takes_no_others(x, q, kind, tmp_path):
    index = build_index(kind(x))
    index.save(tmp_path / "index")
    np.testing.assert_array_equal(RowIndex.load(tmp_path / "index", kind(x)).search(q)[1], index.search(q)[1])
    others = x.copy()
    others[[7, 9]] = x[[9, 7]]
    with pytest.raises(ValueError, match="row 7 is not the one that was saved with the index"):
        RowIndex.load(tmp_path / "index", kind(others))


def test_too_few_found_are_repaired_and_counted(x, q):
    built = build_index(x, IVF(nlist=100, nprobe=1), random_state=0)
    assert built.search(q, 1)[0].shape == (len(q), 1)
    assert built.repaired == 0
    distances, ids = built.search(q, 200)
    assert built.repaired == len(q)
    check(distances, ids, x, q)
    assert shared(distances, x, q) == 1


def test_search_options_change_without_a_new_build(x, q):
    built = build_index(x, IVF(nlist=50, nprobe=1), random_state=0)
    before = built.search(q, 5)[1]
    few = built.measure(q, 10).value
    assert built.set_search(nprobe=50) is built
    assert built.index == IVF(nlist=50, nprobe=50)
    assert built.measure(q, 10).value == 1 > few
    np.testing.assert_array_equal(built.set_search(nprobe=1).search(q, 5)[1], before)
    with pytest.raises(ValueError, match=r"'nlist' is not a search option of ivf"):
        built.set_search(nlist=3)
    with pytest.raises(ValueError, match=r"nprobe='auto' is found for a recall: call tune"):
        built.set_search(nprobe="auto")


def test_a_recall_that_is_asked_for_is_reached_and_no_more(x, q):
    built = build_index(x, "ivf:nlist=50,nprobe=auto", recall=0.9, random_state=0)
    probes = built.index.nprobe
    assert built.measure(m=10).interval[0] >= 0.9
    assert built.set_search(nprobe=probes - 1).measure(m=10).interval[0] < 0.9
    assert built.tune(0.5, q, 3).index.nprobe < probes
    with pytest.raises(ValueError, match=r"recall=0.9 is what an index whose search option is 'auto' must reach"):
        build_index(x, "flat", recall=0.9)
    with pytest.raises(ValueError, match="'flat' has no search option that is a number"):
        build_index(x).tune(0.9)
    with pytest.raises(ValueError, match="recall must be below 1"):
        built.tune(1.0)


def test_auto_is_exact_for_few_rows_and_finds_its_probes_for_many(x, q, monkeypatch):
    assert str(build_index(x).index) == "flat"
    monkeypatch.setattr(rows_module, "EXACT_TO", 1000)
    built = build_index(x, random_state=0)
    assert built.index.name == "ivf"
    assert built.measure().interval[0] >= 0.99


def test_rows_are_no_neighbours_of_themselves_when_recall_is_measured_on_them(x):
    built = build_index(x[:300], IVF(nlist=30, nprobe=1), random_state=0)
    found = built.search(x[:300], 11)[1]
    own = np.arange(300)[:, None]
    others = np.array([row[row != i][:10] for i, row in enumerate(found)])
    best = np.array([row[row != i][:10] for i, row in enumerate(build_index(x[:300]).search(x[:300], 11)[1])])
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(others, best, strict=True)])
    assert (found[:, :1] == own).all()
    assert built.measure(m=10).value == pytest.approx(share, abs=1e-6)
    with pytest.raises(ValueError, match=r"m=300 rows are asked for, and there are 300, and a row is no neighbour"):
        built.measure(m=300)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x, q: build_index(x).search(q[:, :5]),
            "queries have 5 columns, and the rows have 24; pass queries of 24",
        ),
        (lambda x, q: build_index(x).search(q, 3001), "m=3001 rows are asked for, and there are 3,000; lower m"),
        (lambda x, q: build_index(x).search(q, 0), "m must be >= 1, got 0"),
        (lambda x, q: build_index(x).search(q[0]), "queries needs 2 dimensions"),
        (lambda x, q: build_index(x).search(q * np.nan), "NaN"),
        (lambda x, q: build_index(x, "ivf:nlist=4000"), "nlist=4000 exceeds the number of rows, 3000"),
        (lambda x, q: build_index(x, "annoy"), "unknown index 'annoy'"),
        (lambda x, q: build_index(x, metric="l1"), "metric must be one of"),
        (lambda x, q: build_index(x, "factory:SQ9"), "FAISS cannot build factory:SQ9"),
        (lambda x, q: build_index(x, "kd_tree", device="cuda"), "searches on CPUs|this is a CPU build"),
    ],
)
def test_nonsense_is_refused_in_words(x, q, call, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        call(x, q)


def test_the_same_seed_finds_the_same_rows(x, q):
    one, two = (build_index(x, "lsh:bits=32,rerank=20", random_state=3).search(q, 5) for _ in range(2))
    np.testing.assert_array_equal(one[1], two[1])
    other = build_index(x, "lsh:bits=32,rerank=20", random_state=4).search(q, 5)
    assert (one[1] != other[1]).any()


# --------------------------------------------------------------------- saved and read


@pytest.mark.parametrize("index", [name for name, _ in INDEXES])
@pytest.mark.parametrize("files", [False, True], ids=["array", "file"])
def test_a_saved_index_is_the_same(x, q, index, files, tmp_path):
    np.save(tmp_path / "x.npy", x)
    built = build_index(tmp_path / "x.npy" if files else x, index, random_state=1)
    built.save(tmp_path / "index")
    again = RowIndex.load(tmp_path / "index")
    assert (str(again.index), again.n, again.d, again.metric) == (str(built.index), 3000, 24, "euclidean")
    for one, two in zip(built.search(q, 10), again.search(q, 10), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (tmp_path / "index" / "rows.npy").exists() != files
    if again.index.search_option:
        option = {again.index.search_option: 2}
        np.testing.assert_array_equal(
            again.set_search(**option).search(q, 3)[1], built.set_search(**option).search(q, 3)[1]
        )


def test_a_saved_index_keeps_metric_names_and_place(x, q, rng, tmp_path):
    far = x.astype(np.float64) + 1e6
    build_index(far, "hnsw:m=8").save(tmp_path / "far")
    check(*RowIndex.load(tmp_path / "far").search(q.astype(np.float64) + 1e6, 4), x, q)
    rows = sparse.random(100, 20, 0.3, "csr", np.float32, rng)
    built = build_index(rows, metric="cosine")
    built.save(tmp_path / "sparse")
    again = RowIndex.load(tmp_path / "sparse")
    np.testing.assert_array_equal(again.search(rows[:9], 3)[1], built.search(rows[:9], 3)[1])


def test_what_may_not_be_replaced_or_was_changed_is_refused(x, q, tmp_path):
    np.save(tmp_path / "x.npy", x)
    built = build_index(tmp_path / "x.npy", "flat")
    built.save(tmp_path / "index")
    with pytest.raises(FileExistsError, match="exists already"):
        built.save(tmp_path / "index")
    built.save(tmp_path / "index", force=True)
    (tmp_path / "x.npy").rename(tmp_path / "y.npy")
    with pytest.raises(FileNotFoundError, match=r"x\.npy"):
        RowIndex.load(tmp_path / "index")
    np.testing.assert_array_equal(
        RowIndex.load(tmp_path / "index", tmp_path / "y.npy").search(q, 2)[1], built.search(q, 2)[1]
    )
    with pytest.raises(ValueError, match="of 3,000 rows of 24 columns, got 100 of 24"):
        RowIndex.load(tmp_path / "index", x[:100])
    build_index(x, "hnsw").save(tmp_path / "graph")
    data = bytearray((tmp_path / "graph" / "index.npy").read_bytes())
    data[-1] ^= 1
    (tmp_path / "graph" / "index.npy").write_bytes(data)
    with pytest.raises(RunError, match=r"index\.npy is not the file that was saved"):
        RowIndex.load(tmp_path / "graph")
    with pytest.raises(FileNotFoundError, match="no saved index of rows"):
        RowIndex.load(tmp_path / "nothing")
    record = json.loads((tmp_path / "index" / "index.json").read_text())
    (tmp_path / "index" / "index.json").write_text(json.dumps(record | {"index": "annoy"}))
    with pytest.raises(RunError, match="does not describe a saved index of rows: unknown index 'annoy'"):
        RowIndex.load(tmp_path / "index")


# --------------------------------------------------------------------- through the clusters of a fit


@pytest.fixture(scope="module", params=["euclidean", "cosine"])
def km(request, x):
    return KMeans(40, metric=request.param, random_state=0).fit(x)


def test_all_clusters_find_all_and_few_find_most(km, x, q):
    distances, ids = km.search(q, 10, probe=40, rows=x)
    check(distances, ids, x, q, km.metric)
    assert shared(distances, x, q, km.metric) == 1
    distances, ids = km.search(q, 10, rows=x)
    check(distances, ids, x, q, km.metric)
    share = shared(distances, x, q, km.metric)
    assert share > 0.8
    assert km.search_recall(q, 10, rows=x).value == pytest.approx(share, abs=0.01)
    one = km.search_recall(q, 10, probe=1, rows=x).value
    assert one < share


def test_rows_of_the_probed_clusters_alone_are_looked_at(km, x, q):
    ids = km.search(q, 3, probe=2, rows=x)[1]
    cells = km.kneighbors(q, 2, return_distance=False)
    assert (np.bincount(km.labels_, minlength=40)[cells[:, 0]] >= 3).all()
    assert all(set(km.labels_[own]) <= set(near) for own, near in zip(ids, cells, strict=True))
    far = pairwise_distances(q.astype(np.float64), x.astype(np.float64), metric=km.metric)
    for i in range(len(q)):
        there = np.flatnonzero(np.isin(km.labels_, cells[i]))
        np.testing.assert_allclose(np.sort(far[i, there])[:3], far[i, ids[i]], rtol=1e-4, atol=1e-6)


def test_more_rows_than_the_probed_clusters_have(km, x, q):
    distances, ids = km.search(q[:20], 700, probe=1, rows=x)
    check(distances, ids, x, q[:20], km.metric)
    assert km.search(q[:3], 3000, rows=x)[1].shape == (3, 3000)


def test_the_rows_of_a_run_are_opened_again(x, q, tmp_path):
    np.save(tmp_path / "x.npy", x)
    km = KMeans(30, random_state=0).fit(tmp_path / "x.npy")
    km.save(tmp_path / "run")
    expected = km.search(q, 5, rows=x)
    for model in (km, KMeans.load(tmp_path / "run")):
        for one, two in zip(model.search(q, 5), expected, strict=True):
            np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match=r"fitted on rows in memory.*pass the rows to search: rows=X"):
        KMeans(3, random_state=0).fit(x).search(q, 5)


def test_other_rows_go_to_their_nearest_centres(km, blobs, q):
    others = blobs[6000:7000].astype(np.float16)
    distances, ids = km.search(q, 10, probe=40, rows=others)
    check(distances, ids, others, q, km.metric)
    assert shared(distances, others, q, km.metric) == 1
    labels = km.predict(others)
    ids = km.search(q, 1, probe=1, rows=others)[1][:, 0]
    nearest_used = km.predict(q)
    there = np.isin(nearest_used, labels)
    np.testing.assert_array_equal(labels[ids[there]], nearest_used[there])


def test_probes_are_found_for_a_recall(km, x, q):
    probe = km.probe_for(q, 10, recall=0.8, rows=x)
    assert 1 <= probe < 40
    assert km.search_recall(q, 10, probe=probe, rows=x).interval[0] >= 0.8
    np.testing.assert_array_equal(
        km.search(q, 10, probe="auto", recall=0.8, rows=x)[1], km.search(q, 10, probe=probe, rows=x)[1]
    )


def test_zero_rows_and_queries_of_clusters(x, q):
    x, q = x.copy(), q.copy()
    x[[1, 7]], q[0] = 0, 0
    with pytest.warns(UserWarning, match="2 of 3000 rows are zero"):
        km = KMeans(20, metric="cosine", random_state=0).fit(x)
    distances, ids = km.search(q, 10, probe=20, rows=x)
    assert not set(ids.ravel()) & {1, 7}
    np.testing.assert_allclose(distances[0], 1)
    check(distances[1:], ids[1:], x, q[1:], "cosine")
    assert km.search_recall(q[1:], 10, probe=20, rows=x).value == 1


def test_sparse_rows_through_clusters(rng):
    x = sparse.random(500, 40, 0.2, "csr", np.float32, rng)
    km = KMeans(10, random_state=0).fit(x)
    for queries in (x[:20], x[:20].toarray()):
        distances, ids = km.search(queries, 5, probe=10, rows=x)
        check(distances, ids, x.toarray(), x[:20].toarray())
        assert (ids[:, 0] == np.arange(20)).all()


def test_an_index_of_centres_and_other_centres_are_searched(x, q):
    km = KMeans(60, index=HNSW(m=8), random_state=0).fit(x)
    first = km.search_recall(q, 10, probe=60, rows=x).value
    assert first == 1
    km.cluster_centers_ = km.cluster_centers_[::-1]
    distances, ids = km.search(q, 10, probe=60, rows=x)
    check(distances, ids, x, q)


def test_fewer_clusters_than_are_searched_by_default_are_all_searched(x, q, tmp_path):
    few = KMeans(3, random_state=0).fit(x)
    check(*few.search(q, 10, rows=x), x, q)
    assert few.search_recall(q, 10, rows=x).value == 1
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "q.npy", q)
    KMeans(3, random_state=0).fit(tmp_path / "x.npy").save(tmp_path / "run")
    order = ["search", f"{tmp_path}/run", f"{tmp_path}/q.npy", "--out", f"{tmp_path}/found.npz"]
    done = CliRunner().invoke(main, order)
    assert done.exit_code == 0, done.output
    assert "through 3 of 3 clusters" in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"m": 3001}, "m=3001 rows are asked for, and there are 3,000"),
        ({"m": 0}, "m must be >= 1"),
        ({"probe": 41}, "probe=41 exceeds the 40 clusters"),
        ({"probe": 0}, "probe must be >= 1"),
        ({"probe": "all"}, "probe must be"),
        ({"recall": 0.9}, r"recall=0.9 is what probe='auto' must reach, got probe=8"),
        ({"probe": "auto", "recall": 1.0}, "recall must be below 1"),
    ],
)
def test_what_cannot_be_searched_in_clusters_is_refused(km, x, q, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        km.search(q, rows=x, **options)
    with pytest.raises(ValueError, match="queries have 5 features"):
        km.search(q[:, :5], rows=x)
    with pytest.raises(ValueError, match="rows have 5 features"):
        km.search(q, rows=x[:, :5])


# --------------------------------------------------------------------- the command line


@pytest.fixture
def folder(x, q, tmp_path):
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "q.npy", q)
    return tmp_path


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_run_is_searched_from_the_command_line(folder, x, q):
    KMeans(20, random_state=0).fit(folder / "x.npy").save(folder / "run")
    out = folder / "found.npz"
    said = run("search", folder / "run", folder / "q.npy", "-m", 5, "--probe", 20, "--measure", "--out", out)
    assert "20 of 20 clusters" in said
    assert "recall@5 1.0000" in said
    with np.load(out) as found:
        check(found["distances"], found["ids"], x, q)
    said = run(
        "search", folder / "run", folder / "q.npy", "--probe", "auto", "--recall", 0.8, "--out", folder / "a.npy"
    )
    assert np.load(folder / "a.npy").shape == (120, 10)
    assert "exists already" in run("search", folder / "run", folder / "q.npy", "--out", out, code=2)
    said = run("search", folder / "run", folder / "q.npy", "--recall", 0.9, "--out", folder / "b.npy", code=2)
    assert "--recall 0.9 is what --probe auto must reach, got --probe 8" in said
    said = run("search", folder / "run", folder / "q.npy", "--out", folder / "b.txt", code=2)
    assert "give a name that ends in .npz or .npy (arrays), .csv or .parquet (a table)" in said
    other = run(
        "search", folder / "run", folder / "q.npy", "--rows", folder / "q.npy", "-m", 1, "--out", folder / "c.csv"
    )
    assert "1 rows nearest to 120 queries" in other


def test_a_saved_index_is_searched_from_the_command_line(folder, x, q):
    said = run("index", folder / "x.npy", "--index", "ivf:nlist=20,nprobe=1", "--out", folder / "index")
    assert "3,000 rows x 24, ivf:nlist=20,nprobe=1" in said
    run("search", folder / "index", folder / "q.npy", "-m", 4, "--probe", 20, "--out", folder / "found.csv")
    lines = (folder / "found.csv").read_text().splitlines()
    assert lines[0] == "query,rank,row,distance"
    assert len(lines) == 1 + 4 * 120
    distances, ids = build_index(x).search(q, 4)
    table = np.loadtxt(lines[1:], delimiter=",")
    np.testing.assert_array_equal(table[:, 2].reshape(120, 4), ids)
    np.testing.assert_allclose(table[:, 3].reshape(120, 4), distances, rtol=1e-5)
    said = run(
        "search", folder / "index", folder / "q.npy", "--probe", "auto", "--recall", 0.9, "--out", folder / "a.npy"
    )
    assert "through ivf:nlist=20,nprobe=" in said
    assert "exists already" in run("index", folder / "x.npy", "--out", folder / "index", code=2)


def test_names_of_rows_stand_in_the_table(folder, x, q):
    lines = ["name," + ",".join(f"x{i}" for i in range(24))]
    lines += [f"r{i}," + ",".join(map(str, row)) for i, row in enumerate(x[:50])]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    source = open_source(folder / "rows.csv", column="x*", id_column="name")
    assert build_index(source).ids[3] == "r3"
    run("index", folder / "rows.csv", "--column", "x*", "--id-column", "name", "--out", folder / "named")
    run("search", folder / "named", folder / "q.npy", "-m", 2, "--out", folder / "found.csv")
    first = (folder / "found.csv").read_text().splitlines()[:2]
    assert first[0] == "query,rank,row,id,distance"
    row, name = first[1].split(",")[2:4]
    assert name == f"r{row}"

"""The engine under the classifier: groups of rows, sparse rows, thinning and refinement, against plain NumPy."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import logsumexp

from fastann import kernels
from fastann.classify.calibration import UNKNOWN, Judged
from fastann.classify.prototypes import Prototypes, Thinning, prune, shrink
from fastann.classify.refine import SMOOTHING, Descent
from fastann.classify.search import PrototypeSearch
from fastann.classify.start import start
from fastann.cluster.criterion import NEAREST
from fastann.cluster.passes.groups import Shared, Sharing, Within, first_of, neighbours
from fastann.cluster.passes.rows import Rows
from fastann.cluster.space import Cosine, Euclidean, fit_space, space_of
from fastann.data.csr import CSRSource, Densified, Sparsified
from fastann.data.limits import Limits
from fastann.data.open import as_source
from fastann.data.source import ArraySource, Centred, UnitNorm
from fastann.index import inverted
from fastann.index.inverted import InvertedIndex
from fastann.index.spec import Flat

KINDS = ["dense", "csr"]
METRICS = ["cosine", "euclidean"]
EUCLIDEAN, COSINE = Euclidean(), Cosine()
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def of_kind(kind, x):
    return sparse.csr_matrix(x) if kind == "csr" else np.ascontiguousarray(x)


def source_of(x):
    return CSRSource(x) if sparse.issparse(x) else ArraySource(x)


def plain(x):
    return np.asarray(x.toarray() if sparse.issparse(x) else x, np.float64)


def whole(rng, n, d, density=1.0):
    """Small whole numbers, many of them equal: distances are exact, and ties are plenty."""
    return (rng.integers(-2, 3, (n, d)) * (rng.random((n, d)) < density)).astype(np.float32)


def sqdists(x, c):
    return ((plain(x)[:, None] - plain(c)[None]) ** 2).sum(axis=2)


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


# --------------------------------------------------------------------------- nearest within a group


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 70),
    d=st.integers(1, 20),
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=6),
)
def test_nearest_of_the_own_group_is_what_brute_force_finds(kind, seed, n, d, sizes):
    rng = np.random.default_rng(seed)
    first = first_of(np.array(sizes))
    x, c = whole(rng, n, d, 0.6), whole(rng, int(first[-1]), d, 0.6)
    labels = rng.integers(0, len(sizes), n).astype(np.int32)
    ids, sqdist = kernels.nearest_in_group(of_kind(kind, x), labels, of_kind(kind, c), first)
    far = sqdists(x, c)
    for i, g in enumerate(labels):
        own = far[i, first[g] : first[g + 1]]
        if not len(own):
            assert (ids[i], sqdist[i]) == (-1, np.inf)
            continue
        assert ids[i] == first[g] + own.argmin()  # argmin is the first of equals
        assert sqdist[i] == own.min()


def test_equal_distances_go_to_the_lowest_id():
    x = np.array([[1, 0], [0, 1]], np.float32)
    c = np.zeros((4, 2), np.float32)
    for kind in KINDS:
        ids, _ = kernels.nearest_in_group(
            of_kind(kind, x), np.array([0, 1], np.int32), of_kind(kind, c), np.array([0, 2, 4])
        )
        np.testing.assert_array_equal(ids, [0, 2])


# --------------------------------------------------------------------------- k-means++ within groups


def picks_of(x, w, counts, sizes, seed=0):
    uniform = np.random.default_rng(seed).random((int(np.sum(sizes)), 3))
    grouped = kernels.grouped(x, np.repeat(np.arange(len(counts), dtype=np.int32), counts), len(counts))
    return kernels.plus_plus(x, w, grouped, np.array(sizes, np.int64), uniform)


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(seed=st.integers(0, 2**31), groups=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=1))
def test_plus_plus_picks_distinct_rows_of_the_group_with_weight(kind, seed, groups):
    counts, sizes = np.array(groups).T
    rng = np.random.default_rng(seed)
    x = whole(rng, max(1, counts.sum()), 2)[: counts.sum()]
    w = rng.integers(0, 2, len(x)).astype(np.float64)
    picks = picks_of(of_kind(kind, x), w, counts, sizes, seed)
    bounds, wanted = first_of(counts), first_of(sizes)
    for g in range(len(groups)):
        own = picks[wanted[g] : wanted[g + 1]]
        got = own[own >= 0]
        assert (own[len(got) :] == -1).all()
        assert ((got >= bounds[g]) & (got < bounds[g + 1])).all()
        assert (w[got] > 0).all()
        some = np.arange(bounds[g], bounds[g + 1])
        distinct = len(np.unique(x[some[w[some] > 0]], axis=0))
        assert len(np.unique(x[got], axis=0)) == len(got) == min(sizes[g], distinct)


def test_plus_plus_picks_the_same_of_dense_and_sparse_rows(rng):
    x = whole(rng, 200, 6, 0.5)
    args = np.ones(200), [120, 80], [6, 5]
    np.testing.assert_array_equal(picks_of(x, *args), picks_of(sparse.csr_matrix(x), *args))


def test_plus_plus_spreads_over_separated_modes(rng):
    x = (np.repeat(np.eye(5), 40, axis=0) * 100 + rng.standard_normal((200, 5))).astype(np.float32)
    picks = picks_of(x, np.ones(200), [200], [5])
    assert sorted(picks // 40) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("method", ["k-means++", "random"])
@pytest.mark.parametrize("kind", KINDS)
def test_start_gives_every_group_its_rows_whatever_the_block(kind, method, rng):
    x = rng.standard_normal((300, 4)).astype(np.float32)
    labels = np.repeat([0, 1, 2, 3], [100, 2, 98, 100]).astype(np.int32)
    w = np.where(labels == 3, 0.0, 1.0)
    sizes = np.array([3, 5, 4, 2])
    begin = [source_of(of_kind(kind, x)), labels, w, sizes, method]
    c, got = start(*begin, np.random.default_rng(1))
    np.testing.assert_array_equal(got, [3, 2, 4, 0])
    owner = np.repeat(np.arange(4), got)
    for row, g in zip(plain(c), owner, strict=True):
        assert (np.abs(x[labels == g] - row).max(axis=1) == 0).any()
    np.testing.assert_array_equal(plain(start(*begin, np.random.default_rng(1), block=7)[0]), plain(c))


# --------------------------------------------------------------------------- the inverted index


@quick
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 40),
    k=st.integers(1, 40),
    d=st.integers(1, 30),
    density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    data=st.data(),
)
def test_the_inverted_index_is_what_brute_force_finds(seed, n, k, d, density, data):
    m = data.draw(st.integers(1, k))
    rng = np.random.default_rng(seed)
    x, c = whole(rng, n, d, density), whole(rng, k, d, density)
    ids, sqdist = InvertedIndex(sparse.csr_matrix(c)).search(sparse.csr_matrix(x), m)
    far = sqdists(x, c)
    order = np.argsort(far, axis=1, kind="stable")[:, :m]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(sqdist, np.take_along_axis(far, order, axis=1))


@pytest.mark.parametrize("ordered", [True, False])
def test_the_inverted_index_lays_centroids_out_once_that_pays(rng, monkeypatch, ordered):
    """Once, and what it finds stays the same to the bit; on a budget never."""
    monkeypatch.setattr(inverted, "SPREAD_FROM", 100)
    x, c = (sparse.csr_matrix(rng.random((n, 20), dtype="f") * (rng.random((n, 20)) < 0.3)) for n in (60, 150))
    c = c if ordered else c[:, rng.permutation(20)]
    index, budgeted, found, laid_out = InvertedIndex(c), InvertedIndex(c, 30), [], []
    for _ in range(3):
        ids, sqdist = index.search(x, 2)
        found.append(ids.tobytes() + sqdist.tobytes())
        laid_out.append(index.spread)
        budgeted.search(x, 2)
    assert len(set(found)) == 1
    assert [one is None for one in laid_out] == [True, False, False]
    assert laid_out[2] is laid_out[1]
    assert budgeted.spread is None


def test_sparse_centroids_get_the_inverted_index_and_dense_ones_the_spec(rng):
    c = rng.standard_normal((20, 4)).astype(np.float32)
    assert isinstance(PrototypeSearch("auto").build(sparse.csr_matrix(c)), InvertedIndex)
    assert isinstance(PrototypeSearch("hnsw").build(sparse.csr_matrix(c)), InvertedIndex)
    assert PrototypeSearch("auto").spec(20) == Flat()
    assert str(PrototypeSearch("auto").spec(10_000)).startswith("cells")
    assert PrototypeSearch("auto").spec(10_000, ["cuda:0"]) == Flat()


# --------------------------------------------------------------------------- sums, passes, shares


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_assigns_and_recenters_as_brute_force_does(kind, metric, rng):
    x, w = rng.standard_normal((90, 5)).astype(np.float32), rng.random(90) + 0.1
    x = unit(x) if metric == "cosine" else x
    labels = rng.integers(0, 3, 90).astype(np.int32)
    c, first = x[:7].copy(), np.array([0, 3, 7, 7])  # the last group has no centroid
    c[6] = -50  # nobody is near
    rows = Rows.new(90, w)
    work = Within(source_of(of_kind(kind, x)), rows, labels, first, space_of(metric))
    work.centroids = of_kind(kind, c)
    work.assign(None, 0, NEAREST)
    far = np.where(np.repeat([0, 1], [3, 4]) == labels[:, None], sqdists(x, c), np.inf)
    expected = np.where(labels == 2, -1, far.argmin(axis=1))
    np.testing.assert_array_equal(rows.labels, expected)
    some = expected >= 0
    after, inertia = work.update()
    assert inertia == pytest.approx(w[some] @ far.min(axis=1)[some], rel=1e-5)
    after = plain(after)
    for j in range(7):
        mine = expected == j
        mean = (w[mine] @ x[mine]) / w[mine].sum() if mine.any() else c[j]
        if metric == "cosine" and mine.any():
            mean = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(after[j], mean, rtol=1e-5, atol=1e-6)


def test_shares_by_hand():
    similar = np.array([[0.8, 0.6, 0.9], [-0.5, -0.1, 0.3]])
    own = np.array([[True, True, False], [True, True, False]])
    valid = np.ones((2, 3), bool)
    linear = Sharing(2, "linear", 0.1, 0.5).shares(similar, own, valid)
    np.testing.assert_allclose(linear[0], np.array([0.8, 0.6, 0.4]) / 1.8)
    np.testing.assert_array_equal(linear[1], [1, 0, 0])  # nothing positive: to the nearest of the own group
    soft = Sharing(2, "softmax", 0.2, 0.5).shares(similar, own, valid)
    e = np.exp(np.array([0.8, 0.6, 0.4]) / 0.2)
    np.testing.assert_allclose(soft[0], e / e.sum())
    valid[0, 2] = False
    np.testing.assert_allclose(Sharing(2, "linear", 0.1, 0.5).shares(similar, own, valid)[0], [0.8 / 1.4, 0.6 / 1.4, 0])


def test_similarity_by_hand():
    np.testing.assert_allclose(COSINE.similarity(np.array([0.0, 1, 2, 4])), [1, 0.5, 0, -1])
    np.testing.assert_allclose(EUCLIDEAN.similarity(np.array([0.0, 1, 3])), [1, 0.5, 0.25])


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_the_nearest_own_and_the_nearest_of_all(kind, rng):
    x, c = rng.standard_normal((60, 4)).astype(np.float32), rng.standard_normal((9, 4)).astype(np.float32)
    labels, first = rng.integers(0, 4, 60).astype(np.int32), np.array([0, 4, 6, 9, 9])
    index = PrototypeSearch("flat").build(of_kind(kind, c))
    ids, sqdist = neighbours(index, of_kind(kind, x), labels, of_kind(kind, c), first, 5)
    far = sqdists(x, c)
    assert ids.shape == (60, 6)
    for i, g in enumerate(labels):
        own = far[i, first[g] : first[g + 1]]
        nearest = first[g] + own.argmin() if len(own) else -1
        assert ids[i, 0] == nearest
        assert sorted(v for v in ids[i, 1:] if v >= 0) == sorted(set(np.argsort(far[i])[:5]) - {nearest})
    np.testing.assert_allclose(sqdist[ids >= 0], np.take_along_axis(far, ids * (ids >= 0), axis=1)[ids >= 0], rtol=1e-4)
    assert np.isinf(sqdist[ids < 0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_pass_gives_all_of_every_row(kind, rng):
    x, c = rng.standard_normal((70, 4)).astype(np.float32), rng.standard_normal((6, 4)).astype(np.float32)
    labels, first, w = rng.integers(0, 2, 70).astype(np.int32), np.array([0, 3, 6]), rng.random(70)
    sharing = Sharing(4, "softmax", 0.3, 0.2)
    table = of_kind(kind, x)
    work = Shared(source_of(table), Rows.new(70, w), labels, first, EUCLIDEAN, sharing)
    work.centroids = of_kind(kind, c)
    index = PrototypeSearch("flat").build(of_kind(kind, c))
    work.assign(index, 0, NEAREST)
    far = sqdists(x, c)
    sums, counts = np.zeros((6, 4)), np.zeros(6)
    for i in range(70):
        own = first[labels[i]] + far[i, first[labels[i]] : first[labels[i] + 1]].argmin()
        near = np.array(sorted({own, *np.argsort(far[i])[:4]}))
        score = 1 / (1 + far[i, near]) - 0.2 * ((near >= 3) != labels[i])
        share = np.exp(score / 0.3) / np.exp(score / 0.3).sum() * w[i]
        counts[near] += share
        sums[near] += share[:, None] * x[i]
    np.testing.assert_allclose(work.sums.counts, counts, rtol=1e-5)
    np.testing.assert_allclose(plain(work.sums.sums), sums, rtol=1e-4, atol=1e-6)


# --------------------------------------------------------------------------- sparse rows as sources


DTYPES = ["float32", "float64", "int8", "int64", "bool", "uint16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_chunks_and_rows_taken_are_the_matrix(dtype, rng):
    x = sparse.csr_matrix(whole(rng, 50, 9, 0.4).clip(0)).astype(dtype)
    source = CSRSource(x, limits=Limits(chunk_bytes=400))
    for rows in (None, 1, 7, 50, 99):
        starts, blocks = zip(*source.chunks(rows), strict=True)
        assert all(b.dtype == np.float32 and sparse.issparse(b) for b in blocks)
        assert list(starts) == list(np.cumsum([0, *[b.shape[0] for b in blocks[:-1]]]))
        np.testing.assert_array_equal(sparse.vstack(blocks).toarray(), x.toarray())
    picks = np.array([3, 3, 49, 0, 7])
    np.testing.assert_array_equal(source.take(picks).toarray(), x.toarray()[picks])
    if dtype != "float32":
        assert len(list(source.chunks())) > 1


def test_float32_rows_are_not_copied(rng):
    x = sparse.csr_matrix(whole(rng, 50, 9, 0.4))
    (_, block), *more = CSRSource(x).chunks()
    assert not more
    assert np.shares_memory(block.data, x.data)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
@pytest.mark.parametrize("inner", ["as is", "unit norm"])
def test_dense_rows_seen_as_sparse_and_back(inner, dtype, rng):
    x = (whole(rng, 40, 8, 0.5) + np.eye(40, 8) * 3).astype(dtype)
    x[~x.any(axis=1), 0] = 1
    dense = ArraySource(x)
    thin = Sparsified(dense)
    thick = Densified(CSRSource(sparse.csr_matrix(x.astype(np.float32))))
    views = [dense, thin, thick]
    if inner == "unit norm":
        views = [UnitNorm(v) for v in views]
    assert [v.sparse for v in views] == [False, True, False]
    for rows in (None, 7):
        parts = [np.concatenate([plain(b) for _, b in v.chunks(rows)]) for v in views]
        np.testing.assert_allclose(parts[1], parts[0], rtol=1e-6)
        np.testing.assert_allclose(parts[2], parts[0], rtol=1e-6)
    picks = np.array([5, 1, 1])
    np.testing.assert_allclose(plain(views[1].take(picks)), plain(views[0].take(picks)), rtol=1e-6)


def test_sparse_rows_are_made_dense_before_a_mean_is_taken_off(rng):
    x = whole(rng, 30, 5, 0.5)
    mean = np.arange(5.0)
    (_, block), *_ = Centred(Densified(CSRSource(sparse.csr_matrix(x))), mean).chunks()
    np.testing.assert_allclose(block, x - mean, rtol=1e-6)


def test_rows_are_made_dense_a_chunk_at_a_time():
    x = sparse.csr_matrix((1000, 1000), dtype=np.float32)
    source = as_source(x, limits=Limits(chunk_bytes=4 * 1000 * 10))
    shapes = {b.shape for _, b in Densified(source).chunks()}
    assert shapes == {(10, 1000)}


FORMATS = {
    "csc": lambda x: sparse.csc_matrix(x),
    "coo": lambda x: sparse.coo_matrix(x),
    "csr_array": lambda x: sparse.csr_array(x),
    "lil": lambda x: sparse.lil_matrix(x),
    "dia_array": lambda x: sparse.dia_array(x),
    "duplicates": lambda x: sparse.coo_matrix(
        (
            np.tile(sparse.coo_matrix(x).data / 2, 2),
            (np.tile(sparse.coo_matrix(x).row, 2), np.tile(sparse.coo_matrix(x).col, 2)),
        ),
        x.shape,
    ),
}


def unsorted(x):
    """The same CSR matrix with the entries of each row in reverse order, and each cut in two."""
    m = sparse.csr_matrix(x)
    back = np.concatenate([np.arange(m.indptr[i + 1] - 1, m.indptr[i] - 1, -1) for i in range(m.shape[0])])
    back = np.repeat(back.astype(int), 2)
    return sparse.csr_matrix((m.data[back] / 2, m.indices[back], m.indptr * 2), m.shape)


@pytest.mark.parametrize("form", [*FORMATS, "unsorted"])
def test_every_sparse_format_is_read_and_left_alone(form, rng):
    x = whole(rng, 20, 6, 0.5)
    given = unsorted(x) if form == "unsorted" else FORMATS[form](x)
    before = {k: v.copy() for k, v in vars(given).items() if isinstance(v, np.ndarray)}
    source = as_source(given)
    assert source.sparse
    np.testing.assert_array_equal(source.take(np.arange(20)).toarray(), x)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(given, name), value)


def test_a_sparse_matrix_of_indices_out_of_range_is_refused():
    x = sparse.csr_matrix(np.eye(3, dtype=np.float32))
    x.indices[2] = 7
    with pytest.raises(ValueError, match=r"X is not a valid sparse matrix.*build it again"):
        as_source(x)


def test_files_of_sparse_matrices(tmp_path, rng):
    x = sparse.csr_matrix(whole(rng, 20, 6, 0.5))
    sparse.save_npz(tmp_path / "x.npz", x)
    np.testing.assert_array_equal(as_source(tmp_path / "x.npz").take(np.arange(20)).toarray(), x.toarray())
    (tmp_path / "bad.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"bad\.npz cannot be read as a sparse matrix.*save_npz"):
        as_source(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", format=np.array("csr"), shape=np.array([20, 6]), data=x.data)
    with pytest.raises(ValueError, match=r"other\.npz cannot be read as a sparse matrix"):
        as_source(str(tmp_path / "other.npz"))
    with pytest.raises(FileNotFoundError, match="no file"):
        as_source(tmp_path / "missing.npz")


def test_sparse_rows_are_surveyed_as_dense_ones_are(rng):
    x = whole(rng, 60, 5) + np.float32(300)
    dense, _ = fit_space(ArraySource(x), "euclidean")
    thin, view = fit_space(CSRSource(sparse.csr_matrix(x)), "euclidean")
    assert dense.mean is not None
    assert thin.mean is None  # a mean would make them dense
    assert view.sparse
    bad = x.copy()
    bad[17, 2] = np.nan
    with pytest.raises(ValueError, match="NaN, first in row 17, column 2"):
        fit_space(CSRSource(sparse.csr_matrix(bad)), "euclidean")


# --------------------------------------------------------------------------- thinning


def protos(vectors, owner, weights, spread=None, kind="dense"):
    vectors = of_kind(kind, np.array(vectors, np.float32))
    spread = np.zeros(len(owner)) if spread is None else np.array(spread, float)
    return Prototypes(vectors, np.array(owner, np.int32), np.array(weights, float), spread)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_prototypes_are_the_weighted_mean(kind, rng):
    p = protos([[0, 0], [3, 0], [10, 0], [1, 0]], [0, 0, 0, 1], [1, 2, 5, 4], [1, 2, 3, 4], kind)
    q, gone = Thinning(merge=3.5)(p, EUCLIDEAN, rng)
    assert gone == 1
    np.testing.assert_allclose(plain(q.vectors), [[2, 0], [10, 0], [1, 0]])
    np.testing.assert_allclose(q.weights, [3, 5, 4])
    assert q.spread[0] == pytest.approx(1 / 3 * 1 + 2 / 3 * 2 + 1 / 3 * 2 / 3 * 9)
    np.testing.assert_allclose(plain(p.vectors), [[0, 0], [3, 0], [10, 0], [1, 0]])  # what was given is untouched
    nothing, gone = Thinning(merge=2.9)(p, EUCLIDEAN, rng)
    assert (gone, len(nothing)) == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_directions_are_those_of_all_their_rows(kind, rng):
    """A prototype of scattered rows stands for a shorter mean, and counts for less."""
    p = protos([[1, 0], [0, 1], [-1, 0]], [0, 0, 1], [1, 3, 1], [0.0, 0.75, 0], kind)
    q, gone = Thinning(merge=1.1)(p, COSINE, rng)
    assert gone == 1
    mean = np.array([1, 3 * 0.5])  # sqrt(1 - .75) is .5
    np.testing.assert_allclose(plain(q.vectors)[0], mean / np.linalg.norm(mean), rtol=1e-6)
    assert q.spread[0] == pytest.approx(1 - (mean / 4) @ (mean / 4))


def test_merging_goes_on_with_what_merged(rng):
    p = protos([[0], [1], [2.2], [9]], [0, 0, 0, 0], [1, 1, 1, 1])
    q, gone = Thinning(merge=1.8)(p, EUCLIDEAN, rng)
    assert gone == 2  # 0 and 1 make .5, which 2.2 is 1.7 from
    np.testing.assert_allclose(q.vectors, [[3.2 / 3], [9]], rtol=1e-6)


def test_relative_merge_is_a_share_of_the_mean_distance(rng):
    p = protos([[0], [1], [10], [11]], [0, 0, 1, 1], [1, 1, 1, 1])
    mean = (1 + 10 + 11 + 9 + 10 + 1) / 6
    assert Thinning(relative=0.99 / mean)(p, EUCLIDEAN, rng)[1] == 0
    assert Thinning(relative=1.01 / mean)(p, EUCLIDEAN, rng)[1] == 2


def test_the_quantile_limits_merges_and_truncation(rng):
    p = protos([[0], [1], [4], [6]], [0, 0, 1, 1], [1, 1, 1, 1])
    assert Thinning(merge=5)(p, EUCLIDEAN, rng)[1] == 2
    assert Thinning(merge=5, quantile=0.5)(p, EUCLIDEAN, rng)[1] == 1  # distances 1 and 2: the median is 1.5
    t = protos([[1, 2, 3, 4]], [0], [1])
    np.testing.assert_array_equal(Thinning(truncate=3.5)(t, EUCLIDEAN, rng)[0].vectors, [[0, 0, 0, 4]])
    np.testing.assert_array_equal(Thinning(truncate=3.5, quantile=0.3)(t, EUCLIDEAN, rng)[0].vectors, [[0, 2, 3, 4]])


def test_prototypes_of_different_classes_never_merge(rng):
    p = protos([[0], [0], [0]], [0, 1, 2], [1, 1, 1])
    assert len(Thinning(merge=100)(p, EUCLIDEAN, rng)[0]) == 3


def test_light_prototypes_go_but_the_heaviest_of_a_class_stays():
    p = protos([[0], [1], [2], [3], [4]], [0, 0, 0, 1, 1], [5, 1, 9, 0, 2])
    np.testing.assert_array_equal(prune(p, 0).vectors, [[0], [1], [2], [4]])
    np.testing.assert_array_equal(prune(p, 5).vectors, [[0], [2], [4]])
    np.testing.assert_array_equal(prune(p, 100).vectors, [[2], [4]])
    # Class 1 has seen 2 of the 4 * 3 * 2 that a stream waits for, class 0 has seen 15 of 36.
    assert len(prune(p, 3, patience=4)) == 5
    np.testing.assert_array_equal(prune(p, 3, patience=1).vectors, [[0], [2], [3], [4]])


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_directions_keep_unit_norm_and_never_vanish(kind, rng):
    p = protos([[0.6, 0.8, 0], [0.5, 0.5, 0.70710678]], [0, 1], [1, 1], kind=kind)
    q, _ = Thinning(truncate=0.65)(p, COSINE, rng)
    np.testing.assert_allclose(plain(q.vectors), [[0, 1, 0], [0, 0, 1]], atol=1e-7)
    if kind == "csr":
        assert q.vectors.nnz == 2
    whole_again, _ = Thinning(truncate=2)(p, COSINE, rng)
    np.testing.assert_allclose(plain(whole_again.vectors), plain(p.vectors), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_shrinkage_by_hand(kind):
    p = protos([[0, 0], [4, 8], [7, 7]], [0, 0, 1], [1, 3, 2], kind=kind)
    q, share = shrink(p, 2.0, EUCLIDEAN)
    np.testing.assert_allclose(share, [2 / 3, 2 / 5, 0])
    centre = np.array([3, 6])
    np.testing.assert_allclose(plain(q.vectors)[0], (1 * np.array([0, 0]) + 2 * centre) / 3, rtol=1e-6)
    np.testing.assert_allclose(plain(q.vectors)[1], (3 * np.array([4, 8]) + 2 * centre) / 5, rtol=1e-6)
    np.testing.assert_array_equal(plain(q.vectors)[2], [7, 7])  # alone in its class
    np.testing.assert_array_equal(q.weights, p.weights)
    assert shrink(p, 0.0, EUCLIDEAN)[0] is p


def test_automatic_shrinkage_goes_by_spread_within_over_spread_between():
    p = protos([[0], [4], [0], [4], [1], [2]], [0, 0, 1, 1, 2, 2], [10] * 6, [2, 2, 0, 0, 50, 50])
    q = shrink(p, None, EUCLIDEAN)[0].vectors.ravel()
    pull = 3 * (40 / 18) / 4  # PULL * within / between, as many rows at the middle
    assert q[0] == pytest.approx(2 * pull / (pull + 10))
    np.testing.assert_array_equal(q[2:4], [0, 4])  # no spread within: nothing to doubt
    assert q[4] - 1 > 0.4  # much spread within: nearly the middle


def test_shrunken_directions_have_a_spread_that_can_be_saved():
    """1 - |mean|^2 rounds below zero where rows coincide."""
    p = protos(unit(np.random.default_rng(0).standard_normal((40, 9))), np.repeat(np.arange(20), 2), np.ones(40))
    q, _ = shrink(p, 1e-9, COSINE)
    assert (q.spread >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(q.vectors, axis=1), 1, rtol=1e-6)


# --------------------------------------------------------------------------- refinement


def loss_of(vectors, x, ids, owner, labels, weights, log_scale, metric):
    """The smoothed cross-entropy, in float64."""
    total = 0.0
    for i in range(len(x)):
        near = ids[i][ids[i] >= 0]
        v = vectors[near]
        cosine = metric == "cosine"
        z = (v @ x[i]) / np.linalg.norm(v, axis=1) if cosine else -((v - x[i]) ** 2).sum(axis=1)
        log_q = np.exp(log_scale) * z
        log_q = log_q - logsumexp(log_q)
        right = logsumexp(log_q[owner[near] == labels[i]])
        total -= weights[i] * ((1 - SMOOTHING) * right + SMOOTHING * log_q.mean())
    return total


def descent_of(kind, metric, rng):
    x = whole(rng, 25, 6, 0.7) + np.eye(25, 6, dtype=np.float32) * 3 + rng.random((25, 6)).astype(np.float32) / 4
    v = whole(rng, 7, 6, 0.7) + np.eye(7, 6, dtype=np.float32) * 2
    v[6, 0] += 1
    if metric == "cosine":
        x, v = unit(x), unit(v)
    owner = np.array([0, 0, 1, 1, 1, 2, 2], np.int32)
    p = Prototypes(of_kind(kind, v), owner, np.ones(7), np.zeros(7))
    descent = Descent(
        p, 3, euclidean=metric == "euclidean", candidates=4, spec=PrototypeSearch("flat"), device="cpu", rng=rng
    )
    return descent, x, v, owner


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_refinement_are_finite_differences_of_its_loss(kind, metric, rng):
    descent, x, v, owner = descent_of(kind, metric, rng)
    labels, w = rng.integers(0, 3, 25).astype(np.int32), rng.random(25)
    w /= w.sum()
    descent.scale = scale = 2.5
    ids, _ = neighbours(
        PrototypeSearch("flat").build(descent.vectors), of_kind(kind, x), labels, descent.vectors, descent.first, 4
    )
    descent._step(of_kind(kind, x), labels, w, ids, 0.0)
    got = np.zeros(v.shape)
    stored = descent.vectors.nonzero() if kind == "csr" else np.nonzero(np.ones(v.shape))
    got[stored] = descent.mean / 0.1  # Adam's first moment after one step
    rest = (x.astype(np.float64), ids, owner, labels, w, np.log(scale), metric)
    expected, h = np.zeros(v.shape), 1e-5
    for j, t in np.argwhere(v != 0):  # coordinates that are zero stay so
        up, down = v.astype(np.float64), v.astype(np.float64)
        up[j, t] += h
        down[j, t] -= h
        expected[j, t] = (loss_of(up, *rest) - loss_of(down, *rest)) / (2 * h)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(np.where(v != 0, got, 0), expected, atol=2e-5 * max(1, np.abs(expected).max()))
    by_scale = [loss_of(v.astype(np.float64), *rest[:5], np.log(scale) + e, metric) for e in (h, -h)]
    assert descent.slopes[0] / 0.1 == pytest.approx((by_scale[0] - by_scale[1]) / (2 * h), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_refinement_lowers_the_loss_and_keeps_norms_and_zeros(kind, metric, rng):
    descent, x, v, _ = descent_of(kind, metric, rng)
    x = np.tile(x, (20, 1))
    labels = (x[:, 0] > np.median(x[:, 0])).astype(np.int32)
    losses = []
    descent.epochs(source_of(of_kind(kind, x)), labels, None, 8, losses.append)
    assert losses[-1] < 0.9 * losses[0]
    after = plain(descent.vectors)
    assert (after[v == 0] == 0).all()
    if metric == "cosine":
        np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, rtol=1e-5)


def test_refinement_leaves_the_prototypes_it_was_given(rng):
    descent, x, v, _ = descent_of("dense", "euclidean", rng)
    descent.epochs(ArraySource(x), np.zeros(25, np.int32), None, 1)
    p = Prototypes(v.copy(), np.zeros(7, np.int32), np.ones(7), np.zeros(7))
    again = Descent(p, 1, euclidean=True, candidates=4, spec=PrototypeSearch("flat"), device="cpu", rng=rng)
    again.epochs(ArraySource(x), np.zeros(25, np.int32), None, 1)
    np.testing.assert_array_equal(p.vectors, v)


def test_the_scale_of_probabilities_is_found_again(rng):
    score = rng.standard_normal((4000, 5))
    q = np.exp(3.0 * score)
    q /= q.sum(axis=1, keepdims=True)
    truth = (rng.random((4000, 1)) > np.cumsum(q, axis=1)).sum(axis=1)
    own = np.take_along_axis(score, truth[:, None], axis=1)
    others = np.where(np.arange(5) == truth[:, None], -np.inf, score)
    for unit in (1, 1e6, 1e-9):
        judged = Judged(np.hstack([own, others]) * unit, np.ones(6), np.ones(4000))
        assert UNKNOWN.after(judged).scale == pytest.approx(3 / unit, rel=0.1)

"""The compiled loops against plain NumPy."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from fastann import kernels
from fastann.index.own import FlatIndex
from fastann.index.spec import Flat


def distances(x, c):
    return ((x[:, None].astype(np.float64) - c) ** 2).sum(-1)


@pytest.mark.parametrize("name", kernels.__all__)
def test_every_name_of_the_core_is_there_and_documented(name):

    value = getattr(kernels, name)
    assert isinstance(value, int) or value.__doc__


def test_names_that_are_not_there_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'nearst'"):
        kernels.nearst  # noqa: B018


def test_norms_of_dense_and_of_sparse_rows():
    x = np.array([[0, 3, 4], [0, 0, 0], [1, 2, 2]], np.float32)
    for rows in (x, sparse.csr_matrix(x), sparse.csr_matrix(x.astype(float))):
        assert kernels.sqnorms(rows).tolist() == [25, 0, 9]
    assert kernels.sqnorms(sparse.csr_matrix((2, 3), dtype=np.float32)).dtype == np.float64


def test_rows_of_negative_label_are_left_out():
    offsets, order = kernels.group(np.array([2, -1, 0, 2, -1, 2], np.int32), 4)
    assert offsets.tolist() == [0, 1, 1, 4, 4]
    assert order.tolist() == [2, 0, 3, 5]


@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (7, 3, 2), (513, 5, 65), (600, 33, 17), (40, 2, 1500)])
def test_nearest_is_exact(rng, n, d, k):
    x = rng.standard_normal((n, d), dtype="f")
    c = rng.standard_normal((k, d), dtype="f")
    ids, sqdist = Flat().build(c).search(x, 1)
    truth = distances(x, c)
    np.testing.assert_array_equal(ids[:, 0], truth.argmin(1))
    np.testing.assert_allclose(sqdist[:, 0], truth.min(1), rtol=1e-4, atol=1e-5)


def test_nearest_is_exact_where_float32_products_cancel(rng):
    x = (rng.standard_normal((2000, 16)) + 1000).astype("f")
    c = x[:50].copy()
    ids, _ = Flat().build(c).search(x, 1)
    np.testing.assert_array_equal(ids[:, 0], distances(x, c).argmin(1))


def test_ties_go_to_the_lowest_centroid_even_when_many(rng):
    x = rng.standard_normal((300, 8), dtype="f")
    c = np.repeat(rng.standard_normal((3, 8), dtype="f"), 500, axis=0)  # 500 copies of each: beyond any shortlist
    ids, _ = Flat().build(c).search(x, 1)
    np.testing.assert_array_equal(ids[:, 0], distances(x, c[::500]).argmin(1) * 500)


@pytest.mark.parametrize("m", [2, 5, 20])
def test_nearest_m_is_sorted_and_right(rng, m):
    x = rng.standard_normal((300, 12), dtype="f")
    c = rng.standard_normal((1100, 12), dtype="f")
    ids, sqdist = Flat().build(c).search(x, m)
    truth = distances(x, c)
    np.testing.assert_array_equal(ids, np.argsort(truth, axis=1)[:, :m])
    np.testing.assert_allclose(sqdist, np.sort(truth, axis=1)[:, :m], rtol=1e-5)


@pytest.mark.parametrize("d", [2, 8, 40])  # few columns have a search of their own
@pytest.mark.parametrize("m", [2, 5, 20])
@pytest.mark.parametrize("case", ["far groups", "one far row", "copies"])
def test_nearest_m_is_exact_where_float32_products_cancel(rng, d, m, case):
    c = rng.standard_normal((900, d))
    if case == "far groups":
        c += 1e4 * rng.standard_normal((30, d))[rng.integers(30, size=900)]
    elif case == "one far row":
        c[0] = 1e7
    else:
        c[300:] = c[:20].repeat(30, axis=0)
    c = c.astype("f")
    x = (c[1:200] + 0.3 * rng.standard_normal((199, d))).astype("f")
    ids, sqdist = Flat().build(c).search(x, m)
    truth = distances(x, c)
    np.testing.assert_array_equal(ids, np.argsort(truth, axis=1, kind="stable")[:, :m])
    np.testing.assert_allclose(sqdist, np.sort(truth, axis=1)[:, :m], rtol=1e-6)


def test_rescore_sorts_and_puts_missing_last(rng):
    x = rng.standard_normal((50, 6), dtype="f")
    c = rng.standard_normal((9, 6), dtype="f")
    ids = np.tile(np.array([4, -1, 2, 7], np.int32), (50, 1))
    out, sqdist = kernels.rescore(x, c, ids)
    truth = distances(x, c[[4, 2, 7]])
    np.testing.assert_array_equal(out[:, :3], np.array([4, 2, 7])[np.argsort(truth, axis=1)])
    assert (out[:, 3] == -1).all()
    assert np.isinf(sqdist[:, 3]).all()


@pytest.mark.parametrize("k", [1, 3, 200, 5000])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_and_counts(rng, k, weighted):
    x = rng.standard_normal((3000, 5), dtype="f")
    labels = rng.integers(k, size=3000).astype(np.int32)
    labels[: 2000 if k > 1 else 0] = min(1, k - 1)  # one cluster far larger than the rest
    w = rng.random(3000) if weighted else None
    sums, counts = np.zeros((k, 5)), np.zeros(k, float if weighted else np.int64)
    kernels.add_rows(x, w, labels, sums, counts)
    expected = np.zeros((k, 5))
    np.add.at(expected, labels, x.astype(np.float64) * (1 if w is None else w[:, None]))
    np.testing.assert_allclose(sums, expected, atol=1e-9)
    np.testing.assert_allclose(counts, np.bincount(labels, w, minlength=k), rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_are_the_same_bits_on_any_number_of_threads(rng, weighted):
    x = rng.standard_normal((5000, 7), dtype="f")
    labels = rng.integers(30, size=5000).astype(np.int32)
    w = rng.random(5000) if weighted else None
    results = []
    for threads in (1, 2):
        sums, counts = np.zeros((30, 7)), np.zeros(30, float if weighted else np.int64)
        with kernels.limit_threads(threads):
            kernels.add_rows(x, w, labels, sums, counts)
        results.append(sums)
    np.testing.assert_array_equal(*results)


def test_survey_lets_nan_and_infinity_through(rng):
    x = rng.standard_normal((100, 4), dtype="f")
    x[3, 1], x[50, 2] = np.nan, np.inf
    sqnorm, _ = kernels.survey(x)
    assert np.isnan(sqnorm[3])
    assert np.isinf(sqnorm[50])
    assert np.isfinite(np.delete(sqnorm, [3, 50])).all()


@pytest.fixture(params=kernels.levels())
def instructions(request):
    """Each set of instructions that this CPU has, and the scalar twins of those it may lack."""
    before = kernels.level()
    assert kernels.use(request.param)
    yield request.param
    kernels.use(before)


def tables(rng, n, d, k):
    """Rows and centroids: near-duplicates of each other, far from the origin, with many ties."""
    for data in (rng.standard_normal((n, d)), 1e-4 * rng.standard_normal((n, d)) + 1, rng.integers(0, 3, (n, d))):
        x = data.astype("f")
        c = np.concatenate([x[: k // 2], (data[rng.integers(n, size=k)] + 1e-6).astype("f")])[:k]
        yield x, np.concatenate([c, rng.standard_normal((k - len(c), d)).astype("f")])


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(
    ("n", "d", "k"),
    [(1, 1, 1), (70, 2, 300), (33, 3, 65), (65, 7, 17), (100, 16, 40), (1, 24, 64), (300, 33, 65), (130, 384, 100)],
)
def test_labels_are_those_of_float64_whatever_the_instructions(rng, rounded, n, d, k):
    for x, c in tables(rng, n, d, k):
        truth = distances(x, c)
        packed = kernels.pack(c, rounded, c.mean(axis=0))
        for hint in (None, rng.integers(-1, k, n).astype(np.int32)):
            labels, sqdist = kernels.nearest(x, c, packed, hint)
            # float64 sums in another order may tie, or not
            np.testing.assert_allclose(truth[np.arange(n), labels], truth.min(axis=1), rtol=1e-14)
            scale = ((x - c.mean(axis=0)) ** 2).sum(axis=1).max()
            np.testing.assert_allclose(sqdist, truth.min(axis=1), rtol=1e-5, atol=2e-6 * scale)


def test_instructions_agree_to_the_last_label(rng):
    before = kernels.level()
    for x, c in tables(rng, 500, 40, 90):
        found = []
        for name in kernels.levels():
            kernels.use(name)
            found += [kernels.nearest(x, c, kernels.pack(c, rounded, c.mean(axis=0)))[0] for rounded in (False, True)]
        kernels.use(before)
        assert all((labels == found[0]).all() for labels in found)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("d", [3, 33, 520])
def test_lists_of_eight_hold_the_nearest(rng, rounded, d):
    x, c = rng.standard_normal((300, d), dtype="f"), rng.standard_normal((130, d), dtype="f")
    rows = rng.permutation(300)[:150].astype(np.int32)
    truth = distances(x[rows], c)
    eight = np.argsort(truth, axis=1)[:, :8]
    anywhere = np.full(len(rows), np.inf, "f")
    order, offsets = rng.permutation(130).astype(np.int32), np.array([0, 10, 10, 75, 130])
    centers = np.array([c[order[a:b]].mean(axis=0) if b > a else c[0] for a, b in pairwise(offsets)], "f")
    coarse = kernels.pack(centers, rounded, c.mean(axis=0))
    for packed, cells in (
        (kernels.pack(c, rounded, c.mean(axis=0)), None),
        (kernels.pack(c, rounded, c.mean(axis=0), order, offsets), coarse),
    ):
        ids, dist = kernels.eight(x, rows, c, packed, anywhere, cells, 4)
        assert (ids[:, 0] == truth.argmin(axis=1)).all()
        assert np.mean([np.isin(a, b).mean() for a, b in zip(ids, eight, strict=True)]) > 0.97
        np.testing.assert_allclose(dist[:, 0], np.sqrt(truth.min(axis=1)), rtol=1e-5)
        assert (np.diff(dist, axis=1) >= 0).all()
        rough, _ = kernels.eight(x, rows, c, packed, anywhere, cells, 4, rough=True)
        assert (np.sort(rough, axis=1) == np.sort(ids, axis=1)).mean() > 0.97
        three, _ = kernels.eight(x, rows, c, packed, anywhere, cells, 4, rough=True, m=3)
        np.testing.assert_array_equal(three, np.where(np.arange(8) < 3, rough, -1))
        near = np.sqrt(truth.min(axis=1)).astype("f") * np.float32(1.001)
        ids, dist = kernels.eight(x, rows, c, packed, near, cells, 4)
        assert (ids[:, 0] == truth.argmin(axis=1)).all()  # no farther than wanted is enough


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("same", [False, True], ids=["apart", "in one place"])
@pytest.mark.parametrize("cells", [9, 40, 70])
@pytest.mark.parametrize("nprobe", [1, 8, 9, 33, 70])
def test_the_nearest_cells_are_searched(rng, cells, nprobe, same):
    """The first of those that are equally near."""
    x, centers = rng.standard_normal((60, 30), dtype="f"), rng.standard_normal((cells, 30), dtype="f")
    owner = np.sort(np.concatenate([np.arange(cells), rng.integers(cells, size=300)]))
    c = centers[owner] + 0.3 * rng.standard_normal((len(owner), 30), dtype="f")
    if same:
        centers[:] = centers[0]
    order, offsets = np.arange(len(owner), dtype=np.int32), np.searchsorted(owner, np.arange(cells + 1))
    packed, coarse = kernels.pack(c, False, c[0], order, offsets), kernels.pack(centers, False, c[0])
    rows, anywhere = np.arange(60, dtype=np.int32), np.full(60, np.inf, "f")
    ids, _ = kernels.eight(x, rows, c, packed, anywhere, coarse, nprobe)
    probed = np.argsort(distances(x, centers), axis=1, kind="stable")[:, :nprobe]
    truth = np.where((owner[:, None] == probed[:, None]).any(axis=2), distances(x, c), np.inf)
    np.testing.assert_array_equal(ids[:, 0], truth.argmin(axis=1))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("d", [4, 7, 24, 100, 4096])
def test_sums_of_rounded_products_have_room_for_the_largest(rng, d):
    """Coordinates that are all as large as rounding lets them be, of one sign, of both, and of opposite ones."""
    signs = np.sign(rng.standard_normal((6, d)))
    points = np.concatenate([np.ones((1, d)), -np.ones((1, d)), signs]).astype("f")
    packed = kernels.pack(points, True, np.zeros(d, "f"))
    rows, anywhere = np.arange(len(points), dtype=np.int32), np.full(len(points), np.inf, "f")
    ids, dist = kernels.eight(points, rows, points, packed, anywhere, rough=True)
    truth = np.take_along_axis(distances(points, points), ids.astype(np.int64), axis=1)
    np.testing.assert_allclose(dist**2, truth, rtol=1e-5, atol=2e-5 * d)


@pytest.mark.parametrize("pair", [("avx2", "int7-twin"), ("avx512", "int7-twin"), ("vnni", "int8-twin")])
def test_screens_give_the_scores_of_their_twins(rng, pair):
    if not set(pair) <= set(kernels.levels()):
        pytest.skip("not on this CPU")
    x, c = rng.standard_normal((70, 45), dtype="f"), rng.standard_normal((90, 45), dtype="f")
    rows, anywhere = np.arange(70, dtype=np.int32), np.full(70, np.inf, "f")
    before, found = kernels.level(), []
    for name in pair:
        kernels.use(name)
        found.append(kernels.eight(x, rows, c, kernels.pack(c, True, c.mean(axis=0)), anywhere, rough=True))
    kernels.use(before)
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "few", "many"), [("avx2", False, True), ("vnni", True, True), ("baseline", False, False)]
)
def test_rounding_is_advised_where_it_pays(name, few, many):
    before = kernels.level()
    if not kernels.use(name):
        pytest.skip("not on this CPU")
    advised = [kernels.suits_screen(k, 24, 1.0) for k in (64, 2048)]
    kernels.use(before)
    assert advised == [few, many]


def test_arguments_of_searches_are_checked(rng):
    x, c = rng.standard_normal((5, 8), dtype="f"), rng.standard_normal((3, 8), dtype="f")
    packed = kernels.pack(c, False, c[0])
    rows, anywhere = np.arange(2, dtype=np.int32), np.full(2, np.inf, "f")
    with pytest.raises(
        TypeError, match=r"x must be a C-contiguous array of float32 with 2 dimensions, got float64 \(5, 8\)"
    ):
        kernels.nearest(x.astype(float), c, packed)
    with pytest.raises(ValueError, match="x has 7 columns, 8 are needed: those of the packed centroids"):
        kernels.nearest(np.ascontiguousarray(x[:, :7]), c, packed)
    with pytest.raises(ValueError, match="c has 2 rows, 3 are needed"):
        kernels.nearest(x, c[:2], packed)
    with pytest.raises(IndexError, match="hint has 3, it must be at least -1 and below 3, the number of centroids"):
        kernels.nearest(x, c, packed, np.full(5, 3, np.int32))
    with pytest.raises(IndexError, match="rows has 9, it must be at least 0 and below 5, the number of rows of x"):
        kernels.eight(x, np.array([0, 9], np.int32), c, packed, anywhere)
    with pytest.raises(ValueError, match="m must be from 1 to 8, got 9"):
        kernels.eight(x, rows, c, packed, anywhere, m=9)
    with pytest.raises(ValueError, match="coarse must have the centre of each cell"):
        kernels.eight(x, rows, c, packed, anywhere, packed, 2)
    with pytest.raises(ValueError, match="offsets must end with the number of centroids"):
        kernels.pack(c, False, c[0], np.arange(3, dtype=np.int32), np.array([0, 2]))


@pytest.mark.parametrize("outlier", [1.0, 300.0])
def test_screening_is_exact_where_rounding_is_coarse(rng, outlier):
    """One column far wider than the rest takes nearly all of the 255 steps."""
    x = rng.standard_normal((400, 40)).astype("f")
    x[:, 7] *= outlier
    c = x[rng.choice(400, 90, replace=False)] + 0.1 * rng.standard_normal((90, 40)).astype("f")
    x[5] = 0
    ids, sqdist = Flat().build(c).search(x, 1)
    np.testing.assert_array_equal(ids[:, 0], distances(x, c).argmin(1))
    rounding = 1e-6 * ((x.astype(np.float64) ** 2).sum(1) + (c.astype(np.float64) ** 2).sum(1).max())
    assert (np.abs(sqdist[:, 0] - distances(x, c).min(1)) <= rounding).all()


@pytest.mark.parametrize("updated", [0, 1, 50])
def test_an_index_whose_centroids_moved_is_one_built_anew(rng, updated):
    x, c = rng.standard_normal((500, 32), dtype="f"), rng.standard_normal((130, 32), dtype="f")
    changed = np.zeros(130, bool)
    changed[:updated] = True
    index = Flat().build(c)
    c = np.where(changed[:, None], c + 1, c)
    ids, _ = index.moved(c, changed).search(x, 1)
    np.testing.assert_array_equal(ids[:, 0], distances(x, c).argmin(1))


def test_without_screening_the_labels_are_the_same(blobs):
    c = blobs[:200]
    one = Flat().build(c).search(blobs, 1)[0]
    np.testing.assert_array_equal(FlatIndex(c, screened=False).search(blobs, 1)[0], one)


def test_many_near_ties_in_float32_are_settled_in_float64(rng):
    """More centroids within float32's rounding of each other than any shortlist holds."""
    x = (1000 + rng.standard_normal((50, 8))).astype("f")
    c = (1000 + 1e-2 * rng.standard_normal((3000, 8))).astype("f")
    packed = kernels.pack(c, False, np.zeros(8, "f"))  # not shifted, so that scores are large
    np.testing.assert_array_equal(kernels.nearest(x, c, packed)[0], distances(x, c).argmin(1))


def test_rows_of_very_many_columns_are_exact():
    rng = np.random.default_rng(0)
    x, c = rng.standard_normal((50, 9000)).astype(np.float32), rng.standard_normal((12, 9000)).astype(np.float32)
    c[7] = c[3]  # a tie goes to the lower
    labels, sqdist = kernels.nearest(x, c, kernels.pack(c, False, c.mean(axis=0)))
    exact = ((x[:, None].astype(np.float64) - c) ** 2).sum(axis=2)
    np.testing.assert_array_equal(labels, exact.argmin(axis=1))
    np.testing.assert_allclose(sqdist, exact.min(axis=1), rtol=1e-4)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(("d", "k"), [(3, 5), (8, 100), (40, 70)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_centroids_that_are_not_numbers_are_nobodys_nearest(level, rng, rounded, d, k, bad):
    x, c = rng.standard_normal((200, d), dtype="f"), np.full((k, d), bad, "f")
    packed = kernels.pack(c, rounded, np.zeros(d, "f"))
    for hint in (None, np.zeros(200, np.int32)) if not rounded else (None,):
        labels, _ = kernels.nearest(x, c, packed, hint)
        assert set(labels) == {-1}
    ids, sqdist = kernels.nearest_m(x, c, kernels.pack(c, False, np.zeros(d, "f")), 2)
    assert set(ids.ravel()) == {-1}
    assert np.isinf(sqdist).all()

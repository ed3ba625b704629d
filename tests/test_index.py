"""Every index and every spec keeps the same contract; specs and strings go back and forth."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from fastann import HNSW, IVF, LSH, BallTree, Cells, Factory, Flat, KDTree, KMeans, parse_index
from fastann.index import faiss as faiss_module
from fastann.index.inverted import InvertedIndex
from fastann.index.own import CellsIndex, FlatIndex
from fastann.index.recall import Audit
from fastann.index.repair import nearest, repair_lists, search
from fastann.index.spec import kinds

# spec, recall@1 it must reach on the blobs
SPECS = [
    pytest.param(Flat(), 1.0, id="flat"),
    pytest.param(IVF(), 0.97, id="ivf"),
    pytest.param(IVF(nlist=8, nprobe=8), 1.0, id="ivf, every cell"),
    pytest.param(HNSW(), 0.99, id="hnsw"),
    pytest.param(HNSW(m=8, ef_construction=20, ef_search=16), 0.9, id="hnsw, small"),
    pytest.param(Cells(nlist=10, nprobe=4), 0.9, id="cells"),
    pytest.param(Cells(nlist=20, nprobe=20), 1.0, id="cells, every one"),
    pytest.param(Factory("PQ8x4fs,RFlat", "k_factor_rf=8"), 0.9, id="pq with rerank"),
    pytest.param(Factory("SQ8"), 0.97, id="sq8"),
    pytest.param(Factory("IVF16,Flat", "nprobe=8"), 0.9, id="factory ivf"),
    pytest.param(Factory("LSH"), 0.02, id="lsh of a factory"),
    pytest.param(Factory("IVF16_HNSW8,SQ8", "nprobe=8"), 0.9, id="factory, graph of cells"),
    pytest.param(LSH(), 0.97, id="lsh"),
    pytest.param(LSH(bits=20, rerank=100), 0.9, id="lsh, few bits"),
    pytest.param(KDTree(), 1.0, id="k-d tree"),
    pytest.param(BallTree(leaf_size=7), 1.0, id="ball tree"),
]


# Indexes, as something builds them from centroids: those of all specs, and those with arithmetic of their own.
BUILDERS = [
    *(pytest.param(param.values[0].build, id=param.id) for param in SPECS),
    pytest.param(lambda c: FlatIndex(c, screened=False), id="flat, by BLAS"),
    pytest.param(lambda c: CellsIndex(c, 10, 4, 3, 0, screened=False), id="cells, by BLAS"),
    pytest.param(lambda c: InvertedIndex(sparse.csr_matrix(c)), id="inverted"),
    pytest.param(lambda c: InvertedIndex(sparse.csr_matrix(c), 4000), id="inverted, on a budget"),
]


@pytest.fixture(scope="module")
def problem(blobs):
    return blobs[400:3400], blobs[:400]


@pytest.fixture
def built(problem, request):
    """An index over the problem's centroids, and its rows as it takes them."""
    x, c = problem
    index = request.param(c.copy())
    return index, sparse.csr_matrix(x) if sparse.issparse(index.centroids) else x


@pytest.mark.parametrize(("spec", "least"), SPECS)
def test_shapes_dtypes_order_and_recall(problem, spec, least):
    x, c = problem
    ids, sqdist = spec.build(c).search(x, 4)
    assert (ids.shape, ids.dtype, sqdist.shape, sqdist.dtype) == ((3000, 4), np.int32, (3000, 4), np.float32)
    assert ids.max() < 400
    assert (np.diff(sqdist, axis=1)[np.isfinite(sqdist[:, 1:])] >= -1e-6).all()
    found = ids >= 0
    truth = ((x[:, None] - c[np.maximum(ids, 0)]) ** 2).sum(-1)
    np.testing.assert_allclose(sqdist[found], truth[found], rtol=1e-4)
    exact = Flat().build(c).search(x, 1)[0]
    assert (ids[:, :1] == exact).mean() >= least


@pytest.mark.parametrize(("spec", "least"), SPECS)
def test_same_seed_same_bits(problem, spec, least):
    x, c = problem
    one, two = (spec.build(c, seed=3).search(x, 4) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.parametrize(("spec", "least"), SPECS)
def test_one_centroid(problem, spec, least):
    x, c = problem
    if isinstance(spec, Factory):
        pytest.skip("codes and cells of a factory string cannot be trained on one centroid")
    ids, _, _ = search(spec.build(c[:1]), x[:10], 1, c[:1])
    assert (ids == 0).all()


@pytest.mark.parametrize(("spec", "least"), SPECS)
def test_spec_prints_parses_and_pickles(spec, least):
    assert parse_index(str(spec)) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_strings():
    assert parse_index("flat") == parse_index("brute") == Flat()
    assert parse_index("lsh:bits=256") == LSH(bits=256)
    assert parse_index("kd_tree:leaf_size=20") == KDTree(leaf_size=20)
    assert parse_index("ivf:nlist=64,nprobe=8") == IVF(nlist=64, nprobe=8)
    assert parse_index("hnsw:m=32,ef_search=64") == HNSW(m=32, ef_search=64)
    assert parse_index("factory:PQ16x4fs,RFlat") == Factory("PQ16x4fs,RFlat")


def test_cells_too_few_are_repaired_exactly_and_counted(problem):
    x, c = problem
    index = IVF(nlist=64, nprobe=1).build(c)
    raw, _ = index.search(x, 10)
    assert (raw < 0).any(), "the case to repair does not occur"
    ids, sqdist, repaired = search(index, x, 10, c)
    short = (raw < 0).any(axis=1)
    assert repaired == short.sum()
    assert (ids >= 0).all()
    assert np.isfinite(sqdist).all()
    np.testing.assert_array_equal(ids[short], Flat().build(c).search(x[short], 10)[0])


def test_more_probes_find_more(problem):
    x, c = problem
    exact = Flat().build(c).search(x, 1)[0]
    recalls = [(IVF(nlist=40, nprobe=p).build(c).search(x, 1)[0] == exact).mean() for p in (1, 4, 40)]
    assert recalls[0] < recalls[1] < recalls[2] == 1.0


def test_only_search_options_may_change():
    assert IVF(nlist=9).searching(nprobe=3) == IVF(nlist=9, nprobe=3)
    with pytest.raises(ValueError, match=r"'nlist' is not a search option of ivf; it has nprobe"):
        IVF().searching(nlist=4)
    with pytest.raises(ValueError, match="it has none"):
        Flat().searching(nprobe=4)


def test_faiss_missing_says_which_command_to_run(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install 'fastann\[cpu\]'"):
        faiss_module.faiss.__wrapped__()


def test_two_faiss_builds_installed_warn(monkeypatch):
    class Dist:
        def __init__(self, name):
            self.metadata = {"Name": name}

    monkeypatch.setattr(faiss_module.metadata, "distributions", lambda: [Dist("faiss-cpu"), Dist("faiss-gpu")])
    with pytest.warns(RuntimeWarning, match="faiss-cpu and faiss-gpu are both installed"):
        faiss_module.faiss.__wrapped__()


# --------------------------------------------------------------------------- what every index does

every_index = pytest.mark.parametrize("built", BUILDERS, indirect=True)


@every_index
@pytest.mark.parametrize("m", [1, 3, 8])
def test_lists_of_candidates(built, problem, m):
    index, x = built
    truth = np.sqrt(((problem[0][:, None] - problem[1]) ** 2).sum(-1))
    rows = np.random.default_rng(0).permutation(3000).astype(np.int32)[:500]
    ids, dist = index.listed(x, rows, m, np.full(500, np.inf, np.float32))
    assert (ids.shape, ids.dtype, dist.shape, dist.dtype) == ((500, 8), np.int32, (500, 8), np.float32)
    assert (ids[:, m:] == -1).all()
    np.testing.assert_array_equal(np.isinf(dist), ids < 0)
    found = ids >= 0
    near = np.take_along_axis(truth[rows], np.maximum(ids, 0), axis=1)
    if index.exact or not isinstance(index, InvertedIndex):  # on a budget distances are those of some columns
        np.testing.assert_allclose(dist[found], near[found], rtol=1e-2)
    if index.exact:
        assert (ids[:, 0] == truth[rows].argmin(1)).mean() > 0.99


@every_index
def test_an_exact_index_finds_the_nearest_whatever_the_hint(built, problem):
    index, x = built
    hint = np.random.default_rng(0).integers(-1, 400, 3000).astype(np.int32)
    ids, sqdist = index.search(x, 1)
    again, same = index.search(x, 1, hint)
    np.testing.assert_array_equal(ids, again)
    np.testing.assert_array_equal(sqdist, same)
    assert np.isinf(sqdist[ids < 0]).all()
    if index.exact:
        assert Audit(*problem).of(ids[:, 0]).value == 1


@every_index
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_an_index_that_moves_is_as_one_built_anew(built, problem, share, request):
    index, x = built
    build = request.node.callspec.params["built"]
    c = problem[1].copy()
    changed = np.random.default_rng(1).random(400) < share
    c[changed] += 0.05
    if not index.moves:
        with pytest.raises(TypeError, match="cannot follow centroids that move"):
            index.moved(c, changed)
        return
    moved = index.moved(c, changed)
    assert type(moved) is type(index)
    np.testing.assert_array_equal(moved.centroids, c)
    ids, sqdist = moved.search(x, 3)
    truth = ((x[:, None] - c[ids]) ** 2).sum(-1)
    np.testing.assert_allclose(sqdist[ids >= 0], truth[ids >= 0], rtol=1e-4)
    if index.exact:
        np.testing.assert_array_equal(ids, FlatIndex(c).search(x, 3)[0])
    else:  # its cells and codes are those of the centroids before, with which it finds about as much
        audit, anew = Audit(x, c), build(c)
        assert audit.measure(moved).value > audit.measure(anew).value - 0.05


@pytest.mark.parametrize("spec", [IVF(nlist=20), HNSW(m=4), Cells(nlist=20), LSH(bits=32)], ids=str)
@pytest.mark.parametrize("effort", [1, 3, 20, 4000])
def test_a_retuned_index_is_as_one_built_with_that_option(problem, spec, effort):
    x, c = problem
    other = spec.at(effort)
    assert other.built_with == spec.built_with
    index = spec.build(c)
    before = index.search(x, 3)
    retuned = index.retuned(other)
    for one, two in zip(retuned.search(x, 3), other.build(c).search(x, 3), strict=True):
        np.testing.assert_array_equal(one, two)
    assert retuned.distances == other.build(c).distances
    for one, two in zip(index.search(x, 3), before, strict=True):  # the index itself is searched as before
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("spec", [IVF(nlist=20), HNSW(), Cells(nlist=20), LSH(bits=4)], ids=str)
def test_with_the_most_effort_everything_is_looked_at(problem, spec):
    x, c = problem
    index = spec.build(c)
    assert index.most == {"hnsw": 400, "lsh": 400}.get(spec.name, 20)
    assert Audit(x, c).measure(index.retuned(spec.at(index.most))).value == 1
    assert Audit(x, c).measure(index.retuned(spec.at(2 * index.most))).value == 1


@every_index
def test_an_index_without_search_option_has_nothing_to_retune(built):
    index, _ = built
    if index.most == 1 and not getattr(index, "text", ""):  # of a factory, which no text changes
        assert index.retuned(Flat()) is index


@pytest.mark.parametrize("spec", [param.values[0] for param in SPECS], ids=[param.id for param in SPECS])
def test_distances_are_as_expected_of_cells_of_equal_size(rng, spec):
    """Uniform centroids fill cells about evenly."""
    c = rng.random((2000, 16), dtype="f")
    counted = spec.build(c).distances if not isinstance(spec, Factory) else None
    if counted is None:
        pytest.skip("it does not tell")
    assert counted == pytest.approx(spec.distances(2000), rel=0.5)
    if spec == Flat():
        assert counted == spec.distances(2000) == 2000


@pytest.mark.parametrize("k", [3, 50, 200, 400])
@pytest.mark.parametrize("spec", [IVF(), IVF(nlist=90), Cells(), Cells(nlist=90)], ids=str)
def test_cells_are_as_many_as_the_spec_says(problem, spec, k):
    index = spec.build(problem[1][:k])
    assert index.most == spec.nlist_for(k) <= k


def test_lists_of_rows_that_nothing_was_found_for_are_repaired(problem):
    x, c = problem
    rows = np.arange(50, dtype=np.int32)
    exact, far = FlatIndex(c).listed(x, rows, 8, np.full(50, np.inf, np.float32))
    ids, dist = exact.copy(), far.copy()
    ids[7], dist[7], ids[9, 3:], dist[9, 3:] = -1, np.inf, -1, np.inf
    assert repair_lists(x, rows, c, ids, dist) == 1
    np.testing.assert_array_equal(ids[7], exact[7])
    assert (ids[9, 3:] == -1).all()


def test_a_former_label_that_is_nearer_is_kept(problem):
    x, c = problem
    index, labels = IVF(nlist=64, nprobe=1).build(c), FlatIndex(c).search(x, 1)[0][:, 0]
    assert (index.search(x, 1)[0][:, 0] != labels).any(), "the case does not occur"
    ids, sqdist, _ = nearest(index, x, c, labels)
    np.testing.assert_array_equal(ids, labels)
    np.testing.assert_allclose(sqdist, ((x - c[labels]) ** 2).sum(-1), rtol=1e-4)


# --------------------------------------------------------------------------- what every spec knows

every_spec = pytest.mark.parametrize("spec", [param.values[0] for param in SPECS], ids=[param.id for param in SPECS])


@every_spec
def test_only_a_number_can_be_open(spec):
    option = spec.search_option
    assert spec.open is None
    assert spec.started() is spec
    if option is None:
        return
    opened = spec.at("auto")
    assert opened.open == option
    assert opened.started().open is None
    assert opened.started() == opened.at(opened.started().number(option))
    assert opened.built_with == spec.built_with
    assert parse_index(str(opened)) == opened
    with pytest.raises(ValueError, match=f"{option}='auto' is found while fitting"):
        opened.number(option)


@every_spec
@pytest.mark.parametrize("k", [1, 63, 64, 5000])
def test_grids_build_and_costs_grow(spec, k):
    for one in spec.grid(k):
        assert type(one) is type(spec)
        assert (one.at("auto") if one.search_option else one).cut(k) == ""  # how many are probed is to be found
    assert 0 < spec.distances(k) <= 2 * max(k, 8)
    assert spec.growth(k, 2 * k) >= 2
    assert spec.growth(k, k) == 1


@pytest.mark.parametrize(
    ("index", "k", "message"),
    [
        ("ivf:nlist=50", 40, "nlist=50 exceeds n_clusters=40"),
        ("cells:nlist=50", 40, "nlist=50 exceeds n_clusters=40"),
        ("ivf:nlist=5,nprobe=6", 40, "nprobe=6 exceeds nlist=5"),
        ("ivf:nlist=5,nprobe=auto", 40, ""),
        ("ivf", 1, ""),
        ("hnsw", 1, ""),
        ("flat", 1, ""),
        ("factory:IVF50,Flat", 40, ""),
    ],
)
def test_options_that_would_be_cut_are_refused(index, k, message):
    spec = parse_index(index)
    assert spec.cut(k).startswith(message)
    if not message:
        assert spec.cut(k) == ""
        spec.check(k)
        return
    with pytest.raises(ValueError, match=message):
        spec.check(k)


def test_kinds_are_in_the_order_of_their_builds():
    assert [kind.name for kind in kinds()] == ["flat", "cells", "ivf", "hnsw", "lsh", "kd_tree", "ball_tree", "factory"]


def test_auto_is_no_search_text_of_a_factory(problem):
    """It means "find it" of a number; FAISS refuses it as it does any other text that it cannot read."""
    x, c = problem
    spec = parse_index("factory:SQ8;auto")
    assert spec == Factory("SQ8", "auto")
    assert (spec.open, spec.search_option) == (None, None)
    assert spec.started() is spec
    assert spec.built_with == Factory("SQ8").built_with
    with pytest.raises(ValueError, match=r"FAISS cannot build factory:SQ8;auto for 400 centroids .*parameters auto"):
        spec.build(c)
    with pytest.raises(ValueError, match=r"FAISS cannot build factory:SQ8;auto"):
        KMeans(5, index="factory:SQ8;auto", max_iter=2, random_state=0).fit(x)
    with pytest.raises(ValueError, match=r"recall=0.9 is what an index whose search option is 'auto'"):
        KMeans(5, index="factory:SQ8;auto", recall=0.9, max_iter=2, random_state=0).fit(x)
    km = KMeans(5, index="factory:SQ8", max_iter=2, random_state=0).fit(x)
    km.predict(x[:5])
    with pytest.raises(ValueError, match=r"FAISS cannot search factory:SQ8;auto: .*parameters auto"):
        km.set_search(search="auto").predict(x[:5])


def test_specs_are_made_and_read_without_faiss():
    code = "import sys; from fastann import HNSW, IVF, Cells, Factory, Flat, parse_index; import fastann.index;"
    code += "parse_index('ivf:nlist=3,nprobe=2').check(5), HNSW(), IVF().distances(9), Factory('SQ8'), Flat().cut(9);"
    code += "assert not {'faiss'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --------------------------------------------------------------------- what factories train, and search with


def trainings(monkeypatch):
    """How often FAISS trains a product quantiser from here on, and whether codes are sorted for Hamming distances."""
    import faiss

    told = []
    real = faiss.IndexPQ.train
    monkeypatch.setattr(
        faiss.IndexPQ, "train", lambda self, *rest: (told.append(self.do_polysemous_training), real(self, *rest))[1]
    )
    return told


def test_codes_are_not_sorted_for_a_search_that_nobody_asked_for(rng, monkeypatch):
    """FAISS's factory has it done, which takes most of the time of a build."""
    import faiss

    c = rng.random((300, 8), dtype="f")
    for string in ("PQ2x4", "IVF4,PQ2", "PCA4,PQ2x4", "PQ2x4,RFlat", "IVF4_HNSW4,PQ2"):
        index = Factory(string).build(c).index
        flags = [p.do_polysemous_training for p in faiss_module.parts(index) if hasattr(p, "do_polysemous_training")]
        assert flags == [False], string
        assert any(
            p.do_polysemous_training
            for p in faiss_module.parts(faiss.index_factory(8, string))
            if hasattr(p, "do_polysemous_training")
        ), string
    asked, told = Factory("PQ2x4", "ht=6"), []
    monkeypatch.setattr(faiss_module, "factory", lambda *rest, polysemous: told.append(polysemous))
    asked.build(c)
    assert told == [True]
    assert asked.built_with != Factory("PQ2x4").built_with == Factory("PQ2x4", "verbose=0").built_with


def test_quantisers_are_not_trained_in_every_iteration(problem, monkeypatch):
    told = trainings(monkeypatch)
    km = KMeans(300, index=Factory("PQ8x4"), max_iter=12, tol=0, random_state=0, exact_labels=True)
    km.fit(problem[0])
    assert km.n_iter_ > 4
    assert told == [False] * (3 + km.n_iter_ // 4 + 1)  # three at first, one in four, and to predict


def test_a_factory_searches_with_what_it_was_asked_for_last(problem):
    x, c = problem
    few, many = Factory("IVF16,SQ8", "nprobe=1"), Factory("IVF16,SQ8", "nprobe=16")
    for spec in (few, many, Factory("IVF16,SQ8")):
        index = spec.build(c)
        for other in (many, few, Factory("IVF16,SQ8"), many):
            retuned = index.retuned(other)
            for one, two in zip(retuned.search(x, 3), other.build(c).search(x, 3), strict=True):
                np.testing.assert_array_equal(one, two)
            for one, two in zip(index.search(x, 3), spec.build(c).search(x, 3), strict=True):
                np.testing.assert_array_equal(one, two)


@pytest.mark.filterwarnings("ignore:index factory.* has a recall below 0.9")
@pytest.mark.parametrize(
    ("string", "search"),
    [
        ("IVF16,Flat", "nprobe=16"),
        ("HNSW4,RFlat", "efSearch=200"),
        ("PCA8,IVF16,SQ8", "nprobe=9"),
        ("PQ8x4,RFlat", "k_factor_rf=9"),
    ],
)
def test_no_search_text_means_the_usual_search(problem, string, search):
    x, _ = problem
    km = KMeans(300, index=Factory(string), max_iter=2, random_state=0)
    km.fit(x)
    usual = km.predict(x)
    assert (km.set_search(search=search).predict(x) != usual).any()
    np.testing.assert_array_equal(km.set_search(search="").predict(x), usual)


def test_trees_find_the_same_on_any_number_of_threads(rng):
    from fastann import kernels

    c, x = rng.random((300, 4), dtype="f"), rng.random((10_000, 4), dtype="f")
    index = KDTree().build(c)
    with kernels.limit_threads(1):
        one = index.search(x, 3)
    with kernels.limit_threads(2):
        two = index.search(x, 3)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[0], Flat().build(c).search(x, 3)[0])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("IVF16,Flat", r"FAISS's own strings are 'factory:IVF16,Flat'"),
        ("HNSW32", r"FAISS's own strings are 'factory:HNSW32'"),
        ("Flat", r"Did you mean 'flat'\?"),
        ("ivff:nlist=3", r"Did you mean 'ivf:nlist=3'\?"),
        ("ivf,nlist=3", r"Did you mean 'ivf:nlist=3'\?"),
        ("annoy", r"'brute'$"),
    ],
)
def test_unknown_indexes_are_told_what_was_meant(text, meant):
    with pytest.raises(ValueError, match=rf"unknown index .*{meant}"):
        parse_index(text)

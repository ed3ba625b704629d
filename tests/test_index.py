"""Every index spec keeps the same contract; specs and strings go back and forth."""

import pickle

import numpy as np
import pytest

from fastann import HNSW, IVF, Cells, Factory, Flat, parse_index
from fastann.index import faiss as index_module
from fastann.index.repair import search

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
    pytest.param(Factory("LSH"), 0.02, id="lsh"),
]


@pytest.fixture(scope="module")
def problem(blobs):
    return blobs[400:3400], blobs[:400]


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
    assert parse_index("flat") == Flat()
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
        index_module.faiss.__wrapped__()


def test_two_faiss_builds_installed_warn(monkeypatch):
    class Dist:
        def __init__(self, name):
            self.metadata = {"Name": name}

    monkeypatch.setattr(index_module.metadata, "distributions", lambda: [Dist("faiss-cpu"), Dist("faiss-gpu")])
    with pytest.warns(RuntimeWarning, match="faiss-cpu and faiss-gpu are both installed"):
        index_module.faiss.__wrapped__()

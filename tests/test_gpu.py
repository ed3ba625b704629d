"""GPUs: FAISS's own CPU indexes stand in for copies on cards, so that its wrappers refuse what they refuse there."""

import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import sparse

from fastann import IVF, KMeans, PrototypeClassifier
from fastann.cli import main
from fastann.index import gpu
from fastann.index.faiss import faiss as loaded


class Cards:
    """FAISS as a build for GPUs, with so many cards. A copy on a card is a clone on the CPU; some kinds have none."""

    GpuMultipleClonerOptions = partial(SimpleNamespace, shard=False)
    KINDS = ("IndexFlat", "IndexFlatL2", "IndexIVFFlat", "IndexIVFScalarQuantizer", "IndexIVFPQ")
    AROUND = ("IndexPreTransform", "IndexIDMap")  # objects on the CPU, whose inner index is on the card

    def __init__(self, faiss, count):
        self.faiss, self.count, self.made, self.split = faiss, count, [], []
        self.GpuParameterSpace = faiss.ParameterSpace

    def __getattr__(self, name):
        return getattr(self.faiss, name)

    def StandardGpuResources(self):
        self.made.append(object())
        return self.made[-1]

    def get_num_gpus(self):
        return self.count

    def isGpuIndex(self, index):
        return type(self.faiss.downcast_index(index)).__name__ in self.KINDS

    def index_cpu_to_gpu(self, resources, card, index):
        assert resources in self.made
        assert 0 <= card < self.count
        inner = self.faiss.downcast_index(index)
        while type(inner).__name__ in self.AROUND:
            inner = self.faiss.downcast_index(inner.index)
        if not self.isGpuIndex(inner):
            raise RuntimeError("Error in GpuCloner.cpp:280:\nThis index type is not implemented on GPU.")
        return self.faiss.clone_index(index)

    def index_cpu_to_gpu_multiple_py(self, resources, index, options, cards):
        assert len(resources) == len(cards)
        if options.shard:
            return self._shards(index, len(cards))
        replicas = self.faiss.IndexReplicas(index.d)
        for _ in cards:  # as FAISS does, also where the copy stays on the CPU
            replicas.addIndex(self.faiss.clone_index(index))
        return replicas

    def _shards(self, index, count):
        """A part of the vectors for each; FAISS divides those of a flat index by place, those in cells by number."""
        if not self.isGpuIndex(index):
            raise RuntimeError("IndexShards implemented only for IndexIVFFlat, IndexFlat and IndexIVFPQ")
        flat = isinstance(index, self.faiss.IndexFlat)
        shards = self.faiss.IndexShards(index.d)
        shards.successive_ids = flat
        for i in range(count):
            part = self.faiss.clone_index(index)
            part.reset()
            if flat:
                first, last = index.ntotal * i // count, index.ntotal * (i + 1) // count
                part.add(index.reconstruct_n(first, last - first))
            else:
                index.copy_subset_to(part, self.faiss.InvertedLists.SUBSET_TYPE_ID_MOD, count, i)
            self.split.append(part.ntotal)
            shards.add_shard(part)
        return shards


@pytest.fixture
def cards(monkeypatch):
    """Two cards."""
    stand_in = Cards(loaded(), 2)
    monkeypatch.setitem(sys.modules, "faiss", stand_in)
    loaded.cache_clear()
    yield stand_in
    loaded.cache_clear()


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)


DEVICES = ["cuda", "cuda:1", ["cuda:0", "cuda:1"], "cuda:all", "auto"]


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize(
    "index",
    [
        *("flat", "ivf:nlist=8,nprobe=3", "factory:IVF8,Flat;nprobe=3", "factory:IVF8,SQ8;nprobe=4", "auto"),
        "factory:PCA12,IVF8,Flat;nprobe=4",
    ],
)
def test_labels_are_those_of_the_cpu(cards, x, device, index):
    options = {"n_clusters": 80, "index": index, "max_iter": 4, "random_state": 0}
    there, here = KMeans(device=device, **options).fit(x), KMeans(**options).fit(x)
    np.testing.assert_array_equal(there.labels_, here.labels_)
    for _ in range(2):  # the index is used again
        np.testing.assert_array_equal(there.predict(x), here.predict(x))
        np.testing.assert_array_equal(there.kneighbors(x[:50], 3)[1], here.kneighbors(x[:50], 3)[1])


@pytest.mark.filterwarnings("ignore:index .* has a recall below 0.9")
@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_search_options_are_set_there(cards, x, device):
    options = {"n_clusters": 80, "index": "ivf:nlist=8,nprobe=1", "max_iter": 3, "random_state": 0}
    there, here = KMeans(device=device, **options).fit(x), KMeans(**options).fit(x)
    for nprobe in (8, 1, 3):
        found = [km.set_search(nprobe=nprobe).predict(x) for km in (there, here)]
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_an_effort_is_found_there(cards, x, device):
    km = KMeans(80, index=IVF(nlist=8, nprobe="auto"), recall=0.9, device=device, max_iter=3, random_state=0).fit(x)
    assert 1 <= km.index_.nprobe <= 8
    assert km.assignment_recall_ > 0.85


def test_batches_and_prototypes(cards, x):
    km = KMeans(20, index="ivf:nlist=4,nprobe=2", device="cuda:all", random_state=0).partial_fit(x).partial_fit(x)
    assert km.predict(x).max() < 20
    y = (x[:, 0] > 0).astype(int)
    found = [
        PrototypeClassifier(3, index="flat", device=d, random_state=0).fit(x, y).predict(x) for d in ("cuda", "cpu")
    ]
    np.testing.assert_array_equal(*found)


def test_a_card_is_set_up_once(cards, x):
    for _ in range(2):
        KMeans(20, index="flat", device="cuda:all", max_iter=5, random_state=0).fit(x).predict(x)
    assert len(cards.made) == 2


@pytest.mark.parametrize("device", ["cuda", "cuda:all"])
@pytest.mark.parametrize("index", ["factory:LSH", "factory:PQ4x4np", "factory:PCA8,SQ8", "factory:IVF4,Flat,RFlat"])
def test_kinds_that_faiss_lacks_there_are_refused_on_one_card_and_on_several(cards, x, device, index):
    with pytest.raises(ValueError, match=r"FAISS has no Index\w+ on cuda:0.*use index='flat', 'ivf'"):
        KMeans(20, index=index, device=device, random_state=0).fit(x)


@pytest.mark.parametrize("index", ["flat", "ivf:nlist=8,nprobe=3", "factory:IVF8,SQ8;nprobe=4", "auto"])
@pytest.mark.parametrize("device", ["cuda:all", ["cuda:1", "cuda:0"]], ids=str)
def test_centroids_are_split_over_cards(cards, x, device, index):
    options = {"n_clusters": 81, "index": index, "max_iter": 4, "random_state": 0}
    there, here = KMeans(device=device, shard=True, **options).fit(x), KMeans(**options).fit(x)
    np.testing.assert_array_equal(there.labels_, here.labels_)
    assert there.device_.endswith("(sharded)")
    if index != "auto":  # which on so few rows searches once, by an exact pass of our own
        assert {*cards.split} <= {40, 41}
    for nprobe in (8, 1) if index.startswith("ivf") else ():
        found = [km.set_search(nprobe=nprobe).predict(x) for km in (there, here)]
        np.testing.assert_array_equal(*found)
    there.set_params(shard=False)  # the copies that predict are made anew
    cards.split.clear()
    np.testing.assert_array_equal(there.predict(x), here.predict(x))
    assert not cards.split


def test_no_card_is_without_a_centroid(cards, x):
    km = KMeans(1, index="flat", device="cuda:all", shard=True, random_state=0).fit(x)
    assert (km.predict(x) == 0).all()


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "auto"])
def test_one_card_has_nothing_to_split(cards, x, device):
    with pytest.raises(ValueError, match=r"shard=True splits the centroids over several GPUs; pass device='cuda:all'"):
        KMeans(4, device=device, shard=True).fit(x)
    with pytest.raises(TypeError, match="shard must be True or False"):
        KMeans(4, device=device, shard=1).fit(x)


def test_shards_cannot_hold_what_is_transformed_first(cards, x):
    with pytest.raises(ValueError, match="FAISS has no IndexPreTransform"):
        KMeans(20, index="factory:PCA8,Flat", device="cuda:all", shard=True, random_state=0).fit(x)


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_many_clusters_have_a_plan_there(cards, x, device, monkeypatch):
    monkeypatch.setattr(KMeans, "limits", replace(KMeans.limits, small=0, cells_from=64))
    there, here = (KMeans(128, device=d, max_iter=6, random_state=0).fit(x) for d in (device, "cpu"))
    assert (str(there.index_), here.index_.name) == ("flat", "cells")
    assert "candidates from every centroid" in there.history_[-1].plan
    assert there.inertia_ == pytest.approx(here.inertia_, rel=0.02)
    assert there.assignment_recall_ > 0.95
    exact = KMeans.from_centers(there.cluster_centers_).predict(x)
    np.testing.assert_array_equal(there.predict(x), exact)


@pytest.mark.parametrize(("device", "said"), [("cpu", "cpu"), ("auto", "cuda:0"), ("cuda:all", "cuda:0,cuda:1")])
def test_the_device_that_was_taken_is_said(cards, x, tmp_path, device, said):
    km = KMeans(8, index="flat", device=device, random_state=0).fit(x)
    assert km.device_ == km.partial_fit(x[:100]).device_ == said
    km.save(tmp_path / "run")
    assert KMeans.load(tmp_path / "run").device_ == said


@pytest.mark.parametrize("options", [["auto"], ["cuda:0", "cuda:1"], ["cuda:all", "--shard"]])
def test_the_summary_says_where_it_was_searched(cards, x, tmp_path, options):
    np.save(tmp_path / "x.npy", x)
    device = [word for option in options for word in ([option] if option == "--shard" else ["--device", option])]
    command = ["fit", str(tmp_path / "x.npy"), "-k", "9", "--quiet", "--out", str(tmp_path / "run"), *device]
    found = CliRunner().invoke(main, command)
    assert found.exit_code == 0, found.output
    where = {1: "cuda:0", 2: "cuda:0,cuda:1"}[len(options)] + (" (sharded)" if "--shard" in options else "")
    assert f"small enough for exact passes, on {where}\n" in found.stdout
    more = ["predict", str(tmp_path / "run"), str(tmp_path / "x.npy"), "--out", str(tmp_path / "labels.npy")]
    assert CliRunner().invoke(main, [*more, "--index", "auto"]).exit_code == 0


def test_sparse_rows_are_searched_on_the_cpu(cards, x):
    rows = sparse.csr_matrix(np.where(x > 1, x, 0))
    here = KMeans(8, max_iter=4, random_state=0).fit(rows)
    there = KMeans(8, max_iter=4, device="auto", random_state=0).fit(rows)
    assert there.device_ == "cpu"
    np.testing.assert_array_equal(there.predict(rows), here.labels_)
    with pytest.raises(ValueError, match="sparse rows are searched on CPUs, got device='cuda'; pass 'cpu' or 'auto'"):
        KMeans(8, device="cuda").fit(rows)


def test_all_cells_of_a_large_index_can_be_asked_for():
    asked = []
    space = SimpleNamespace(set_index_parameter=lambda index, name, value: asked.append((name, value)))
    index = SimpleNamespace(search=lambda x, m: (x, m))
    gpu.search(SimpleNamespace(GpuParameterSpace=lambda: space), index, 0, 1, on_gpu=True, nprobe=4096, ef_search=None)
    assert asked == [("nprobe", 2048)]  # more FAISS refuses


@pytest.mark.parametrize(
    ("device", "parsed"),
    [
        ("cpu", "cpu"),
        ("cuda", (0,)),
        ("cuda:3", (3,)),
        (["cuda:0", "cuda:1"], (0, 1)),
        (("cuda:1",), (1,)),
        ("auto", (0,)),
        ("cuda:all", (0, 1)),
    ],
)
def test_device_names(cards, device, parsed):
    assert gpu.parse_device(device, lambda: cards) == parsed


def test_auto_is_the_cpu_where_there_is_no_card(x):
    none = SimpleNamespace(StandardGpuResources=object, get_num_gpus=lambda: 0)
    for faiss in (none, SimpleNamespace()):
        assert gpu.parse_device("auto", lambda faiss=faiss: faiss) == "cpu"
    assert KMeans(4, device="auto", random_state=0).fit(x).predict(x).shape == (3000,)


@pytest.mark.parametrize("device", [1, True, None, "gpu", "cuda:", "cuda:x", [], ["cuda", "cuda:0"], ["cpu", "cuda"]])
def test_other_devices_are_refused(device):
    with pytest.raises(ValueError, match="device"):
        gpu.parse_device(device)


def test_missing_gpus_are_an_error_not_a_silent_cpu_run(cards, x):
    with pytest.raises(RuntimeError, match=r"cuda:2 was asked for, but FAISS sees 2 GPU"):
        KMeans(4, device="cuda:2").fit(x)
    with pytest.raises(RuntimeError, match="this is a CPU build"):
        gpu.place(SimpleNamespace(), object(), (0,))
    cards.count = 0
    with pytest.raises(RuntimeError, match=r"cuda:0 was asked for, but FAISS sees 0 GPU"):
        KMeans(4, device="cuda:all").fit(x)


def test_estimator_refuses_a_gpu_that_is_not_there(x):
    if gpu.visible(loaded()):
        pytest.skip("this machine has a GPU")
    for device in ("cuda", "cuda:all"):
        with pytest.raises(RuntimeError, match="device=cuda:0"):
            KMeans(4, device=device).fit(x)

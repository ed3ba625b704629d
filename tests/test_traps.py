"""FAISS's own clustering goes wrong in these cases; fastann does not.

Each test first asserts fastann's behaviour, then that plain FAISS still differs. Where a newer FAISS has
mended its side, the second half skips and says so.
"""

import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import faiss
import numpy as np
import pytest

from fastann import IVF, Flat, KMeans
from fastann.cluster.criterion import NEAREST
from fastann.cluster.passes.every import Every
from fastann.cluster.space import Euclidean
from fastann.data.source import ArraySource


def still_a_trap(wrong: bool) -> None:
    if not wrong:
        pytest.skip("this FAISS no longer has the trap")


def plain(x, k, niter=5, **options):
    km = faiss.Kmeans(x.shape[1], k, niter=niter, seed=0, min_points_per_centroid=1, **options)
    km.train(x)
    return km


def crashes(code: str) -> bool:
    return (
        subprocess.run([sys.executable, "-c", "import faiss, numpy as np\n" + code], capture_output=True).returncode < 0
    )


def test_sums_do_not_stop_growing():
    """1a. float32 sums of many equal values stall: 20 million threes average to 4."""
    x = np.full((20_000_000, 1), 3, np.float32)
    assert KMeans(1, max_iter=2).fit(x).cluster_centers_[0, 0] == 3
    mean = plain(x, 1, niter=1, max_points_per_centroid=10**9).centroids[0, 0]
    still_a_trap(abs(mean - 3) > 0.1)


def test_counts_and_inertia_do_not_stop_at_2_to_the_24():
    """1b. A float32 count or objective cannot pass 2^24 in steps of one."""
    n = 2**24 + 50_001
    x = np.zeros((n, 1), np.float32)
    x[::2] = 2
    km = KMeans(1, init=[[1.0]], max_iter=1).fit(x)
    assert km.inertia_ == pytest.approx(n, rel=1e-9)
    assert km.cluster_centers_[0, 0] == pytest.approx(1, abs=1e-6)
    still_a_trap(np.add.accumulate(np.ones(n, np.float32))[-1] == 2**24)


def test_data_far_from_the_origin():
    """2. |x|^2 + |c|^2 - 2 x.c cancels at +1000, and most rows get a wrong centroid."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4000, 32)) + 1000).astype(np.float32)
    c = x[:512].copy()
    exact = ((x[:, None].astype(np.float64) - c) ** 2).sum(-1).argmin(1)
    km = KMeans(512, init=c, max_iter=1).fit(x)
    assert km.history_[0].inertia == pytest.approx(((x.astype(np.float64) - c[exact]) ** 2).sum(), rel=1e-4)
    work = Every.over(ArraySource(x), None, c, Euclidean())
    work.assign(Flat().build(c), 0, NEAREST)  # exact even without centring
    np.testing.assert_array_equal(work.rows.labels, exact)
    index = faiss.IndexFlatL2(32)
    index.add(c)
    still_a_trap((index.search(x, 1)[1][:, 0] == exact).mean() < 0.9)


def test_an_index_that_finds_nothing_is_repaired():
    """3a. A label of -1 that reaches faiss.Clustering aborts the process."""
    rng = np.random.default_rng(0)
    x, c = rng.standard_normal((500, 4), dtype="f"), rng.standard_normal((20, 4), dtype="f")
    exact = Flat().build(c).search(x, 1)

    def blind(x, m, hint):  # finds nothing for every third row
        ids, sqdist = (a.copy() for a in exact)
        ids[::3], sqdist[::3] = -1, np.inf
        return ids, sqdist

    work = Every.over(ArraySource(x), None, c, Euclidean())
    assert work.assign(SimpleNamespace(exact=False, search=blind), 0, NEAREST).repaired == 167
    np.testing.assert_array_equal(work.rows.labels, exact[0][:, 0])
    code = """
x = np.random.default_rng(0).standard_normal((500, 4), dtype="f")
index = faiss.IndexIVFFlat(faiss.IndexFlatL2(4), 4, 100)
index.train(x)
index.cp.min_points_per_centroid = 1
clustering = faiss.Clustering(4, 5)
clustering.train(x, index)
"""
    still_a_trap(crashes(code))


def test_a_start_with_too_many_rows_is_an_error():
    """3b. faiss.Clustering reads past its buffers when given more starting centroids than k."""
    x = np.random.default_rng(0).standard_normal((500, 4), dtype="f")
    with pytest.raises(ValueError, match=r"init has shape \(50, 4\).*shape \(5, 4\) is needed"):
        KMeans(5, init=x[:50]).fit(x)
    code = """
x = np.random.default_rng(0).standard_normal((200000, 4), dtype="f")
faiss.Kmeans(4, 5, max_points_per_centroid=10**9).train(x, init_centroids=x[:100000])
"""
    result = subprocess.run(
        [sys.executable, "-c", "import faiss, numpy as np\n" + code], capture_output=True, text=True
    )
    still_a_trap(result.returncode != 0 and "ValueError" not in result.stderr)


def test_every_row_is_trained_on_and_counted():
    """4. FAISS trains on 256 rows a centroid without a word; its objective is of those rows."""
    x = np.random.default_rng(0).standard_normal((20_000, 8), dtype="f")
    km = KMeans(10, max_iter=5, tol=0, random_state=0).fit(x)
    assert {record.rows for record in km.history_} == {20_000}
    own = ((x.astype(np.float64) - km.cluster_centers_[km.labels_]) ** 2).sum()
    assert km.inertia_ == pytest.approx(own, rel=1e-7)
    quiet = plain(x, 10)
    still_a_trap(quiet.obj[-1] < 0.5 * own)


def test_a_gpu_that_is_not_there_is_an_error():
    """5. gpu=True on a CPU build of FAISS runs on the CPU without a word; gpu=1 means all of them."""
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        pytest.skip("this machine has a GPU")
    x = np.random.default_rng(0).standard_normal((500, 4), dtype="f")
    with pytest.raises(RuntimeError, match="cuda:0"):
        KMeans(5, device="cuda").fit(x)
    for device in (1, True):
        with pytest.raises(ValueError, match="device must be 'cpu', 'auto', 'cuda'"):
            KMeans(5, device=device).fit(x)
    still_a_trap(plain(x, 5, gpu=True).centroids.shape == (5, 4))


def test_ivf_cells_follow_the_centroids():
    """6. An IVF inside faiss.Clustering keeps the cells of the random start."""
    rng = np.random.default_rng(0)
    before = rng.standard_normal((1024, 16), dtype="f") * 0.01  # a start all in one place
    after = rng.standard_normal((1024, 16), dtype="f") + np.float32(3)
    x = after + rng.standard_normal((1024, 16), dtype="f") * np.float32(0.5)
    exact = Flat().build(after).search(x, 1)[0]
    assert (IVF(nprobe=4).build(after).search(x, 1)[0] == exact).mean() > 0.8
    stale = faiss.IndexIVFFlat(faiss.IndexFlatL2(16), 16, 32)
    stale.train(before)
    stale.nprobe = 4
    stale.add(after)  # what Clustering does at every iteration: reset, then add
    sizes = np.array([stale.invlists.list_size(i) for i in range(32)])
    fresh = IVF(nprobe=4).build(after).index
    still_a_trap((sizes**2).sum() > 2 * sum(fresh.invlists.list_size(i) ** 2 for i in range(32)))


def test_as_many_clusters_as_rows_are_normalised():
    """7a. With n == k, FAISS copies the rows as they are, spherical or not."""
    x = np.random.default_rng(0).standard_normal((20, 4), dtype="f") * 7
    km = KMeans(20, metric="cosine", random_state=0).fit(x)
    np.testing.assert_allclose(np.linalg.norm(km.cluster_centers_, axis=1), 1, rtol=1e-6)
    assert km.inertia_ == pytest.approx(0, abs=1e-9)
    norms = np.linalg.norm(plain(x, 20, spherical=True).centroids, axis=1)
    still_a_trap(not np.allclose(norms, 1))


def test_all_zero_centroids_part():
    """7b. FAISS splits an empty cluster by multiplying, which leaves zero where it is."""
    x = np.repeat(np.eye(4, dtype=np.float32) - 0.25, 50, axis=0)
    zero = np.zeros((4, 4), np.float32)
    km = KMeans(4, init=zero, random_state=0).fit(x)
    assert km.inertia_ == pytest.approx(0, abs=1e-9)
    stuck = faiss.Kmeans(4, 4, niter=25, min_points_per_centroid=1)
    stuck.train(x, init_centroids=zero)
    still_a_trap(len(np.unique(stuck.centroids, axis=0)) < 4)


@pytest.mark.parametrize("layout", ["float16", "float64", "Fortran"])
def test_other_layouts_are_not_copied_whole(layout):
    """8. FAISS's Python layer casts the whole array to float32, C-ordered."""
    x = np.random.default_rng(0).standard_normal((400_000, 64), dtype="f")
    x = np.asfortranarray(x) if layout == "Fortran" else x.astype(layout)
    KMeans(4, init="random", max_iter=1, random_state=0).fit(x[:100])  # compile, import
    whole = 4 * x.size

    def peak(run):
        tracemalloc.start()
        run()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(lambda: KMeans(4, init="random", max_iter=1, random_state=0).fit(x)) < 0.75 * whole
    still_a_trap(peak(lambda: plain(x, 4, niter=1, max_points_per_centroid=10**9)) > 0.9 * whole)

"""Bounded memory: what does not fit goes to files, with the same result; what cannot be done is said before."""

import gc
import os
import re
import tracemalloc

import numpy as np
import pytest
from conftest import limited

from fastann import KMeans, checks
from fastann.cluster import memory, start
from fastann.cluster.memory import Memory, needed, plan_memory, size_of
from fastann.cluster.passes.every import Every
from fastann.cluster.passes.rows import Rows
from fastann.cluster.space import Euclidean
from fastann.data import mapping
from fastann.data.limits import Limits
from fastann.data.open import as_source
from fastann.data.source import ArraySource, Centred, Subset


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((60, 12)) * 2
    return (centers[rng.integers(60, size=30_000)] + rng.standard_normal((30_000, 12))).astype(np.float32)


@pytest.fixture
def rows(tmp_path, x):
    """The rows as a file that is read in chunks, as large ones are."""
    np.save(tmp_path / "rows.npy", x)
    return as_source(tmp_path / "rows.npy", limits=Limits(chunk_bytes=2**17, direct_bytes=0))


def least(rows, k):
    """The smallest max_memory: all that is remembered of rows goes to files."""
    return needed(as_source(rows), k)


@pytest.fixture
def spills(monkeypatch):
    """Sizes of the arrays that went to files."""
    sizes, mapped = [], Memory._mapped

    def watch(self, shape, dtype, nbytes):
        sizes.append(nbytes)
        return mapped(self, shape, dtype, nbytes)

    monkeypatch.setattr(Memory, "_mapped", watch)
    return sizes


# --------------------------------------------------------------------- the same result


@pytest.mark.parametrize(
    "options",
    [
        {"n_clusters": 1500, "max_iter": 6, "margins": True},
        {"n_clusters": 1500, "max_iter": 6, "metric": "cosine"},
        {"n_clusters": 50, "index": "flat", "max_iter": 6},
        {"n_clusters": 80, "index": "ivf:nlist=8,nprobe=4", "max_iter": 5},
        {"n_clusters": 40, "init": "k-means||", "max_iter": 4},
        {"n_clusters": 400, "init": "random", "empty": "farthest", "index": "flat", "max_iter": 5},
        {"n_clusters": 30, "n_init": 2, "max_iter": 3},
    ],
    ids=str,
)
def test_spilling_changes_no_bit(rows, spills, options):
    whole = KMeans(random_state=0, **options).fit(rows)
    assert not spills
    bounded = KMeans(random_state=0, max_memory=least(rows, options["n_clusters"]), **options).fit(rows)
    assert sum(spills) >= 8 * 30_000
    for name in ("cluster_centers_", "labels_", "distances_", "inertia_", "assignment_recall_"):
        np.testing.assert_array_equal(getattr(bounded, name), getattr(whole, name), err_msg=name)
    if options.get("margins"):
        np.testing.assert_array_equal(bounded.margins_, whole.margins_)
        np.testing.assert_array_equal(bounded.second_labels_, whole.second_labels_)


def test_a_file_gives_what_the_array_gives(rows, x, spills):
    array = KMeans(1500, max_iter=6, random_state=0).fit(x)
    file = KMeans(1500, max_iter=6, random_state=0, max_memory=least(rows, 1500)).fit(rows)
    assert spills
    assert file.inertia_ == pytest.approx(array.inertia_, rel=1e-5)
    assert np.mean(file.labels_ == array.labels_) > 0.999


def test_rows_in_memory_are_bounded_too(x, spills):
    options = {"n_clusters": 1500, "max_iter": 6, "random_state": 0}
    whole = KMeans(**options).fit(x)
    bounded = KMeans(max_memory=needed(ArraySource(x), 1500), **options).fit(x)
    assert sum(spills) >= 48 * len(x)
    np.testing.assert_array_equal(bounded.cluster_centers_, whole.cluster_centers_)
    np.testing.assert_array_equal(bounded.labels_, whole.labels_)


@pytest.mark.parametrize(
    "options",
    [
        {"n_clusters": 300},
        {"n_clusters": 300, "margins": True, "metric": "cosine"},
        {"n_clusters": 20, "index": "flat", "init": "k-means||"},
        {"n_clusters": 20, "index": "ivf:nlist=5,nprobe=1"},
        {"n_clusters": 30, "index": "flat", "empty": "farthest", "init": "random"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["array", "file", "float16"])
def test_memory_does_not_grow_with_the_rows(tmp_path, options, kind):
    """What numpy allocates, as tracemalloc counts it: two sizes, at the least max_memory, differ by little a row."""
    limits, small = Limits(chunk_bytes=2**18, at_once=2**13, direct_bytes=0), limited(small=0, part=2**12, audited=512)
    peaks, sizes = [], (40_000, 160_000)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((sizes[1], 16)).astype(np.float16 if kind == "float16" else np.float32)
    for n in sizes:
        data = x[:n]
        if kind != "array":
            data = tmp_path / f"{n}.npy"
            np.save(data, x[:n])
        source = as_source(data, limits=limits)
        km = small(max_iter=3, random_state=0, max_memory=needed(source, options["n_clusters"]), **options)
        tracemalloc.start()
        km.fit(source)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / (sizes[1] - sizes[0]) < 2.5, peaks


def test_weights_and_float16(tmp_path, x, monkeypatch, spills):
    np.save(tmp_path / "half.npy", x.astype(np.float16))
    w = np.random.default_rng(1).random(len(x))
    options = {"n_clusters": 1500, "max_iter": 5, "random_state": 0}
    whole = KMeans(**options).fit(tmp_path / "half.npy", sample_weight=w)
    bounded = KMeans(max_memory=least(tmp_path / "half.npy", 1500), **options)
    bounded.fit(tmp_path / "half.npy", sample_weight=w)
    assert spills
    np.testing.assert_array_equal(bounded.cluster_centers_, whole.cluster_centers_)


def test_a_fit_bounded_or_not_goes_on_from_the_same_checkpoint(rows, tmp_path, spills):
    options = {"n_clusters": 1500, "max_iter": 7, "random_state": 0, "checkpoint": tmp_path / "c"}
    whole = KMeans(1500, max_iter=7, random_state=0).fit(rows)
    KMeans(checkpoint_seconds=0, callback=lambda state: state.record.iteration == 4, **options).fit(rows)
    bounded = KMeans(max_memory=least(rows, 1500), **options).fit(rows)
    assert spills
    np.testing.assert_array_equal(bounded.cluster_centers_, whole.cluster_centers_)


def test_a_spilled_model_is_as_any_other(rows, tmp_path, spills):
    import pickle

    km = KMeans(1500, max_iter=3, random_state=0, max_memory=least(rows, 1500)).fit(rows)
    assert spills
    km.save(tmp_path / "run")
    for copy in (KMeans.load(tmp_path / "run"), pickle.loads(pickle.dumps(km))):
        np.testing.assert_array_equal(copy.labels_, km.labels_)
    km.labels_[0] = 7
    assert km.labels_[0] == 7
    assert type(km.labels_) is np.ndarray


# --------------------------------------------------------------------- what is refused


def test_too_little_is_refused_with_what_is_needed(rows):
    with pytest.raises(ValueError, match="max_memory=1000 ") as caught:
        KMeans(100, max_memory=1000).fit(rows)
    enough = int(re.search(r"give at least (\d+)", str(caught.value))[1])
    KMeans(100, max_memory=enough, max_iter=1).fit(rows)


@pytest.mark.parametrize(
    ("text", "value"),
    [("2GiB", 2**31), ("500 MB", 5 * 10**8), ("1.5k", 1500), ("64", 64), (77, 77), (None, None), ("1tib", 2**40)],
)
def test_sizes_are_read(text, value):
    assert checks.nbytes(text, "max_memory") == value


@pytest.mark.parametrize("name", ["checkpoint", "temp_folder"])
def test_places_that_are_no_paths_are_refused_by_name(x, name):
    with pytest.raises(TypeError, match=f"{name} must be a path or None, got 5"):
        KMeans(10, **{name: 5}).fit(x)


@pytest.mark.parametrize("bad", ["much", "", "-1GB", "2 GiBs", 0, -5, 1.5, True, [1]])
def test_sizes_that_make_no_sense_are_refused(x, bad):
    with pytest.raises((ValueError, TypeError), match="max_memory"):
        KMeans(10, max_memory=bad).fit(x)


def test_a_disk_without_room_is_told_before_anything_is_written(rows, tmp_path, monkeypatch):
    def full(file, start, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    km = KMeans(1500, max_memory=least(rows, 1500), temp_folder=tmp_path)
    with pytest.raises(OSError, match=r"exceeds max_memory.*No space left.*raise max_memory") as caught:
        km.fit(rows)
    assert caught.value.errno == 28
    assert str(tmp_path) in str(caught.value)
    assert not hasattr(km, "labels_")


def test_a_temp_folder_that_is_none_is_told(rows, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        KMeans(1500, max_memory=least(rows, 1500), temp_folder=tmp_path / "nowhere").fit(rows)


# --------------------------------------------------------------------- the parts


def test_bytes_are_given_back_with_the_array():
    room = Memory(1000)
    a = room.full(100, np.int32, -1)
    view = a[:10]
    assert room.left == 600
    del a
    gc.collect()
    assert room.left == 600  # the view still holds it
    del view
    gc.collect()
    assert room.left == 1000


def test_what_does_not_fit_is_mapped_and_works(tmp_path, spills):
    room = Memory(100, tmp_path)
    a = room.full((50, 8), np.int32, -1)
    assert room.left == 100
    assert (a == -1).all()
    a[3] = 5
    assert a[3].tolist() == [5] * 8
    assert list(tmp_path.iterdir()) == []  # the file has no name
    assert spills == [1600]


def test_free_memory_is_less_than_the_machine_has():
    assert 0 < memory.free() < 2**50


def test_a_container_counts(tmp_path):
    for name, text in (
        ("memory.max", "1000\n"),
        ("memory.current", "700\n"),
        ("memory.stat", "anon 1\nfile 60\nshmem 10\n"),
    ):
        (tmp_path / name).write_text(text)
    assert memory._left_in_container(tmp_path) == 350
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left_in_container(tmp_path) is None
    assert memory._left_in_container(tmp_path / "none") is None


def test_the_default_is_half_of_what_is_free(x, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 2e9)
    source = ArraySource(x)
    assert plan_memory(source, 10, None, None).left == 1e9 - needed(source, 10)
    monkeypatch.setattr(memory, "free", lambda: 10.0)
    assert plan_memory(source, 10, None, None).left == 0


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7 bytes"), (2048, "2.0 KiB"), (3 * 2**20, "3.0 MiB"), (2**32, "4.0 GiB")]
)
def test_sizes_are_told(value, text):
    assert size_of(value) == text


class Counting(ArraySource):
    """An array that counts the rows that are read."""

    ahead = True

    def __init__(self, array):
        super().__init__(array)
        self.direct, self.read = False, 0

    def native(self, rows):
        block = super().native(rows)
        self.read += len(block)
        return block


def test_a_sample_is_read_once(x):
    source = Counting(x)
    sample, _ = start.subsample(source, None, 5000, np.random.default_rng(0), Memory())
    for _ in range(3):
        parts = [block for _, block in sample.chunks(700)]
    assert source.read == 5000
    picks = start.draw_any(source.n, 5000, np.random.default_rng(0))
    np.testing.assert_array_equal(np.concatenate(parts), x[picks])
    np.testing.assert_array_equal(sample.take([4, 2, 2]), x[picks[[4, 2, 2]]])


def test_a_sample_that_does_not_fit_lies_in_a_file_as_stored(x, tmp_path, spills):
    room = Memory(1000, tmp_path)
    source = Counting(x.astype(np.float16))
    sample, _ = start.subsample(Centred(source, x.mean(axis=0)), None, 5000, np.random.default_rng(0), room)
    assert spills == [5000 * 12 * 2]
    expected = Subset(Centred(source, x.mean(axis=0)), start.draw_any(source.n, 5000, np.random.default_rng(0)))
    for (_, a), (_, b) in zip(sample.chunks(999), expected.chunks(999), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["random", "k-means++"])
def test_a_start_reads_what_it_samples_and_looks_at_all_rows_once(x, name):
    source = Counting(np.repeat(x, 3, axis=0))
    work = Every(source, Rows.new(source.n), 20, Euclidean())
    start.start(name, work, 20, np.random.default_rng(0), Memory())
    assert source.read <= (20 if name == "random" else source.n + 1.02 * 2**15 + 64 + 20)


def test_training_on_samples_reads_the_rest_once_per_pass(x):
    source = Counting(x)
    km = limited(small=0)(7, max_iter=4, tol=0, effort=100, init="random", random_state=0).fit(source)
    whole = sum(record.rows == len(x) for record in km.history_)
    assert min(record.rows for record in km.history_) <= 7507
    # A look at all rows before, the sample, every full pass, the closing one, starts and measured recall.
    assert source.read <= (1 + whole + 2) * len(x) + 7507 + 7 + 4096


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="needs /proc to tell")
def test_of_a_file_larger_than_memory_only_what_is_read_is_mapped(tmp_path):
    np.save(tmp_path / "large.npy", np.ones((500_000, 32), np.float32))
    rows = as_source(tmp_path / "large.npy", limits=Limits(direct_bytes=0, memory=0))
    total = sum(float(block.sum(dtype=np.float64)) for _, block in rows.chunks(20_000))
    assert total == 500_000 * 32
    with open("/proc/self/smaps") as file:
        lines = iter(file.read().splitlines())
    mapped = next(int(line.split()[1]) for name in lines if "large.npy" in name for line in lines if "Rss:" in line)
    assert mapped < 10_000


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int8])
def test_mapped_blocks_are_the_rows(tmp_path, order, dtype):
    array = np.asarray(np.random.default_rng(0).integers(-9, 9, (5000, 7)), dtype, order=order)
    np.save(tmp_path / "rows.npy", array)
    rows = as_source(tmp_path / "rows.npy", limits=Limits(direct_bytes=0))
    for first, block in rows.chunks(999):
        np.testing.assert_array_equal(block, array[first : first + 999])
        assert block.dtype == np.float32
        assert block.flags.c_contiguous
        older = mapping.mapped(rows.array, slice(first, first + 999), advice=12345)  # as a system that has no such one
        np.testing.assert_array_equal(older, array[first : first + 999])
        assert not np.shares_memory(older, rows.array)
    np.testing.assert_array_equal(rows.native(slice(3, 3)), array[:0])


def test_a_mapped_float32_file_is_not_copied(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((5000, 7), np.float32))
    rows = as_source(tmp_path / "rows.npy", limits=Limits(direct_bytes=0))
    blocks = [block for _, block in rows.chunks(999)]
    if hasattr(mapping.mmap.mmap, "madvise"):
        assert all(np.shares_memory(block, rows.array) for block in blocks)
    assert not blocks[0].flags.writeable


@pytest.mark.parametrize(("n", "size"), [(2**25, 1000), (2**25, 2**20), (1000, 10), (2**24 + 1, 2**24)])
def test_draws_are_different_ascending_and_spread(n, size):
    picks = start.draw_any(n, size, np.random.default_rng(0))
    assert len(picks) == size
    assert (np.diff(picks) > 0).all()
    assert 0 <= picks[0] <= picks[-1] < n
    assert abs(picks.mean() / n - 0.5) < 5 / np.sqrt(12 * size)


def test_members_are_found_without_sorting():
    from fastann import kernels

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 9, 500).astype(np.int32)
    clusters, at = np.array([7, 0, 3]), np.array([0, 5, 11])
    expected = [np.flatnonzero(labels == j)[i] for j, i in zip(clusters, at, strict=True)]
    assert kernels.members_at(labels, clusters, at).tolist() == expected
    values, w = rng.random(500).astype(np.float32), rng.random(500)
    np.testing.assert_array_equal(kernels.tally(labels, 9), np.bincount(labels, minlength=9))
    np.testing.assert_array_equal(kernels.tally(labels, 12, values, w)[:9], np.bincount(labels, values * w))


GIB = 2**30


@pytest.mark.parametrize(
    ("groups", "files", "limit", "left"),
    [
        # version 2, of a step of SLURM: the job's limit bounds it
        (
            "0::/system.slice/job_7/step_0/task_0",
            {
                "system.slice/job_7/memory.max": 4 * GIB,
                "system.slice/job_7/memory.current": 3 * GIB,
                "system.slice/job_7/memory.stat": f"anon 5\nfile {GIB}\nshmem 0",
                "system.slice/job_7/step_0/memory.max": "max",
                "system.slice/job_7/step_0/memory.current": GIB,
            },
            4 * GIB,
            2 * GIB,
        ),
        # a service of systemd that is slowed down before it is killed
        ("0::/user.slice/mine", {"user.slice/mine/memory.high": GIB, "user.slice/mine/memory.max": 2 * GIB}, GIB, GIB),
        # version 1: the outer group has the lower limit, "no limit" is a large number
        (
            "9:memory:/slurm/uid_1/job_2\n1:name=systemd:/x\n0::/",
            {
                "memory/memory.limit_in_bytes": 9223372036854771712,
                "memory/slurm/memory.limit_in_bytes": 3 * GIB,
                "memory/slurm/memory.usage_in_bytes": 2 * GIB,
                "memory/slurm/memory.stat": f"cache 1\ntotal_cache {GIB}\ntotal_shmem {GIB // 2}",
                "memory/slurm/uid_1/job_2/memory.limit_in_bytes": 5 * GIB,
                "memory/slurm/uid_1/job_2/memory.usage_in_bytes": GIB,
            },
            3 * GIB,
            1.5 * GIB,
        ),
        # version 1 in a container: the path is the host's
        ("4:memory:/docker/ab12", {"memory/memory.limit_in_bytes": GIB, "memory/memory.usage_in_bytes": 0}, GIB, GIB),
        # both versions side by side
        ("0::/a", {"unified/a/memory.max": GIB, "unified/a/memory.current": GIB // 2}, GIB, GIB / 2),
        # more than may be: nothing is left, not less
        ("0::/a", {"a/memory.max": GIB, "a/memory.current": 2 * GIB}, GIB, 0),
        ("0::/", {}, np.inf, np.inf),
    ],
    ids=["SLURM", "systemd", "version 1", "container", "hybrid", "over", "none"],
)
def test_limits_of_nested_groups_are_heeded(groups, files, limit, left, tmp_path):
    (tmp_path / "groups").write_text(groups + "\n")
    for name, text in files.items():
        file = tmp_path / "root" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    given = str(tmp_path / "groups"), str(tmp_path / "root")
    assert (checks.memory_limit(*given), checks.memory_left(*given)) == (limit, left)


def test_a_fit_and_a_reader_heed_the_limit_of_the_group(monkeypatch):
    monkeypatch.setattr(checks, "memory_left", lambda **given: 3e6)
    monkeypatch.setattr(checks, "memory_limit", lambda: 4e6)
    assert memory.free() == 3e6
    assert Limits().memory == 4e6

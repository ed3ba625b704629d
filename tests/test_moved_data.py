"""A fit goes on with the rows it began with, wherever they lie by then and whenever they were written; no others."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import sparse

from fastann import KMeans, open_source, storage
from fastann.cli import main
from fastann.data import identity
from fastann.data.identity import check_unchanged, lasting


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((600, 8)).astype(np.float32)


def npy(path, x):
    np.save(path / "x.npy", x)
    return path / "x.npy"


def npz(path, x):
    sparse.save_npz(path / "x.npz", sparse.csr_matrix(np.where(x > 0, x, 0)), compressed=False)
    return path / "x.npz"


def raw(path, x):
    x.tofile(path / "x.f32")
    return path / "x.f32"


def fbin(path, x):
    with (path / "x.fbin").open("wb") as file:
        np.array(x.shape, "<i4").tofile(file)
        x.tofile(file)
    return path / "x.fbin"


def shards(path, x):
    (path / "shards").mkdir(exist_ok=True)
    for i, part in enumerate(np.split(x, 3)):
        np.save(path / "shards" / f"x-{i}.npy", part)
    return path / "shards"


def parquet(path, x):
    arrow = pytest.importorskip("pyarrow")
    column = arrow.array(x.tolist(), arrow.list_(arrow.float32()))
    pytest.importorskip("pyarrow.parquet").write_table(
        arrow.table({"a": column, "b": column}), path / "x.parquet", compression=None, use_dictionary=False
    )
    return path / "x.parquet"


def safetensors(path, x):
    from safetensors.numpy import save_file

    save_file({"x": x}, path / "x.safetensors")
    return path / "x.safetensors"


def hdf5(path, x):
    with pytest.importorskip("h5py").File(path / "x.h5", "w", libver="latest") as file:
        file["x"] = x
    return path / "x.h5"


def zarr(path, x):
    pytest.importorskip("zarr").create_array(
        str(path / "x.zarr"), data=x, chunks=(200, 8), compressors=None, overwrite=True
    )
    return path / "x.zarr"


FORMATS = {of.__name__: of for of in (npy, npz, raw, fbin, shards, parquet, safetensors, hdf5, zarr)}
OPTIONS = {"raw": {"dtype": "float32", "d": 8}, "parquet": {"column": "b"}}


def touch(path):
    """Let all files look as if they were written an hour later."""
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns + 3_600_000_000_000))


class Cut(BaseException):
    """Ends a fit as a crash would."""


def cut(state):
    if state.record.iteration == 3:
        raise Cut


@pytest.fixture(params=FORMATS)
def begun(request, x, tmp_path):
    """Data in a folder, and a run that was cut off after two iterations, as the command line leaves it."""
    options = OPTIONS.get(request.param, {})
    (tmp_path / "data").mkdir()
    data = FORMATS[request.param](tmp_path / "data", x)
    km = KMeans(20, init="random", max_iter=6, tol=0, random_state=0, checkpoint_seconds=0, callback=cut)
    km.begin_run(open_source(data, **options), tmp_path / "run")
    with pytest.raises(Cut):
        km.fit(open_source(data, **options))
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["000003"]
    whole = KMeans(20, init="random", max_iter=6, tol=0, random_state=0).fit(open_source(data, **options))
    return FORMATS[request.param], data, tmp_path / "run", whole


def invoke(*arguments, code=0):
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code == code, done.output
    return done.output


def assert_ended(run, whole):
    np.testing.assert_array_equal(KMeans.load(run).cluster_centers_, whole.cluster_centers_)
    np.testing.assert_array_equal(KMeans.load(run).labels_, whole.labels_)


def test_data_that_was_copied_or_touched_is_the_same(begun):
    _, data, run, whole = begun
    touch(data)
    invoke("fit", "--resume", run)
    assert_ended(run, whole)


def test_data_that_lies_elsewhere_is_said_to(begun, tmp_path):
    _, data, run, whole = begun
    elsewhere = tmp_path / "else where" / f"other{data.suffix}"
    elsewhere.parent.mkdir()
    data.rename(elsewhere)
    told = invoke("fit", "--resume", run, code=2)
    for part in (str(data), "pass the rows, where they lie now, as DATA"):
        assert part in told
    invoke("fit", elsewhere, "--resume", run)
    assert_ended(run, whole)
    assert all(str(elsewhere) in path for path in storage.read_manifest(run)["data"]["files"])


def test_data_that_lies_elsewhere_is_said_to_once(begun, tmp_path):
    """The run notes where it is, should the fit be killed again."""
    from fastann.runs.clustering import resume

    _, data, run, whole = begun
    elsewhere = data.rename(tmp_path / data.name)
    resume(run, KMeans, str(elsewhere))
    assert storage.read_manifest(run)["status"] == "running"
    invoke("fit", "--resume", run)
    assert_ended(run, whole)


@pytest.mark.parametrize("moved", [False, True], ids=["in place", "elsewhere"])
def test_other_rows_of_the_same_size_are_refused(begun, x, tmp_path, moved):
    write, data, run, _ = begun
    other, size = x.copy(), identity.written(data)["size"]
    other[-1, -1] = -other[-1, -1] if write is not npz else 2 * other[-1, -1] + (other[-1, -1] == 0)
    if moved:
        shutil.rmtree(data) if data.is_dir() else data.unlink()
        (tmp_path / "elsewhere").mkdir()
    if write is npz:  # as many entries
        other = np.where(x > 0, x + np.float32(1), x)
    now = write(tmp_path / "elsewhere" if moved else tmp_path / "data", other)
    assert identity.written(now)["size"] == size
    if not moved:
        touch(now)
    told = invoke("fit", *([now] if moved else []), "--resume", run, code=2)
    assert ("does not hold what" if moved else "is not as it was before (it was modified since)") in told
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["000003"]


def test_other_rows_under_an_old_time_are_a_matter_of_trust(begun):
    """Files whose size and time are as they were are not read again: what a large file would take."""
    _, data, run, whole = begun
    assert data.exists()
    before, identity._checksum = identity._checksum, None
    try:
        invoke("fit", "--resume", run)
    finally:
        identity._checksum = before
    assert_ended(run, whole)


def test_python_goes_on_from_a_checkpoint_with_data_that_moved(x, tmp_path):
    options = {
        "init": "random",
        "max_iter": 6,
        "tol": 0,
        "random_state": 0,
        "checkpoint": tmp_path / "c",
        "checkpoint_seconds": 0,
    }
    data = npy(tmp_path, x)
    with pytest.raises(Cut):
        KMeans(20, callback=cut, **options).fit(data)
    data = data.rename(tmp_path / "moved.npy")
    touch(data)
    km = KMeans(20, **options).fit(data)
    assert (km.n_iter_, km.history_[0].iteration) == (6, 1)
    np.testing.assert_array_equal(
        km.cluster_centers_, KMeans(20, init="random", max_iter=6, tol=0, random_state=0).fit(x).cluster_centers_
    )
    np.save(data, x + 1)
    km = KMeans(20, **options | {"max_iter": 9})
    with pytest.raises(
        ValueError, match=r"holds checkpoints of other data.*moved\.npy does not hold what .*x\.npy held"
    ):
        km.fit(data)


def test_a_fit_killed_before_its_first_checkpoint_knows_its_data(x, tmp_path):
    data = npy(tmp_path, x)
    KMeans(20, random_state=0).begin_run(open_source(data), tmp_path / "run")
    data = data.rename(tmp_path / "moved.npy")
    invoke("fit", data, "--resume", tmp_path / "run")
    assert_ended(tmp_path / "run", KMeans(20, random_state=0).fit(x))
    done = invoke("fit", data, "--resume", tmp_path / "run")
    assert "is complete: 600 rows in 20 clusters" in done


def test_options_of_data_stay_the_run_s_own(x, tmp_path):
    data = npy(tmp_path, x)
    KMeans(20, random_state=0).begin_run(open_source(data), tmp_path / "run")
    told = invoke("fit", data, "--resume", tmp_path / "run", "--column", "x", code=2)
    assert "--column cannot be given with it; leave it out" in told


# --------------------------------------------------------------------------- fingerprints


def two(tmp_path, x, names=("a.npy", "b.npy")):
    paths = [tmp_path / name for name in names]
    for path, part in zip(paths, np.split(x, 2), strict=True):
        path.parent.mkdir(exist_ok=True)
        np.save(path, part)
    return paths


def test_shards_are_known_again_in_their_order(tmp_path, x):
    before = lasting(open_source(two(tmp_path, x)).fingerprint())
    moved = two(tmp_path, x, ("new/c.npy", "new/d.npy"))
    check_unchanged(before, open_source(moved).fingerprint())
    with pytest.raises(ValueError, match=r"d\.npy does not hold what .*a\.npy held"):
        check_unchanged(before, open_source(moved[::-1]).fingerprint())
    with pytest.raises(ValueError, match=r"b\.npy is not among the files"):
        check_unchanged(before, open_source(tmp_path / "a.npy").fingerprint())


def test_files_that_changed_places_are_refused(tmp_path, x):
    a, b = two(tmp_path, x)
    before = lasting(open_source([a, b]).fingerprint())
    a.rename(tmp_path / "c.npy")
    b.rename(a)
    (tmp_path / "c.npy").rename(b)
    touch(a)
    touch(b)
    with pytest.raises(ValueError, match=r"a\.npy is not as it was before \(it was modified since\)"):
        check_unchanged(before, open_source([a, b]).fingerprint())
    check_unchanged(before, open_source([b, a]).fingerprint())


def test_equal_shards_may_move(tmp_path, x):
    part = x[:300]
    before = lasting(open_source(two(tmp_path, np.concatenate([part, part]))).fingerprint())
    (tmp_path / "a.npy").rename(tmp_path / "c.npy")
    check_unchanged(before, open_source([tmp_path / "c.npy", tmp_path / "b.npy"]).fingerprint())


def test_a_fingerprint_without_checksums_goes_by_times(tmp_path, x):
    data = npy(tmp_path, x)
    before = open_source(data).fingerprint()
    touch(data)
    with pytest.raises(ValueError, match=r"x\.npy is not as it was before \(it was modified since\).*pass the rows"):
        check_unchanged(before, open_source(data).fingerprint())


def test_a_file_is_read_once_for_its_checksum(tmp_path, x, monkeypatch):
    data, opened, real = npy(tmp_path, x), [], Path.open
    known = open_source(data).fingerprint()

    def spy(path, *args, **kwargs):
        opened.append(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", spy)
    assert lasting(known) == lasting(known)
    assert opened == [data]
    assert lasting(None) is None

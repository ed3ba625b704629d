"""Run directories: what is loaded is what was saved, damage is named, and nothing is ever half written."""

import copy
import hashlib
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from fastann import IVF, KMeans, dedup, open_source, storage
from fastann.runs.members import Members
from fastann.storage import RunError, begin_run, check_target, folder, read_manifest, read_run, write_array, write_run

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NEEDED = ["centroids.safetensors", "labels.npy", "distances.npy"]
MORE = ["second.npy", "margins.npy", "members.npy", "offsets.npy", "representatives.npy"]
FILES = ["manifest.json", *NEEDED, *MORE, "clusters.csv"]
READ = [*NEEDED, *MORE]  # by load; of other files the checksum is compared
KNOWN = {"files": {"x.npy": {"size": 1, "mtime_ns": 1}}, "n": 200, "d": 6, "dtype": "float32"}


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(x):
    return KMeans(5, margins=True, random_state=0).fit(x)


@pytest.fixture
def run(tmp_path, fitted):
    """A saved run alone in its folder, so that anything left beside it shows."""
    fitted.save(tmp_path / "run")
    return tmp_path / "run"


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def manifest(run):
    return json.loads((run / "manifest.json").read_text())


def rewrite(run, **changes):
    (run / "manifest.json").write_text(json.dumps({**manifest(run), **changes}))


def sign(run, name):
    """Make the manifest agree with a file that was replaced, as somebody who means harm would."""
    data = (run / name).read_bytes()
    listed = manifest(run)["files"]
    rewrite(run, files={**listed, name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}})


def message_of_load(run, error=RunError):
    """Message of the error, with RUN for the folder: pytest's own folders carry words of the test's name."""
    with pytest.raises(error) as caught:
        KMeans.load(run)
    return str(caught.value).replace(str(run), "RUN")


# --------------------------------------------------------------------------- what is saved is what is loaded


def stop_at_two(state):
    return state.record.iteration == 2


MODELS = {
    "euclidean": lambda x: KMeans(5, random_state=0).fit(x),
    "cosine": lambda x: KMeans(5, metric="cosine", random_state=0).fit(x),
    "centred": lambda x: KMeans(5, random_state=0).fit(x + 1000),
    "centred far away": lambda x: KMeans(5, random_state=0).fit(x.astype(np.float64) + 1e8),
    "weights": lambda x: KMeans(5, random_state=0).fit(x, sample_weight=np.arange(200.0)),
    "ivf": lambda x: KMeans(40, index="ivf:nlist=8,nprobe=2", random_state=0).fit(x),
    "ivf as a spec": lambda x: KMeans(40, index=IVF(nlist=8, nprobe=2), random_state=0).fit(x),
    "hnsw": lambda x: KMeans(40, index="hnsw:m=4,ef_search=8", random_state=0).fit(x),
    "factory": lambda x: KMeans(40, index="factory:IVF4,Flat;nprobe=2", random_state=0).fit(x),
    "set_search": lambda x: KMeans(40, index="ivf:nlist=8,nprobe=2", random_state=0).fit(x).set_search(nprobe=3),
    "sample": lambda x: KMeans(5, sample=0.5, random_state=0).fit(x),
    "numpy parameters": lambda x: KMeans(
        np.int64(5), tol=np.float32(1e-3), max_iter=np.int32(7), random_state=np.int64(0)
    ).fit(x),
    "array init": lambda x: KMeans(5, init=x[:5]).fit(x),
    "callable init": lambda x: KMeans(5, init=lambda X, k, random_state: X[:k]).fit(x),
    "callback": lambda x: KMeans(5, callback=stop_at_two, random_state=0).fit(x),
    "random state object": lambda x: KMeans(5, random_state=np.random.RandomState(0)).fit(x),
    "time limit": lambda x: KMeans(5, time_limit=1e-9, random_state=0).fit(x),
    "margins": lambda x: KMeans(5, margins=True, random_state=0).fit(x),
    "feature names": lambda x: KMeans(5, random_state=0).fit(pd.DataFrame(x, columns=list("abcdef"))),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request, x, tmp_path_factory):
    """A fitted model, the same one loaded, and its run."""
    km = MODELS[request.param](x)
    run = tmp_path_factory.mktemp("runs") / "run"
    km.save(run)
    return km, KMeans.load(run), run


def rows_for(km, x):
    if hasattr(km, "feature_names_in_"):
        return pd.DataFrame(x, columns=km.feature_names_in_)
    return x.astype(np.float64) + km.cluster_centers_.mean(axis=0)


@pytest.mark.parametrize("name", ["cluster_centers_", "labels_", "distances_", "second_labels_", "margins_"])
def test_loaded_arrays_are_the_saved_ones_to_the_bit(pair, name):
    km, loaded, _ = pair
    assert hasattr(loaded, name) == hasattr(km, name)
    if hasattr(km, name):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(km, name), strict=True)


@pytest.mark.parametrize(
    "name",
    [
        "inertia_",
        "n_iter_",
        "history_",
        "stop_reason_",
        "index_",
        "assignment_recall_",
        "assignment_recall_interval_",
        "n_features_in_",
    ],
)
def test_loaded_attributes_are_the_saved_ones(pair, name):
    km, loaded, _ = pair
    assert getattr(loaded, name) == getattr(km, name)


def test_every_fitted_attribute_is_loaded(pair):
    km, loaded, _ = pair
    assert {name for name in vars(km) if name.endswith("_")} == {name for name in vars(loaded) if name.endswith("_")}


@pytest.mark.parametrize("method", ["predict", "transform", "score", "kneighbors"])
def test_a_loaded_model_gives_the_same_results(pair, x, method):
    km, loaded, _ = pair
    rows = rows_for(km, x)
    for found, expected in zip(
        np.atleast_2d(getattr(loaded, method)(rows)), np.atleast_2d(getattr(km, method)(rows)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_margins_of_a_single_cluster_are_loaded(tmp_path, x):
    KMeans(1, margins=True, metric="cosine", random_state=0).fit(x).save(tmp_path / "run")
    loaded = KMeans.load(tmp_path / "run")
    assert (loaded.second_labels_ == -1).all()
    assert (loaded.margins_ == np.inf).all()


def test_a_loaded_model_names_its_output_columns_alike(pair):
    km, loaded, _ = pair
    assert list(loaded.get_feature_names_out()) == list(km.get_feature_names_out())


def test_a_loaded_model_can_be_saved_again(pair, tmp_path):
    _, loaded, run = pair
    loaded.save(tmp_path / "again")
    for name in manifest(run)["files"]:
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes()


def test_a_loaded_model_can_be_fitted_again(run, x, fitted):
    np.testing.assert_array_equal(KMeans.load(run).fit(x).labels_, fitted.labels_)


def test_loaded_labels_may_be_written_to(run):
    KMeans.load(run).labels_[0] = 3
    assert KMeans.load(run).labels_.flags.writeable


def test_loaded_parameters_are_the_saved_ones(run, fitted):
    assert KMeans.load(run).get_params() == fitted.get_params()


def test_numpy_parameters_are_loaded_as_plain_numbers(tmp_path, x):
    MODELS["numpy parameters"](x).save(tmp_path / "run")
    loaded = KMeans.load(tmp_path / "run").get_params()
    assert {name: type(loaded[name]) for name in ("n_clusters", "tol", "max_iter")} == {
        "n_clusters": int,
        "tol": float,
        "max_iter": int,
    }


def test_feature_names_are_loaded(tmp_path, x):
    MODELS["feature names"](x).save(tmp_path / "run")
    assert list(KMeans.load(tmp_path / "run").feature_names_in_) == list("abcdef")


def test_other_columns_are_refused_by_a_loaded_model(tmp_path, x):
    MODELS["feature names"](x).save(tmp_path / "run")
    with pytest.raises(ValueError, match="feature names"):
        KMeans.load(tmp_path / "run").predict(pd.DataFrame(x, columns=list("uvwxyz")))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("array init", "init"),
        ("callable init", "init"),
        ("callback", "callback"),
        ("random state object", "random_state"),
    ],
)
def test_the_manifest_says_what_is_not_saved(tmp_path, x, model, name):
    MODELS[model](x).save(tmp_path / "run")
    assert manifest(tmp_path / "run")["not_saved"] == [name]


def test_the_manifest_of_an_ordinary_fit_leaves_nothing_out(run):
    assert manifest(run)["not_saved"] == []


def test_the_manifest_lists_every_other_file(run):
    assert sorted(manifest(run)["files"]) == sorted(set(FILES) - {"manifest.json"})


def test_a_run_holds_these_files_and_no_other(run):
    assert sorted(contents(run)) == sorted(FILES)


def test_labels_are_an_int32_npy_file(run, fitted):
    np.testing.assert_array_equal(np.load(run / "labels.npy", allow_pickle=False), fitted.labels_, strict=True)


def test_missing_parent_folders_are_made(tmp_path, fitted):
    fitted.save(tmp_path / "a" / "b" / "run")
    assert sorted(contents(tmp_path / "a" / "b" / "run")) == sorted(FILES)


def test_a_run_can_be_moved(run, tmp_path, fitted, x):
    run.rename(tmp_path / "moved")
    np.testing.assert_array_equal(KMeans.load(tmp_path / "moved").predict(x), fitted.labels_)


def test_a_run_has_the_permissions_of_an_ordinary_folder(run, tmp_path):
    (tmp_path / "ordinary").mkdir()
    assert run.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


# --------------------------------------------------------------------------- what a run says of its clusters


def groups(labels, distances, k):
    """Rows of each cluster, nearest first, by NumPy."""
    order = np.lexsort((np.arange(len(labels)), distances, labels))
    return [order[labels[order] == j] for j in range(k)]


@pytest.fixture
def uneven(rng):
    """Labels of 5,000 rows in 40 clusters, of which some are empty and one has half of the rows; many ties."""
    labels = np.where(rng.random(5000) < 0.5, 3, rng.integers(0, 37, 5000)).astype(np.int32)
    labels[np.isin(labels, [0, 8, 9])] = 11
    return labels, rng.integers(0, 20, 5000).astype(np.float32) / 8


@pytest.mark.parametrize("rows", [1, 100, 1000, 2**20])
def test_members_are_sorted_by_cluster_distance_and_row(uneven, rows):
    labels, distances = uneven
    found, expected = Members.of(labels, distances, 40, rows), groups(labels, distances, 40)
    np.testing.assert_array_equal(found.rows, np.concatenate(expected).astype(np.int32), strict=True)
    np.testing.assert_array_equal(found.offsets, np.cumsum([0, *map(len, expected)]), strict=True)
    for j, own in enumerate(expected):
        far = distances[own].astype(np.float64) if len(own) else np.zeros(1)
        np.testing.assert_allclose(found.radius[j], np.sqrt((far**2).mean()), rtol=1e-12)
        np.testing.assert_allclose(found.mean[j], far.mean(), rtol=1e-12)
        assert found.most[j] == far.max()


def test_representatives_are_the_nearest_members(uneven):
    found, expected = Members.of(*uneven, 40).first(10), groups(*uneven, 40)
    assert found.shape == (40, 10)
    for j, own in enumerate(expected):
        assert found[j].tolist() == [*own[:10].tolist(), *[-1] * (10 - len(own[:10]))]


def test_clusters_of_few_rows_have_few_representatives():
    found = Members.of(np.array([1, 1, 0], np.int32), np.array([2, 1, 0], np.float32), 3)
    assert found.first(3).tolist() == [[2, -1, -1], [1, 0, -1], [-1, -1, -1]]


def test_files_of_clusters_hold_what_the_labels_say(run, fitted):
    expected = groups(fitted.labels_, fitted.distances_, 5)
    np.testing.assert_array_equal(np.load(run / "members.npy"), np.concatenate(expected).astype(np.int32), strict=True)
    np.testing.assert_array_equal(np.load(run / "offsets.npy"), np.cumsum([0, *map(len, expected)]), strict=True)
    nearest = np.array([own[:10] for own in expected], np.int32)
    np.testing.assert_array_equal(np.load(run / "representatives.npy"), nearest, strict=True)
    np.testing.assert_array_equal(np.load(run / "second.npy"), fitted.second_labels_, strict=True)
    np.testing.assert_array_equal(np.load(run / "margins.npy"), fitted.margins_, strict=True)


def test_the_table_of_clusters(run, fitted):
    table = pd.read_csv(run / "clusters.csv")
    names = ["cluster", "size", "radius", "mean_distance", "max_distance", "representative"]
    assert list(table.columns) == names
    far = [fitted.distances_[own].astype(np.float64) for own in groups(fitted.labels_, fitted.distances_, 5)]
    assert table["cluster"].tolist() == [0, 1, 2, 3, 4]
    assert table["size"].tolist() == [len(values) for values in far]
    np.testing.assert_allclose(table["radius"], [np.sqrt((values**2).mean()) for values in far], rtol=1e-8)
    np.testing.assert_allclose(table["mean_distance"], [values.mean() for values in far], rtol=1e-8)
    np.testing.assert_allclose(table["max_distance"], [values.max() for values in far], rtol=1e-8)
    assert table["representative"].tolist() == np.load(run / "representatives.npy")[:, 0].tolist()


def test_empty_clusters_have_empty_fields(tmp_path):
    x = np.repeat(np.eye(2, dtype=np.float32), 5, axis=0)
    with pytest.warns(UserWarning, match="distinct"):
        KMeans(3, random_state=0).fit(x).save(tmp_path / "run")
    lines = (tmp_path / "run" / "clusters.csv").read_text().splitlines()[1:]
    assert sum(line.endswith(",0,,,,") for line in lines) == 1
    assert (np.load(tmp_path / "run" / "representatives.npy") == -1).sum() == 10 + 2 * 5


@pytest.mark.filterwarnings("default::DeprecationWarning")
@pytest.mark.parametrize("kind", ["integers", "strings"])
def test_ids_and_files_are_loaded(tmp_path, x, kind):
    ids = (np.arange(200) * 7 + 2**40) if kind == "integers" else np.array([f'é, "{i}"' for i in range(200)])
    (tmp_path / "zwölf Stücke [1]").mkdir()
    for a, b in ((0, 120), (120, 200)):
        parquet(tmp_path / "zwölf Stücke [1]" / f"x {a}.parquet", x[a:b], ids[a:b])
    source = open_source(tmp_path / "zwölf Stücke [1]", id_column="id")
    km = KMeans(5, random_state=0).fit(source)
    km.save(tmp_path / "run")
    loaded = KMeans.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.ids_, ids, strict=True)
    np.testing.assert_array_equal(np.load(tmp_path / "run" / "ids.npy", allow_pickle=False), ids, strict=True)
    assert loaded.clustering_.rows.data == km.clustering_.rows.data == source.fingerprint()
    assert manifest(tmp_path / "run")["data"] == source.fingerprint()
    nearest = np.load(tmp_path / "run" / "representatives.npy")[:, 0]
    table = pd.read_csv(tmp_path / "run" / "clusters.csv", dtype={"representative": ids.dtype.type})
    assert table["representative"].tolist() == ids[nearest].tolist()
    found, expected = dedup(loaded, threshold=0.9), dedup(km, x, threshold=0.9)
    np.testing.assert_array_equal(found.kept, expected.kept)
    np.testing.assert_array_equal(found.ids, ids)


def parquet(path, x, ids):
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table(
        {"id": arrow.array(ids.tolist()), "embedding": arrow.array(x.tolist(), arrow.list_(arrow.float32()))}
    )
    pytest.importorskip("pyarrow.parquet").write_table(table, path)


def test_shards_of_arrays_have_no_ids_and_can_be_opened_again(tmp_path, x):
    for i, part in enumerate(np.array_split(x, 11)):
        np.save(tmp_path / f"x-{i}.npy", part)
    KMeans(5, random_state=0).fit(f"{tmp_path}/*.npy").save(tmp_path / "run")
    loaded = KMeans.load(tmp_path / "run")
    assert loaded.ids_ is None
    assert not (tmp_path / "run" / "ids.npy").exists()
    np.testing.assert_array_equal(dedup(loaded, threshold=0.8).kept, dedup(loaded, x, threshold=0.8).kept)


IDS = {
    "too few": lambda ids: ids[:-1],
    "2-D": lambda ids: ids[:, None],
    "of float64": lambda ids: ids.astype(np.float64),
    "of bytes": lambda ids: ids.astype("S"),
    "of booleans": lambda ids: ids > 3,
}


@pytest.mark.parametrize("damage", IDS)
def test_ids_that_do_not_fit_are_refused_even_with_a_matching_checksum(tmp_path, x, damage):
    km = KMeans(5, random_state=0).fit(x)
    km.ids_ = np.arange(200)
    km.save(tmp_path / "run")
    np.save(tmp_path / "run" / "ids.npy", IDS[damage](km.ids_))
    sign(tmp_path / "run", "ids.npy")
    assert "ids" in message_of_load(tmp_path / "run")


def test_a_run_of_the_first_schema_is_loaded(run, fitted, x, tmp_path):
    for name in [*MORE, "clusters.csv"]:
        (run / name).unlink()
    before = manifest(run)
    parameters = {name: value for name, value in before["parameters"].items() if name != "margins"}
    old = {name: value for name, value in before.items() if name not in ("status", "data")}
    old |= {"schema": 1, "parameters": parameters, "files": {name: before["files"][name] for name in NEEDED}}
    (run / "manifest.json").write_text(json.dumps(old))
    loaded = KMeans.load(run)
    assert read_manifest(run)["status"] == "complete"
    np.testing.assert_array_equal(loaded.labels_, fitted.labels_)
    np.testing.assert_array_equal(loaded.predict(x), fitted.labels_)
    assert (loaded.ids_, loaded.clustering_.rows.data, loaded.margins) == (None, None, False)
    assert not hasattr(loaded, "second_labels_")
    assert not hasattr(loaded, "margins_")
    loaded.save(run, force=True)
    assert manifest(run)["schema"] == 2
    assert sorted(contents(run)) == sorted(set(FILES) - {"second.npy", "margins.npy"})


# --------------------------------------------------------------------------- damage


def test_a_missing_run_is_named(tmp_path):
    message = message_of_load(tmp_path / "nowhere", FileNotFoundError)
    assert "no run directory RUN" in message


def test_a_file_in_place_of_a_run_is_named(tmp_path):
    (tmp_path / "run").write_text("hello")
    assert "RUN" in message_of_load(tmp_path / "run", FileNotFoundError)


def test_an_empty_folder_is_no_run(tmp_path):
    assert "manifest.json" in message_of_load(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(run, name):
    (run / name).unlink()
    assert name in message_of_load(run)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_place_of_a_file_is_named(run, name):
    (run / name).unlink()
    (run / name).mkdir()
    assert name in message_of_load(run)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(run, name, share):
    data = (run / name).read_bytes()
    (run / name).write_bytes(data[: int(len(data) * share)])
    assert name in message_of_load(run)


@pytest.mark.parametrize("where", [0, 0.5, 1])
@pytest.mark.parametrize("name", FILES[1:])
def test_a_flipped_bit_is_named(run, name, where):
    data = bytearray((run / name).read_bytes())
    data[int((len(data) - 1) * where)] ^= 1
    (run / name).write_bytes(data)
    assert name in message_of_load(run)


@pytest.mark.parametrize("name", FILES[1:])
def test_appended_bytes_are_named_with_both_sizes(run, name):
    size = (run / name).stat().st_size
    (run / name).write_bytes((run / name).read_bytes() + b"\0")
    message = message_of_load(run)
    assert name in message
    assert f"it has {size + 1} bytes, {size} were written" in message


# Files that agree with the manifest and still make no sense.
REPLACED = {
    "labels too large": ("labels", lambda a: np.where(np.arange(len(a)) == 7, 5, a).astype(np.int32)),
    "labels negative": ("labels", lambda a: np.where(np.arange(len(a)) == 7, -1, a).astype(np.int32)),
    "labels too few": ("labels", lambda a: a[:-1]),
    "labels none": ("labels", lambda a: a[:0]),
    "labels of int64": ("labels", lambda a: a.astype(np.int64)),
    "labels of float32": ("labels", lambda a: a.astype(np.float32)),
    "labels big-endian": ("labels", lambda a: a.astype(">i4")),
    "labels 2-D": ("labels", lambda a: a[:, None]),
    "distances too many": ("distances", lambda a: np.append(a, a[:1])),
    "distances of float64": ("distances", lambda a: a.astype(np.float64)),
    "distances 2-D": ("distances", lambda a: a[:, None]),
    "distances NaN": ("distances", lambda a: np.full_like(a, np.nan)),
    "distances negative": ("distances", lambda a: -1 - a),
    "second too large": ("second", lambda a: np.full_like(a, 5)),
    "second too small": ("second", lambda a: np.full_like(a, -2)),
    "second of int64": ("second", lambda a: a.astype(np.int64)),
    "second too few": ("second", lambda a: a[:-1]),
    "second 2-D": ("second", lambda a: a[:, None]),
    "margins NaN": ("margins", lambda a: np.where(np.arange(len(a)) == 7, np.nan, a).astype(np.float32)),
    "margins of float64": ("margins", lambda a: a.astype(np.float64)),
    "margins too many": ("margins", lambda a: np.append(a, a[:1])),
    "members too large": ("members", lambda a: a + np.int32(1)),
    "members negative": ("members", lambda a: a - np.int32(1)),
    "members too few": ("members", lambda a: a[:-1]),
    "members of int64": ("members", lambda a: a.astype(np.int64)),
    "members of float32": ("members", lambda a: a.astype(np.float32)),
    "offsets of other sizes": ("offsets", lambda a: a + np.array([0, 1, 0, 0, 0, 0])),
    "offsets too large": ("offsets", lambda a: 2 * a),
    "offsets negative": ("offsets", lambda a: -a),
    "offsets too few": ("offsets", lambda a: a[1:]),
    "offsets of int32": ("offsets", lambda a: a.astype(np.int32)),
    "representatives too large": ("representatives", lambda a: np.full_like(a, 200)),
    "representatives of fewer clusters": ("representatives", lambda a: a[1:]),
    "representatives 1-D": ("representatives", lambda a: a[:, 0]),
}


@pytest.mark.parametrize("damage", REPLACED)
def test_an_array_that_does_not_fit_is_named_even_with_a_matching_checksum(run, damage):
    name, change = REPLACED[damage]
    np.save(run / f"{name}.npy", change(np.load(run / f"{name}.npy")))
    sign(run, f"{name}.npy")
    assert name in message_of_load(run)


def test_a_second_cluster_that_is_the_first_is_named_with_its_row(run, fitted):
    second = np.load(run / "second.npy")
    second[7] = fitted.labels_[7]
    np.save(run / "second.npy", second)
    sign(run, "second.npy")
    assert "second is the cluster of row 7 itself" in message_of_load(run)


@pytest.mark.parametrize("data", [b"", b"not an array", b"\x93NUMPY\x01\x00"], ids=["empty", "text", "magic only"])
@pytest.mark.parametrize("name", READ)
def test_an_unreadable_file_is_named_even_with_a_matching_checksum(run, name, data):
    (run / name).write_bytes(data)
    sign(run, name)
    assert name in message_of_load(run)


@pytest.mark.parametrize("name", READ)
def test_a_truncated_file_is_named_even_with_a_matching_checksum(run, name):
    data = (run / name).read_bytes()
    (run / name).write_bytes(data[: len(data) // 2])
    sign(run, name)
    assert name in message_of_load(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.astype(np.float16),
        lambda c: c.astype(np.int32),
        lambda c: c[0],
        lambda c: c[:0],
        lambda c: c[:, :0],
        lambda c: c[:2],
        lambda c: np.where(c == c[1, 1], np.nan, c),
        lambda c: np.where(c == c[1, 1], np.inf, c),
    ],
    ids=["float16", "int32", "1-D", "no rows", "no columns", "fewer than labels", "nan", "inf"],
)
def test_centroids_that_do_not_fit_are_refused_even_with_a_matching_checksum(run, change):
    file = run / "centroids.safetensors"
    save_file({"centroids": np.ascontiguousarray(change(load_file(file)["centroids"]))}, file)
    sign(run, file.name)
    assert "RUN" in message_of_load(run)


@pytest.mark.parametrize(
    "mean",
    [np.zeros(5), np.zeros((1, 6)), np.full(6, np.nan), np.zeros(6, np.int64)],
    ids=["short", "2-D", "nan", "int64"],
)
def test_a_mean_that_does_not_fit_is_named_even_with_a_matching_checksum(run, mean):
    file = run / "centroids.safetensors"
    save_file({**load_file(file), "mean": mean}, file)
    sign(run, file.name)
    assert "mean" in message_of_load(run)


def test_a_file_of_other_tensors_is_refused(run):
    file = run / "centroids.safetensors"
    save_file({"weights": np.zeros((5, 6), np.float32)}, file)
    sign(run, file.name)
    assert "centroids" in message_of_load(run)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("kind", ["object array", "bare pickle"])
@pytest.mark.parametrize("name", ["labels.npy", "distances.npy", *MORE])
def test_load_never_unpickles(run, tmp_path, name, kind):
    if kind == "object array":
        np.save(run / name, np.full(200, Bomb(tmp_path / "trace"), object))
    else:
        (run / name).write_bytes(pickle.dumps(Bomb(tmp_path / "trace")))
    sign(run, name)
    assert name in message_of_load(run)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("text", [b"{", b"", b"\xff\xfe", b"[]", b"null", b'"run"', b"{}", b'{"schema": 1}'], ids=repr)
def test_a_manifest_that_is_no_manifest_is_refused(run, text):
    (run / "manifest.json").write_bytes(text)
    assert "RUN" in message_of_load(run)


@pytest.mark.parametrize("schema", [0, 3, "1", None, 1.5, True, 2.0])
def test_another_schema_is_refused_with_both_versions(run, schema):
    rewrite(run, schema=schema)
    message = message_of_load(run)
    assert f"schema {schema!r}" in message
    assert "reads 1 and 2" in message


@pytest.mark.parametrize("status", [None, "done", 3, ["complete"]])
def test_another_status_is_refused(run, status):
    rewrite(run, status=status)
    assert f"status {status!r}" in message_of_load(run)


@pytest.mark.parametrize("name", ["../x", "../run/labels.npy", "/etc/passwd", "sub/labels.npy", "", ".", ".."])
def test_a_manifest_that_lists_a_file_elsewhere_is_refused(run, name):
    listed = manifest(run)["files"]
    (run.parent / "x").write_bytes((run / "labels.npy").read_bytes())
    rewrite(run, files={**listed, name: listed["labels.npy"]})
    assert f"manifest.json lists a file it may not: {name!r}" in message_of_load(run)


@pytest.mark.parametrize("name", [*NEEDED, "second.npy", "margins.npy"])
def test_a_manifest_that_does_not_list_a_needed_file_is_refused(run, name):
    listed = manifest(run)["files"]
    rewrite(run, files={k: v for k, v in listed.items() if k != name})
    assert name.partition(".")[0] in message_of_load(run)


@pytest.mark.parametrize("entry", [None, [], {}, {"bytes": 1}, "abc"], ids=repr)
def test_a_manifest_without_a_checksum_is_refused(run, entry):
    rewrite(run, files={**manifest(run)["files"], "labels.npy": entry})
    assert "labels.npy" in message_of_load(run)


@pytest.mark.parametrize("files", [None, [], "labels.npy", 3], ids=repr)
def test_a_manifest_without_files_is_refused(run, files):
    rewrite(run, files=files)
    assert "manifest.json" in message_of_load(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": None},
        {"parameters": []},
        {"parameters": {"n_clusters": 5, "unknown": 1}},
        {"parameters": {"metric": "manhattan"}},
        {"index": "nonsense"},
        {"index": None},
        {"n_rows": 100},
        {"n_rows": None},
        {"inertia": "small"},
        {"assignment_recall_interval": [1]},
        {"stop_reason": "bored"},
        {"history": [{"iteration": 1}]},
        {"history": 3},
        {"feature_names": ["a"]},
        {"feature_names": 3},
        {"data": 3},
        {"data": {}},
        {"data": {"files": ["x.npy"], "n": 200, "d": 6, "dtype": "float32"}},
        {"data": {"files": {"x.npy": {"size": "1", "mtime_ns": 1}}, "n": 200, "d": 6, "dtype": "float32"}},
        {"data": {"files": {}, "n": 200, "d": 6, "dtype": "float32"}},
        {"data": {**KNOWN, "n": 100}},
        {"data": {**KNOWN, "d": None}},
        {"data": {**KNOWN, "dtype": 3}},
        {"data": {**KNOWN, "options": {"column": "x", "run": "it"}}},
        {"n_rows": None, "index": 3},
    ],
    ids=repr,
)
def test_a_manifest_with_values_of_another_kind_is_refused(run, changes):
    rewrite(run, **changes)
    assert "RUN" in message_of_load(run)


@pytest.mark.parametrize(
    "key", ["parameters", "index", "n_rows", "inertia", "assignment_recall", "stop_reason", "history", "feature_names"]
)
def test_a_manifest_that_lacks_a_value_names_it(run, key):
    (run / "manifest.json").write_text(json.dumps({k: v for k, v in manifest(run).items() if k != key}))
    assert repr(key) in message_of_load(run)


def test_a_run_error_is_a_value_error(run):
    (run / "labels.npy").unlink()
    message_of_load(run, ValueError)


def test_unlisted_files_beside_a_run_are_ignored(run, x, fitted):
    (run / "notes.txt").write_text("mine")
    np.testing.assert_array_equal(KMeans.load(run).predict(x), fitted.labels_)


# --------------------------------------------------------------------------- existing targets


@pytest.fixture
def other(x):
    return KMeans(4, random_state=1).fit(x)


def test_an_existing_run_is_not_replaced_without_force(run, other):
    before = contents(run)
    with pytest.raises(FileExistsError, match=r"run exists already.*pass force \(--force\)"):
        other.save(run)
    assert contents(run) == before


def test_force_replaces_a_run(run, other):
    other.save(run, force=True)
    assert KMeans.load(run).n_clusters == 4


def test_force_leaves_nothing_beside_the_run(run, tmp_path, other):
    other.save(run, force=True)
    assert list(tmp_path.iterdir()) == [run]


def test_force_works_without_an_existing_run(tmp_path, other):
    other.save(tmp_path / "run", force=True)
    assert KMeans.load(tmp_path / "run").n_clusters == 4


def test_force_replaces_an_empty_folder(tmp_path, other):
    (tmp_path / "run").mkdir()
    other.save(tmp_path / "run", force=True)
    assert KMeans.load(tmp_path / "run").n_clusters == 4


def test_force_replaces_a_damaged_run(run, other):
    (run / "labels.npy").unlink()
    other.save(run, force=True)
    assert KMeans.load(run).n_clusters == 4


def test_force_does_not_replace_a_folder_that_is_no_run(tmp_path, other):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"cat")
    with pytest.raises(FileExistsError, match="not a run directory"):
        other.save(tmp_path / "photos", force=True)
    assert contents(tmp_path) == {"photos/cat.png": b"cat"}


def test_force_does_not_replace_a_folder_whose_manifest_is_not_of_a_run(tmp_path, other):
    (tmp_path / "extension").mkdir()
    (tmp_path / "extension" / "manifest.json").write_text('{"manifest_version": 3, "name": "an extension"}')
    with pytest.raises(FileExistsError, match="not a run directory"):
        other.save(tmp_path / "extension", force=True)


def test_force_does_not_replace_a_file(tmp_path, other):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FileExistsError, match="not a run directory"):
        other.save(tmp_path / "run", force=True)
    assert (tmp_path / "run").read_text() == "mine"


# --------------------------------------------------------------------------- writes that fail


def no_space(*args, **kwargs):
    raise OSError(28, "No space left on device")


def fails(monkeypatch, step):
    """Make one step of writing a run fail, as on a full disk."""
    owner, name = {
        "centroids": ("safetensors.numpy", "save_file"),
        "clusters": ("fastann.storage.tables", "write_csv"),
        "array": ("numpy", "save"),
        "second array": ("numpy", "save"),
        "manifest": ("pathlib.Path", "write_text"),
        "flush": ("os", "fsync"),
        "rename": ("pathlib.Path", "rename"),
    }[step]
    real = {"second array": np.save, "rename": Path.rename}.get(step)

    calls = itertools.count()

    def fail(first, *args, **kwargs):
        # The new run's own rename is the one that fails, and the first array is written.
        harmless = {"second array": next(calls) == 0, "rename": not str(first).endswith(".partial")}
        return (real if harmless.get(step) else no_space)(first, *args, **kwargs)

    monkeypatch.setattr(f"{owner}.{name}", fail)
    monkeypatch.setattr("fastann.storage.folder._exchange", lambda a, b: False)


STEPS = ["centroids", "clusters", "array", "second array", "manifest", "flush", "rename"]


@pytest.mark.parametrize("step", STEPS)
def test_a_failed_write_is_reported(tmp_path, other, monkeypatch, step):
    fails(monkeypatch, step)
    with pytest.raises(OSError, match="No space left"):
        other.save(tmp_path / "run")


@pytest.mark.parametrize("step", STEPS)
def test_a_failed_write_leaves_nothing(tmp_path, other, monkeypatch, step):
    fails(monkeypatch, step)
    with pytest.raises(OSError, match="No space left"):
        other.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", STEPS)
def test_a_failed_write_leaves_the_old_run_as_it_was(run, tmp_path, other, monkeypatch, step):
    before = contents(tmp_path)
    fails(monkeypatch, step)
    with pytest.raises(OSError, match="No space left"):
        other.save(run, force=True)
    assert contents(tmp_path) == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems rename twice")
def test_a_run_is_replaced_in_one_step(run, tmp_path, other, monkeypatch):
    if not folder._exchange(run, run):
        pytest.skip("this file system cannot exchange two names")
    monkeypatch.setattr(Path, "rename", no_space)
    other.save(run, force=True)
    assert KMeans.load(run).n_clusters == 4
    assert list(tmp_path.iterdir()) == [run]


def test_a_link_to_a_run_is_replaced_and_the_run_stays(run, tmp_path, other):
    (tmp_path / "link").symlink_to(run)
    other.save(tmp_path / "link", force=True)
    assert (KMeans.load(run).n_clusters, KMeans.load(tmp_path / "link").n_clusters) == (5, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "run"]


def test_a_folder_that_cannot_be_flushed_is_no_failure(tmp_path, other, monkeypatch):
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: no_space() if stat.S_ISDIR(os.fstat(handle).st_mode) else real(handle)
    )
    other.save(tmp_path / "run")
    assert KMeans.load(tmp_path / "run").n_clusters == 4


def test_an_interrupted_write_leaves_the_old_run_as_it_was(run, tmp_path, other, monkeypatch):
    before = contents(tmp_path)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        other.save(run, force=True)
    assert contents(tmp_path) == before


def test_a_model_stays_usable_after_a_failed_write(tmp_path, x, other, monkeypatch):
    with monkeypatch.context() as patch:
        fails(patch, "array")
        with pytest.raises(OSError, match="No space left"):
            other.save(tmp_path / "run")
    other.save(tmp_path / "run")
    np.testing.assert_array_equal(KMeans.load(tmp_path / "run").predict(x), other.labels_)


@pytest.mark.skipif(AS_ROOT, reason="root writes everywhere")
def test_a_read_only_parent_is_reported(tmp_path, other):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            other.save(tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_place_of_the_parent_is_reported(tmp_path, other):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        other.save(tmp_path / "file" / "run")


SMALL_DISK = """
import numpy as np, os, resource, signal, sys
from fastann import KMeans, export
from fastann.storage import write_array
os.chdir(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rows = np.random.default_rng(0).random((300, 40), dtype="f")
km = KMeans(20, random_state=0).fit(rows)
km.save("run")
def limit(room):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
for room, write in (
    (100, lambda: write_array("labels.npy", np.arange(300))),
    (2000, lambda: write_array("labels.npy", np.arange(300))),
    (8192, lambda: write_array("labels.npy", np.arange(1020))),
    (40_000, lambda: write_array("labels.npy", np.arange(5000))),
    (200, lambda: km.save("fresh")),
    (3000, lambda: km.save("fresh")),
    (1000, lambda: export(km, "fresh.csv", format="csv")),
    (3000, lambda: export(km, "fresh.faiss", format="faiss")),
):
    limit(room)
    try:
        write()
        print("written")
    except OSError as error:
        limit(resource.RLIM_INFINITY)
        print(error)
"""


def test_a_disk_that_is_full_before_the_last_bytes_is_an_error(tmp_path):
    """Labels, a run, a table and an index of FAISS: what is there stays, nothing half written does."""
    write_array(tmp_path / "labels.npy", np.arange(3))
    done = subprocess.run([sys.executable, "-c", SMALL_DISK, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = ["labels.npy"] * 4 + ["fresh"] * 2 + ["fresh.csv", "fresh.faiss"]
    told = done.stdout.splitlines()
    assert len(told) == len(names), done.stdout
    for line, name in zip(told, names, strict=True):
        assert re.fullmatch(rf".*{name} cannot be written \(.*File too large.*; .* MB are free there\)", line)
    assert np.load(tmp_path / "labels.npy").tolist() == [0, 1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {"labels.npy", "run"}


@pytest.mark.parametrize("step", ["array", "flush"])
def test_a_failed_write_of_labels_leaves_the_old_file(tmp_path, monkeypatch, step):
    write_array(tmp_path / "labels.npy", np.arange(3))
    before = contents(tmp_path)
    fails(monkeypatch, step)
    with pytest.raises(OSError, match="No space left"):
        write_array(tmp_path / "labels.npy", np.arange(9))
    assert contents(tmp_path) == before


def test_written_labels_have_the_permissions_of_an_ordinary_file(tmp_path):
    write_array(tmp_path / "labels.npy", np.arange(3))
    (tmp_path / "ordinary").write_text("")
    assert (tmp_path / "labels.npy").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_copied_run_is_the_same_model(run, tmp_path, x, fitted):
    shutil.copytree(run, tmp_path / "copy")
    np.testing.assert_array_equal(KMeans.load(tmp_path / "copy").predict(x), fitted.labels_)


# --------------------------------------------------------------------------- unfinished runs


@pytest.fixture
def begun(tmp_path):
    """A run that a fit has begun, with a checkpoint, in a folder of its own."""
    run = begin_run(tmp_path / "a fit" / "run", {"estimator": "KMeans", "note": "begun"})
    (run / "checkpoints" / "000001").mkdir(parents=True)
    (run / "checkpoints" / "000001" / "labels.npy").write_bytes(b"labels")
    return run


def finish(fitted, run, **options):
    """Save a model as the fit does that the run was begun for."""
    model = copy.copy(fitted)
    model.checkpoint = run / "checkpoints"
    model.save(run, **options)


def test_a_begun_run_is_a_manifest(tmp_path):
    run = begin_run(tmp_path / "a" / "run", {"note": "begun"})
    assert read_manifest(run) == {"schema": 2, "note": "begun", "status": "running", "files": {}}
    assert list(contents(run)) == ["manifest.json"]
    assert list((tmp_path / "a").iterdir()) == [run]


def test_a_begun_run_is_not_loaded_but_says_how_to_go_on(begun):
    message = message_of_load(begun)
    assert "RUN is an unfinished run" in message
    assert "fastann fit --resume RUN" in message
    with pytest.raises(RunError, match="unfinished"):
        read_run(begun)


def test_a_begun_run_is_replaced_by_force_alone(begun):
    with pytest.raises(FileExistsError, match=r"unfinished run.*fastann fit --resume.*pass force \(--force\)"):
        check_target(begun)
    with pytest.raises(FileExistsError, match="unfinished run"):
        begin_run(begun, {})
    begin_run(begun, {"note": "anew"}, force=True)
    assert read_manifest(begun)["note"] == "anew"
    assert list(contents(begun.parent)) == ["run/manifest.json"]


def test_beginning_does_not_replace_a_run_without_force(run):
    with pytest.raises(FileExistsError, match="exists already"):
        begin_run(run, {})
    begin_run(run, {}, force=True)
    assert list(contents(run)) == ["manifest.json"]


@pytest.mark.parametrize("force", [False, True])
def test_a_begun_run_is_finished_in_place(begun, fitted, force):
    (begun / "notes.txt").write_text("mine")
    (begun / ".finish.x.partial").mkdir()
    (begun / ".finish.x.partial" / "labels.npy").write_bytes(b"half")
    (begun / "y.partial").write_bytes(b"half")
    inode = begun.stat().st_ino
    finish(fitted, begun, force=force)
    assert begun.stat().st_ino == inode
    assert sorted(contents(begun)) == sorted([*FILES, "notes.txt"])
    assert not (begun / "checkpoints").exists()
    assert read_manifest(begun)["status"] == "complete"
    np.testing.assert_array_equal(KMeans.load(begun).labels_, fitted.labels_)
    assert list(begun.parent.iterdir()) == [begun]
    with pytest.raises(FileExistsError, match="exists already"):
        finish(fitted, begun)


def test_finishing_in_place_writes_what_saving_writes(begun, run, fitted):
    finish(fitted, begun)
    got, expected = contents(begun), contents(run)
    assert json.loads(got.pop("manifest.json")) == json.loads(expected.pop("manifest.json")) | {
        "not_saved": ["checkpoint"]
    }
    assert got == expected


@pytest.mark.parametrize("step", [step for step in STEPS if step != "rename"])
def test_a_failure_while_finishing_leaves_the_begun_run_as_it_was(begun, fitted, monkeypatch, step):
    before = contents(begun)
    with monkeypatch.context() as patch:
        fails(patch, step)
        with pytest.raises(OSError, match="No space left"):
            finish(fitted, begun)
    assert contents(begun) == before
    finish(fitted, begun)
    assert KMeans.load(begun).n_clusters == 5


class Killed(BaseException):
    """Ends what is done, and nothing is tidied up."""


@pytest.mark.parametrize("at", range(len(FILES)))
def test_a_kill_while_finishing_leaves_a_begun_run_until_the_manifest_is_there(begun, fitted, monkeypatch, at):
    real, done = os.replace, []

    def replace(a, b):
        if len(done) == at:
            raise Killed
        done.append(Path(b).name)
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(Killed):
            finish(fitted, begun)
    assert "manifest.json" not in done
    assert read_manifest(begun)["note"] == "begun"
    assert (begun / "checkpoints" / "000001" / "labels.npy").read_bytes() == b"labels"
    assert list(begun.glob(".finish.*.partial"))
    finish(fitted, begun)
    assert sorted(contents(begun)) == sorted(FILES)
    assert sorted(p.name for p in begun.iterdir()) == sorted(FILES)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("last", ["labels.npy", "manifest.json"])
def test_a_real_kill_while_finishing_leaves_a_begun_run(begun, tmp_path, last):
    script = (
        "import os, signal, sys\n"
        "import numpy as np\n"
        "from fastann import storage\n"
        "real = os.replace\n"
        "def replace(a, b):\n"
        "    if str(b).endswith(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(a, b)\n"
        "os.replace = replace\n"
        "storage.write_run(sys.argv[1], {}, {'centroids': np.ones((2, 2))}, {'labels': np.arange(9)}, finish=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(begun), last], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert read_manifest(begun)["note"] == "begun"
    write_run(begun, {}, {"centroids": np.ones((2, 2))}, {"labels": np.arange(9)}, finish=True)
    assert read_run(begun)[2]["labels"].tolist() == list(range(9))
    names = ["centroids.safetensors", "labels.npy", "manifest.json"]
    assert sorted(p.name for p in begun.iterdir()) == names


def test_a_kill_after_the_manifest_leaves_a_complete_run(begun, fitted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        finish(fitted, begun)
    assert (begun / "checkpoints").exists()
    np.testing.assert_array_equal(KMeans.load(begun).labels_, fitted.labels_)


def test_a_run_that_is_not_ours_is_not_finished(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text('{"status": "running", "of": "another program"}')
    with pytest.raises(FileExistsError, match="exists already"):
        write_run(tmp_path / "run", {}, {}, {})
    with pytest.raises(FileExistsError, match="not a run directory"):
        begin_run(tmp_path / "run", {}, force=True)


def test_a_manifest_is_read_without_the_files(run):
    (run / "labels.npy").write_bytes(b"other")
    assert read_manifest(run)["n_rows"] == 200
    with pytest.raises(FileNotFoundError, match="no run directory"):
        read_manifest(run / "nowhere")


def test_a_folder_of_another_kind_is_named_as_such(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*nowhere"):
        storage.read_folder(tmp_path / "nowhere", name="checkpoint.json", what="a checkpoint")
    storage.write_folder(tmp_path / "one", {"at": 3}, {"rows": np.arange(4)}, name="checkpoint.json")
    record, arrays = storage.read_folder(tmp_path / "one", name="checkpoint.json", what="a checkpoint")
    assert (record["at"], arrays["rows"].tolist()) == (3, [0, 1, 2, 3])

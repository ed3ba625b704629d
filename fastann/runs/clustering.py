"""A fitted estimator as a run directory, and back.

A run of n rows in k clusters holds, of schema 2 (schema 1 had those marked with a star):

=========================== =============== ==============================================================
``manifest.json`` *                         parameters, statistics of every iteration, versions, checksums;
                                            ``status``; ``data``, the fingerprint of the files that were
                                            clustered, null for arrays
``centroids.safetensors`` *                 ``centroids`` float32 or float64 [k, d]; ``weights`` and
                                            ``lengths`` float64 [k]; ``mean`` float64 [d] where rows were
                                            centred
``labels.npy`` *            int32 [n]       cluster of each row
``distances.npy`` *         float32 [n]     distance to its centre: Euclidean, or 1 - cosine
``second.npy``              int32 [n]       second nearest centre, -1 for none; with ``margins=True`` only
``margins.npy``             float32 [n]     how much farther that one is, infinite for none; likewise
``ids.npy``                 [n]             names of the rows, integers or strings, where the data has them
``members.npy``             int32 [n]       rows of cluster 0, then of 1, ...; in a cluster the nearest to the
                                            centre first, those as near by number; int64 from 2^31 rows on
``offsets.npy``             int64 [k + 1]   members of cluster j are ``members[offsets[j]:offsets[j + 1]]``
``representatives.npy``     int32 [k, 10]   the ten members nearest to each centre, nearest first; -1 where
                                            there are fewer; int64 likewise
``clusters.csv``            k lines         cluster; size; radius, the root of the mean squared distance (as
                                            BIRCH's; Zhang, Ramakrishnan and Livny, 1996); mean_distance;
                                            max_distance; representative, the number of the nearest row, or
                                            its id. Of empty clusters only the first two. Weights do not enter
=========================== =============== ==============================================================
"""

from __future__ import annotations

import math
import numbers
import os
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks, kernels, storage
from fastann.cluster import plan
from fastann.cluster.lloyd import Iteration
from fastann.cluster.space import METRICS, Space
from fastann.cluster.stop import StopReason
from fastann.data import open as files
from fastann.data.source import Source
from fastann.index.base import Spec
from fastann.index.faiss import faiss
from fastann.runs.members import REPRESENTATIVES, Members

_PLACES = ("checkpoint", "temp_folder")


def save(model: Any, path: str | os.PathLike, *, force: bool) -> None:
    """Write a fitted `KMeans` to a run directory."""
    parameters, not_saved = plain_parameters(model)
    if "init" in not_saved:
        parameters["init"] = "auto"
    manifest = {
        "estimator": type(model).__name__,
        "parameters": parameters,
        "not_saved": not_saved,
        "index": str(model.index_),
        "n_rows": len(model.labels_),
        "data": model._data,
        "n_steps": model.n_steps_,
        "stream_seed": model._stream_seed,
        "seen": model._seen,
        "inertia": model.inertia_,
        "assignment_recall": model.assignment_recall_,
        "assignment_recall_interval": list(model.assignment_recall_interval_),
        "stop_reason": str(model.stop_reason_),
        "history": [record.as_dict() for record in model.history_],
        "feature_names": list(getattr(model, "feature_names_in_", [])),
        "versions": versions(),
    }
    tensors = {"centroids": model.cluster_centers_, "weights": model.weights_, "lengths": model._lengths}
    if model._space.mean is not None:
        tensors["mean"] = model._space.mean
    arrays = {"labels": model.labels_, "distances": model.distances_}
    if hasattr(model, "margins_"):
        arrays |= {"second": model.second_labels_, "margins": model.margins_}
    if model.ids_ is not None:
        arrays["ids"] = checks.given_ids(model.ids_, len(model.labels_))
    members = Members.of(model.labels_, model.distances_, len(model.cluster_centers_))
    arrays |= {"members": members.rows, "offsets": members.offsets, "representatives": members.first()}

    def write_clusters(folder: Path) -> None:
        members.write(folder / "clusters.csv", arrays.get("ids"))

    kept = None if model.checkpoint is None else Path(model.checkpoint).absolute()
    begun = kept == (Path(path) / storage.CHECKPOINTS).absolute()
    storage.write_run(path, manifest, tensors, arrays, force=force, finish=begun, more=write_clusters)


def begin(model: Any, source: Source, path: str | os.PathLike, *, force: bool) -> None:
    """Make the run directory of a `KMeans` that is yet to be fitted to rows in files, after checking both.

    Its checkpoints go there, so that `resume` can go on with it; `save` completes it.
    """
    model._check_parameters()
    model._check_data(source)
    parameters, lost = plain_parameters(model)
    lost = [name for name in lost if name not in (*_PLACES, "callback")]
    if lost:
        raise ValueError(f"{' and '.join(lost)} cannot be written down to go on with later; pass plain values")
    manifest = {"estimator": type(model).__name__, "parameters": parameters, "data": source.fingerprint()}
    storage.begin_run(path, manifest, force=force)
    model.checkpoint = Path(path) / storage.CHECKPOINTS


def resume(kind: type, path: str | os.PathLike) -> tuple[Any, Source]:
    """Read what `begin` made: an estimator of class `kind`, and the rows to fit it to.

    Raises
    ------
    storage.RunError
        If it was not begun so.
    FileNotFoundError, ValueError
        If a file of the data vanished or changed.
    """
    manifest = storage.read_manifest(path)
    try:
        if manifest["estimator"] != kind.__name__:
            raise ValueError(f"it is of a {manifest['estimator']}")
        model = kind(**manifest["parameters"])
        known = manifest["data"]
    except (KeyError, TypeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise storage.RunError(f"{path} does not describe a {kind.__name__} to go on with: {what}") from error
    model.checkpoint = Path(path) / storage.CHECKPOINTS
    return model, files.reopen(known)


def plain_parameters(model: Any) -> tuple[dict[str, Any], list[str]]:
    """Parameters of an estimator that JSON can hold, and the names of those it cannot, which become None.

    Neither are paths saved: a run can be moved.
    """
    parameters = model.get_params()
    if isinstance(parameters["index"], Spec):
        parameters["index"] = str(parameters["index"])
    not_saved = [n for n, v in parameters.items() if not _is_plain(v) or (n in _PLACES and v is not None)]
    return {n: None if n in not_saved else _plain(v) for n, v in parameters.items()}, not_saved


def load(kind: type, path: str | os.PathLike) -> Any:
    """Read a fitted estimator of class `kind`; everything in the files is checked before it is used."""
    manifest, tensors, arrays = storage.read_run(path)
    try:
        if manifest["estimator"] != kind.__name__:
            raise ValueError(f"it is of a {manifest['estimator']}")
        model = kind(**manifest["parameters"])
        centers, mean, n = tensors["centroids"], tensors.get("mean"), manifest["n_rows"]
        labels, distances, ids = arrays["labels"], arrays["distances"], arrays.get("ids")
        _check_arrays(centers, mean, labels, distances, n)
        _check_outcome(arrays, labels, len(centers))
        for name in ("weights", "lengths"):
            values = tensors[name]
            if values.shape != (len(centers),) or values.dtype != np.float64 or not (values >= 0).all():
                raise ValueError(f"{name} are {values.dtype} {values.shape}, not {len(centers)} float64 of 0 or more")
        model.cluster_centers_ = centers
        model._space = Space(checks.choice(model.metric, "metric", METRICS), mean)
        model.index_ = plan.choose_index(manifest["index"], len(centers))
        model.labels_, model.distances_ = np.array(labels), np.array(distances)
        model.ids_ = None if ids is None else np.array(ids)
        if "margins" in arrays:
            model.second_labels_, model.margins_ = np.array(arrays["second"]), np.array(arrays["margins"])
        model._data = checks.fingerprint(manifest.get("data"), n)
        model.inertia_ = float(manifest["inertia"])
        model.assignment_recall_ = float(manifest["assignment_recall"])
        low, high = manifest["assignment_recall_interval"]
        model.assignment_recall_interval_ = (low, high)
        model.stop_reason_ = StopReason(manifest["stop_reason"])
        model.history_ = [Iteration(**record) for record in manifest["history"]]
        model.n_iter_ = len(model.history_)
        model.n_steps_, model._stream_seed = manifest["n_steps"], checks.integer(manifest["stream_seed"], "seed", 0)
        model._seen = checks.real(manifest["seen"], "seen", 0.0)
        model.weights_, model._lengths = tensors["weights"], tensors["lengths"]
        model.n_features_in_, model._n_features_out = centers.shape[1], len(centers)
        names = manifest["feature_names"]
        if not isinstance(names, list) or len(names) not in (0, centers.shape[1]):
            raise ValueError(f"feature_names must be a list, empty or of {centers.shape[1]} names")
        if names:
            model.feature_names_in_ = np.array(names, dtype=object)
    except (KeyError, TypeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise storage.RunError(f"{path} does not describe a fitted {kind.__name__}: {what}; fit again") from error
    return model


def _check_arrays(
    centers: np.ndarray, mean: np.ndarray | None, labels: np.ndarray, distances: np.ndarray, n: int
) -> None:
    k = len(centers)
    if (
        centers.ndim != 2
        or not centers.size
        or centers.dtype not in (np.float32, np.float64)
        or not np.isfinite(centers).all()
    ):
        raise ValueError(f"centroids are {centers.dtype} {centers.shape}, or not finite")
    if mean is not None and (
        mean.shape != centers.shape[1:] or mean.dtype != np.float64 or not np.isfinite(mean).all()
    ):
        raise ValueError(f"mean is {mean.dtype} {mean.shape}, not float64 of {centers.shape[1]} columns, or not finite")
    if labels.shape != (n,) or labels.dtype != np.int32 or labels.min() < 0 or labels.max() >= k:
        raise ValueError(f"labels are {labels.dtype} {labels.shape}, not int32 of {n} rows in [0, {k})")
    if distances.shape != (n,) or distances.dtype != np.float32:
        raise ValueError(f"distances are {distances.dtype} {distances.shape}, not float32 of {n} rows")
    if not distances.min() >= 0:
        raise ValueError("distances hold NaN or negative values")


def _check_outcome(arrays: dict[str, np.ndarray], labels: np.ndarray, k: int) -> None:
    """Check what not every run has."""
    n, rows = len(labels), np.int32 if len(labels) < 2**31 else np.int64
    needed: dict[str, tuple[Any, tuple[int, ...], float, float]] = {
        "second": (np.int32, (n,), -1, k),
        "margins": (np.float32, (n,), -np.inf, np.inf),
        "members": (rows, (n,), 0, n),
        "offsets": (np.int64, (k + 1,), 0, n + 1),
        "representatives": (rows, (k, REPRESENTATIVES), -1, n),
    }
    for name, (dtype, shape, low, high) in needed.items():
        values = arrays.get(name)
        if values is None:
            continue
        if values.dtype != dtype or values.shape != shape:
            raise ValueError(f"{name} are {values.dtype} {values.shape}, not {np.dtype(dtype)} {shape}")
        if not (values.min() >= low and (values.max() < high or high == np.inf)):
            raise ValueError(f"{name} hold NaN, or values outside [{low}, {high})")
    if ("second" in arrays) != ("margins" in arrays):
        raise ValueError("second and margins belong together, but one of them is missing")
    if "second" in arrays and (arrays["second"] == labels).any():
        row = int(np.argmax(arrays["second"] == labels))
        raise ValueError(f"second is the cluster of row {row} itself, which is no second nearest one")
    if "offsets" in arrays and (np.diff(arrays["offsets"]) != kernels.tally(labels, k)).any():
        raise ValueError("offsets do not agree with the labels")
    if "ids" in arrays:
        checks.given_ids(arrays["ids"], n)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, str))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def versions() -> dict[str, str]:
    """Versions of what a model was fitted with."""
    import sklearn

    from fastann import __version__

    return {
        "fastann": __version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "faiss": faiss().__version__,
    }

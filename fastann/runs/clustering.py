"""A fitted estimator as a run directory, and back.

A run of n rows in k clusters holds, of schema 2 (schema 1 had those marked with a star), all of this; or, saved without
labels, the first two files alone:

=========================== =============== ==============================================================
``manifest.json`` *                         parameters, statistics of every iteration, versions, checksums;
                                            ``status``; ``data``, the fingerprint of the files that were
                                            clustered, null for arrays
``centroids.safetensors`` *                 ``centroids`` float32 or float64 [k, d]; ``weights`` and
                                            ``lengths`` float64 [k]; ``mean`` float64 [d] where rows were
                                            centred; ``scales`` float32 [k] and ``quantiles`` float32 [k, 9],
                                            what `predict` rejects rows by, where it is known
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
                                            its id. Of empty clusters only the first two. Weights do not enter.
                                            name and words, once `fastann.describe` added them
``description.json``                        words, nearest rows and their texts, once `fastann.describe` wrote it
=========================== =============== ==============================================================
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from fastann import checks, kernels, storage
from fastann.cluster import plan
from fastann.cluster.closing import Clustering, Labelling, Means
from fastann.cluster.lloyd import Iteration
from fastann.cluster.outliers import LEVELS, Outliers, Tails
from fastann.cluster.space import space_of
from fastann.cluster.stop import StopReason
from fastann.cluster.trim import Trim
from fastann.data.identity import check_unchanged, lasting
from fastann.data.open import open_source, reopen
from fastann.data.source import Source
from fastann.index.base import Spec
from fastann.index.faiss import faiss
from fastann.runs.members import REPRESENTATIVES, Members

PLACES = ("checkpoint", "temp_folder")  # parameters that say where files lie: a run can be moved


@dataclass(frozen=True)
class About:
    """What a run says of the estimator that made it.

    Attributes
    ----------
    estimator : str
        Name of its class.
    parameters : dict
        As JSON holds them.
    not_saved : list of str
        Those that it cannot hold, which are None.
    names : list of str
        Of the columns, where they have any.
    """

    estimator: str
    parameters: dict[str, Any]
    not_saved: list[str]
    names: list[str]

    @classmethod
    def of(cls, model: Any) -> Self:
        """Of an estimator."""
        parameters, not_saved = plain_parameters(model)
        return cls(type(model).__name__, parameters, not_saved, list(getattr(model, "feature_names_in_", [])))


def write(
    path: str | os.PathLike[str],
    found: Clustering,
    about: About,
    *,
    checkpoint: Any = None,
    labels: bool = True,
    force: bool = False,
) -> None:
    """Write a clustering to a run directory; one that was begun there, with its checkpoints in it, is completed.

    `labels` is whether to write what is known of each row, where there is such.
    """
    means, rows, space = found.means, found.rows, found.space
    parameters = about.parameters | ({"init": "auto"} if "init" in about.not_saved else {})
    manifest = {
        "estimator": about.estimator,
        "parameters": parameters,
        "not_saved": about.not_saved,
        "index": str(found.spec),
        "labels": labels and rows.labels is not None,
        "n_rows": rows.n,
        "data": rows.data,
        "n_steps": means.steps,
        "stream_seed": means.seed,
        "seen": means.seen,
        "inertia": rows.inertia,
        "assignment_recall": rows.recall,
        "assignment_recall_interval": list(rows.interval),
        "outliers": None if found.outliers is None else _plain_outliers(found.outliers),
        "predict_recall": None if math.isnan(found.predict_recall) else found.predict_recall,
        "device": found.device,
        "seconds": found.seconds,
        "stop_reason": str(found.stop_reason),
        "stopped": found.stopped(float(about.parameters["tol"])),
        "history": [record.as_dict() for record in found.history],
        "feature_names": about.names,
        "versions": versions(),
    }
    tensors = {"centroids": means.centers, "weights": means.weights, "lengths": means.lengths}
    if space.mean is not None:
        tensors["mean"] = space.mean
    if (tails := found.tails) is not None:
        tensors |= {"scales": tails.scales, "quantiles": tails.quantiles}
    arrays, more = _of_rows(rows, len(means.centers)) if manifest["labels"] else ({}, None)
    kept = None if checkpoint is None else Path(checkpoint).absolute()
    begun = kept == (Path(path) / storage.CHECKPOINTS).absolute()
    storage.write_run(path, manifest, tensors, arrays, force=force, finish=begun, more=more)


def _of_rows(rows: Labelling, k: int) -> tuple[dict[str, np.ndarray], Callable[[Path], None]]:
    """Arrays of what is known of each row, and what writes the table of clusters."""
    labels, distances = rows.needed("a run with labels")
    arrays = {"labels": labels, "distances": distances}
    if rows.second is not None and rows.margins is not None:
        arrays |= {"second": rows.second, "margins": rows.margins}
    if rows.ids is not None:
        arrays["ids"] = checks.given_ids(rows.ids, rows.n)
    members = Members.of(labels, distances, k)
    arrays |= {"members": members.rows, "offsets": members.offsets, "representatives": members.first()}
    return arrays, lambda folder: members.write(folder / "clusters.csv", arrays.get("ids"))


def begin(path: str | os.PathLike[str], about: About, source: Source, *, force: bool, labels: bool = True) -> Path:
    """Make the run directory of a fit to rows in files that is yet to be made; returns where its checkpoints go.

    With these `resume` can go on with it; `write` completes it, with labels or without, as is noted here.
    """
    lost = [name for name in about.not_saved if name not in (*PLACES, "callback")]
    if lost:
        raise ValueError(f"{' and '.join(lost)} cannot be written down to go on with later; pass plain values")
    manifest = {"estimator": about.estimator, "parameters": about.parameters, "labels": labels}
    manifest["data"] = lasting(source.fingerprint())
    storage.begin_run(path, manifest, force=force)
    return Path(path) / storage.CHECKPOINTS


def resume(path: str | os.PathLike[str], kind: type, data: Any = None) -> tuple[Any, Source]:
    """Read what `begin` made: an estimator of class `kind`, and the rows to fit it to.

    `data` says where these lie now, if not where they lay; it is opened with the options of then, and noted.

    Raises
    ------
    RunError
        If it was not begun so.
    FileNotFoundError, ValueError
        If a file of the data vanished, or holds something else.
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
    if data is None:
        return model, reopen(known)
    source = open_source(data, **(known or {}).get("options", {}))
    now = source.fingerprint()
    check_unchanged(known, now)
    storage.amend_run(path, data=lasting(now))
    return model, source


def plain_parameters(model: Any) -> tuple[dict[str, Any], list[str]]:
    """Parameters of an estimator that JSON can hold, and the names of those it cannot, which become None.

    Neither are paths saved: a run can be moved.
    """
    parameters = model.get_params()
    if isinstance(parameters["index"], Spec):
        parameters["index"] = str(parameters["index"])
    not_saved = [n for n, v in parameters.items() if not _is_plain(v) or (n in PLACES and v is not None)]
    return {n: None if n in not_saved else _plain(v) for n, v in parameters.items()}, not_saved


def read(path: str | os.PathLike[str], kind: type) -> tuple[Any, Clustering, list[str]]:
    """Read a run of an estimator of class `kind`; everything in the files is checked before it is used.

    Returns
    -------
    model : estimator
        Of class `kind`, not fitted.
    clustering : Clustering
    names : list of str
        Of the columns, empty where they have none.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    RunError
        If a file is missing or altered, or does not fit the others.
    """
    manifest, tensors, arrays = storage.read_run(path)
    try:
        if manifest["estimator"] != kind.__name__:
            raise ValueError(f"it is of a {manifest['estimator']}")
        model, centers = kind(**manifest["parameters"]), tensors["centroids"]
        rows = _labelling(manifest, arrays, len(centers))
        means = _means(manifest, tensors, rows)
        names = manifest["feature_names"]
        if not isinstance(names, list) or len(names) not in (0, centers.shape[1]):
            raise ValueError(f"feature_names must be a list, empty or of {centers.shape[1]} names")
        found = Clustering(
            space_of(model.metric, tensors.get("mean")),
            plan.choose_index(manifest["index"], len(centers)),
            means,
            rows,
            [Iteration(**record) for record in manifest["history"]],
            StopReason(manifest["stop_reason"]),
            _predict_recall(manifest.get("predict_recall")),
            _seconds(manifest.get("seconds", {})),
            str(manifest.get("device", "cpu")),
            _outliers(manifest.get("outliers")),
            _tails(tensors, len(centers)),
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise storage.RunError(f"{path} does not describe a fitted {kind.__name__}: {what}; fit again") from error
    return model, found, names


def _predict_recall(value: Any) -> float:
    """Share of rows that predictions are right of; NaN where it was not measured, as in runs of old."""
    return math.nan if value is None else checks.real(value, "predict_recall", 0.0)


def _seconds(given: Any) -> dict[str, float]:
    """Seconds of the fit by phase; runs of old have none."""
    if not isinstance(given, dict):
        raise ValueError(f"seconds are {given!r}, not those of phases")
    return {str(phase): checks.real(spent, f"seconds of {phase}", 0.0) for phase, spent in given.items()}


def _plain_outliers(outliers: Outliers) -> dict[str, Any]:
    """As JSON holds it: an infinite threshold is null."""
    plain = asdict(outliers)
    return plain | {"threshold": None if math.isinf(outliers.threshold) else outliers.threshold}


def _outliers(given: Any) -> Outliers | None:
    """Which rows were left out; None of fits that asked for nothing, as those of old."""
    if given is None:
        return None
    trim, limit = Trim(**given["trim"]), given["threshold"]
    checks.real(trim.share, "trim.share", 0.0)
    limit = math.inf if limit is None else checks.real(limit, "threshold", 0.0)
    share, inertia = checks.real(given["share"], "share", 0.0), checks.real(given["inertia_all"], "inertia_all", 0.0)
    return Outliers(trim, limit, share, inertia, bool(given["marked"]))


def _tails(tensors: dict[str, np.ndarray], k: int) -> Tails | None:
    """What rows are rejected by; None of runs that lack it, as those of old."""
    if "scales" not in tensors and "quantiles" not in tensors:
        return None
    scales, quantiles = tensors["scales"], tensors["quantiles"]
    for name, values, shape in (("scales", scales, (k,)), ("quantiles", quantiles, (k, len(LEVELS)))):
        if values.dtype != np.float32 or values.shape != shape or not (values >= 0).all():
            raise ValueError(f"{name} are {values.dtype} {values.shape}, not float32 {shape} of 0 or more")
    return Tails(scales, quantiles)


def _labelling(manifest: dict[str, Any], arrays: dict[str, np.ndarray], k: int) -> Labelling:
    n = manifest["n_rows"]
    if manifest.get("labels", True):
        labels, distances = arrays["labels"], arrays["distances"]
        _check_rows(labels, distances, n, k)
        _check_outcome(arrays, labels, k)
    else:
        checks.integer(n, "n_rows", 1)
    found = storage.rested(arrays)
    low, high = manifest["assignment_recall_interval"]
    return Labelling(
        found.get("labels"),
        found.get("distances"),
        float(manifest["inertia"]),
        float(manifest["assignment_recall"]),
        (low, high),
        data=checks.fingerprint(manifest.get("data"), n),
        n=n,
        **{name: found.get(name) for name in ("second", "margins", "ids")},
    )


def _means(manifest: dict[str, Any], tensors: dict[str, np.ndarray], rows: Labelling) -> Means:
    centers = tensors["centroids"]
    _check_centers(centers, tensors.get("mean"))
    for name in ("weights", "lengths"):
        values = tensors[name]
        if values.shape != (len(centers),) or values.dtype != np.float64 or not (values >= 0).all():
            raise ValueError(f"{name} are {values.dtype} {values.shape}, not {len(centers)} float64 of 0 or more")
    seed, seen = checks.integer(manifest["stream_seed"], "seed", 0), checks.real(manifest["seen"], "seen", 0.0)
    return Means(centers, tensors["weights"], tensors["lengths"], manifest["n_steps"], seed, seen)


def _check_centers(centers: np.ndarray, mean: np.ndarray | None) -> None:
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


def _check_rows(labels: np.ndarray, distances: np.ndarray, n: int, k: int) -> None:
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

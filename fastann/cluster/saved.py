"""A fitted estimator as a run directory, and back."""

from __future__ import annotations

import math
import numbers
import os
from typing import Any

import numpy as np

from fastann import checks, persist
from fastann.cluster import plan
from fastann.cluster.index import Spec, faiss
from fastann.cluster.lloyd import Iteration
from fastann.cluster.space import METRICS, Space
from fastann.cluster.stop import StopReason


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
    persist.write_run(path, manifest, tensors, arrays, force=force)


def plain_parameters(model: Any) -> tuple[dict[str, Any], list[str]]:
    """Parameters of an estimator that JSON can hold, and the names of those it cannot, which become None."""
    parameters = model.get_params()
    if isinstance(parameters["index"], Spec):
        parameters["index"] = str(parameters["index"])
    not_saved = [name for name, value in parameters.items() if not _is_plain(value)]
    return {n: None if n in not_saved else _plain(v) for n, v in parameters.items()}, not_saved


def load(kind: type, path: str | os.PathLike) -> Any:
    """Read a fitted estimator of class `kind`; everything in the files is checked before it is used."""
    manifest, tensors, arrays = persist.read_run(path)
    try:
        if manifest["estimator"] != kind.__name__:
            raise ValueError(f"it is of a {manifest['estimator']}")
        model = kind(**manifest["parameters"])
        centers, mean, n = tensors["centroids"], tensors.get("mean"), manifest["n_rows"]
        labels, distances = arrays["labels"], arrays["distances"]
        _check_arrays(centers, mean, labels, distances, n)
        for name in ("weights", "lengths"):
            values = tensors[name]
            if values.shape != (len(centers),) or values.dtype != np.float64 or not (values >= 0).all():
                raise ValueError(f"{name} are {values.dtype} {values.shape}, not {len(centers)} float64 of 0 or more")
        model.cluster_centers_ = centers
        model._space = Space(checks.choice(model.metric, "metric", METRICS), mean)
        model.index_ = plan.choose_index(manifest["index"], len(centers))
        model.labels_, model.distances_ = np.array(labels), np.array(distances)
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
        raise persist.RunError(f"{path} does not describe a fitted {kind.__name__}: {what}; fit again") from error
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
    if not (distances >= 0).all():
        raise ValueError("distances hold NaN or negative values")


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

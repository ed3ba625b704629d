"""A fitted classifier as a folder, and back."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import sparse

from fastann import checks, storage
from fastann.classify.prototypes import Prototypes
from fastann.classify.stream import Stream
from fastann.classify.training import Epoch, Verdict
from fastann.cluster.passes.groups import stack
from fastann.cluster.space import METRICS, Space
from fastann.index.parse import parse_index
from fastann.runs.clustering import plain_parameters, versions


def save(model: Any, path: str | os.PathLike, *, force: bool) -> None:
    """Write a fitted `PrototypeClassifier`."""
    stream, p = model._stream, model._prototypes
    parameters, not_saved = plain_parameters(model)
    manifest = {
        "estimator": type(model).__name__,
        "parameters": parameters,
        "not_saved": not_saved,
        "n_features": model.n_features_in_,
        "scale": model.scale_,
        "index": str(model.index_),
        "refinement": None if model.refinement_ is None else asdict(model.refinement_),
        "history": [record.as_dict() for record in model.history_],
        "seed": model._seed_drawn,
        "feature_names": list(getattr(model, "feature_names_in_", [])),
        "versions": versions(),
    }
    if isinstance(model.n_prototypes, dict):
        pairs = [[c.item() if isinstance(c, np.generic) else c, int(n)] for c, n in model.n_prototypes.items()]
        manifest["n_prototypes_by_class"] = pairs
        not_saved.remove("n_prototypes")
    tensors = {
        **_packed("prototypes", p.vectors, model.dtype),
        "owner": p.owner,
        "weights": p.weights,
        "spread": p.spread,
    }
    if model._space.mean is not None:
        tensors["mean"] = model._space.mean
    waiting = [(c, x, w) for c, blocks in stream.waiting.items() for x, w in blocks]
    if waiting:
        tensors |= _packed("waiting", stack([x for _, x, _ in waiting]), model.dtype)
        tensors["waiting.class"] = np.repeat(np.array([c for c, _, _ in waiting]), [len(w) for _, _, w in waiting])
        tensors["waiting.weights"] = np.concatenate([w for _, _, w in waiting])
    classes = model.classes_.astype(str) if model.classes_.dtype.kind == "O" else model.classes_
    storage.write_run(path, manifest, tensors, {"classes": classes}, force=force)


def load(kind: type, path: str | os.PathLike) -> Any:
    """Read a fitted classifier; everything in the files is checked before it is used."""
    manifest, tensors, arrays = storage.read_run(path)
    try:
        if manifest["estimator"] != kind.__name__:
            raise ValueError(f"it is of a {manifest['estimator']}")
        parameters = manifest["parameters"]
        if "n_prototypes_by_class" in manifest:
            parameters["n_prototypes"] = dict(map(tuple, manifest["n_prototypes_by_class"]))
        model = kind(**parameters)
        classes, d = np.array(arrays["classes"]), checks.integer(manifest["n_features"], "n_features", 1)
        if classes.ndim != 1 or not (classes[1:] > classes[:-1]).all():
            raise ValueError(f"classes are {classes.dtype} {classes.shape}, not distinct and sorted")
        model.classes_, model.n_features_in_ = classes, d
        p = Prototypes(_unpacked("prototypes", tensors, d), tensors["owner"], tensors["weights"], tensors["spread"])
        _check(p, len(classes))
        mean = tensors.get("mean")
        if mean is not None and (mean.shape != (d,) or mean.dtype != np.float64 or not np.isfinite(mean).all()):
            raise ValueError(f"mean is {mean.dtype} {mean.shape}, not float64 of {d} columns, or not finite")
        model._space = Space(checks.choice(model.metric, "metric", METRICS), mean)
        model._stream = Stream(p, _waiting(tensors, d, len(classes)))
        model.scale_ = checks.real(manifest["scale"], "scale", 0.0)
        model.index_, model._searched = parse_index(manifest["index"]), len(p)
        verdict = manifest["refinement"]
        model.refinement_ = None if verdict is None else Verdict(**verdict)
        model.history_ = [Epoch(**record) for record in manifest["history"]]
        model._seed_drawn = checks.integer(manifest["seed"], "seed", 0)
        names = manifest["feature_names"]
        if not isinstance(names, list) or len(names) not in (0, d):
            raise ValueError(f"feature_names must be a list, empty or of {d} names")
        if names:
            model.feature_names_in_ = np.array(names, dtype=object)
    except (KeyError, TypeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise storage.RunError(f"{path} does not describe a fitted {kind.__name__}: {what}; fit again") from error
    return model


def _packed(name: str, x: Any, dtype: str) -> dict[str, np.ndarray]:
    """Tensors of a dense or sparse table, its values in the stored dtype; bfloat16 as the upper halves of float32."""
    values = x.data if sparse.issparse(x) else np.ascontiguousarray(x)
    if dtype == "float16":
        values = values.astype(np.float16)
    elif dtype == "bfloat16":  # rounded to it already
        values = (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    if not sparse.issparse(x):
        return {name: values}
    return {
        f"{name}.data": values,
        f"{name}.indices": x.indices.astype(np.int32),
        f"{name}.indptr": x.indptr.astype(np.int64),
    }


def _unpacked(name: str, tensors: dict[str, np.ndarray], d: int) -> Any:
    dense = name in tensors
    values = tensors[name if dense else f"{name}.data"]
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    values = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} are not finite")
    if dense:
        if values.ndim != 2 or values.shape[1] != d:
            raise ValueError(f"{name} have shape {values.shape}, not {d} columns")
        return values
    indptr = tensors[f"{name}.indptr"]
    return checks.csr(sparse.csr_matrix((values, tensors[f"{name}.indices"], indptr), (len(indptr) - 1, d)), name)


def _waiting(tensors: dict[str, np.ndarray], d: int, classes: int) -> dict[int, list[tuple[Any, np.ndarray]]]:
    if "waiting.class" not in tensors:
        return {}
    x, owner, weights = _unpacked("waiting", tensors, d), tensors["waiting.class"], tensors["waiting.weights"]
    if not len(owner) == len(weights) == x.shape[0] or owner.min() < 0 or owner.max() >= classes:
        raise ValueError("the waiting rows, their classes and weights do not match")
    return {int(c): [(x[owner == c], weights[owner == c])] for c in np.unique(owner)}


def _check(p: Prototypes, classes: int) -> None:
    k = p.vectors.shape[0]
    if not k or p.owner.shape != (k,) or p.owner.dtype != np.int32 or (np.diff(p.owner) < 0).any():
        raise ValueError(f"owner is {p.owner.dtype} {p.owner.shape}, not sorted int32 of {k} prototypes")
    if p.owner.min() < 0 or p.owner.max() >= classes:
        raise ValueError(f"owner names classes outside [0, {classes})")
    for name in ("weights", "spread"):
        values = getattr(p, name)
        if values.shape != (k,) or values.dtype != np.float64 or not (values >= 0).all():
            raise ValueError(f"{name} are {values.dtype} {values.shape}, not {k} float64 of 0 or more")

"""A fitted classifier as a folder, and back.

A folder of K prototypes of d columns holds:

=========================== ==============================================================================
``manifest.json``           parameters, statistics of every epoch or batch, what refinement gained, the index
                            that predicts, versions, checksums. ``n_prototypes_by_class`` lists pairs of a class
                            and its number where `n_prototypes` is a dict, as keys of JSON are strings, and
                            ``class_weight_by_class`` likewise. ``last_batch``, what the last one of a stream
                            changed
``centroids.safetensors``   ``prototypes`` [K, d] of the parameter `dtype`, bfloat16 as uint16; or, of sparse
                            rows, ``prototypes.data``, ``.indices`` int32 (of half precision, and up to 65,536
                            columns, uint16) and ``.indptr`` int64. ``owner`` int32
                            [K], the class of each, sorted; ``weights`` and ``spread`` float64 [K]; ``mean``
                            float64 [d] where rows were centred; ``listed`` int32, the classes that a list of
                            numbers of prototypes names. Of a stream, the rows of classes that have seen
                            few, as ``waiting`` in the same form, with ``waiting.class`` and ``waiting.weights``
``classes.npy``             labels of the classes, sorted
=========================== ==============================================================================
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np
from scipy import sparse

from fastann import checks, storage
from fastann.classify.calibration import Calibration
from fastann.classify.fit import Fall, Verdict
from fastann.classify.half import Half, is_sparse, wide
from fastann.classify.model import Batch, Classification, stored
from fastann.classify.prototypes import Prototypes
from fastann.classify.stream import Stream
from fastann.classify.training import Epoch
from fastann.cluster.passes.groups import stack
from fastann.cluster.space import space_of
from fastann.index.parse import parse_index
from fastann.runs import clustering

BY_CLASS = ("n_prototypes", "class_weight")  # parameters that may be dicts by class


@dataclass(frozen=True)
class About(clustering.About):
    """What a folder says of the classifier that made it.

    Attributes
    ----------
    by_class : dict of str to list of [class, number]
        Parameters that are given by class; `parameters` then has None for them.
    """

    by_class: dict[str, list[list[Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any) -> Self:
        """Of an estimator."""
        about = super().of(model)
        given = {name: getattr(model, name) for name in BY_CLASS if isinstance(getattr(model, name), Mapping)}
        pairs = {name: [[_plain(c), _plain(v)] for c, v in value.items()] for name, value in given.items()}
        return replace(about, not_saved=[n for n in about.not_saved if n not in given], by_class=pairs)


def write(path: str | os.PathLike[str], found: Classification, about: About, *, force: bool = False) -> None:
    """Write a classification to a folder, whole or not at all."""
    p = found.prototypes
    manifest = {
        "estimator": about.estimator,
        "parameters": about.parameters,
        "not_saved": about.not_saved,
        "n_features": p.vectors.shape[1],
        "scale": found.scale,
        "calibration": {**asdict(found.stream.calibration), "unjudged": found.stream.unjudged},
        "index": str(found.spec),
        "refinement": None if found.verdict is None else asdict(found.verdict),
        "history": [record.as_dict() for record in found.history],
        "seed": found.seed,
        "feature_names": about.names,
        "versions": clustering.versions(),
    }
    for name, pairs in about.by_class.items():
        manifest[f"{name}_by_class"] = pairs
    if found.last is not None:
        manifest["last_batch"] = {**asdict(found.last), "new_classes": [_plain(c) for c in found.last.new_classes]}
    tensors = {
        **_packed("prototypes", p.vectors, found.dtype),
        "owner": p.owner,
        "weights": p.weights,
        "spread": p.spread,
    }
    if found.space.mean is not None:
        tensors["mean"] = found.space.mean
    if found.listed is not None:
        tensors["listed"] = np.searchsorted(found.classes, found.listed).astype(np.int32)
    waiting = [(c, x, w) for c, blocks in found.stream.waiting.items() for x, w in blocks]
    if waiting:
        tensors |= _packed("waiting", stack([wide(x) for _, x, _ in waiting]), found.dtype)
        tensors["waiting.class"] = np.repeat(np.array([c for c, _, _ in waiting]), [len(w) for _, _, w in waiting])
        tensors["waiting.weights"] = np.concatenate([w for _, _, w in waiting])
    classes = found.classes.astype(str) if found.classes.dtype.kind == "O" else found.classes
    storage.write_run(path, manifest, tensors, {"classes": classes}, force=force)


def read(path: str | os.PathLike[str], kind: type) -> tuple[Any, Classification, list[str]]:
    """Read a folder of an estimator of class `kind`; everything in the files is checked before it is used.

    Returns
    -------
    model : estimator
        Of class `kind`, not fitted.
    classification : Classification
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
        parameters = manifest["parameters"]
        for name in BY_CLASS:
            if f"{name}_by_class" in manifest:
                parameters[name] = dict(map(tuple, manifest[f"{name}_by_class"]))
        model = kind(**parameters)
        found = _classification(manifest, tensors, np.array(arrays["classes"]), model.metric, model.dtype)
        names, d = manifest["feature_names"], manifest["n_features"]
        if not isinstance(names, list) or len(names) not in (0, d):
            raise ValueError(f"feature_names must be a list, empty or of {d} names")
    except (KeyError, TypeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise storage.RunError(f"{path} does not describe a fitted {kind.__name__}: {what}; fit again") from error
    return model, found, names


def _classification(
    manifest: dict[str, Any], tensors: dict[str, np.ndarray], classes: np.ndarray, metric: str, dtype: str
) -> Classification:
    d = checks.integer(manifest["n_features"], "n_features", 1)
    if classes.ndim != 1 or not (classes[1:] > classes[:-1]).all():
        raise ValueError(f"classes are {classes.dtype} {classes.shape}, not distinct and sorted")
    p = Prototypes(_unpacked("prototypes", tensors, d), tensors["owner"], tensors["weights"], tensors["spread"])
    _check(p, len(classes))
    p = replace(p, vectors=stored(p.vectors, dtype))
    mean = tensors.get("mean")
    if mean is not None and (mean.shape != (d,) or mean.dtype != np.float64 or not np.isfinite(mean).all()):
        raise ValueError(f"mean is {mean.dtype} {mean.shape}, not float64 of {d} columns, or not finite")
    scale = checks.real(manifest["scale"], "scale", 0.0)
    return Classification(
        space_of(metric, mean),
        classes,
        _stream(p, _waiting(tensors, d, len(classes)), manifest.get("calibration", {"scale": scale, "unjudged": 0})),
        scale=scale,
        spec=parse_index(manifest["index"]),
        history=[Epoch(**record) for record in manifest["history"]],
        seed=checks.integer(manifest["seed"], "seed", 0),
        verdict=_verdict(manifest["refinement"]),
        searched=len(p),
        dtype=dtype,
        listed=_listed(tensors, classes),
        last=_last(manifest.get("last_batch")),
    )


def _listed(tensors: dict[str, np.ndarray], classes: np.ndarray) -> np.ndarray | None:
    codes = tensors.get("listed")
    if codes is None:
        return None
    if codes.ndim != 1 or codes.dtype != np.int32 or (len(codes) and (codes.min() < 0 or codes.max() >= len(classes))):
        raise ValueError(f"listed is {codes.dtype} {codes.shape}, not numbers of some of the {len(classes)} classes")
    return np.asarray(classes[codes])


def _last(found: dict[str, Any] | None) -> Batch | None:
    return None if found is None else Batch(**{**found, "new_classes": tuple(found["new_classes"])})


def _stream(p: Prototypes, waiting: dict[int, list[tuple[Any, np.ndarray]]], known: dict[str, Any]) -> Stream:
    numbers = {name: checks.real(value, name, 0.0) for name, value in known.items()}
    unjudged = int(numbers.pop("unjudged"))
    return Stream(p, waiting, calibration=Calibration(**numbers), unjudged=unjudged)


def _verdict(found: dict[str, Any] | None) -> Verdict | None:
    if found is None:
        return None
    return Verdict(**{**found, "fell": tuple(Fall(**fall) for fall in found.get("fell", ()))})


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _packed(name: str, x: Any, dtype: str) -> dict[str, np.ndarray]:
    """Tensors of a dense or sparse table, its values in the stored dtype; bfloat16 as the upper halves of float32."""
    x = stored(x, dtype)
    if isinstance(x, Half):
        values = x.bits.view(np.float16) if dtype == "float16" else x.bits
    else:
        values = x.data if sparse.issparse(x) else np.ascontiguousarray(x)
    if not is_sparse(x):
        return {name: values}
    indices = x.indices if isinstance(x, Half) else x.indices.astype(np.int32)
    return {f"{name}.data": values, f"{name}.indices": indices, f"{name}.indptr": x.indptr.astype(np.int64)}


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
    indices = tensors[f"{name}.indices"].astype(np.int32)
    return checks.csr(sparse.csr_matrix((values, indices, indptr), (len(indptr) - 1, d)), name)


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

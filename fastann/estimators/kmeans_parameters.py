"""Parameters of the estimators: what each may be, checked before anything is done."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastann import checks
from fastann.cluster import plan
from fastann.cluster.checkpoint import Checkpoints, plain
from fastann.cluster.empty import EMPTY
from fastann.cluster.space import METRICS, Space
from fastann.cluster.start import STARTS
from fastann.data.identity import identity
from fastann.data.open import as_source
from fastann.data.source import ArraySource, Source
from fastann.index import gpu
from fastann.index.faiss import faiss
from fastann.index.spec import Flat

# Parameters that decide what a fit does next; with others of these it cannot go on from a checkpoint.
DECISIVE = (
    "n_clusters", "index", "recall", "metric", "init", "n_init", "candidates", "size_aware", "swaps", "effort",
    "sample", "empty", "random_state",
)  # fmt: skip


def check_kmeans(model: Any) -> float | None:
    """Check the parameters of a `KMeans` that do not depend on the data; return the time limit."""
    checks.integer(model.n_init, "n_init", 1)
    checks.integer(model.max_iter, "max_iter", 1)
    checks.real(model.tol, "tol", 0.0)
    if model.decay != "auto" and checks.real(model.decay, "decay", 0.0, above=True) > 1:
        raise ValueError(f"decay must be in (0, 1], got {model.decay}; 1 forgets nothing")
    checks.real(model.effort, "effort", 0.0, above=True)
    if model.recall is not None:
        checks.real(model.recall, "recall", 0.0, above=True)
        if model.recall >= 1 or plan.choose_index(model.index, 1).open is None:
            raise ValueError(
                f"recall={model.recall!r} is what an index whose search option is 'auto' must reach, below 1, as in "
                f"KMeans(index=IVF(nprobe='auto'), recall=0.99); got index={str(model.index)!r}"
            )
    if model.candidates is not None:
        checks.integer(model.candidates, "candidates", 2, 8)
    for name in ("size_aware", "swaps"):
        if not isinstance(value := getattr(model, name), bool | np.bool_) and value != "auto":
            raise ValueError(f"{name} must be True, False or 'auto', got {value!r}")
    for name in ("exact_labels", "margins"):
        if not isinstance(getattr(model, name), bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {getattr(model, name)!r}")
    checks.choice(model.metric, "metric", METRICS)
    checks.choice(model.empty, "empty", EMPTY)
    if isinstance(model.init, str):
        checks.choice(model.init, "init", ("auto", *STARTS))
    checks.real(model.checkpoint_seconds, "checkpoint_seconds", 0.0)
    checks.place(model.checkpoint, "checkpoint")
    if checks.place(model.temp_folder, "temp_folder") is not None and not os.path.isdir(str(model.temp_folder)):
        raise FileNotFoundError(f"temp_folder={str(model.temp_folder)!r} is no folder; make it or choose another")
    if model.callback is not None and not callable(model.callback):
        raise TypeError(f"callback must be callable or None, got {model.callback!r}")
    return None if model.time_limit is None else checks.real(model.time_limit, "time_limit", 0.0, above=True)


def check_kmeans_data(model: Any, source: Source) -> tuple[int, int | None, Any]:
    """Check the parameters that depend on the data or the machine: clusters, rows to train on, devices."""
    if source.sparse and model.index != "auto" and plan.choose_index(model.index, 1) != Flat():
        raise ValueError(f"sparse rows are searched by index='flat' or 'auto', got {str(model.index)!r}")
    k = checks.n_clusters(model.n_clusters, source.n)
    device = gpu.parse_device(model.device)
    if device != "cpu":
        gpu.require(faiss(), device)
    plan.choose_index(model.index, k)
    return k, checks.sample(model.sample, source.n, k), device


def checkpoints_of(model: Any, source: Source, weights: np.ndarray | None, seed: int) -> Checkpoints | None:
    """Where a fit is to be written down, if it is; with the checkpoint it goes on from."""
    if model.checkpoint is None:
        return None
    parameters = {name: plain(getattr(model, name)) for name in DECISIVE}
    task = {"data": identity(source, weights), "parameters": parameters, "seed": seed}
    return Checkpoints(model.checkpoint, model.checkpoint_seconds, task)


def given_centroids(model: Any, X: Any, k: int, d: int, space: Space, seed: int) -> np.ndarray | None:
    """The centroids to start from, if they are given: as an array, or by a function of the rows."""
    if isinstance(model.init, str):
        return None
    if model.n_init > 1:
        raise ValueError(f"n_init={model.n_init} starts need a random init; pass n_init=1 with given centres")
    centers = model.init
    if callable(centers):
        source = as_source(X, sparse=False)
        data = source.array if isinstance(source, ArraySource) else X
        centers = centers(data, k, np.random.RandomState(seed))
    return space.inward(checks.centers(centers, k, d, origin=space.mean))

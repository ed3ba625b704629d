"""Parameters of the estimators: what each may be, checked before anything is done."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import issparse

from fastann import checks
from fastann.cluster import plan
from fastann.cluster.checkpoint import Checkpoints, plain
from fastann.cluster.empty import EMPTY
from fastann.cluster.space import METRICS, Space
from fastann.cluster.start import STARTS
from fastann.cluster.trim import Trim
from fastann.data.csr import CSRSource
from fastann.data.identity import identity
from fastann.data.source import ArraySource, Source
from fastann.estimators.base import warn
from fastann.index import gpu
from fastann.index.base import Spec
from fastann.index.faiss import faiss
from fastann.index.parse import parse_index
from fastann.index.spec import Flat

MOST_TRIMMED = 0.5  # share of the rows left out beyond which the others are no majority
ALGORITHMS = ("lloyd", "elkan")  # scikit-learn's, whose results are the same

# Parameters that decide what a fit does next; with others of these it cannot go on from a checkpoint.
DECISIVE = (
    "n_clusters", "index", "recall", "metric", "init", "n_init", "candidates", "size_aware", "swaps", "effort",
    "sample", "empty", "trim", "outlier_threshold", "random_state",
)  # fmt: skip


def index_of(model: Any) -> Spec | str:
    """The index that a fit goes by: exact where `algorithm` names one of scikit-learn's, which are exact.

    Raises
    ------
    ValueError
        If both are given and contradict each other.
    """
    index: Spec | str = model.index
    if model.algorithm is None:
        return index
    checks.choice(model.algorithm, "algorithm", ALGORITHMS)
    if index != "auto" and parse_index(index) != Flat():
        raise ValueError(
            f"algorithm={model.algorithm!r} compares every row with every centre, which index={str(index)!r} does not; "
            "pass one of them"
        )
    return Flat()


def takes_sparse(model: Any) -> bool:
    """Whether rows may be sparse; of an index that does not exist, which a fit refuses, they may."""
    try:
        index = index_of(model)
        return index == "auto" or parse_index(index) == Flat()
    except (TypeError, ValueError):
        return True


def starts(model: Any) -> int:
    """How many starts a fit tries: what scikit-learn understands by "auto", and one from a given array."""
    drawn = isinstance(model.init, str)
    if not drawn and not callable(model.init):
        return 1
    if model.n_init == "auto":
        return 10 if model.max_iter and (not drawn or model.init == "random") else 1
    return int(model.n_init)


def check_kmeans(model: Any) -> float | None:
    """Check the parameters of a `KMeans` that do not depend on the data; return the time limit."""
    if model.n_init != "auto":
        checks.integer(model.n_init, "n_init", 1)
    checks.integer(model.max_iter, "max_iter", 0)
    if model.max_iter == 0 and (isinstance(model.init, str) or starts(model) > 1):
        raise ValueError(
            "max_iter must be >= 1, or 0 to label the rows by centres that are given as init, as one start; got 0 with "
            f"init={model.init!r} and n_init={model.n_init!r}"
        )
    checks.real(model.tol, "tol", 0.0)
    if model.decay != "auto" and checks.real(model.decay, "decay", 0.0, above=True) > 1:
        raise ValueError(f"decay must be in (0, 1], got {model.decay}; 1 forgets nothing")
    checks.real(model.effort, "effort", 0.0, above=True)
    if model.recall is not None:
        checks.real(model.recall, "recall", 0.0, above=True)
        if model.recall >= 1 or plan.choose_index(index_of(model), 1).open is None:
            raise ValueError(
                f"recall={model.recall!r} is what an index whose search option is 'auto' must reach, below 1, as in "
                f"KMeans(index=IVF(nprobe='auto'), recall=0.99); got index={str(model.index)!r}"
            )
    _check_trim(model)
    if model.candidates is not None:
        checks.integer(model.candidates, "candidates", 2, 8)
    for name in ("size_aware", "swaps"):
        if not isinstance(value := getattr(model, name), bool | np.bool_) and value != "auto":
            raise ValueError(f"{name} must be True, False or 'auto', got {value!r}")
    for name in ("exact_labels", "margins", "copy_x", "shard"):
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


def _check_trim(model: Any) -> None:
    """Check the parameters that say which rows are left out."""
    if model.trim != "auto":
        if isinstance(model.trim, str):
            raise ValueError(f"trim must be a share of the rows such as 0.05, or 'auto', got {model.trim!r}")
        if checks.real(model.trim, "trim", 0.0) > MOST_TRIMMED:
            raise ValueError(
                f"trim must be between 0 and {MOST_TRIMMED:g}, got {model.trim}; it is the share of rows left out, not "
                "a percentage or a number of rows"
            )
    if model.outlier_threshold is not None:
        checks.real(model.outlier_threshold, "outlier_threshold", 1.0)
        if model.trim != 0:
            raise ValueError(
                f"trim={model.trim!r} and outlier_threshold={model.outlier_threshold!r} are two ways to say which rows "
                "are left out; give one of them"
            )
    if isinstance(model.outlier_labels, bool) or model.outlier_labels not in ("nearest", -1):
        raise ValueError(f"outlier_labels must be 'nearest' or -1, got {model.outlier_labels!r}")


def trim_of(model: Any, find: Callable[[], float] | None = None) -> Trim | None:
    """Which rows are left out, None for none; `find` gives the share where that is "auto"."""
    if model.outlier_threshold is not None:
        return Trim(multiple=float(model.outlier_threshold))
    if model.trim != "auto":
        return Trim(float(model.trim)) if model.trim > 0 else None
    assert find is not None, "a share is found in rows"
    found = find()
    return Trim(found) if found > 0 else None


def check_kmeans_data(model: Any, source: Source) -> tuple[int, int | None, Any]:
    """Check the parameters that depend on the data or the machine: clusters, rows to train on, devices."""
    if source.sparse and not takes_sparse(model):
        raise ValueError(f"sparse rows are searched by index='flat' or 'auto', got {str(model.index)!r}")
    k = checks.n_clusters(model.n_clusters, source.n)
    device = model._device()
    if source.sparse and device != "cpu":
        if model.device != "auto":
            raise ValueError(f"sparse rows are searched on CPUs, got device={model.device!r}; pass 'cpu' or 'auto'")
        device = "cpu"
    if device != "cpu":
        gpu.require(faiss(), device)
    plan.choose_index(index_of(model), k)
    if model.trim != "auto" and (left := source.n - int(model.trim * source.n)) < k:
        raise ValueError(
            f"trim={model.trim} leaves {left} of {source.n} rows for n_clusters={k}; lower trim or n_clusters"
        )
    return k, checks.sample(model.sample, source.n, k), device


def check_directed(n: int, zeros: np.ndarray, weights: np.ndarray | None = None, k: int = 0) -> None:
    """Warn of rows without a direction, of which there are `zeros` among `n`; a fit needs `k` others, and a weight."""
    if not len(zeros):
        return
    if n - len(zeros) < k:
        raise ValueError(
            f"n_clusters={k} needs at least {k} rows that are not zero, as metric='cosine' goes by directions; "
            f"{len(zeros)} of {n} rows are zero, row {zeros[0]} first: lower n_clusters, add data or use "
            "metric='euclidean'"
        )
    if k and weights is not None and not weights.any():
        raise ValueError(
            "every row of positive sample_weight is zero, and has no direction, which metric='cosine' needs"
        )
    warn(
        f"{len(zeros)} of {n} rows are zero, row {zeros[0]} first: they have no direction, which metric='cosine' "
        "needs. They are left out of the centres, and get label 0 at distance 1",
        UserWarning,
    )


def checkpoints_of(model: Any, source: Source, weights: np.ndarray | None, seed: int) -> Checkpoints | None:
    """Where a fit is to be written down, if it is; with the checkpoint it goes on from."""
    if model.checkpoint is None:
        return None
    parameters = {name: plain(getattr(model, name)) for name in DECISIVE}
    parameters |= {"index": plain(index_of(model)), "n_init": starts(model)}
    task = {"data": identity(source, weights), "parameters": parameters, "seed": seed}
    return Checkpoints(model.checkpoint, model.checkpoint_seconds, task)


def given_start(
    model: Any, X: Any, source: Source, k: int, space: Space, seed: int
) -> str | np.ndarray | Callable[[int], np.ndarray]:
    """What a fit starts from: the name of a method, centroids, or what gives those of a start by its number."""
    if isinstance(model.init, str):
        return str(model.init)
    d = source.d
    if not callable(model.init):
        if model.n_init not in ("auto", 1):
            warn(
                f"Explicit initial center position passed: performing only one init in {type(model).__name__} instead "
                f"of n_init={model.n_init}; pass n_init=1",
                RuntimeWarning,
            )
        return space.inward(checks.centers(_dense(model.init), k, d, origin=space.mean))
    rows = source.array if isinstance(source, ArraySource) else source.matrix if isinstance(source, CSRSource) else X

    def called(number: int) -> np.ndarray:
        state = np.random.RandomState(seed if number == 0 else [seed, number])
        return space.inward(checks.centers(_dense(model.init(rows, k, state)), k, d, origin=space.mean))

    return called


def _dense(centers: Any) -> Any:
    return centers.toarray() if issparse(centers) else centers

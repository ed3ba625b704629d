"""The only Lloyd loop: a generator of states. Whoever iterates it decides when to stop."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any

import numpy as np

from fastann.cluster.assign import assign
from fastann.cluster.index import Spec
from fastann.cluster.update import Rows, recenter, refill
from fastann.data.source import Source


@dataclass(frozen=True)
class Iteration:
    """Record of one iteration, as kept in `history_`.

    Attributes
    ----------
    iteration : int
        From 1.
    inertia : float
        Weighted sum of squared distances to the centroids the iteration began with.
    moved : int
        Rows whose label changed.
    empty : int
        Clusters that were empty.
    repaired : int
        Rows the index found nothing for, assigned by exact search.
    rows : int
        Rows the iteration looked at.
    index : str
        The index that was searched.
    seconds : dict
        Seconds by phase: build, assign, update.
    """

    iteration: int
    inertia: float
    moved: int
    empty: int
    repaired: int
    rows: int
    index: str
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class State:
    """An iteration just finished: its record, and the centroids (float32 [k, d]) it led to."""

    record: Iteration
    centroids: np.ndarray = field(repr=False)


def lloyd(
    source: Source,
    rows: Rows,
    centroids: np.ndarray,
    spec: Spec,
    *,
    metric: str,
    empty: str,
    device: Any,
    rng: np.random.Generator,
) -> Iterator[State]:
    """Alternate assignment and update for ever (Lloyd, 1982), yielding a `State` after each iteration.

    `rows` is updated in place; its labels belong to the centroids the last iteration began with.
    """
    for iteration in count(1):
        clock = [time.perf_counter()]
        index = spec.build(centroids, seed=int(rng.integers(2**31)), device=device)
        clock.append(time.perf_counter())
        partial = assign(source, rows, index, centroids)
        clock.append(time.perf_counter())
        centroids = recenter(partial, centroids, metric)
        emptied = refill(empty, centroids, partial, rows, source, metric, rng)
        clock.append(time.perf_counter())
        seconds = dict(zip(("build", "assign", "update"), np.diff(clock).tolist(), strict=True))
        record = Iteration(
            iteration, partial.inertia, partial.moved, emptied, partial.repaired, source.n, str(spec), seconds
        )
        yield State(record, centroids)

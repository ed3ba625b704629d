"""The only Lloyd loop: a generator of states. Whoever iterates it decides when to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np

from fastann.cluster.memory import Memory
from fastann.cluster.passes.bounded import Sweep
from fastann.cluster.passes.every import assign
from fastann.cluster.plan import Plan
from fastann.cluster.update import Partial, Rows, recenter, refill
from fastann.data.source import Source
from fastann.index.base import Builder
from fastann.index.recall import Adaptive


@dataclass(frozen=True)
class Iteration:
    """Record of one iteration, as kept in `history_`.

    Attributes
    ----------
    iteration : int
        From 1.
    inertia : float
        Weighted sum of squared distances to the centroids the iteration began with; where candidates are
        kept, to those it ended with.
    moved : int
        Rows whose label changed.
    empty : int
        Clusters that were empty.
    repaired : int
        Rows the index found nothing for, assigned by exact search.
    rows : int
        Rows trained on.
    looked, searched : int
        Rows compared with the candidates they remember, and rows searched in the index; the others could not
        move.
    index : str
        The index that was searched.
    plan : str
        What the iteration did, and why.
    seconds : dict
        Seconds by phase: build, assign, update.
    """

    iteration: int
    inertia: float
    moved: int
    empty: int
    repaired: int
    rows: int
    looked: int
    searched: int
    index: str
    plan: str
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class State:
    """An iteration just finished: its record, the centroids (float32 [k, d]) it led to, and whether to go on anyway.

    `rose` tells that the size-aware rule made the inertia rise, which the next iteration makes up for.
    """

    record: Iteration
    centroids: np.ndarray = field(repr=False)
    rose: bool = False


@dataclass
class Progress:
    """Where the loop is: what it takes from one iteration to the next, beside the rows and the random numbers.

    Attributes
    ----------
    centroids : float32 [k, d]
    iteration : int
        Iterations done.
    last : float
        The inertia of the last one.
    rises : int
        How often the size-aware rule made it rise.
    rose : bool
        Whether the last iteration did.
    index : Index or None
        As last searched; None is made again from `built`.
    built : tuple of float32 [k, d] and int, or None
        Centroids and seed that an index was built with which only moves along with the centroids since.
    """

    centroids: Any
    iteration: int = 0
    last: float = np.inf
    rises: int = 0
    rose: bool = False
    index: Any = None
    built: tuple[np.ndarray, int] | None = None

    def follow(self, spec: Builder, changed: np.ndarray, device: Any, adapt: Adaptive | None) -> None:
        """Move the index to the centroids, some of which `changed`."""
        assert self.built is not None
        if self.index is None:
            before, seed = self.built
            index = spec.started().build(before, seed=seed, device=device)
            self.index = index if adapt is None else index.retuned(adapt.spec)
            changed = np.ones_like(changed)
        self.index = self.index.moved(self.centroids, changed)

    def build(self, spec: Builder, seed: int, device: Any, adapt: Adaptive | None) -> None:
        """Build the index anew."""
        index = spec.started().build(self.centroids, seed=seed, device=device)
        self.index = index if adapt is None else adapt(index, self.centroids)
        self.built = (self.centroids, seed) if index.moves else None


class Pass(Protocol):
    """What an iteration does with the rows: assigns those of each batch, and tells the centroids that follow.

    Attributes
    ----------
    source : Source
    rows : Rows
    batches : int
        Parts in which an iteration visits the rows.
    size_aware : bool
        Whether `assign` may be asked to go by Hartigan's criterion.
    changed : bool [k]
        Centroids that the last `recenter` moved.
    """

    source: Source
    rows: Rows
    changed: np.ndarray

    @property
    def batches(self) -> int: ...
    @property
    def size_aware(self) -> bool: ...

    def assign(self, centroids: Any, batch: int, index: Any, *, size_aware: bool) -> Partial:
        """Assign the rows of a batch, updating `rows`."""
        ...

    def recenter(self, centroids: Any) -> Any:
        """Centroids of the rows as assigned."""
        ...

    def refilled(self) -> None:
        """Centroids of empty clusters were moved."""
        ...


class Search:
    """The plain pass: every row searched in the index, in every iteration. `Sweep` is the one that remembers."""

    batches = 1
    size_aware = False

    def __init__(self, source: Source, rows: Rows, k: int, metric: str):
        self.source, self.rows, self.metric = source, rows, metric
        self.changed = np.ones(k, bool)
        self.partial: Partial | None = None

    def assign(self, centroids: np.ndarray, batch: int, index: Any, *, size_aware: bool) -> Partial:
        """Assign every row."""
        self.partial = assign(self.source, self.rows, index, centroids)
        return self.partial

    def recenter(self, centroids: np.ndarray) -> np.ndarray:
        """Means of the assigned rows."""
        assert self.partial is not None
        return recenter(self.partial, centroids, self.metric)

    def refilled(self) -> None:
        """Nothing to remember: every mean is computed in every iteration."""

    def state(self) -> dict[str, np.ndarray]:
        """What it remembers from one iteration to the next."""
        return {"labels": self.rows.labels, "sqdist": self.rows.sqdist}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up what `state` gave."""
        self.rows.labels[:], self.rows.sqdist[:] = state["labels"], state["sqdist"]


def passes(
    source: Source, weights: np.ndarray | None, k: int, plan: Plan, metric: str, memory: Memory
) -> Search | Sweep:
    """The kind of pass a plan asks for."""
    rows = Rows.new(source.n, weights, memory)
    if not plan.candidates:
        return Search(source, rows, k, metric)
    return Sweep(
        source,
        rows,
        k,
        metric=metric,
        batches=plan.batches,
        candidates=plan.candidates,
        caution=plan.caution,
        size_aware=plan.size_aware,
        memory=memory,
    )


def lloyd(
    work: Pass,
    progress: Progress,
    spec: Builder | None,
    *,
    metric: str,
    empty: str,
    device: Any,
    rng: np.random.Generator,
    adapt: Adaptive | None = None,
    note: str = "",
) -> Iterator[State]:
    """Alternate assignment and update for ever (Lloyd, 1982), yielding a `State` after each iteration.

    The rows' state and the `progress` are updated in place; the rows' labels belong to the centroids an iteration
    began with. The `adapt` chooses the search option that the spec leaves open, whenever an index is built. The
    size-aware rule starts with the third iteration, when clusters have found their sizes. All rows move at once, which
    it does not account for: when the inertia rises, an iteration without it follows, and it is given up for good
    when that has happened twice.
    """
    source, rows = work.source, work.rows
    for iteration in count(progress.iteration + 1):
        clock = dict.fromkeys(("build", "assign", "update"), 0.0)
        tally = Partial.zero(0, 0, weighted=False)
        emptied, rule = 0, work.size_aware and iteration > 2 and not progress.rose and progress.rises < 2
        for batch in range(work.batches):
            ticks = [time.perf_counter()]
            fresh = batch == 0 and (iteration <= 3 or iteration % 4 == 0)  # other cells find what these miss
            if spec is None:  # a pass that needs no index
                pass
            elif fresh or progress.built is None:
                progress.build(spec, int(rng.integers(2**31)), device, adapt)
            else:
                progress.follow(spec, work.changed, device, adapt)
            ticks.append(time.perf_counter())
            partial = work.assign(progress.centroids, batch, progress.index, size_aware=rule)
            ticks.append(time.perf_counter())
            progress.centroids = work.recenter(progress.centroids)
            refills = refill(empty, progress.centroids, partial, rows, source, metric, rng)
            if refills:
                work.refilled()
            emptied += refills
            ticks.append(time.perf_counter())
            for phase, seconds in zip(clock, np.diff(ticks).tolist(), strict=True):
                clock[phase] += seconds
            tally.tally(partial)
        progress.rose = bool(rule and tally.inertia > progress.last * (1 + 1e-9))
        progress.rises += progress.rose
        progress.iteration, progress.last = iteration, tally.inertia
        what = f"{note}{', size-aware' if rule else ''}".lstrip(", ")
        record = Iteration(
            iteration=iteration,
            inertia=tally.inertia,
            moved=tally.moved,
            empty=emptied,
            repaired=tally.repaired,
            rows=source.n,
            looked=tally.looked,
            searched=tally.searched,
            index=str(spec or "none") if adapt is None else str(adapt.spec),
            plan=what,
            seconds=clock,
        )
        yield State(record, progress.centroids, progress.rose)

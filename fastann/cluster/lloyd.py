"""The only Lloyd loop: a generator of states. Whoever iterates it decides when to stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any

import numpy as np

from fastann.cluster.clock import ITERATED, Clock
from fastann.cluster.criterion import NEAREST, Criterion
from fastann.cluster.empty import EmptyPolicy
from fastann.cluster.passes.base import Pass
from fastann.cluster.update import Tally
from fastann.index.base import Builder, Index
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

    `rose` tells that the criterion made the inertia rise, which the next iteration makes up for.
    """

    record: Iteration
    centroids: np.ndarray = field(repr=False)
    rose: bool = False


@dataclass
class Progress:
    """What the loop takes from one iteration to the next, beside the rows, the index and the random numbers.

    Attributes
    ----------
    iteration : int
        Iterations done.
    last : float
        The inertia of the last one.
    rises : int
        How often the criterion made it rise.
    rose : bool
        Whether the last iteration did.
    """

    iteration: int = 0
    last: float = np.inf
    rises: int = 0
    rose: bool = False

    def by(self, criterion: Criterion) -> Criterion:
        """What the next iteration goes by: the criterion, from where it begins.

        All rows of a batch move at once, which a guarded one does not account for: when the inertia rises, an
        iteration without it follows, and it is given up for good when that has happened twice.
        """
        held = criterion.guarded and (self.rose or self.rises >= 2)
        return NEAREST if held or self.iteration + 1 < criterion.begins else criterion

    def done(self, by: Criterion, inertia: float) -> None:
        """Take note of an iteration."""
        self.rose = by.guarded and inertia > self.last * (1 + 1e-9)
        self.rises += self.rose
        self.iteration, self.last = self.iteration + 1, inertia


@dataclass
class Upkeep:
    """Keeps an index over centroids that move.

    Attributes
    ----------
    spec : Builder or None
        What builds the index; None where a pass needs none.
    device : "cpu" or tuple of int
    adapt : Adaptive or None
        Chooses the search option that the spec leaves open, whenever an index is built.
    recorded : bool
        Whether the loop may go on in another process, so that what an index was built with is kept.
    index : Index or None
        As last searched; None is made again from `built`.
    follows : bool
        Whether the index only moves along with the centroids since it was built.
    built : tuple of float32 [k, d] and int, or None
        Centroids and seed that it was built with, if that is kept.
    """

    spec: Builder | None
    device: Any = "cpu"
    adapt: Adaptive | None = None
    recorded: bool = False
    index: Index | None = None
    follows: bool = False
    built: tuple[np.ndarray, int] | None = None

    @property
    def name(self) -> str:
        """The index, for people."""
        return str((self.spec or "none") if self.adapt is None else self.adapt.spec)

    def ready(self, work: Pass, iteration: int, batch: int, rng: np.random.Generator) -> Index | None:
        """The index over the present centroids.

        It is built anew at the first batch of early iterations and of every fourth, as other cells find what these
        miss. Between, it moves along with the centroids if it can.
        """
        anew = batch == 0 and (iteration <= 3 or iteration % 4 == 0)
        if self.spec is None:
            return None
        if anew or not self.follows:
            seed, self.index, self.built = int(rng.integers(2**31)), None, None  # before another one takes memory
            index = self.spec.started().build(work.centroids, seed=seed, device=self.device)
            # Sparse rows are searched in what is made anew anyway, and their centroids are large.
            self.follows = index.moves and not work.source.sparse
            if self.follows and self.recorded:
                self.built = work.centroids.copy(), seed  # a pass may write over its own
            self.index = index if self.adapt is None else self.adapt(index, work.centroids)
        else:
            self.index = self._followed(work.centroids, work.changed)
        return self.index

    def rest(self) -> None:
        """Give back an index that is built anew for every batch, and what it made for its searches."""
        if not self.follows:
            self.index = None

    def _followed(self, centroids: np.ndarray, changed: np.ndarray) -> Index:
        """The index, moved to the centroids, some of which `changed`."""
        if self.index is not None:
            return self.index.moved(centroids, changed)
        assert self.spec is not None
        assert self.built is not None
        before, seed = self.built
        index = self.spec.started().build(before, seed=seed, device=self.device)
        index = index if self.adapt is None else index.retuned(self.adapt.spec)
        return index.moved(centroids, np.ones_like(changed))


def lloyd(
    work: Pass,
    progress: Progress,
    upkeep: Upkeep,
    *,
    criterion: Criterion,
    refill: EmptyPolicy,
    rng: np.random.Generator,
    note: str = "",
    clock: Clock | None = None,
) -> Iterator[State]:
    """Alternate assignment and update for ever (Lloyd, 1982), yielding a `State` after each iteration.

    The pass, the progress and the index are updated in place. The rows' labels belong to the centroids an iteration
    began with. `clock` is that of the whole fit.
    """
    clock = clock or Clock()
    for iteration in count(progress.iteration + 1):
        before, tally, empty, inertia = clock.read(), Tally(), 0, np.inf
        by = progress.by(criterion)
        for batch in range(work.batches):
            with clock("build"):
                index = upkeep.ready(work, iteration, batch, rng)
            with clock("assign"):
                tally += work.assign(index, batch, by)
            index = None
            upkeep.rest()
            with clock("update"):
                _, inertia = work.update()
                empty += work.refill(refill, rng)
        progress.done(by, inertia)
        after = clock.read()
        record = Iteration(
            iteration=iteration,
            inertia=inertia,
            moved=tally.moved,
            empty=empty,
            repaired=tally.repaired,
            rows=work.n,
            looked=tally.looked,
            searched=tally.searched,
            index=upkeep.name,
            plan=", ".join(filter(None, (note, by.name))),
            seconds={phase: after[phase] - before[phase] for phase in ITERATED},
        )
        yield State(record, work.settled, progress.rose)

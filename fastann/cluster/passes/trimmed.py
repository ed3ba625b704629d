"""Passes that leave the rows farthest from their centres out of the means.

Rows that are left out weigh nothing, and everything else is as in the passes below: sums, inertia, what empty clusters
take, the size-aware rule. Who is left out is decided anew after every visit of all rows; sums follow from the rows that
came or went.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastann import kernels
from fastann.cluster.criterion import Criterion
from fastann.cluster.memory import Memory
from fastann.cluster.passes.base import Closed, Pass
from fastann.cluster.passes.bounded import Bounded
from fastann.cluster.passes.every import Every
from fastann.cluster.passes.rows import Rows
from fastann.cluster.trim import Trim
from fastann.cluster.update import Tally

_TAKEN = 0.1  # share of the rows up to which those that changed are taken one by one, not by reading all
_LEFT = 1e-6  # of the largest cluster's weight, below which that of a cluster may be a rounding error
_AT_ONCE = 2**24  # values of rows taken at once
_HELD = 0  # what `kernels.look` says of rows whose bounds held
_NEAR = 2.0  # times the share left out: so many of the farthest rows are measured anew where bounds stand for distances


def own_weights(n: int, weights: np.ndarray | None, memory: Memory) -> np.ndarray:
    """Weights that a pass may set to zero: float64 [n]."""
    own = memory.full(n, np.float64, 1.0)
    if weights is not None:
        own[:] = weights
    return own


class Trimming(Pass):
    """What these passes have in common; `leave_out` comes before anything else.

    Attributes
    ----------
    trim : Trim
    given : float64 [n] or None
        Weights of the rows as they are; those in `rows` are 0 for rows that are left out.
    """

    trim: Trim
    given: np.ndarray | None
    inertia: float

    def leave_out(self, trim: Trim, given: np.ndarray | None) -> Any:
        """Set the rule, and the weights that rows have; returns self."""
        self.trim, self.given = trim, given
        self.fresh, self.last = True, True  # whether nobody was left out yet; whether all rows were visited
        return self

    def update(self) -> tuple[Any, float]:
        if self.last:
            self.follow()
        counts = self.sums.counts
        if (counts <= _LEFT * counts.max()).any():  # taking all rows away leaves rounding errors
            gone = kernels.tally(self.rows.labels, self.k, None, self.rows.weights) <= 0
            self.sums.sums[gone], counts[gone] = 0, 0
        return super().update()  # type: ignore[safe-super]

    def follow(self) -> None:
        """Decide who is left out, by the distances known, and have the sums follow."""
        rows = self.rows
        limit = self.trim.limit(rows.sqdist, self.given, self.space, rows.part)
        changed, deltas = [np.empty(0, np.int64)], [np.empty(0)]
        for part in rows.parts():
            assert rows.weights is not None
            own = rows.weights[part]
            wanted = (rows.sqdist[part] <= limit) * (1.0 if self.given is None else self.given[part])
            some = np.flatnonzero(wanted != own)
            changed.append(part.start + some)
            deltas.append(wanted[some] - own[some])
            own[some] = wanted[some]
        ids, delta = np.concatenate(changed), np.concatenate(deltas)
        if len(ids) and (self.fresh or len(ids) > _TAKEN * self.n):
            # All anew: what is taken away from sums of rows that lie very far out leaves rounding errors.
            self.sums.sums[:], self.sums.counts[:] = 0, 0
            self._cleared()
            for block, there in self.blocks():
                self._add(block, there.weights, there.labels)
        else:
            step = max(1, _AT_ONCE // self.d)
            for at in range(0, len(ids), step):
                some = ids[at : at + step]
                self._add(self.take(some), delta[at : at + step], rows.labels[some])
        assert rows.weights is not None
        self.fresh = False
        self.inertia = rows.inertia()

    def _add(self, block: Any, weights: Any, labels: np.ndarray) -> None:
        """Add rows of such weights, which are negative where rows go."""
        self.sums.add(block, weights, labels)

    def _cleared(self) -> None:
        """Take note that the sums are those of no rows."""

    def close(self, index: Any, criterion: Criterion) -> Closed:
        """Labels and distances of all rows; the inertia too is of all."""
        closed = super().close(index, criterion)  # type: ignore[safe-super]
        self.rows.weights = self.given
        return Closed(closed.labels, closed.sqdist, self.rows.inertia(), closed.lists)

    def state(self) -> dict[str, np.ndarray]:
        assert self.rows.weights is not None
        return super().state() | {"kept": self.rows.weights}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        super().restore(state)
        assert self.rows.weights is not None
        self.rows.weights[:] = state["kept"]
        self.fresh = False


class TrimmedEvery(Trimming, Every):
    """Every row searched in every iteration."""


class TrimmedBounded(Trimming, Bounded):
    """Rows that remember candidates and bounds."""

    floor = np.inf

    def assign(self, index: Any, batch: int, criterion: Criterion) -> Tally:
        first = not self.seen
        tally = super().assign(index, batch, criterion)
        self.last = first or batch == len(self.parts) - 1
        return tally

    def _looked(self, block: Any, rows: Rows, order: np.ndarray, status: np.ndarray) -> None:
        """Measure rows that may be left out: where bounds held, a row's distance is known from above only."""
        above = np.zeros(len(order), bool)
        above[order] = status == _HELD
        above &= rows.sqdist > self.floor
        far = np.flatnonzero(above)
        step = max(1, _AT_ONCE // self.d)
        for at in range(0, len(far), step):
            some = far[at : at + step]
            rows.sqdist[some] = kernels.own_sqdist(block[some], self.centroids, rows.labels[some])

    def follow(self) -> None:
        super().follow()
        if self.trim.multiple is None:
            self.floor = Trim(min(0.5, _NEAR * self.trim.share)).limit(self.rows.sqdist, self.given, self.space)
        else:
            self.floor = self.trim.limit(self.rows.sqdist, self.given, self.space) / _NEAR

    def _add(self, block: Any, weights: Any, labels: np.ndarray) -> None:
        super()._add(block, weights, labels)
        self.total += float((kernels.sqnorms(block) * weights).sum())
        self.touched[labels] = True

    def _cleared(self) -> None:
        self.total = 0.0
        self.touched[:] = True

    def close(self, index: Any, criterion: Criterion) -> Closed:
        self.floor = np.inf  # all are measured at the end
        return super().close(index, criterion)

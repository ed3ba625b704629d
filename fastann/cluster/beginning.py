"""Where a fit begins: a start, and what swaps make of it on a sample of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from fastann.cluster import narrow, robust, start
from fastann.cluster.clock import Clock
from fastann.cluster.deep import DeepSwaps
from fastann.cluster.draw import draw
from fastann.cluster.memory import Memory
from fastann.cluster.space import Space
from fastann.cluster.swap import Swaps, enough
from fastann.cluster.trim import Trim
from fastann.data.source import dense


@dataclass(frozen=True)
class Beginning:
    """What centroids to start from are sought for.

    Attributes
    ----------
    lot : Lot
        The rows.
    k : int
    space : Space
    rng : Generator
    memory : Memory
    trim : Trim or None
        Which rows are left out.
    """

    lot: start.Lot
    k: int
    space: Space
    rng: np.random.Generator
    memory: Memory
    trim: Trim | None = None

    def centroids(self, name: str, *, swaps: bool, clock: Clock) -> tuple[np.ndarray, np.ndarray]:
        """Centroids by the start called `name`, with `swaps` improved by these, and the rows that they came from.

        Returns
        -------
        centroids : float32 [k, d]
        rows : int64 [k]
        """
        wide = swaps and name in start.PLUS_PLUS and self.trim is None and narrow.suits(self.lot.source)
        with clock("start"):
            view = narrow.Narrow.of(self.lot, self.k, self.space, self.rng, self.memory) if wide else None
            begun, trim = (start.Begun(view.rows), None) if view is not None else self._begun(name, swaps)
            centroids = dense(self.lot.take(begun.rows)) if begun.centres is None else begun.centres
        if swaps:
            with clock("swaps"):
                if view is not None:
                    centroids = view.best(self.lot.n, self.space, self.rng)
                else:
                    centroids = self._swapped(centroids, begun.sample, trim)
        return centroids, begun.rows

    def _begun(self, name: str, swaps: bool) -> tuple[start.Begun, Trim | None]:
        """Rows to start from, and how many of the sample that they came from are to be left out."""
        if self.trim is not None and name in start.PLUS_PLUS:
            return robust.plus_plus(self.lot, self.k, self.trim, self.space, self.rng, self.memory, swaps)
        return start.start(name, self.lot, self.k, self.rng, self.memory), self.trim

    def _swapped(self, centroids: np.ndarray, sample: start.Sample | None, trim: Trim | None) -> np.ndarray:
        """What swaps make of centroids, on the sample that they came from if there is one."""
        some = sample or start.sample(self.lot, self.k, self.rng, self.memory)
        some = some.fewer(enough(self.k, start.row_values(self.lot)), self.rng)
        x = self.lot.take(some.ids)
        if self.trim is not None:  # of several starts this is the best already
            return Swaps(x, some.weights, self.k, self.space, self.rng, trim).improved(centroids)
        again = partial(start.again, x, some.weights, self.k, self.rng)
        if not DeepSwaps.suits(x, self.k):
            return Swaps(x, some.weights, self.k, self.space, self.rng).best(centroids, self.lot.n, again)
        deep = DeepSwaps(x, some.weights, self.k, self.space, self.rng)
        return self._closed(deep.more(self.lot.n), deep.best(centroids, self.lot.n, again))

    def _closed(self, size: int, centroids: np.ndarray) -> np.ndarray:
        """What so many rows make of centroids that fewer led to; 0 for none."""
        if not size:
            return centroids
        lot, ids, weights = self.lot, np.arange(self.lot.n), self.lot.weights
        if size < lot.n:  # not by distance to the centroids: a few rows that are far from all may be one of these
            few = dense(lot.take(draw(lot.n, weights, min(self.k, start.LOOK), self.rng)))
            ids, weights = start.coreset(lot, few, size, self.rng, self.memory)
        return DeepSwaps(lot.take(ids), weights, self.k, self.space, self.rng).closed(centroids)

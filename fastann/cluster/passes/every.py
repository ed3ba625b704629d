"""The plain pass: every row searched in the index, in every iteration."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastann import kernels
from fastann.cluster.criterion import Criterion, choosing_mass
from fastann.cluster.memory import Memory
from fastann.cluster.passes.base import Closed, Pass
from fastann.cluster.passes.rows import Rows
from fastann.cluster.space import Space
from fastann.cluster.update import Sums, Tally
from fastann.data.source import Source
from fastann.index.repair import nearest, search


class Every(Pass):
    """Every row goes to the nearest centroid that the index finds, or to the best of a few by the criterion.

    A row keeps its label where that centroid is nearer than the one an approximate index found, so the
    inertia of a run never rises for want of recall.
    """

    inertia = 0.0

    @classmethod
    def over(
        cls, source: Source, weights: np.ndarray | None, centroids: Any, space: Space, memory: Memory | None = None
    ) -> Every:
        """A pass over rows that were never assigned, to centroids that are there already."""
        work = cls(source, Rows.new(source.n, weights, memory), centroids.shape[0], space)
        work.centroids = centroids
        return work

    def assign(self, index: Any, batch: int, criterion: Criterion) -> Tally:
        mass = self._mass() if criterion.looks > 1 else np.empty(0)
        self.sums, self.inertia = Sums.zero(self.centroids, weighted=self.weights is not None), 0.0
        moved = missed = 0
        for block, part in self.blocks():
            ids, sqdist, repaired = self._chosen(index, block, part, criterion, mass)
            moved += int(np.count_nonzero(ids != part.labels))
            missed += repaired
            part.labels[:], part.sqdist[:] = ids, sqdist
            self.sums.add(block, part.weights, part.labels)
            self.inertia += part.inertia()
        return Tally(moved=moved, repaired=missed, searched=self.n)

    def update(self) -> tuple[Any, float]:
        self.centroids = self.sums.means(self.space, self.centroids)
        return self.centroids, self.inertia

    def finish(self) -> None:
        self.__dict__.pop("sums", None)  # of a pass that goes on from a checkpoint there may be none

    def close(self, index: Any, criterion: Criterion) -> Closed:
        mass = self._mass() if criterion.looks > 1 else np.empty(0)
        inertia = 0.0
        for block, part in self.blocks():
            part.labels[:] = self._chosen(index, block, part, criterion, mass)[0]
            inertia += measured(block, part, self.centroids)
        return Closed(self.rows.labels, self.rows.sqdist, inertia)

    def _chosen(
        self, index: Any, block: Any, part: Rows, criterion: Criterion, mass: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Centroid of each row of a block, its squared distance, and how many rows exact search had to step in for."""
        if criterion.looks == 1:
            return nearest(index, block, self.centroids, part.labels)
        ids, sqdist, repaired = search(index, block, min(criterion.looks, self.k), self.centroids)
        weights = np.ones((len(ids), 1)) if part.weights is None else part.weights[:, None]
        own = ids == part.labels[:, None]
        best = criterion.cost(sqdist, mass[ids], weights, own, self.space).argmin(axis=1)
        at = np.arange(len(ids))
        return ids[at, best], sqdist[at, best], repaired

    def _mass(self) -> np.ndarray:
        """Weight of each cluster, or length of its sum where rows have unit norm, by the last assignment."""
        if not hasattr(self, "sums"):
            return np.zeros(self.k)
        square = np.einsum("ij,ij->i", self.sums.sums, self.sums.sums)
        return choosing_mass(np.asarray(self.space.divisor(self.sums.counts, square), np.float64))


def measured(block: Any, part: Rows, centroids: np.ndarray) -> float:
    """Set the squared distances of rows to the centroids of their labels, by float64 sums; returns the inertia."""
    own = kernels.own_sqdist(block, centroids, part.labels)
    part.sqdist[:] = own
    return float((own if part.weights is None else own * part.weights).sum())

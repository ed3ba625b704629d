"""What passes remember of each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastann import kernels
from fastann.cluster.memory import PART, Memory


@dataclass
class Rows:
    """Label, distance and weight of each row; slicing gives views, so a chunk is handled like the whole.

    Attributes
    ----------
    labels : int32 [n]
        Cluster of the row, -1 before the first assignment.
    sqdist : float32 [n]
        Squared L2 distance to the centroid it was assigned to.
    weights : float64 [n] or None
    part : int
        Rows that are looked at once, where that takes memory for each of them.
    """

    labels: np.ndarray
    sqdist: np.ndarray
    weights: np.ndarray | None = None
    part: int = PART

    @classmethod
    def new(cls, n: int, weights: np.ndarray | None = None, memory: Memory | None = None) -> Rows:
        """State of `n` rows that were never assigned."""
        memory = memory or Memory()
        labels, sqdist = memory.full(n, np.int32, -1), memory.full(n, np.float32, np.inf)
        return cls(labels, sqdist, weights, memory.part)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> Rows:
        weights = None if self.weights is None else self.weights[part]
        return Rows(self.labels[part], self.sqdist[part], weights, self.part)

    def inertia(self) -> float:
        """Sum of squared distances, weighted, in float64."""
        if self.weights is None:
            return float(self.sqdist.sum(dtype=np.float64))
        return float(sum((self.sqdist[part] * self.weights[part]).sum() for part in self.parts()))

    def spread(self, k: int) -> np.ndarray:
        """Weighted sum of the squared distances of each cluster's rows: float64 [k]."""
        return kernels.tally(self.labels, k, self.sqdist, self.weights)

    def members(self, clusters: np.ndarray, shares: np.ndarray, k: int) -> np.ndarray:
        """A row of each of some different clusters, so far on in it as its share, in [0, 1), says: int64 [c].

        Rows that weigh nothing are passed over: the clusters must have others.
        """
        labels = self.labels if self.weights is None else np.where(self.weights > 0, self.labels, np.int32(k))
        sizes = kernels.tally(labels, k + 1)[clusters]
        return kernels.members_at(labels, clusters, (shares * sizes).astype(int))

    def farthest(self, count: int) -> np.ndarray:
        """The rows farthest from their centroids, these first: int64 [count]; looks at a part at a time.

        Those that weigh nothing come last.
        """
        best = np.empty(0, np.int64)
        for part in self.parts():
            some = np.concatenate([best, np.arange(part.start, min(part.stop, len(self)))])
            far = self.sqdist[some]
            if self.weights is not None:
                far[self.weights[some] <= 0] = -1
            best = some[np.argsort(-far, kind="stable")[:count]]
        return best

    def parts(self) -> list[slice]:
        """All rows, `part` at a time."""
        return [slice(start, start + self.part) for start in range(0, len(self), self.part)]

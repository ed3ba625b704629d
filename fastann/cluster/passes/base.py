"""The contract of a pass: whoever holds the rows answers a few calls, and nobody else touches them.

The loop (`fastann.cluster.lloyd`) knows nothing else of the rows, so that a pass over a GPU, over several machines or
made of other passes is a class in this folder and a line in `Plan.work`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastann.cluster.criterion import Criterion
from fastann.cluster.empty import EmptyPolicy
from fastann.cluster.passes.rows import Rows
from fastann.cluster.space import Space
from fastann.cluster.update import Sums, Tally
from fastann.data.source import Source, dense, has_distinct_rows


@dataclass(frozen=True)
class Closed:
    """The rows' final labels.

    Attributes
    ----------
    labels : int32 [n]
    sqdist : float32 [n]
        Squared L2 distance of each row to the centroid of its label.
    inertia : float
        Their weighted sum, from float64 distances.
    lists : int32 [n, m] or None
        Centroids near each row, -1 where there are fewer, if the pass remembers such.
    """

    labels: np.ndarray
    sqdist: np.ndarray
    inertia: float
    lists: np.ndarray | None = None


class Pass(ABC):
    """Rows, and what an iteration does with them: gives them to centroids, and tells the centroids that follow.

    Parameters
    ----------
    source : Source
        The rows, seen in their space.
    rows : Rows
        What is remembered of them, updated in place.
    k : int
    space : Space

    Attributes
    ----------
    centroids : float32 [k, d], or a float32 CSR matrix
        Set before the first assignment; `update` and `refill` move them, and may write over those of before.
    sums : Sums
        Of all rows, as assigned.
    changed : bool [k]
        Centroids that the last update moved.
    told : bool
        Whether somebody may hold what was settled in earlier iterations, which is therefore not written over.
    remembers : bool
        Whether rows remember centroids near to them, by which `close` tells their labels.
    """

    remembers = False

    def __init__(self, source: Source, rows: Rows, k: int, space: Space):
        self.source, self.rows, self.k, self.space = source, rows, k, space
        self.changed, self.told = np.ones(k, bool), True
        self.centroids: Any = None
        self.sums: Sums

    # ----------------------------------------------------------------- what an iteration does

    @property
    def batches(self) -> int:
        """Parts in which an iteration visits the rows; centroids follow after each."""
        return 1

    @abstractmethod
    def assign(self, index: Any, batch: int, criterion: Criterion) -> Tally:
        """Give the rows of a batch to centroids, through an index over these, as the criterion says."""

    @abstractmethod
    def update(self) -> tuple[Any, float]:
        """Move the centroids to the means of their rows; returns them and the inertia of the present labels."""

    def refill(self, policy: EmptyPolicy, rng: np.random.Generator) -> int:
        """Apply a policy to the clusters without rows; returns how many there are."""
        empty = np.flatnonzero(self.sums.counts == 0)
        if len(empty):
            moved, places = policy(empty, self, rng)
            if len(moved):
                self.place(moved, self.space.restored(places))
        return len(empty)

    def place(self, moved: np.ndarray, places: np.ndarray) -> None:
        """Move some centroids (int64 [m]) away from their means, to places (float32 [m, d])."""
        self.centroids[moved] = places

    def take_over(self, centroids: Any) -> None:
        """Go on from what is settled, as it was published: the same but for rounding."""
        self.centroids = centroids

    @property
    def settled(self) -> Any:
        """The means of the clusters, where centroids lie ahead of them while rows still move."""
        return self.centroids

    def finish(self) -> None:  # noqa: B027 - most passes have nothing to give back
        """Give back what only further iterations need: `close` is all that follows."""

    @abstractmethod
    def close(self, index: Any, criterion: Criterion) -> Closed:
        """Give every row its final label, for centroids that no longer move."""

    # ----------------------------------------------------------------- from one iteration to the next

    def state(self) -> dict[str, np.ndarray]:
        """What it remembers from one iteration to the next, beside the centroids; as it is, not copied."""
        return {"labels": self.rows.labels, "sqdist": self.rows.sqdist}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up what `state` gave."""
        self.rows.labels[:], self.rows.sqdist[:] = state["labels"], state["sqdist"]

    # ----------------------------------------------------------------- rows for others

    @property
    def n(self) -> int:
        """Rows."""
        return self.source.n

    @property
    def d(self) -> int:
        """Columns."""
        return self.source.d

    @property
    def weights(self) -> np.ndarray | None:
        """Weights of the rows: float64 [n], or None."""
        return self.rows.weights

    def take(self, indices: np.ndarray) -> Any:
        """Rows at `indices`, as the source has them: float32 [len(indices), d], or a CSR matrix."""
        return self.source.take(indices)

    def chunks(self) -> Iterator[tuple[int, Any]]:
        """All rows in chunks: the number of the first, and the rows."""
        return self.source.chunks()

    def blocks(self) -> Iterator[tuple[Any, Rows]]:
        """The same, beside what is remembered of the rows."""
        for start, block in self.chunks():
            yield block, self.rows[start : start + block.shape[0]]

    def distinct(self, count: int) -> bool:
        """Whether at least so many rows differ from each other."""
        return has_distinct_rows(self.source, count)

    def spread(self) -> np.ndarray:
        """Weighted sum of squared distances of each cluster's rows: float64 [k]."""
        return self.rows.spread(self.k)

    def members(self, clusters: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """A row of each of some different clusters, so far on in it as its share says: float32 [c, d]."""
        return dense(self.take(self.rows.members(clusters, shares, self.k)))

    def farthest(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows farthest from their centroids, these first: rows (float32 [c, d]), labels, weights."""
        far = self.rows.farthest(min(count, self.n))
        weights = np.ones(len(far), np.int64) if self.weights is None else self.weights[far]
        return dense(self.take(far)), self.rows.labels[far], weights

"""Centroids from a stream of batches: running means (MacQueen, 1967; Sculley, 2010)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastann.cluster.clock import Clock
from fastann.cluster.criterion import NEAREST
from fastann.cluster.memory import Memory
from fastann.cluster.passes.every import Every
from fastann.cluster.passes.trimmed import TrimmedEvery, own_weights
from fastann.cluster.space import Space
from fastann.cluster.trim import Trim
from fastann.cluster.update import Sums
from fastann.data.source import Source, dense
from fastann.index.base import Index

LOOKS = 2  # times a batch is assigned: the second time to centroids that it has moved
STARVED = 0.01  # share of the mean weight below which a centroid is starved


@dataclass(frozen=True)
class Online:
    """Centroids, and the sums and weights of the rows that they are the means of.

    Attributes
    ----------
    centroids : float32 [k, d]
    seen : Sums
        Weighted: float64 sums and weights.
    """

    centroids: np.ndarray
    seen: Sums

    @classmethod
    def of(cls, centroids: np.ndarray, weights: np.ndarray, lengths: np.ndarray) -> Online:
        """From weights (float64 [k]) and the lengths of the means, which for cosine the centroids do not tell."""
        return cls(centroids, Sums(centroids * (weights * lengths)[:, None], weights.copy()))

    @property
    def lengths(self) -> np.ndarray:
        """Length of each mean as a share of its centroid's: below 1 for cosine."""
        norms = np.linalg.norm(self.centroids.astype(np.float64), axis=1) * self.seen.counts
        return np.linalg.norm(self.seen.sums, axis=1) / np.where(norms > 0, norms, 1)

    def after(
        self,
        source: Source,
        weights: np.ndarray | None,
        build: Callable[[np.ndarray], Index],
        *,
        decay: float,
        space: Space,
        rng: np.random.Generator,
        clock: Clock,
        trim: Trim | None = None,
    ) -> tuple[Online, Every]:
        """Take in a batch, having forgotten a share of what was seen; returns the pass over its rows too, labelled.

        With `trim` rows of the batch that are far from their centres are left out.
        """
        before, seen = self.seen * decay, self.seen
        own = own_weights(source.n, weights, Memory())
        work = (Every if trim is None else TrimmedEvery).over(source, own, self.centroids, space)
        if isinstance(work, TrimmedEvery) and trim is not None:
            work.leave_out(trim, weights)
        for _ in range(LOOKS):
            with clock("build"):
                index = build(work.centroids)
            with clock("assign"):
                work.assign(index, 0, NEAREST)
            with clock("update"):
                if isinstance(work, TrimmedEvery):
                    work.follow()
                seen = before + work.sums
                work.centroids = seen.means(space, work.centroids)
        with clock("update"):
            _reseed(seen, work, rng)
        return Online(work.centroids, seen), work


def _reseed(seen: Sums, work: Every, rng: np.random.Generator) -> None:
    """Move starved centroids to rows of the batch, drawn by their share of its inertia; in place."""
    rows, centroids = work.rows, work.centroids
    assert rows.weights is not None
    starved = np.flatnonzero(seen.counts < STARVED * seen.counts.mean())
    starved = starved[np.argsort(seen.counts[starved], kind="stable")]
    cost = rows.sqdist * rows.weights
    count = min(len(starved), int(np.count_nonzero(cost)))
    if not count:
        return
    picks = np.sort(rng.choice(work.n, count, replace=False, p=cost / cost.sum()))
    starved, w = starved[:count], rows.weights[picks]
    centroids[starved] = dense(work.take(picks))
    seen.sums[starved], seen.counts[starved] = centroids[starved] * w[:, None], w

"""Centroids from a stream of batches: running means (MacQueen, 1967; Sculley, 2010)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastann.cluster.passes.every import assign
from fastann.cluster.update import Partial, Rows, recenter
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
    seen : Partial
        Weighted: float64 sums and weights.
    """

    centroids: np.ndarray
    seen: Partial

    @classmethod
    def of(cls, centroids: np.ndarray, weights: np.ndarray, lengths: np.ndarray) -> Online:
        """From weights (float64 [k]) and the lengths of the means, which for cosine the centroids do not tell."""
        return cls(centroids, Partial(centroids * (weights * lengths)[:, None], weights.copy()))

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
        metric: str,
        rng: np.random.Generator,
    ) -> tuple[Online, Rows]:
        """Take in a batch, having forgotten a share of what was seen; returns the batch's rows too, labelled."""
        before = Partial(self.seen.sums * decay, self.seen.counts * decay)
        rows = Rows.new(source.n, np.ones(source.n) if weights is None else weights)
        centroids, seen = self.centroids, self.seen
        for _ in range(LOOKS):
            seen = before + assign(source, rows, build(centroids), centroids)
            centroids = recenter(seen, centroids, metric)
        _reseed(centroids, seen, source, rows, rng)
        return Online(centroids, seen), rows


def _reseed(centroids: np.ndarray, seen: Partial, source: Source, rows: Rows, rng: np.random.Generator) -> None:
    """Move starved centroids to rows of the batch, drawn by their share of its inertia; in place."""
    assert rows.weights is not None
    starved = np.flatnonzero(seen.counts < STARVED * seen.counts.mean())
    starved = starved[np.argsort(seen.counts[starved], kind="stable")]
    cost = rows.sqdist * rows.weights
    count = min(len(starved), int(np.count_nonzero(cost)))
    if not count:
        return
    picks = np.sort(rng.choice(source.n, count, replace=False, p=cost / cost.sum()))
    starved, w = starved[:count], rows.weights[picks]
    centroids[starved] = dense(source.take(picks))
    seen.sums[starved], seen.counts[starved] = centroids[starved] * w[:, None], w

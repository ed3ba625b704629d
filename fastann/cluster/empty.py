"""What happens to clusters without rows: policies in a dict, which ask a pass for rows and never read data."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from fastann.cluster.update import Sums


class Holder(Protocol):
    """What a policy asks of the pass whose clusters are empty."""

    centroids: Any
    sums: Sums

    def spread(self) -> np.ndarray:
        """Weighted sum of squared distances of each cluster's rows: float64 [k]."""
        ...

    def members(self, clusters: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """A row of each of some different clusters, so far on in it as its share says: float32 [c, d]."""
        ...

    def farthest(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows farthest from their centroids, these first: rows (float32 [c, d]), labels, weights."""
        ...


class EmptyPolicy(Protocol):
    """Says which centroids to move (int64 [m]), and where to (float32 [m, d]), for empty clusters to be of use."""

    def __call__(self, empty: np.ndarray, work: Holder, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]: ...


def keep(empty: np.ndarray, work: Holder, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Leave empty clusters where they are."""
    return empty[:0], work.centroids[:0]


def split(empty: np.ndarray, work: Holder, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split clusters drawn with probability proportional to their inertia.

    The two halves stand half-way towards, and away from, a random member: FAISS's relative perturbation
    leaves an all-zero centroid as a duplicate for ever.
    """
    spread, centroids = work.spread(), work.centroids
    donors = np.flatnonzero(spread > 0)
    count = min(len(empty), len(donors))
    if not count:
        return keep(empty, work, rng)
    chosen = rng.choice(donors, count, replace=False, p=spread[donors] / spread[donors].sum())
    half = (work.members(chosen, rng.random(count)) - centroids[chosen]) / 2
    return np.concatenate([empty[:count], chosen]), np.concatenate([centroids[chosen] + half, centroids[chosen] - half])


def farthest(empty: np.ndarray, work: Holder, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Move empty clusters to the rows farthest from their centroids, as scikit-learn does."""
    sums: dict[int, np.ndarray] = {}  # of donors, less the rows taken; the pass's own stay as they are
    counts: dict[int, float] = {}
    places: dict[int, np.ndarray] = {}
    far = work.farthest(len(empty))
    for j, x, old, w in zip(empty[: len(far[0])].tolist(), *far, strict=True):
        left = counts.get(old, work.sums.counts[old]) - w
        if w == 0 or left <= 0:  # nothing gained, or the donor would be empty
            continue
        counts[old], sums[old] = left, sums.get(old, work.sums.sums[old]) - w * x.astype(np.float64)
        places[int(old)], places[j] = (sums[old] / left).astype(np.float32), x
    if not places:
        return keep(empty, work, rng)
    return np.array([*places]), np.stack([*places.values()])


EMPTY: dict[str, EmptyPolicy] = {"split": split, "farthest": farthest, "keep": keep}

"""Passes that cluster within many groups of rows at once, such as the classes of a classifier.

Rows and centroids are both dense or both sparse. Centroids are sorted by group: those of group g are numbers
``first[g]`` up to, but without, ``first[g + 1]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.cluster.criterion import Criterion
from fastann.cluster.passes.base import Closed, Pass
from fastann.cluster.passes.rows import Rows
from fastann.cluster.space import Space
from fastann.cluster.update import Sums, Tally
from fastann.data.source import Source
from fastann.index.repair import search


def first_of(sizes: np.ndarray) -> np.ndarray:
    """Bounds of consecutive runs of the given sizes: int64 [len(sizes) + 1]."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def stack(parts: list[Any]) -> Any:
    """Several tables, all dense or all sparse, on top of each other."""
    if len(parts) == 1:
        return parts[0]
    return sparse.vstack(parts, format="csr") if sparse.issparse(parts[0]) else np.concatenate(parts)


def add(sums: Sums, block: Any, weights: np.ndarray | None, ids: np.ndarray) -> None:
    """Add rows to the sums of the centroids `ids` (int32 [n]), in place; rows of id -1 are left out."""
    if (ids < 0).any():
        some = np.flatnonzero(ids >= 0)
        block, ids, weights = block[some], ids[some], None if weights is None else weights[some]
    sums.add(block, weights, ids)


class Within(Pass):
    """A pass in which every row goes to the nearest centroid of its own group.

    Parameters
    ----------
    source, rows, space
        See `Pass`.
    groups : int32 [n]
        Group of each row.
    first : int64 [groups + 1]
        Where the centroids of each group begin.
    """

    inertia = 0.0

    def __init__(self, source: Source, rows: Rows, groups: np.ndarray, first: np.ndarray, space: Space):
        super().__init__(source, rows, int(first[-1]), space)
        self.groups, self.first = groups, first

    def assign(self, index: Any, batch: int, criterion: Criterion) -> Tally:
        self.sums, self.inertia = Sums.zero(self.centroids, weighted=self.rows.weights is not None), 0.0
        begin = moved = 0
        for block, part in self.blocks():
            moved += self._assign(index, block, part, self.groups[begin : begin + block.shape[0]])
            self.inertia += part.inertia()
            begin += block.shape[0]
        return Tally(moved=moved)

    def _assign(self, index: Any, block: Any, part: Rows, groups: np.ndarray) -> int:
        """Assign the rows of a block, and add them; returns how many moved."""
        ids, sqdist = kernels.nearest_in_group(block, groups, self.centroids, self.first)
        moved = int(np.count_nonzero(ids != part.labels))
        part.labels[:], part.sqdist[:] = ids, np.where(ids >= 0, sqdist, 0)  # 0 for rows of groups without centroids
        add(self.sums, block, part.weights, ids)
        return moved

    def update(self) -> tuple[Any, float]:
        self.centroids = self.sums.means(self.space, self.centroids)
        return self.centroids, self.inertia

    def close(self, index: Any, criterion: Criterion) -> Closed:
        """Labels and distances as one more assignment gives them."""
        self.assign(index, 0, criterion)
        return Closed(self.rows.labels, self.rows.sqdist, self.inertia)


@dataclass(frozen=True)
class Sharing:
    """How a row is shared among centroids near to it.

    Attributes
    ----------
    nearest : int
        Centroids of any group that a row looks at, besides the nearest of its own.
    scores : {"linear", "softmax"}
        Shares proportional to the similarity where that is positive, or to the exponential of it.
    temperature : float
        Divides the similarity in the softmax.
    penalty : float
        Taken off the similarity to centroids of other groups.
    """

    nearest: int
    scores: str
    temperature: float
    penalty: float

    def shares(self, similarity: np.ndarray, own: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Shares of each row, float64 [n, m], that sum to 1; column 0 is the nearest of the own group."""
        score = similarity - self.penalty * ~own
        if self.scores == "softmax":
            score = np.where(valid, score / self.temperature, -np.inf)
            share = np.exp(score - score.max(axis=1, keepdims=True))
        else:
            share = np.where(valid, np.maximum(score, 0), 0)
            share[share.sum(axis=1) == 0, 0] = 1
        return share / share.sum(axis=1, keepdims=True)


class Shared(Within):
    """A pass in which every row is shared among the centroids near to it, of its own group and of others."""

    def __init__(
        self,
        source: Source,
        rows: Rows,
        groups: np.ndarray,
        first: np.ndarray,
        space: Space,
        sharing: Sharing,
    ):
        super().__init__(source, rows, groups, first, space)
        self.sharing = sharing
        self.owner = np.repeat(np.arange(len(first) - 1), np.diff(first)).astype(np.int32)

    def assign(self, index: Any, batch: int, criterion: Criterion) -> Tally:
        if self.rows.weights is None:  # a row counts by its shares, which are fractions
            self.rows.weights = np.ones(self.n)
        return super().assign(index, batch, criterion)

    def _assign(self, index: Any, block: Any, part: Rows, groups: np.ndarray) -> int:
        assert part.weights is not None
        ids, sqdist = neighbours(index, block, groups, self.centroids, self.first, self.sharing.nearest)
        own = self.owner[ids] == groups[:, None]
        share = self.sharing.shares(self.space.similarity(sqdist), own, ids >= 0) * part.weights[:, None]
        most = ids[np.arange(len(ids)), share.argmax(axis=1)]
        moved = int(np.count_nonzero(most != part.labels))
        part.labels[:] = most
        far = np.where((share > 0) & (ids >= 0), sqdist, 0)
        part.sqdist[:] = (share * far).sum(axis=1) / np.maximum(part.weights, 1e-300)
        for column in range(ids.shape[1]):
            add(self.sums, block, share[:, column], np.where(share[:, column] > 0, ids[:, column], -1))
        return moved


def neighbours(
    index: Any, x: Any, groups: np.ndarray, centroids: Any, first: np.ndarray, m: int
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroid of each row's own group (first column), and the `m` nearest of all.

    Returns
    -------
    ids : int32 [n, m + 1]
        -1 where the centroid of the first column is found again, or a group has no centroid.
    sqdist : float32 [n, m + 1]
        Infinite where the id is -1.
    """
    own, near = kernels.nearest_in_group(x, groups, centroids, first)
    ids, sqdist, _ = search(index, x, min(m, int(first[-1])), centroids)
    again = ids == own[:, None]
    ids, sqdist = np.where(again, np.int32(-1), ids), np.where(again, np.float32(np.inf), sqdist)
    return np.hstack([own[:, None], ids]), np.hstack([near[:, None], sqdist])

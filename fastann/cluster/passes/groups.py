"""K-means inside each of many groups of rows at once, such as the classes of a classifier.

Rows and centroids are dense or sparse, both alike. Centroids are sorted by group: those of group g are
``first[g]`` to ``first[g + 1]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.cluster import plan
from fastann.cluster.passes.every import blocks, search
from fastann.cluster.update import Partial, Rows, recenter
from fastann.data.source import Source
from fastann.index.own import Searcher
from fastann.index.spec import AUTO, Cells, Flat, Spec

PER_SEED = 16  # rows of a group that k-means++ draws from, per centroid wanted
LEAST = 64  # ... and at least
BLOCK = 2**16  # rows that are gathered at once to draw starts from


def first_of(sizes: np.ndarray) -> np.ndarray:
    """Bounds of consecutive runs of the given sizes: int64 [len(sizes) + 1]."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


# --------------------------------------------------------------------------- starts


def start(
    source: Source,
    labels: np.ndarray,
    weights: np.ndarray | None,
    sizes: np.ndarray,
    method: str,
    rng: np.random.Generator,
) -> tuple[Any, np.ndarray]:
    """Rows of each group to start from: by greedy k-means++ on a sample of the group, or at random.

    Parameters
    ----------
    source : Source
    labels : int32 [n]
        Group of each row.
    weights : float64 [n] or None
    sizes : int64 [groups]
        Centroids wanted of each group.
    method : {"k-means++", "random"}

    Returns
    -------
    centroids : float32 [k, d], or a float32 CSR matrix
    sizes : int64 [groups]
        How many each group got: fewer where it has fewer distinct rows of positive weight.
    """
    order = rng.permutation(source.n)
    if weights is not None:
        order = order[weights[order] > 0]
    order = order[np.argsort(labels[order], kind="stable")]  # each group's rows, shuffled
    bounds = np.searchsorted(labels[order], np.arange(len(sizes) + 1))
    kept = np.minimum(np.diff(bounds), np.maximum(LEAST, PER_SEED * sizes) if method == "k-means++" else sizes)
    uniform = rng.random((int(sizes.sum()), 2 + int(np.log(max(1, sizes.max())))))
    parts, got = [], np.zeros(len(sizes), np.int64)
    ends, first = np.cumsum(kept), first_of(sizes)
    g = 0
    while g < len(sizes):
        end = max(g + 1, int(np.searchsorted(ends, (ends[g - 1] if g else 0) + BLOCK, side="right")))
        rows = np.concatenate([order[b : b + c] for b, c in zip(bounds[g:end], kept[g:end], strict=True)])
        x = source.take(rows)
        if method == "k-means++":
            w = np.ones(len(rows)) if weights is None else weights[rows]
            picks = kernels.plus_plus(x, w, first_of(kept[g:end]), sizes[g:end], uniform[first[g] : first[end]])
            owner = np.repeat(np.arange(g, end), sizes[g:end])
            parts.append(x[picks[picks >= 0]])
            got[g:end] = np.bincount(owner[picks >= 0] - g, minlength=end - g)
        else:
            parts.append(x)
            got[g:end] = kept[g:end]
        g = end
    return stack(parts), got


def stack(parts: list[Any]) -> Any:
    """One table of several, dense or sparse."""
    if len(parts) == 1:
        return parts[0]
    return sparse.vstack(parts, format="csr") if sparse.issparse(parts[0]) else np.concatenate(parts)


# --------------------------------------------------------------------------- sums and means


def add(partial: Partial, block: Any, weights: np.ndarray | None, ids: np.ndarray) -> None:
    """Add rows to the sums and counts of the centroids `ids`, in place; rows of id -1 are left out."""
    if (ids < 0).any():
        some = np.flatnonzero(ids >= 0)
        block, ids, weights = block[some], ids[some], None if weights is None else weights[some]
    if not sparse.issparse(block):
        kernels.add_rows(block, weights, ids, partial.sums, partial.counts)
        return
    n, k = block.shape[0], partial.sums.shape[0]
    w = np.ones(n) if weights is None else weights
    partial.sums = partial.sums + sparse.csr_matrix((w, ids, np.arange(n + 1)), (n, k)).T @ block
    partial.counts += np.bincount(ids, weights, minlength=k).astype(partial.counts.dtype)


def nothing(centroids: Any, *, weighted: bool) -> Partial:
    """A `Partial` of no rows, whose sums are of the kind of `centroids`."""
    k, d = centroids.shape
    partial = Partial.zero(k, 0 if sparse.issparse(centroids) else d, weighted)
    if sparse.issparse(centroids):
        partial.sums = sparse.csr_matrix((k, d))
    return partial


def means(partial: Partial, centroids: Any, metric: str) -> Any:
    """Mean of each centroid's rows, of unit norm for cosine; centroids without rows stay."""
    if not sparse.issparse(centroids):
        return recenter(partial, centroids, metric)
    scale = np.sqrt(kernels.sqnorms(partial.sums)) if metric == "cosine" else partial.counts
    held = (partial.counts > 0) & (scale > 0)
    kept = sparse.diags(1.0 * ~held) @ centroids
    return (sparse.diags(held / np.where(held, scale, 1)) @ partial.sums + kept).astype(np.float32).tocsr()


# --------------------------------------------------------------------------- passes


class Within:
    """A pass in which every row goes to the nearest centroid of its own group."""

    batches = 1
    size_aware = False

    def __init__(self, source: Source, rows: Rows, groups: np.ndarray, first: np.ndarray, metric: str):
        self.source, self.rows, self.groups, self.first, self.metric = source, rows, groups, first, metric
        self.changed = np.ones(first[-1], bool)
        self.partial: Partial | None = None

    def assign(self, centroids: Any, batch: int, index: Any, *, size_aware: bool) -> Partial:
        self.partial = nothing(centroids, weighted=self.rows.weights is not None)
        begin = 0
        for block, part in blocks(self.source, self.rows):
            self._assign(centroids, index, block, part, self.groups[begin : begin + block.shape[0]])
            begin += block.shape[0]
        return self.partial

    def _assign(self, centroids: Any, index: Searcher, block: Any, part: Rows, groups: np.ndarray) -> None:
        assert self.partial is not None
        ids, sqdist = kernels.nearest_in_group(block, groups, centroids, self.first)
        self.partial.moved += int(np.count_nonzero(ids != part.labels))
        part.labels[:], part.sqdist[:] = ids, np.where(ids >= 0, sqdist, 0)  # nothing to be far from
        add(self.partial, block, part.weights, ids)
        self.partial.inertia += part.inertia()

    def recenter(self, centroids: Any) -> Any:
        assert self.partial is not None
        return means(self.partial, centroids, self.metric)

    def refilled(self) -> None:
        """Nothing to remember."""


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
        metric: str,
        sharing: Sharing,
    ):
        super().__init__(source, rows, groups, first, metric)
        self.sharing = sharing
        self.owner = np.repeat(np.arange(len(first) - 1), np.diff(first)).astype(np.int32)

    def assign(self, centroids: Any, batch: int, index: Any, *, size_aware: bool) -> Partial:
        if self.rows.weights is None:  # shares are no whole numbers
            self.rows.weights = np.ones(self.source.n)
        return super().assign(centroids, batch, index, size_aware=size_aware)

    def _assign(self, centroids: Any, index: Searcher, block: Any, part: Rows, groups: np.ndarray) -> None:
        assert self.partial is not None
        assert part.weights is not None
        ids, sqdist = neighbours(index, block, groups, centroids, self.first, self.sharing.nearest)
        own = self.owner[ids] == groups[:, None]
        share = self.sharing.shares(similarity(sqdist, self.metric), own, ids >= 0) * part.weights[:, None]
        most = ids[np.arange(len(ids)), share.argmax(axis=1)]
        self.partial.moved += int(np.count_nonzero(most != part.labels))
        part.labels[:] = most
        far = np.where((share > 0) & (ids >= 0), sqdist, 0)
        part.sqdist[:] = (share * far).sum(axis=1) / np.maximum(part.weights, 1e-300)
        for column in range(ids.shape[1]):
            add(self.partial, block, share[:, column], np.where(share[:, column] > 0, ids[:, column], -1))
        self.partial.inertia += part.inertia()


def similarity(sqdist: np.ndarray, metric: str) -> np.ndarray:
    """Squared L2 distances as similarities: the cosine of unit vectors, or 1 / (1 + squared distance); float64."""
    s = sqdist.astype(np.float64)
    return 1 - s / 2 if metric == "cosine" else 1 / (1 + s)


def neighbours(
    index: Searcher, x: Any, groups: np.ndarray, centroids: Any, first: np.ndarray, m: int
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroid of each row's own group (first column), and the `m` nearest of all.

    Returns
    -------
    ids : int32 [n, m + 1]
        -1 where the first column's is met again, or a group has no centroid.
    sqdist : float32 [n, m + 1]
        Infinite where the id is -1.
    """
    own, near = kernels.nearest_in_group(x, groups, centroids, first)
    ids, sqdist, _ = search(index, x, min(m, int(first[-1])), centroids)
    again = ids == own[:, None]
    ids, sqdist = np.where(again, np.int32(-1), ids), np.where(again, np.float32(np.inf), sqdist)
    return np.hstack([own[:, None], ids]), np.hstack([near[:, None], sqdist])


# --------------------------------------------------------------------------- searching sparse centroids


class InvertedIndex:
    """Search among sparse centroids, by the columns that rows and centroids share: exact, or on a budget."""

    def __init__(self, centroids: sparse.csr_matrix, budget: int | None = None):
        self.exact, self.budget = budget is None, budget
        self.lists: kernels.CSR = kernels.table(centroids.T.tocsr())
        self.sqnorm = kernels.sqnorms(centroids)

    def search(self, x: Any, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        return kernels.search_inverted(x, self.lists, self.sqnorm, m, self.budget)


@dataclass(frozen=True)
class Either:
    """What builds an index over centroids of either kind: sparse ones get the inverted index.

    Attributes
    ----------
    index : str or Spec
        For dense centroids; "auto" is exact for few, and cells for many.
    budget : int or None
        Of the search among sparse ones, see `kernels.search_inverted`.
    """

    index: Spec | str
    budget: int | None = None

    def spec(self, k: int, device: Any = "cpu") -> Spec:
        """The spec for `k` dense centroids; that of "auto" may leave its search option open."""
        spec = plan.choose_index(self.index, k)
        if self.index != "auto" or spec == Flat():
            return spec
        # A GPU searches everything faster than cells, which are for CPUs.
        return Cells(nlist=round(2 * k**0.5), nprobe=AUTO) if device == "cpu" else Flat()

    def started(self) -> Either:
        """Itself: what is left open gets its default when it is built."""
        return self

    def build(self, centroids: Any, *, seed: int = 0, device: Any = "cpu") -> Searcher:
        """Index `centroids`: float32 [k, d], or a float32 CSR matrix."""
        if sparse.issparse(centroids):
            return InvertedIndex(centroids, self.budget)
        return self.spec(len(centroids), device).started().build(centroids, seed=seed, device=device)

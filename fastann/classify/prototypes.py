"""Prototypes of classes, and what is done to them: merging, pruning, truncation, shrinkage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.cluster.passes.groups import first_of
from fastann.cluster.space import Space
from fastann.data.source import unit_rows

PULL = 3.0  # see `shrink`
PAIRS = 2**16  # pairs of prototypes that are compared at once, and that a mean distance is estimated from


@dataclass
class Prototypes:
    """Prototypes in the space that distances are computed in, sorted by class.

    Attributes
    ----------
    vectors : float32 [K, d], a float32 CSR matrix, or a `Half` of either
        Of unit norm for the cosine metric. What trains them takes no `Half`, which is how they are kept and searched.
    owner : int32 [K]
        Class of each.
    weights : float64 [K]
        Total weight of the rows each stands for.
    spread : float64 [K]
        Mean squared L2 distance of these rows to their mean.
    """

    vectors: Any
    owner: np.ndarray
    weights: np.ndarray
    spread: np.ndarray

    def __len__(self) -> int:
        return len(self.owner)

    def first(self, classes: int) -> np.ndarray:
        """Bounds of the prototypes of each class: int64 [classes + 1]."""
        return first_of(np.bincount(self.owner, minlength=classes))

    def __getitem__(self, some: np.ndarray) -> Prototypes:
        return Prototypes(self.vectors[some], self.owner[some], self.weights[some], self.spread[some])

    def means(self, space: Space) -> Any:
        """Mean of the rows of each prototype.

        That is its vector; where vectors have unit norm, one of the same direction and of length sqrt(1 - spread).
        """
        return scaled(np.sqrt(np.maximum(0, 1 - self.spread)), self.vectors) if space.unit else self.vectors


@dataclass(frozen=True)
class Thinning:
    """Thresholds of what is merged, pruned and truncated; None and 0 do nothing.

    Attributes
    ----------
    merge : float or None
        Distance below which prototypes of one class merge.
    relative : float or None
        The same as a fraction of the mean distance between prototypes.
    quantile : float or None
        Merge, and truncate, only what is also below this quantile of distances, or of magnitudes.
    min_weight : float
        Prototypes of less weight go, except the heaviest of their class.
    truncate : float
        Coordinates smaller than this become zero.
    by_spread : bool
        Whether `merge` is a share of the spread of each class, see `class_spread`, rather than a distance.
    """

    merge: float | None = None
    relative: float | None = None
    quantile: float | None = None
    min_weight: float = 0.0
    truncate: float = 0.0
    by_spread: bool = False

    def __call__(
        self, p: Prototypes, space: Space, rng: np.random.Generator, patience: float = 0.0
    ) -> tuple[Prototypes, int]:
        """Merge, prune and truncate; returns the prototypes left and how many were merged away.

        `patience` is that of `prune`.
        """
        before = len(p)
        p = self._merge(p, space, rng)
        merged = before - len(p)
        p = prune(p, self.min_weight, patience)
        return self._truncate(p, space), merged

    def _merge(self, p: Prototypes, space: Space, rng: np.random.Generator) -> Prototypes:
        if self.merge is None and self.relative is None:
            return p
        i, j = pairs_within(p)
        if not len(i):
            return p
        distances = pair_distances(p.vectors, i, j, space)
        limit = np.ones(int(p.owner[-1]) + 1)  # of each class
        if self.relative is not None:
            limit *= self.relative * _mean_distance(p.vectors, space, rng)
        else:
            assert self.merge is not None
            limit = self.merge * (class_spread(p, space) if self.by_spread else limit)
        if self.quantile is not None:
            limit = np.minimum(limit, float(np.quantile(distances, self.quantile)))
        while len(i):
            near = np.flatnonzero(distances <= limit[p.owner[i]])
            if not len(near):
                break
            near = near[np.lexsort((distances[near], p.owner[i[near]]))]
            _, closest = np.unique(p.owner[i[near]], return_index=True)  # one pair a class, its closest
            p = _merged(p, i[near[closest]], j[near[closest]], space)
            i, j = pairs_within(p)
            distances = pair_distances(p.vectors, i, j, space)
        return p

    def _truncate(self, p: Prototypes, space: Space) -> Prototypes:
        if not self.truncate:
            return p
        dense = not sparse.issparse(p.vectors)
        values = p.vectors if dense else p.vectors.data
        size = np.abs(values)
        small = size < self.truncate
        if self.quantile is not None and size.any():
            small &= size <= np.quantile(size[size > 0], self.quantile)
        kept = np.where(small, np.float32(0), values)
        vectors: Any = kept
        if not dense:
            vectors = sparse.csr_matrix((kept, p.vectors.indices, p.vectors.indptr), p.vectors.shape)
            vectors.eliminate_zeros()
        gone = np.flatnonzero(sqnorms_of(vectors) == 0)  # a prototype that would vanish stays whole
        vectors = with_rows(vectors, gone, p.vectors[gone]) if len(gone) else vectors
        return replace(p, vectors=normed(vectors, space))


def prune(p: Prototypes, min_weight: float, patience: float = 0.0) -> Prototypes:
    """Drop prototypes without weight or of less than `min_weight`; every class keeps its heaviest.

    Classes that have seen less than `patience` times `min_weight` per prototype are left alone, as at the start of a
    stream every prototype is light.
    """
    seen = np.bincount(p.owner, p.weights)[p.owner]
    young = seen < patience * min_weight * np.bincount(p.owner)[p.owner]
    keep = young | ((p.weights > 0) & (p.weights >= min_weight))
    if keep.all():
        return p
    order = np.lexsort((-p.weights, p.owner))
    _, heaviest = np.unique(p.owner[order], return_index=True)
    keep[order[heaviest]] = True
    return p[np.flatnonzero(keep)]


def pairs_within(p: Prototypes) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (i < j) of prototypes of one class."""
    sizes = np.bincount(p.owner)
    first = first_of(sizes)
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for size in np.unique(sizes[sizes > 1]):
        a, b = np.triu_indices(size, 1)
        base = first[np.flatnonzero(sizes == size)][:, None]
        left.append((base + a).ravel())
        right.append((base + b).ravel())
    return np.concatenate(left), np.concatenate(right)


def pair_distances(vectors: Any, i: np.ndarray, j: np.ndarray, space: Space) -> np.ndarray:
    """Distance between prototypes i and j, pair by pair, in the metric's unit: float64."""
    out = np.empty(len(i))
    for start in range(0, len(i), PAIRS):
        part = slice(start, start + PAIRS)
        difference = vectors[i[part]] - vectors[j[part]]
        out[part] = sqnorms_of(difference)
    return space.distance(out)


def sqnorms_of(x: Any) -> np.ndarray:
    """Squared L2 norms of rows, dense or sparse: float64 [n]."""
    return kernels.sqnorms(x) if sparse.issparse(x) else np.einsum("ij,ij->i", x, x, dtype=np.float64)


def normed(vectors: Any, space: Space) -> Any:
    """Vectors of unit norm, if the space has such."""
    if not space.unit:
        return vectors.astype(np.float32, copy=False)
    if sparse.issparse(vectors):
        return unit_rows(vectors)
    norm = np.sqrt(sqnorms_of(vectors))[:, None]
    return (vectors / np.where(norm > 0, norm, 1)).astype(np.float32)


def with_rows(vectors: Any, i: np.ndarray, new: Any) -> Any:
    """`vectors` with rows `i` replaced by `new`: in place where they are dense, else as a new matrix."""
    if not sparse.issparse(vectors):
        vectors[i] = new
        return vectors
    place = np.arange(vectors.shape[0])
    place[i] = len(place) + np.arange(len(i))
    return sparse.vstack([vectors, new.astype(np.float32)], format="csr")[place]


def _mean_distance(vectors: Any, space: Space, rng: np.random.Generator) -> float:
    k = vectors.shape[0]
    i, j = np.triu_indices(k, 1) if k * k <= 2 * PAIRS else rng.integers(0, k, (2, PAIRS))
    return float(pair_distances(vectors, i[i != j], j[i != j], space).mean())


def class_spread(p: Prototypes, space: Space) -> np.ndarray:
    """How far rows of each class lie from their mean, in the metric's unit: float64 [classes].

    That is the distance whose square, in the space of the prototypes, is the mean squared distance.
    """
    means = p.means(space)
    gather, total, centre = _class_means(p, means, p.weights)
    apart = gather @ (p.spread + sqnorms_of(means - centre[p.owner]))
    return space.distance(np.divide(apart, total, out=np.zeros(len(total)), where=total > 0))


def _class_means(p: Prototypes, means: Any, weights: np.ndarray) -> tuple[Any, np.ndarray, Any]:
    """What sums over the prototypes of each class by some weights, the weights of the classes, and their means."""
    classes = int(p.owner[-1]) + 1
    gather = sparse.csr_matrix((weights, (p.owner, np.arange(len(p)))), (classes, len(p)))
    total = np.bincount(p.owner, weights, minlength=classes)
    return gather, total, scaled(1 / np.where(total > 0, total, 1), gather @ means)


def _merged(p: Prototypes, i: np.ndarray, j: np.ndarray, space: Space) -> Prototypes:
    """Merge prototypes j into prototypes i: the mean of the rows of both."""
    means, weights, spread = p.means(space), p.weights.copy(), p.spread.copy()
    weights[i] += weights[j]
    share = p.weights[j] / np.maximum(weights[i], np.finfo(float).tiny)
    apart = sqnorms_of(means[i] - means[j])
    spread[i] = (1 - share) * p.spread[i] + share * p.spread[j] + share * (1 - share) * apart
    mean = sparse.diags(1 - share) @ means[i] + sparse.diags(share) @ means[j]
    vectors = with_rows(p.vectors if sparse.issparse(p.vectors) else p.vectors.copy(), i, normed(mean, space))
    keep = np.ones(len(p), bool)
    keep[j] = False
    return Prototypes(vectors, p.owner, weights, spread)[np.flatnonzero(keep)]


def shrink(
    p: Prototypes, strength: float | None, space: Space, unit: np.ndarray | None = None
) -> tuple[Prototypes, np.ndarray]:
    """Pull prototypes towards the mean of their class, as by `strength` more rows that lie there.

    The squared error of the mean of a few rows is their spread over their number, and k-means, which fits its groups to
    the rows, adds to it. None takes as strength, class by class, `PULL` times the spread within prototypes over the
    spread between them. With `PULL` 1 that would be the empirical Bayes estimate (Efron and Morris, 1973) for groups
    that are given, not fitted.

    Parameters
    ----------
    p : Prototypes
    strength : float or None
    space : Space
    unit : float64 [classes] or None
        What a row of each class weighs in the mean; None: 1.

    Returns
    -------
    prototypes : Prototypes
    share : float64 [K]
        How far each was pulled, 1 being all the way.
    """
    sizes = np.bincount(p.owner)
    classes = len(sizes)
    if strength == 0 or not (sizes > 1).any():
        return p, np.zeros(len(p))
    means = p.means(space)
    rows = p.weights if unit is None else p.weights / unit[p.owner]
    gather, total, centre = _class_means(p, means, rows)
    centre = centre[p.owner]
    pull = np.full(classes, strength, dtype=float) if strength is not None else np.zeros(classes)
    if strength is None:
        within = (gather @ p.spread) / np.maximum(total - sizes, 1e-12)
        between = (gather @ sqnorms_of(means - centre)) / np.where(total > 0, total, 1)
        pull = PULL * np.divide(within, between, out=np.zeros(classes), where=(between > 0) & (total > sizes))
    share = pull[p.owner] / np.maximum(pull[p.owner] + rows, np.finfo(float).tiny)
    mean = scaled(1 - share, means) + scaled(share, centre)
    spread = np.maximum(0, 1 - sqnorms_of(mean)) if space.unit else p.spread
    single = (sizes == 1)[p.owner]
    vectors = normed(mean, space)
    if single.any():
        vectors = with_rows(vectors, np.flatnonzero(single), p.vectors[np.flatnonzero(single)])
    pulled = Prototypes(vectors, p.owner, p.weights, np.where(single, p.spread, spread))
    return pulled, np.where(single, 0, share)


def scaled(by: np.ndarray, table: Any) -> Any:
    """Rows of a table, dense or sparse, times a number each: float64."""
    return sparse.diags(by) @ table if sparse.issparse(table) else by[:, None] * table

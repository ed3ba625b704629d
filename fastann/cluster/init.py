"""Starting centroids: random rows, greedy k-means++, k-means||."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from fastann.cluster import kernels
from fastann.cluster.index import Flat
from fastann.data.source import ArraySource, Source, Subset, dense

PLUS_PLUS_UP_TO = 256  # clusters for which "auto" seeds with k-means++; above, starts were measured to tie


def random(source: Source, weights: np.ndarray | None, k: int, rng: np.random.Generator) -> np.ndarray:
    """`k` different rows, drawn with probability proportional to their weights: float32 [k, d]."""
    return dense(source.take(np.sort(draw(source.n, weights, k, rng))))


def draw(n: int, weights: np.ndarray | None, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `size` different rows of `n`; equal weights draw the same rows as none."""
    if weights is None or weights.min() == weights.max():
        return rng.choice(n, size, replace=False)
    positive = np.flatnonzero(weights)
    if len(positive) <= size:  # every row of positive weight, then some of the others
        rest = rng.choice(np.flatnonzero(weights == 0), size - len(positive), replace=False)
        return np.concatenate([positive, rest])
    return rng.choice(n, size, replace=False, p=weights / weights.sum())


def plus_plus(source: Source, weights: np.ndarray | None, k: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007) on a sample of at least 128 rows a cluster.

    Each centre is the best, by the inertia it leaves, of several rows drawn with probability proportional
    to weight times squared distance: twice scikit-learn's 2 + log(k) draws, as they are cheap on a sample.
    """
    size = max(2**15, 128 * k)
    if source.n > size:
        picks = np.sort(rng.choice(source.n, size, replace=False))
        weights = None if weights is None else weights[picks]
        if weights is not None and not weights.any():
            weights = None
        x = source.take(picks)
    else:
        x = source.take(np.arange(source.n))
    return _greedy(x, weights, k, rng)


def _greedy(x: Any, weights: np.ndarray | None, k: int, rng: np.random.Generator) -> np.ndarray:
    n = x.shape[0]
    w = np.ones(n) if weights is None else weights
    trials = 2 * (2 + int(np.log(k)))
    xsq = kernels.sqnorms(x).astype(np.float32) if sparse.issparse(x) else np.einsum("ij,ij->i", x, x)
    across = x.T.tocsr() if sparse.issparse(x) else x.T
    chosen = np.empty(k, np.int64)
    chosen[0] = _weighted_draw(np.cumsum(w), 1, rng)[0]
    closest = _sqdist_to(x, across, xsq, chosen[:1])[0]
    for j in range(1, k):
        cumulative = np.cumsum(closest * w)
        if cumulative[-1] <= 0:  # fewer distinct rows than k: any rows do
            chosen[j:] = rng.choice(n, k - j, replace=k - j > n)
            break
        tries = _weighted_draw(cumulative, trials, rng)
        left = np.minimum(_sqdist_to(x, across, xsq, tries), closest)
        best = int(np.argmin(left @ w))
        chosen[j], closest = tries[best], left[best]
    return dense(x[chosen])


def _sqdist_to(x: Any, across: Any, xsq: np.ndarray, picks: np.ndarray) -> np.ndarray:
    out = dense(x[picks] @ across)
    out *= -2
    out += xsq
    out += xsq[picks, None]
    return np.maximum(out, 0, out=out)


def _weighted_draw(cumulative: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    at = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
    return np.minimum(at, len(cumulative) - 1)


def parallel(source: Source, weights: np.ndarray | None, k: int, rng: np.random.Generator) -> np.ndarray:
    """k-means|| (Bahmani et al., 2012): five rounds that each draw about 2k rows, over all rows.

    The rows drawn, weighted by the rows nearest to them, are then reduced to `k` by greedy k-means++.
    """
    n = source.n
    w = np.ones(n) if weights is None else weights
    centres = dense(source.take(_weighted_draw(np.cumsum(w), 1, rng)))
    closest = np.full(n, np.inf, np.float32)
    owner = np.zeros(n, np.int32)
    new = centres
    for _ in range(5):
        _nearer(source, new, len(centres) - len(new), closest, owner)
        cost = closest * w
        total = cost.sum(dtype=np.float64)
        if total <= 0:
            new = centres[:0]
            break
        new = dense(source.take(np.flatnonzero(rng.random(n) < np.minimum(1, 2 * k * cost / total))))
        if len(new):
            centres = np.concatenate([centres, new])
    _nearer(source, new, len(centres) - len(new), closest, owner)
    if len(centres) <= k:
        return np.concatenate([centres, random(source, weights, k, rng)])[:k]
    return _greedy(centres, np.bincount(owner, weights=w, minlength=len(centres)), k, rng)


def _nearer(source: Source, new: np.ndarray, first: int, closest: np.ndarray, owner: np.ndarray) -> None:
    if not len(new):
        return
    index = Flat().build(new)
    for start, block in source.chunks():
        ids, sqdist = index.search(block, 1)
        part = slice(start, start + block.shape[0])
        nearer = sqdist[:, 0] < closest[part]
        closest[part] = np.where(nearer, sqdist[:, 0], closest[part])
        owner[part] = np.where(nearer, ids[:, 0] + first, owner[part])


Init = Callable[[Source, "np.ndarray | None", int, np.random.Generator], np.ndarray]

INITS: dict[str, Init] = {"random": random, "k-means++": plus_plus, "k-means||": parallel}


def start(name: str, source: Source, weights: np.ndarray | None, k: int, rng: np.random.Generator) -> np.ndarray:
    """Starting centroids, float32 [k, d], by the method called `name` ("auto" or one of `INITS`)."""
    if name == "auto":
        name = "k-means++" if k <= PLUS_PLUS_UP_TO else "random"
    return INITS[name](source, weights, k, rng)


def subsample(source: Source, weights: np.ndarray | None, size: int, rng: np.random.Generator) -> tuple:
    """Draw `size` rows to train on: their Source and their weights.

    A sample is copied only where that takes less than 16 bytes per row of all the data.
    """
    picks = np.sort(rng.choice(source.n, size, replace=False))
    weights = None if weights is None else weights[picks]
    if not source.sparse and 4 * source.d * size <= 16 * source.n:
        return ArraySource(source.take(picks)), weights
    return Subset(source, picks), weights

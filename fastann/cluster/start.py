"""Starting centroids: random rows, greedy k-means++, k-means||. They ask a pass for rows, whoever holds these."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.cluster.memory import Memory
from fastann.cluster.passes.base import Pass
from fastann.cluster.passes.rows import Rows
from fastann.data.source import Source, dense
from fastann.index.spec import Flat

_MANY = 2**24  # rows of which not each gets a number to draw from
PLUS_PLUS_UP_TO = 256  # clusters for which "auto" seeds with k-means++; above, starts were measured to tie


def random(work: Pass, k: int, rng: np.random.Generator, memory: Memory) -> np.ndarray:
    """`k` different rows, drawn with probability proportional to their weights: float32 [k, d]."""
    return dense(work.take(np.sort(draw(work.n, work.weights, k, rng))))


def draw(n: int, weights: np.ndarray | None, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `size` different rows of `n`; equal weights draw the same rows as none."""
    if weights is None or weights.min() == weights.max():
        return draw_any(n, size, rng)
    positive = np.flatnonzero(weights)
    if len(positive) <= size:  # every row of positive weight, then some of the others
        rest = rng.choice(np.flatnonzero(weights == 0), size - len(positive), replace=False)
        return np.concatenate([positive, rest])
    return rng.choice(n, size, replace=False, p=weights / weights.sum())


def draw_any(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `size` different numbers below `n`, ascending; takes memory for these alone where `n` is large."""
    if n <= _MANY or size > n // 2:
        return np.sort(rng.choice(n, size, replace=False))
    picks = np.empty(0, np.int64)
    while len(picks) < size:  # what was drawn already does not count
        picks = np.union1d(picks, rng.integers(n, size=size - len(picks)))
    return picks


def plus_plus(work: Pass, k: int, rng: np.random.Generator, memory: Memory) -> np.ndarray:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007) on a sample of at least 128 rows a cluster.

    Each centre is the best, by the inertia it leaves, of several rows drawn with probability proportional
    to weight times squared distance: twice scikit-learn's 2 + log(k) draws, as they are cheap on a sample.
    """
    size, weights = max(2**15, 128 * k), work.weights
    if work.n <= size:
        return _greedy(work.take(np.arange(work.n)), weights, k, rng)
    picks = draw_any(work.n, size, rng)
    weights = None if weights is None else weights[picks]
    if weights is not None and not weights.any():
        weights = None
    return _greedy(work.take(picks), weights, k, rng)


def _greedy(x: Any, weights: np.ndarray | None, k: int, rng: np.random.Generator) -> np.ndarray:
    n, uniform = x.shape[0], rng.random((k, 2 * (2 + int(np.log(k)))))
    chosen = (_greedy_sparse if sparse.issparse(x) else kernels.greedy)(x, weights, uniform)
    more = k - len(chosen)  # fewer distinct rows than k: any rows do
    chosen = np.concatenate([chosen, rng.choice(n, more, replace=more > n)]) if more else chosen
    return dense(x[chosen])


def _greedy_sparse(x: Any, weights: np.ndarray | None, uniform: np.ndarray) -> np.ndarray:
    """As `kernels.greedy`, for a CSR matrix."""
    xsq, across = kernels.sqnorms(x).astype(np.float32), x.T.tocsr()
    w = np.ones(x.shape[0]) if weights is None else weights
    chosen = _at(np.cumsum(w), uniform[0, :1])
    closest = _sqdist_to(x, across, xsq, chosen)[0]
    for draws in uniform[1:]:
        cumulative = np.cumsum(closest * w)
        if cumulative[-1] <= 0:
            break
        tries = _at(cumulative, draws)
        left = np.minimum(_sqdist_to(x, across, xsq, tries), closest)
        best = int(np.argmin(left @ w))
        chosen, closest = np.append(chosen, tries[best]), left[best]
    return chosen


def _sqdist_to(x: Any, across: Any, xsq: np.ndarray, picks: np.ndarray) -> np.ndarray:
    out = dense(x[picks] @ across)
    out *= -2
    out += xsq
    out += xsq[picks, None]
    return np.maximum(out, 0, out=out)


def _at(cumulative: np.ndarray, shares: np.ndarray) -> np.ndarray:
    at = np.searchsorted(cumulative, shares * cumulative[-1], side="right")
    return np.minimum(at, len(cumulative) - 1)


def parallel(work: Pass, k: int, rng: np.random.Generator, memory: Memory) -> np.ndarray:
    """k-means|| (Bahmani et al., 2012): five rounds that each draw about 2k rows, over all rows.

    The rows drawn, weighted by the rows nearest to them, are then reduced to `k` by greedy k-means++.
    """
    u, n, weights = rng.random(1), work.n, work.weights
    first = (u * n).astype(int) if weights is None else _at(np.cumsum(weights), u)
    rows = Rows(memory.full(n, np.int32, 0), memory.full(n, np.float32, np.inf), weights, memory.part)
    new = centres = dense(work.take(first))
    for _ in range(5):
        _nearer(work, new, len(centres) - len(new), rows)
        total = rows.inertia()
        if total <= 0:
            new = centres[:0]
            break
        new = dense(work.take(_draw_by_cost(rows, 2 * k / total, rng)))
        if len(new):
            centres = np.concatenate([centres, new])
    _nearer(work, new, len(centres) - len(new), rows)
    if len(centres) <= k:
        return np.concatenate([centres, random(work, k, rng, memory)])[:k]
    mass = kernels.tally(rows.labels, len(centres), None, weights)
    return _greedy(centres, mass, k, rng)


def _nearer(work: Pass, new: np.ndarray, first: int, rows: Rows) -> None:
    """Take note of the rows that are nearer to the `new` centres, which get numbers from `first`."""
    if not len(new):
        return
    index = Flat().build(new)
    for start, block in work.chunks():
        part = rows[start : start + block.shape[0]]
        ids, sqdist = index.search(block, 1)
        nearer = np.flatnonzero(sqdist[:, 0] < part.sqdist)
        part.sqdist[nearer], part.labels[nearer] = sqdist[nearer, 0], ids[nearer, 0] + first


def _draw_by_cost(rows: Rows, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Draw each row with a probability of `scale` times what it adds to the inertia, a part at a time."""
    found = []
    for some in rows.parts():
        part = rows[some]
        cost = part.sqdist if part.weights is None else part.sqdist * part.weights
        found.append(some.start + np.flatnonzero(rng.random(len(cost)) < scale * cost.astype(np.float64)))
    return np.concatenate(found)


Start = Callable[[Pass, int, np.random.Generator, Memory], np.ndarray]

STARTS: dict[str, Start] = {"random": random, "k-means++": plus_plus, "k-means||": parallel}


def start(name: str, work: Pass, k: int, rng: np.random.Generator, memory: Memory | None = None) -> np.ndarray:
    """Starting centroids, float32 [k, d], by the method called `name` ("auto" or one of `STARTS`)."""
    if name == "auto":
        name = "k-means++" if k <= PLUS_PLUS_UP_TO else "random"
    return STARTS[name](work, k, rng, memory or Memory())


def subsample(
    source: Source, weights: np.ndarray | None, size: int, rng: np.random.Generator, memory: Memory
) -> tuple[Source, np.ndarray | None]:
    """Draw `size` rows to train on: their Source and their weights."""
    picks = draw_any(source.n, size, rng)
    return memory.sample(source, picks), None if weights is None else weights[picks]

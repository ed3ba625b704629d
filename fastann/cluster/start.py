"""Starting centroids: random rows, greedy k-means++, k-means||, AFK-MC2. Each tells which rows to start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.cluster.chains import afk_mc2
from fastann.cluster.draw import by_weight, draw, draw_any, draw_at
from fastann.cluster.greedy import Some, among
from fastann.cluster.memory import Memory
from fastann.cluster.passes.rows import Rows
from fastann.data.source import Source, dense
from fastann.index.spec import Flat

_PER_CLUSTER, _FEWEST = 32, 2**13  # rows that k-means++ chooses from for each cluster, and at least,
_CHEAP, _READ = 2**27, 64  # as many as can be read, and compared with all centres, in next to no time,
_MOST, _VALUES = 2**15, 2**23  # but no more than so many, nor rows of more values in all,
_APART = 8  # rows of a table for each one that is looked at where it lies
_LEAST = 8  # as long as there are so many for each cluster
LOOK, _AT_ONCE = 16, 2**16  # centres of the look at all rows, and rows that it takes numbers of at once


@dataclass(frozen=True)
class Sample:
    """Rows that stand for all: their numbers (int64 [m]), and their weights (float64 [m], or None)."""

    ids: np.ndarray
    weights: np.ndarray | None

    def fewer(self, count: int, rng: np.random.Generator) -> Sample:
        """At most so many of them, all alike."""
        if count >= len(self.ids):
            return self
        some = np.sort(rng.choice(len(self.ids), count, replace=False))
        return Sample(self.ids[some], None if self.weights is None else self.weights[some])


@dataclass(frozen=True)
class Begun:
    """The rows to start from (int64 [k]), the sample that they were chosen from, if there was one, and where they led.

    That are centres (float32 [k, d]) after some iterations on the sample, if there were any.
    """

    rows: np.ndarray
    sample: Sample | None = None
    centres: np.ndarray | None = None


class Lot(Protocol):
    """The rows to start from, whoever holds them: a pass, or `Whole`."""

    @property
    def source(self) -> Source:
        """The rows."""
        ...

    @property
    def n(self) -> int:
        """Rows."""
        ...

    @property
    def weights(self) -> np.ndarray | None:
        """Their weights: float64 [n], or None."""
        ...

    def take(self, indices: np.ndarray) -> Any:
        """Rows at `indices`: float32 [len(indices), d], or a CSR matrix."""
        ...

    def chunks(self) -> Iterator[tuple[int, Any]]:
        """All rows in chunks: the number of the first, and the rows."""
        ...


@dataclass(frozen=True)
class Whole:
    """All rows of a source, where a fit begins with samples of them."""

    source: Source
    weights: np.ndarray | None

    @property
    def n(self) -> int:
        """Rows."""
        return self.source.n

    def take(self, indices: np.ndarray) -> Any:
        """Rows at `indices`."""
        return self.source.take(indices)

    def chunks(self) -> Iterator[tuple[int, Any]]:
        """All rows in chunks."""
        return self.source.chunks()


# ----------------------------------------------------------------- samples


def subsample(
    source: Source,
    weights: np.ndarray | None,
    size: int,
    rng: np.random.Generator,
    memory: Memory,
    seeds: np.ndarray | None = None,
) -> tuple[Source, np.ndarray | None]:
    """Draw `size` rows to train on, in proportion to their weights: their Source and their weights.

    The rows `seeds` are added to those drawn, for a start to find in the sample what it found in all rows.
    """
    if weights is None or weights.min() == weights.max():
        picks, kept = draw_any(source.n, size, rng), None
    else:
        picks, kept = by_weight(weights, size, rng)
    if seeds is not None:
        more = np.setdiff1d(seeds, picks)
        order = np.argsort(np.concatenate([picks, more]), kind="stable")
        picks = np.concatenate([picks, more])[order]
        if kept is not None and weights is not None:
            kept = np.concatenate([kept, weights[more]])[order]
    if kept is None and weights is not None:
        kept = weights[picks]
    return memory.sample(source, picks), kept


def coreset(
    lot: Lot, centres: Any, size: int, rng: np.random.Generator, memory: Memory
) -> tuple[np.ndarray, np.ndarray]:
    """Draw about `size` rows after one look at all, those far from some centres more often, and their weights.

    Half of the draws go by weight, half by weight times squared distance to the nearest of a few centres: a few rows
    far from all others are never missed, as a uniform sample misses them. A row drawn with probability p counts by its
    weight over p, so that the sample costs what all rows cost, in the mean (Bachem, Lucic and Krause, 2018). Where few
    rows have nearly all the weight, others are drawn more often than that says, until there are as many as are wanted.
    """
    sqdist, index, step = memory.empty(lot.n, np.float32), Flat().build(centres), min(memory.part, _AT_ONCE)
    for start, block in lot.chunks():
        for at in range(0, block.shape[0], step):
            some = block[at : at + step]
            sqdist[start + at : start + at + some.shape[0]] = index.search(some, 1)[1][:, 0]
    rows = Rows(np.empty(0, np.int32), sqdist, lot.weights, memory.part)
    total, mass = rows.inertia(), float(lot.n) if lot.weights is None else float(lot.weights.sum())

    def shares() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Of each part: its first row, weights, and shares of all draws."""
        for start in range(0, lot.n, step):
            far = sqdist[start : start + step].astype(np.float64)
            weights = np.ones(len(far)) if lot.weights is None else lot.weights[start : start + step]
            share = weights / mass if total <= 0 else weights * (0.5 / mass + 0.5 / total * far)
            yield start, weights, share

    def drawn(scale: float) -> tuple[np.ndarray, np.ndarray, float]:
        picks, kept, expected = [], [], 0.0
        for start, weights, share in shares():
            chance = np.minimum(scale * share, 1)
            taken = np.flatnonzero(rng.random(len(chance)) < chance)
            picks.append(start + taken)
            kept.append(weights[taken] / chance[taken])
            expected += float(chance.sum())
        return np.concatenate(picks), np.concatenate(kept), expected

    ids, kept, expected = drawn(size)
    if 2 * expected < size:
        ids, kept, _ = drawn(_scale(shares, size))
    return ids, kept


def _scale(shares: Callable[[], Iterator[tuple[int, np.ndarray, np.ndarray]]], size: int) -> float:
    """What to multiply shares by, so that what comes of them, 1 at most, adds up to about `size`."""
    scale = float(size)
    while True:
        sure, rest = 0, 0.0
        for _, _, share in shares():
            certain = scale * share >= 1
            sure += int(np.count_nonzero(certain))
            rest += float(share[~certain].sum())
        # Each turn makes more of them certain; when none is left, or few are missing, it is enough.
        wanted = (size - sure) / rest if rest > 0 else scale
        if not 1.01 * scale < wanted < np.inf:
            return scale
        scale = wanted


# ----------------------------------------------------------------- starts


def random(lot: Lot, k: int, rng: np.random.Generator, memory: Memory) -> Begun:
    """`k` different rows, drawn with probability proportional to their weights."""
    return Begun(np.sort(draw(lot.n, lot.weights, k, rng)))


def sample(lot: Lot, k: int, rng: np.random.Generator, memory: Memory) -> Sample:
    """Rows that stand for all, chosen after one look at these."""
    values = max(1.0, row_values(lot))
    most, cheap = min(_MOST, int(_VALUES / values)), int(_CHEAP / ((k + _READ) * values))
    return chosen(lot, k, min(most, max(_PER_CLUSTER * k, _FEWEST, cheap)), rng, memory)


def chosen(lot: Lot, k: int, size: int, rng: np.random.Generator, memory: Memory) -> Sample:
    """So many rows that stand for all, but no fewer than there must be for `k` clusters."""
    size = max(_LEAST * k, size)
    if lot.n <= size:
        return Sample(np.arange(lot.n), lot.weights)
    few = dense(lot.take(draw(lot.n, lot.weights, min(k, LOOK), rng)))
    ids, weights = coreset(lot, few, size, rng, memory)
    if len(ids) < k:  # so few rows have a weight: all of these are there, and others make up the number
        more = np.setdiff1d(draw(lot.n, lot.weights, k, rng), ids)
        ids = np.concatenate([ids, more])
        weights = np.concatenate([weights, np.zeros(len(more))])
        order = np.argsort(ids, kind="stable")
        ids, weights = ids[order], weights[order]
    return Sample(ids, weights)


def plus_plus(lot: Lot, k: int, rng: np.random.Generator, memory: Memory) -> Begun:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007) on a sample that one look at all rows chooses.

    Each centre is the best, by the inertia it leaves, of several rows drawn with probability proportional
    to weight times squared distance: twice scikit-learn's 2 + log(k) draws, as they are cheap on a sample.
    """
    some = sample(lot, k, rng, memory)
    chosen = among(table(lot, some.ids), some.weights, k, rng)
    return Begun(filled(some.ids[chosen], lot, k, rng), some)


def again(x: Any, weights: np.ndarray | None, k: int, rng: np.random.Generator) -> np.ndarray:
    """Another start of k-means++ on a sample of rows: float32 [k, d]."""
    chosen = among(Some(x), weights, k, rng)
    if len(chosen) < k:
        chosen = np.concatenate([chosen, np.setdiff1d(np.arange(x.shape[0]), chosen)])[:k]
    return dense(x[chosen])


def table(lot: Lot, ids: np.ndarray) -> Some:
    """Rows at ascending `ids`: where they lie, if they are a good part of rows that are in memory; else copied."""
    m, memory = len(ids), lot.source.direct and lot.source.fingerprint() is None
    if m == lot.n or (memory and m * _APART >= lot.n):
        _, block = next(iter(lot.chunks()))
        if block.shape[0] == lot.n:
            return Some(block, None if m == lot.n else ids.astype(np.int32))
    return Some(lot.take(ids))


def row_values(lot: Lot) -> float:
    """Values that a row stores, by a few of them."""
    return values_of(lot.take(np.arange(min(lot.n, 64))))


def values_of(x: Any) -> float:
    """The same of a table of rows."""
    return x.nnz / x.shape[0] if sparse.issparse(x) else float(x.shape[1])


def filled(ids: np.ndarray, lot: Lot, k: int, rng: np.random.Generator) -> np.ndarray:
    """At least `k` rows: where there are fewer distinct ones, any others do."""
    if len(ids) >= k:
        return ids
    others = draw(lot.n, lot.weights, k, rng)
    return np.concatenate([ids, others[~np.isin(others, ids)]])[:k]


def parallel(lot: Lot, k: int, rng: np.random.Generator, memory: Memory) -> Begun:
    """k-means|| (Bahmani et al., 2012): five rounds that each draw about 2k rows, over all rows.

    The rows drawn, weighted by the rows nearest to them, are then reduced to `k` by greedy k-means++.
    """
    u, n, weights = rng.random(1), lot.n, lot.weights
    new = ids = (u * n).astype(int) if weights is None else draw_at(np.cumsum(weights), u)
    rows = Rows(memory.full(n, np.int32, 0), memory.full(n, np.float32, np.inf), weights, memory.part)
    for _ in range(5):
        _nearer(lot, new, len(ids) - len(new), rows)
        total = rows.inertia()
        if total <= 0:
            new = new[:0]
            break
        new = _draw_by_cost(rows, 2 * k / total, rng)
        ids = np.concatenate([ids, new])
    _nearer(lot, new, len(ids) - len(new), rows)
    if len(ids) > k:
        mass = kernels.tally(rows.labels, len(ids), None, weights).astype(np.float64)
        ids = ids[among(Some(lot.take(ids)), mass, k, rng)]
    return Begun(filled(ids, lot, k, rng))


def _nearer(lot: Lot, new: np.ndarray, first: int, rows: Rows) -> None:
    """Take note of the rows that are nearer to the `new` ones, which get numbers from `first`."""
    if not len(new):
        return
    index = Flat().build(dense(lot.take(new)))
    for start, block in lot.chunks():
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


def markov(lot: Lot, k: int, rng: np.random.Generator, memory: Memory) -> Begun:
    """AFK-MC2 (Bachem et al., 2016): one look at all rows, then a Markov chain for each centre."""
    return Begun(filled(afk_mc2(lot, k, rng, memory), lot, k, rng))


Start = Callable[[Lot, int, np.random.Generator, Memory], Begun]

PLUS_PLUS = ("auto", "k-means++")  # two names of one start
STARTS: dict[str, Start] = {"random": random, "k-means++": plus_plus, "k-means||": parallel, "afk-mc2": markov}


def start(name: str, lot: Lot, k: int, rng: np.random.Generator, memory: Memory | None = None) -> Begun:
    """The rows to start from, by the method called `name` ("auto" or one of `STARTS`)."""
    return STARTS["k-means++" if name in PLUS_PLUS else name](lot, k, rng, memory or Memory())

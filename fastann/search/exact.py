"""Exact search of rows wherever they lie, a block at a time, and the recall of other searches against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fastann.data.source import Source, dense
from fastann.index.inverted import InvertedIndex
from fastann.index.own import FlatIndex
from fastann.index.recall import wilson

AT_ONCE = 2**14  # queries searched at once: for so many, all rows are read once
WORK = 2**38  # queries x rows x columns of the exact search that recall is measured against
FEWEST, MOST = 200, 1000  # queries that recall is measured on, where there are so many

ROUNDING = 1e-6  # relative, of squared distances in float32

Found = tuple[np.ndarray, np.ndarray]  # ids int64 [q, m] and squared distances float32 [q, m]
Search = Callable[[Any, int], np.ndarray]  # from queries (float32 [q, d], or CSR) and m to ids int64 [q, m]


@dataclass(frozen=True)
class SearchRecall:
    """Recall@m of a search, measured against exact search.

    Attributes
    ----------
    value : float
        Share of the `m` nearest rows that are found; a row as near as the m-th counts too.
    interval : tuple of float
        Its 95% interval (Wilson, 1927) with one trial a query: wide rather than narrow, as the neighbours of a query
        are found or missed together.
    m : int
    queries : int
        How many it was measured on.
    """

    value: float
    interval: tuple[float, float]
    m: int
    queries: int

    def __str__(self) -> str:
        low, high = self.interval
        return f"recall@{self.m} {self.value:.4f} (95%: {low:.4f} to {high:.4f}, {self.queries:,} queries)"

    def reaches(self, target: float) -> bool:
        """Whether the whole interval is above `target`, or nothing was missed."""
        return self.interval[0] >= target or self.value == 1


def nearest(rows: Source, queries: Any, m: int) -> Found:
    """The `m` nearest rows of each query, nearest first, those as near by number.

    Parameters
    ----------
    rows : Source
        Dense or sparse, at least `m`.
    queries : float32 [q, d]; a float32 CSR matrix where the rows are sparse
    m : int

    Returns
    -------
    ids : int64 [q, m]
    sqdist : float32 [q, m]
        Squared L2.
    """
    count = queries.shape[0]
    ids, sqdist = np.empty((count, m), np.int64), np.empty((count, m), np.float32)
    for start in range(0, count, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        ids[part], sqdist[part] = _nearest(rows, queries[part], m)
    return ids, sqdist


def _nearest(rows: Source, queries: Any, m: int) -> Found:
    best = np.empty((queries.shape[0], 0), np.int64), np.empty((queries.shape[0], 0), np.float32)
    for start, block in rows.chunks(rows.rows_per_chunk()):
        index: Any = InvertedIndex(block) if rows.sparse else FlatIndex(block, screened=False)
        ids, sqdist = index.measured(queries, min(m, block.shape[0]))
        best = first(np.hstack([best[0], ids.astype(np.int64) + start]), np.hstack([best[1], sqdist]), m)
    return best


def first(ids: np.ndarray, sqdist: np.ndarray, m: int) -> Found:
    """The `m` nearest of several candidates of each query, those as near by number; -1 stands last."""
    order = np.lexsort((ids, sqdist), axis=-1)[:, :m]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(sqdist, order, 1)


def others(ids: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The ids of each query (int64 [q, m + 1]) without its own row (int64 [q]), else without the last: [q, m]."""
    same = ids == own[:, None]
    same[~same.any(axis=1), -1] = True  # pushed out by its duplicates, or not found
    kept: np.ndarray = ids[~same]
    return kept.reshape(len(ids), ids.shape[1] - 1)


@dataclass(frozen=True, eq=False)
class Truth:
    """Queries whose nearest rows are known, against which searches are measured.

    Attributes
    ----------
    rows : Source
    queries : float32 [q, d], or a float32 CSR matrix
    own : int64 [q] or None
        The row that each query is, which is no neighbour of itself; None of other queries.
    m : int
    best : float64 [q, m]
        Squared distances of the nearest rows.
    """

    rows: Source
    queries: Any
    own: np.ndarray | None
    m: int
    best: np.ndarray

    @classmethod
    def of(cls, rows: Source, queries: Source | None, m: int, seed: int) -> Self:
        """Of a seeded sample of some queries, or of the rows themselves where there are none."""
        lot = rows if queries is None else queries
        count = min(lot.n, max(FEWEST, min(MOST, WORK // (rows.n * rows.d))))
        picks = np.sort(np.random.default_rng([seed, 6]).choice(lot.n, count, replace=False))
        x, own = lot.take(picks), picks if queries is None else None
        found = nearest(rows, x, m + (own is not None))[0]
        ids = found if own is None else others(found, own)
        return cls(rows, x, own, m, sqdists(rows, x, ids))

    def measure(self, search: Search) -> SearchRecall:
        """Recall of a search of these queries; ids of -1 are missed."""
        ids = search(self.queries, self.m + (self.own is not None))
        ids = ids if self.own is None else others(ids, self.own)
        return recall_at(sqdists(self.rows, self.queries, ids), self.best, self.m)


def recall_at(found: np.ndarray, best: np.ndarray, m: int) -> SearchRecall:
    """Recall@m from squared distances (float64 [q, m or more]) of rows that were found, and of the nearest ones."""
    far = best[:, :m].max(axis=1, keepdims=True)
    share, count = float((found[:, :m] <= far * (1 + ROUNDING)).mean()), len(found)
    return SearchRecall(share, wilson(round(share * count), count), m, count)


def sqdists(rows: Source, queries: Any, ids: np.ndarray) -> np.ndarray:
    """Squared distances in float64 of each query to its rows (int64 [q, m]); infinite for -1."""
    out = np.full(ids.shape, np.inf)
    for i, own in enumerate(ids):
        there = own >= 0
        near = dense(rows.take(own[there])).astype(np.float64) - dense(queries[i : i + 1])
        out[i, there] = np.einsum("ij,ij->i", near, near)
    return out

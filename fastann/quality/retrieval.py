"""Clusters put to use: the recall of an inverted file that has them for its lists."""

from __future__ import annotations

import math

import numpy as np

from fastann import kernels
from fastann.data.csr import Densified
from fastann.data.source import Source
from fastann.index.own import FlatIndex
from fastann.index.recall import wilson
from fastann.quality.metrics import Clusters, Findings

NEIGHBOURS = 10
SHARES = (0.01, 0.02, 0.05, 0.1)  # of the rows, which an IVF scans
MAIN_SHARE = 0.05
QUERY_WORK = 2**38  # queries x rows x columns of the exact search that recall is measured against
_Z = 1.959963984540054


def measure_retrieval(c: Clusters, rng: np.random.Generator, out: Findings) -> list[tuple[int, float, float]]:
    """Recall@10 of an inverted file with these clusters for its lists, against exact search.

    Queries are sampled rows, which are no neighbours of themselves. A neighbour is found when its cluster is one of the
    `nprobe` whose centres are nearest to the query. The interval of the recall is Wilson's with one trial a query,
    which is wide rather than narrow, as the neighbours of a query are found or missed together.

    Returns
    -------
    list of (nprobe, share of rows scanned, recall)
        Where about 1%, 2%, 5% and 10% of the rows are scanned; the one nearest to 5% goes to `out`.
    """
    n = c.view.n
    if n < 2:
        out.notes.append("A single row has no neighbours, so there is no recall of an IVF.")
        return []
    count = min(n, max(200, min(1000, QUERY_WORK // (n * c.view.d))))
    picks = np.sort(rng.choice(n, count, replace=False))
    queries, view = c.take(picks), Densified(c.view) if c.view.sparse else c.view
    ranks, share, variance = _probe(c, queries, true_neighbours(view, picks, queries))
    found = np.cumsum(np.bincount(ranks.ravel(), minlength=len(c.used))) / ranks.size
    probes = [int(np.abs(share - target).argmin()) for target in SHARES]
    main = probes[SHARES.index(MAIN_SHARE)]
    out.put("ivf_recall_10", found[main], wilson(round(found[main] * count), count), count)
    out.put("ivf_scanned", share[main], _normal(share[main], variance[main], count, n), count)
    return [(p + 1, float(share[p]), float(found[p])) for p in sorted(set(probes))]


def true_neighbours(view: Source, picks: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The ten nearest other rows of the rows at `picks`, by exact search: int64 [q, 10], or fewer of a few rows."""
    m = min(NEIGHBOURS, view.n - 1) + 1  # a row finds itself too
    best = np.empty((len(picks), 0), np.int64)
    best_sqdist = np.empty((len(picks), 0), np.float32)
    for start, block in view.chunks():
        ids, sqdist = FlatIndex(block, screened=False).search(queries, min(m, len(block)))
        best = np.hstack([best, ids.astype(np.int64) + start])
        best_sqdist = np.hstack([best_sqdist, sqdist])
        order = np.argsort(best_sqdist, axis=1, kind="stable")[:, :m]
        best, best_sqdist = np.take_along_axis(best, order, 1), np.take_along_axis(best_sqdist, order, 1)
    own = best == picks[:, None]
    own[~own.any(axis=1), -1] = True  # pushed out by its duplicates: any of them will do
    others: np.ndarray = best[~own]
    return others.reshape(len(picks), m - 1)


def _probe(c: Clusters, queries: np.ndarray, neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the probe that finds each neighbour, int [q, m], and mean and variance of the share scanned so far, [u]."""
    u = len(c.used)
    share = c.sizes / c.sizes.sum()
    ranks, total, squares = np.empty(neighbours.shape, np.int64), np.zeros(u), np.zeros(u)
    sqnorm = kernels.survey(c.centroids)[0]
    for start in range(0, len(queries), 64):  # tables of clusters, so a few queries at a time
        part = slice(start, start + 64)
        order = np.argsort(sqnorm - 2 * (queries[part].astype(np.float64) @ c.centroids.T), axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(u)[None, :], axis=1)
        ranks[part] = np.take_along_axis(rank, c.labels[neighbours[part]], axis=1)
        scanned = np.cumsum(share[order], axis=1)
        total += scanned.sum(axis=0)
        squares += (scanned**2).sum(axis=0)
    mean = total / len(queries)
    return ranks, mean, np.maximum(0, squares / len(queries) - mean**2)


def _normal(mean: float, variance: float, m: int, n: int) -> tuple[float, float]:
    """95% interval of the mean of `n` values, from mean and variance of `m` drawn without replacement."""
    half = _Z * math.sqrt(variance / m * (1 - m / n))
    return mean - half, mean + half

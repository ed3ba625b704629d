"""The passes over rows: assign each to a centroid, and measure how well an index did."""

import math
from collections.abc import Iterator

import numpy as np

from fastann import kernels
from fastann.cluster.update import Partial, Rows
from fastann.data.source import Source
from fastann.index.own import Index, Searcher
from fastann.index.spec import Flat

_GATHER = 2**14  # rows that are copied at once
AUDIT_ROWS = 4096  # sample of rows for a measured recall: about +-0.3% at recall 0.99


def search(
    index: Searcher, x: np.ndarray, m: int, centroids: np.ndarray, hint: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Search an index and repair, by exact search, the rows where it found too few.

    Returns
    -------
    ids : int32 [n, m], all valid
    sqdist : float32 [n, m]
    repaired : int
        Number of rows repaired.
    """
    ids, sqdist = index.search(x, m, hint)
    if index.exact:
        return ids, sqdist, 0
    short = np.flatnonzero((ids < 0).any(axis=1))
    if len(short):
        ids[short], sqdist[short] = Flat().build(centroids).search(x[short], m)
    return ids, sqdist, len(short)


def nearest(
    index: Index, x: np.ndarray, centroids: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Nearest centroid the index finds, or the former one in `labels` where that is nearer: ids, sqdist, repaired."""
    ids, sqdist, repaired = search(index, x, 1, centroids, labels)
    ids, sqdist = ids[:, 0], sqdist[:, 0]
    if not index.exact:
        keep_nearer(x, centroids, labels, ids, sqdist)
    return ids, sqdist, repaired


def assign(source: Source, rows: Rows, index: Index, centroids: np.ndarray, chunk: int | None = None) -> Partial:
    """Assign every row to the nearest centroid the index finds, updating `rows` in place.

    A row keeps its label where that centroid is nearer than the one an approximate index found, so the
    inertia of a run never rises for want of recall.
    """
    partial = Partial.zero(len(centroids), source.d, weighted=rows.weights is not None)
    for block, part in blocks(source, rows, chunk):
        ids, sqdist, repaired = nearest(index, block, centroids, part.labels)
        moved = int(np.count_nonzero(ids != part.labels))
        part.labels[:] = ids
        part.sqdist[:] = sqdist
        partial.add(block, part, moved, repaired)
    return partial


def label(source: Source, rows: Rows, index: Index | None, centroids: np.ndarray) -> float:
    """Closing pass: label every row and return the inertia, from float64 distances to those labels.

    With None for the index the rows keep the labels they have.
    """
    inertia = 0.0
    for block, part in blocks(source, rows):
        if index is not None:
            part.labels[:] = nearest(index, block, centroids, part.labels)[0]
        own = kernels.own_sqdist(block, centroids, part.labels)
        part.sqdist[:] = own
        inertia += float(own.sum() if part.weights is None else own @ part.weights)
    return inertia


def runners_up(
    source: Source, rows: Rows, ids: np.ndarray | None, index: Index, centroids: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Find each row's second nearest centroid: yields (rows, second (int32), its squared distance (float64)).

    Among the centroids `ids` (int32 [n, m], with -1 for none) where these name another than the row's own, else
    among the nearest that the index finds, else by exact search.
    """
    for start, block in source.chunks():
        part = slice(start, start + block.shape[0])
        labels = rows.labels[part]
        second, sqdist = np.full(len(labels), -1, np.int32), np.full(len(labels), np.inf)
        if ids is not None:
            second, sqdist = kernels.runner_up(block, centroids, labels, ids[part])
        lost = np.flatnonzero(second < 0)
        if len(lost) and len(centroids) > 1:
            some = block if len(lost) == len(labels) else block[lost]
            found = search(index, some, 2, centroids)[0]
            second[lost], sqdist[lost] = kernels.runner_up(some, centroids, labels[lost], found)
        yield part, second, sqdist


def blocks(source: Source, rows: Rows, chunk: int | None = None) -> Iterator[tuple[np.ndarray, Rows]]:
    """Chunks of a source beside the state of their rows."""
    for start, block in source.chunks(chunk):
        yield block, rows[start : start + block.shape[0]]


def keep_nearer(x: np.ndarray, centroids: np.ndarray, labels: np.ndarray, ids: np.ndarray, sqdist: np.ndarray) -> None:
    """Put back, in `ids` and `sqdist`, the former label of rows that are nearer to it."""
    others = np.flatnonzero((labels >= 0) & (labels != ids))
    for start in range(0, len(others), _GATHER):
        other = others[start : start + _GATHER]
        own = kernels.own_sqdist(x[other], centroids, labels[other]).astype(np.float32)
        nearer = own <= sqdist[other]
        other = other[nearer]
        ids[other], sqdist[other] = labels[other], own[nearer]


def recall(source: Source, labels: np.ndarray, centroids: np.ndarray, seed: int) -> tuple[int, int]:
    """Count how many of a seeded sample of rows carry the label that exact search gives.

    A label at the same distance as the nearest centroid is right too. Returns (right, sampled).
    """
    n = source.n
    rng = np.random.default_rng(seed)
    picks = np.sort(rng.choice(n, AUDIT_ROWS, replace=False)) if n > AUDIT_ROWS else np.arange(n)
    x = source.take(picks)
    ids, _ = Flat().build(centroids).search(x, 1)
    given = labels[picks]
    right = ids[:, 0] == given
    off = np.flatnonzero(~right)
    best = kernels.own_sqdist(x[off], centroids, ids[off, 0])
    right[off] = kernels.own_sqdist(x[off], centroids, given[off]) <= best
    return int(right.sum()), len(picks)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95% interval of a proportion (Wilson, 1927): sound near 0 and 1, where recall lives."""
    z = 1.959963984540054
    p = hits / trials
    centre = p + z * z / (2 * trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)

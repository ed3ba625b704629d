"""The passes over rows that remember nothing: assign each to a centroid, label it, find its runner-up."""

from collections.abc import Iterator

import numpy as np

from fastann import kernels
from fastann.cluster.update import Partial, Rows
from fastann.data.source import Source
from fastann.index.base import Index
from fastann.index.repair import nearest, search


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

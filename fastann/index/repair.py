"""Searching an index and making up for what it missed: by exact search, and by the label a row had before."""

from typing import Any

import numpy as np

from fastann import kernels
from fastann.index.base import GATHER, Index
from fastann.index.own import FlatIndex


def search(
    index: Index, x: Any, m: int, centroids: Any, hint: np.ndarray | None = None, *, measured: bool = False
) -> tuple[np.ndarray, np.ndarray, int]:
    """Search an index and repair, by exact search, the rows where it found too few.

    Parameters
    ----------
    index : Index
    x : float32 [n, d], or a float32 CSR matrix
    m : int
    centroids : float32 [k, d]
        Those that are indexed.
    hint : int32 [n], optional
        See `Index.search`.
    measured : bool
        Whether distances are for users: see `Index.measured`.

    Returns
    -------
    ids : int32 [n, m], all valid
    sqdist : float32 [n, m]
    repaired : int
        Number of rows repaired.
    """
    ids, sqdist = index.measured(x, m) if measured else index.search(x, m, hint)
    if index.exact:
        return ids, sqdist, 0
    short = np.flatnonzero((ids < 0).any(axis=1))
    if len(short):
        ids[short], sqdist[short] = FlatIndex(centroids).search(x[short], m)
    return ids, sqdist, len(short)


def nearest(index: Index, x: Any, centroids: Any, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Nearest centroid that the index finds, or the former one where that is nearer.

    Parameters
    ----------
    index : Index
    x : float32 [n, d], or a float32 CSR matrix
    centroids : float32 [k, d]
        Those that are indexed.
    labels : int32 [n]
        The former ones, -1 for none.

    Returns
    -------
    ids : int32 [n], all valid
    sqdist : float32 [n]
    repaired : int
        Number of rows that the index found nothing for.
    """
    ids, sqdist, repaired = search(index, x, 1, centroids, labels)
    ids, sqdist = ids[:, 0], sqdist[:, 0]
    if not index.exact:
        keep_nearer(x, centroids, labels, ids, sqdist)
    return ids, sqdist, repaired


def keep_nearer(x: Any, centroids: Any, labels: np.ndarray, ids: np.ndarray, sqdist: np.ndarray) -> None:
    """Put back, in `ids` and `sqdist`, the former label of rows that are nearer to it."""
    others = np.flatnonzero((labels >= 0) & (labels != ids))
    for start in range(0, len(others), GATHER):
        other = others[start : start + GATHER]
        own = kernels.own_sqdist(x[other], centroids, labels[other]).astype(np.float32)
        nearer = own <= sqdist[other]
        other = other[nearer]
        ids[other], sqdist[other] = labels[other], own[nearer]


def repair_lists(x: Any, rows: np.ndarray, centroids: Any, ids: np.ndarray, dist: np.ndarray) -> int:
    """Replace, by exact search, the lists of rows for which the index found nothing at all.

    Parameters
    ----------
    x : float32 [n, d]
    rows : int32 [r]
        Which rows have lists.
    centroids : float32 [k, d]
    ids : int32 [r, 8]
    dist : float32 [r, 8]
        As `Index.listed` gave them; changed in place.

    Returns
    -------
    int
        How many lists were replaced.
    """
    lost = np.flatnonzero(ids[:, 0] < 0)
    if len(lost):
        anywhere = np.full(len(lost), np.inf, np.float32)
        ids[lost], dist[lost] = FlatIndex(centroids).listed(x, rows[lost], ids.shape[1], anywhere)
    return len(lost)

"""Lloyd's algorithm as a textbook shows it, in plain NumPy: the baseline that everything else is compared with.

The only concession is memory: scores are computed for some rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

SCORES = 2**24  # scores held at once: 64 MiB of float32


def lloyd(
    x: np.ndarray,
    centers: np.ndarray,
    max_iter: int = 25,
    tol: float = 1e-4,
    chunk: int | None = None,
    watch: Callable[[float, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Alternate nearest centres and means (Lloyd, 1982).

    An empty cluster keeps its centre. Stops when no row moves, when an iteration decreases the inertia by no more
    than the share `tol` of it, or after `max_iter` iterations.

    Parameters
    ----------
    x : array [n, d]
        Computed in float32, float64 if it is that.
    centers : array [k, d]
        Where to start; left as it is.
    max_iter : int
    tol : float
    chunk : int or None
        Rows whose scores are held at once; None takes as many as make 64 MiB.
    watch : callable or None
        Called after every iteration with the inertia it began with and the number of rows that moved.

    Returns
    -------
    centers : float32 or float64 [k, d]
    labels : int64 [n]
        Nearest of these centres.
    inertia : float
        Sum of squared distances to them.
    iterations : int
    """
    centers = np.array(centers, _dtype(x))
    labels = np.full(len(x), -1)
    inertia, previous, iteration = np.inf, None, 0
    for iteration in range(1, max_iter + 1):
        before = labels
        labels, inertia = assign(x, centers, chunk)
        centers = means(x, labels, centers)
        moved = int(np.count_nonzero(labels != before))
        if watch is not None:
            watch(inertia, moved)
        if moved == 0:  # these centres are the means of these labels already
            return centers, labels, inertia, iteration
        if previous is not None and previous - inertia <= tol * previous:
            break
        previous = inertia
    labels, inertia = assign(x, centers, chunk)
    return centers, labels, inertia, iteration


def assign(x: np.ndarray, centers: np.ndarray, chunk: int | None = None) -> tuple[np.ndarray, float]:
    """Nearest centre of each row, and the sum of squared distances to them (float64)."""
    labels = np.empty(len(x), np.int64)
    sqnorm = np.einsum("ij,ij->i", centers, centers)
    inertia = 0.0
    for part, block in _blocks(x, len(centers), chunk):
        scores = sqnorm - 2 * (block @ centers.T)
        labels[part] = scores.argmin(axis=1)
        gap = block - centers[labels[part]]
        inertia += float(np.einsum("ij,ij->i", gap, gap).sum(dtype=np.float64))
    return labels, inertia


def means(x: np.ndarray, labels: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Mean of each cluster's rows, summed in float64; the old centre where there are none."""
    k = len(centers)
    counts = np.bincount(labels, minlength=k)
    some = counts > 0
    out = centers.copy()
    for j in range(x.shape[1]):
        sums = np.bincount(labels, weights=x[:, j], minlength=k)
        out[some, j] = sums[some] / counts[some]
    return out


def _blocks(x: np.ndarray, k: int, chunk: int | None) -> Iterator[tuple[slice, np.ndarray]]:
    rows = max(1, SCORES // k) if chunk is None else chunk
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        yield part, np.asarray(x[part], _dtype(x))


def _dtype(x: np.ndarray) -> np.dtype:
    return np.result_type(x.dtype, np.float32)

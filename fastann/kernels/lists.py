"""Short ascending lists of the nearest, and (row, cell) pairs grouped by cell."""

import numpy as np
from numba import njit

from fastann.kernels.members import sort_by_label
from fastann.kernels.simd import FAST, HUGE, fmin


@njit(fastmath=FAST, inline="always")
def insert(values, ids, value, j):
    """Insert (value, j) into the ascending list `values`, dropping its last entry; equal values keep their order."""
    t = values.shape[0] - 1
    while t > 0 and values[t - 1] > value:
        values[t] = values[t - 1]
        ids[t] = ids[t - 1]
        t -= 1
    values[t] = value
    ids[t] = j


@njit(fastmath=FAST, inline="always")
def scan(products, csq, base, names, best, ids):
    """Insert the scores ``|c|^2 - 2 x.c`` of one row into its ascending list `best`, with their centroids in `ids`.

    `products` (float32) are those of the row with the centroids from place `base` on. The centroid at place p is
    named ``names[p]``, or p if `names` is empty.
    """
    worst = best[best.shape[0] - 1]
    for j0 in range(0, products.shape[0], 16):
        j1 = min(products.shape[0], j0 + 16)
        low = HUGE
        for j in range(j0, j1):
            low = fmin(low, csq[base + j] - np.float32(2) * products[j])
        if low >= worst:
            continue
        for j in range(j0, j1):
            v = csq[base + j] - np.float32(2) * products[j]
            if v < worst:
                insert(best, ids, v, names[base + j] if names.shape[0] else np.int32(base + j))
                worst = best[best.shape[0] - 1]


@njit(cache=True)
def bucket(probes, cells):
    """Group the (row, cell) pairs of `probes` (int32 [n, p]) by cell.

    Returns ``first`` (int64 [cells + 1]) and ``members`` (int32 [n * p]): the rows that probe cell g are
    ``members[first[g]:first[g + 1]]``.
    """
    first = np.zeros(cells + 1, np.int64)
    members = np.empty(probes.size, np.int32)
    sort_by_label(probes.reshape(-1), first, members)
    for t in range(members.shape[0]):
        members[t] //= probes.shape[1]
    return first, members

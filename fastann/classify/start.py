"""Where the prototypes of a class start: rows of it, by greedy k-means++ on a sample of the class, or at random."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastann import kernels
from fastann.cluster.passes.groups import first_of, stack
from fastann.data.source import Source

PER_SEED = 16  # rows of a group that k-means++ draws from, per centroid wanted
LEAST = 64  # rows of a group that it draws from at least, if there are so many
BLOCK = 2**16  # rows that are gathered at once


def start(
    source: Source,
    labels: np.ndarray,
    weights: np.ndarray | None,
    sizes: np.ndarray,
    method: str,
    rng: np.random.Generator,
    block: int = BLOCK,
) -> tuple[Any, np.ndarray]:
    """Rows of each group to start from: by greedy k-means++ on a sample of the group, or at random.

    Parameters
    ----------
    source : Source
    labels : int32 [n]
        Group of each row.
    weights : float64 [n] or None
    sizes : int64 [groups]
        Centroids wanted of each group.
    method : {"k-means++", "random"}
    block : int
        Rows that are gathered at once; the result does not depend on it.

    Returns
    -------
    centroids : float32 [k, d], or a float32 CSR matrix
    sizes : int64 [groups]
        How many each group got: fewer where it has fewer distinct rows of positive weight.
    """
    order = rng.permutation(source.n)
    if weights is not None:
        order = order[weights[order] > 0]
    order = order[np.argsort(labels[order], kind="stable")]  # each group's rows, shuffled
    bounds = np.searchsorted(labels[order], np.arange(len(sizes) + 1))
    kept = np.minimum(np.diff(bounds), np.maximum(LEAST, PER_SEED * sizes) if method == "k-means++" else sizes)
    uniform = rng.random((int(sizes.sum()), 2 + int(np.log(max(1, sizes.max())))))
    parts, got = [], np.zeros(len(sizes), np.int64)
    ends, first = np.cumsum(kept), first_of(sizes)
    g = 0
    while g < len(sizes):
        end = max(g + 1, int(np.searchsorted(ends, (ends[g - 1] if g else 0) + block, side="right")))
        rows = np.concatenate([order[b : b + c] for b, c in zip(bounds[g:end], kept[g:end], strict=True)])
        x = source.take(rows)
        if method == "k-means++":
            w = np.ones(len(rows)) if weights is None else weights[rows]
            picks = kernels.plus_plus(x, w, first_of(kept[g:end]), sizes[g:end], uniform[first[g] : first[end]])
            owner = np.repeat(np.arange(g, end), sizes[g:end])
            parts.append(x[picks[picks >= 0]])
            got[g:end] = np.bincount(owner[picks >= 0] - g, minlength=end - g)
        else:
            parts.append(x)
            got[g:end] = kept[g:end]
        g = end
    return stack(parts), got

"""Where the prototypes of a class start: rows of it, by greedy k-means++ on a sample of the class, or at random."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastann import kernels
from fastann.cluster.draw import by_weight, draw_any
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
    order, bounds, keys = shuffled(labels, weights, len(sizes), rng)
    kept = np.minimum(np.diff(bounds), np.maximum(LEAST, PER_SEED * sizes) if method == "k-means++" else sizes)
    if keys is not None and weights is not None:
        weights = standing(weights, order, bounds, keys, kept)
    uniform = rng.random((int(sizes.sum()), 2 + int(np.log(max(1, sizes.max())))))
    parts, got = [], np.zeros(len(sizes), np.int64)
    ends, first = np.cumsum(kept), first_of(sizes)
    g = 0
    while g < len(sizes):
        end = max(g + 1, int(np.searchsorted(ends, (ends[g - 1] if g else 0) + block, side="right")))
        here = kept[g:end]
        rows = order[np.repeat(bounds[g:end] - first_of(here)[:-1], here) + np.arange(here.sum())]
        x = source.take(rows)
        if method == "k-means++":
            w = np.ones(len(rows)) if weights is None else weights[rows]
            grouped = kernels.grouped(x, np.repeat(np.arange(end - g, dtype=np.int32), here), end - g)
            picks = kernels.plus_plus(x, w, grouped, sizes[g:end], uniform[first[g] : first[end]])
            owner = np.repeat(np.arange(g, end), sizes[g:end])
            parts.append(x[picks[picks >= 0]])
            got[g:end] = np.bincount(owner[picks >= 0] - g, minlength=end - g)
        else:
            parts.append(x)
            got[g:end] = kept[g:end]
        g = end
    return stack(parts), got


def shuffled(
    labels: np.ndarray, weights: np.ndarray | None, groups: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows of positive weight, group by group, each in an order whose first rows are a draw by weight.

    See `fastann.cluster.start.by_weight` for the method.

    Returns
    -------
    order : int64 [rows of positive weight]
    bounds : int64 [groups + 1]
        Where each group begins.
    keys : float64, as long as `order`, or None
        What it was sorted by; None where the rows of every group weigh the same, so that any order will do.
    """
    order, keys = rng.permutation(len(labels)), None
    if weights is not None:
        order = order[weights[order] > 0]
        low, high = np.full(groups, np.inf), np.zeros(groups)
        np.minimum.at(low, labels[order], weights[order])
        np.maximum.at(high, labels[order], weights[order])
        if (low < high).any():
            keys = rng.standard_exponential(len(order)) / weights[order]
    if keys is None:
        order = order[np.argsort(labels[order], kind="stable")]
    else:
        by_key = np.lexsort((keys, labels[order]))
        order, keys = order[by_key], keys[by_key]
    return order, np.searchsorted(labels[order], np.arange(groups + 1)), keys


def standing(
    weights: np.ndarray, order: np.ndarray, bounds: np.ndarray, keys: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """Weights by which the first `kept` rows of each group stand for all its rows: float64 [n].

    Given the first key that was not taken, a row was taken with a known probability, which its weight is divided by.
    """
    ends = bounds[:-1] + kept
    limits = np.where(ends < bounds[1:], keys[np.minimum(ends, len(keys) - 1)], np.inf)
    limit = np.repeat(limits, np.diff(bounds))
    out = weights.copy()
    with np.errstate(invalid="ignore"):
        out[order] = np.where(limit < np.inf, weights[order] / -np.expm1(-weights[order] * limit), weights[order])
    return out


def drawn(n: int, weights: np.ndarray | None, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """At most `size` rows of positive weight of `n`, ascending, drawn by weight, and weights to stand for all rows."""
    if weights is None:
        picks = draw_any(n, size, rng) if size < n else np.arange(n)
        return picks, np.ones(len(picks))
    some = np.flatnonzero(weights > 0)
    if len(some) <= size:
        return some, weights[some]
    if weights[some].min() == weights[some].max():
        picks = some[draw_any(len(some), size, rng)]
        return picks, weights[picks]
    picks, standing_for = by_weight(weights[some], size, rng)
    return some[picks], standing_for

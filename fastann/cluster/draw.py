"""Rows drawn at random: all alike, or by their weights."""

from __future__ import annotations

import numpy as np

_MANY = 2**24  # rows of which not each gets a number to draw from


def draw(n: int, weights: np.ndarray | None, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `size` different rows of `n`, by their weights; equal weights draw the same rows as none."""
    if weights is None or weights.min() == weights.max():
        return draw_any(n, size, rng)
    return by_weight(weights, size, rng)[0]


def draw_any(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `size` different numbers below `n`, ascending; takes memory for these alone where `n` is large."""
    if n <= _MANY or size > n // 2:
        return np.sort(rng.choice(n, size, replace=False))
    picks = np.empty(0, np.int64)
    while len(picks) < size:  # what was drawn already does not count
        picks = np.union1d(picks, rng.integers(n, size=size - len(picks)))
    return picks


def by_weight(weights: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw `size` different rows in proportion to their weights, and the weights that make them stand for all rows.

    Each row gets an exponential number divided by its weight, and the smallest are taken (Efraimidis and Spirakis,
    2006). Given the smallest number not taken, a row was taken with a known probability, by which its weight is
    divided: sums over the rows drawn estimate sums over all rows without bias (Cohen and Kaplan, 2007). Rows of weight
    zero come last.

    Returns
    -------
    picks : int64 [size]
        Ascending.
    weights : float64 [size]
    """
    keys = rng.standard_exponential(len(weights))
    with np.errstate(divide="ignore"):
        keys /= weights
    order = np.argpartition(keys, size) if size < len(keys) else np.arange(len(keys))
    picks = np.sort(order[:size])
    limit = keys[order[size]] if size < len(keys) else np.inf
    chance = -np.expm1(-weights[picks] * limit) if limit < np.inf else 1.0
    with np.errstate(invalid="ignore"):
        return picks, np.where(weights[picks] > 0, weights[picks] / chance, 0.0)


def draw_either(weights: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same, half by weight and half of all rows that have one: neither heavy rows are missed, nor light ones.

    Light rows may be many, and far from others.
    """
    held = weights > 0
    total = float(weights.sum())
    if not total > 0:
        picks = draw_any(len(weights), size, rng)
        return picks, weights[picks]
    chances = weights / total + held / max(1, int(np.count_nonzero(held)))
    picks, kept = by_weight(chances, size, rng)
    return picks, np.where(held[picks], kept * weights[picks] / np.where(held, chances, 1.0)[picks], 0.0)


def draw_at(cumulative: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The places at which a running sum reaches some shares of its last value: int64 [len(shares)]."""
    at = np.searchsorted(cumulative, shares * cumulative[-1], side="right")
    return np.minimum(at, len(cumulative) - 1)

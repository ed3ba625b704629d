"""Which rows are left out of the means: a share of those farthest from their centres, or those beyond a multiple."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastann.cluster.memory import PART
from fastann.cluster.space import Space

_HALF, _LOW = 16, 2**16 - 1  # bits of a distance that are looked at first, and a mask for the others
_FEW, _MANY = 2**15, 2**20  # values up to which a sort is faster, with weights and without
_MORE = 1.5  # times the share of the values that it may be, of which the weight is looked at
_ROUND = 1e-9  # of the total weight, by which sums of weights may be off


@dataclass(frozen=True)
class Trim:
    """The rule: one of the two is given.

    Attributes
    ----------
    share : float
        Of the rows' weight, at most so much is left out: those farthest from their centres (trimmed k-means;
        Cuesta-Albertos, Gordaliza and Matran, 1997; k-means--, Chawla and Gionis, 2013). Rows as far as the last one
        that stays are all kept, so that a row of weight 3 is three rows.
    multiple : float or None
        Rows farther from their centre than so many times the mean distance are left out.
    """

    share: float = 0.0
    multiple: float | None = None

    def limit(self, sqdist: np.ndarray, weights: np.ndarray | None, space: Space, part: int = PART) -> float:
        """The squared distance (float32 [n]) beyond which rows, of such weights (float64 [n]), are left out."""
        if self.multiple is None:
            return threshold(sqdist, weights, self.share, part)
        mean = _mean(sqdist, weights, space, part)
        return float(space.squared(np.array(self.multiple * mean)))

    def farthest(self, distances: np.ndarray, weights: np.ndarray | None, part: int = PART) -> float:
        """The same for distances as a metric has them (float32 [n]): that beyond which rows are outliers."""
        if self.multiple is None:
            return threshold(distances, weights, self.share, part)
        return self.multiple * _mean(distances, weights, None, part)


def threshold(values: np.ndarray, weights: np.ndarray | None, share: float, part: int = PART) -> float:
    """The least of some values beyond which lies no more than a share of the weight: exact, a part of them at a time.

    Floats of 0 or more are in the order of their bits. Weights are summed by the upper half of these, then by the
    lower half where the first sum says; no copy of many values is made, so that they may be mapped from a file.

    Parameters
    ----------
    values : float32 [n]
        0 or more.
    weights : float64 [n] or None
    share : float
        In [0, 1).
    part : int
        Values that are looked at at once.
    """
    if len(values) <= min(part, _MANY if weights is None else _FEW):
        return _sorted(values, weights, share)
    bits = np.ascontiguousarray(values).view(np.uint32)
    sizes = np.zeros(_LOW + 1)
    for at in range(0, len(bits), part):
        high = bits[at : at + part] >> _HALF
        sizes += np.bincount(high, None if weights is None else weights[at : at + part], _LOW + 1)
    total = float(sizes.sum())
    left = share * total + _ROUND * total
    upper, left = _passed(sizes, left)
    sizes[:] = 0
    for at in range(0, len(bits), part):
        some = bits[at : at + part]
        there = np.flatnonzero(some >> _HALF == upper)
        sizes += np.bincount(some[there] & _LOW, None if weights is None else weights[at : at + part][there], _LOW + 1)
    lower, _ = _passed(sizes, left)
    return float(np.array([upper << _HALF | lower], np.uint32).view(np.float32)[0])


def _sorted(values: np.ndarray, weights: np.ndarray | None, share: float) -> float:
    """The same by sorting, which takes less time for few values."""
    if weights is None:
        stay = len(values) - 1 - int(share * len(values) * (1 + _ROUND))
        return float(np.partition(values, stay)[stay])
    left, most = (share + _ROUND) * float(weights.sum()), max(1, int(_MORE * share * len(values)))
    while True:  # only the largest values are put in order, as many as weigh enough
        stay = max(0, len(values) - most)
        some = np.argpartition(values, stay)[stay:] if stay else np.arange(len(values))
        order = some[np.argsort(-values[some], kind="stable")]
        above = np.cumsum(weights[order])
        at = int(np.searchsorted(above, left, side="right"))
        if at < len(order) or not stay:
            return float(values[order[min(at, len(order) - 1)]])
        most *= 2


def _passed(sizes: np.ndarray, left: float) -> tuple[int, float]:
    """The highest bin that cannot be left out whole where so much may be, and what is left for it."""
    above = np.cumsum(sizes[::-1])
    at = int(np.searchsorted(above, left, side="right"))
    at = min(at, int(np.flatnonzero(sizes[::-1])[-1])) if sizes.any() else 0
    return len(sizes) - 1 - at, left - (above[at - 1] if at else 0.0)


def _mean(values: np.ndarray, weights: np.ndarray | None, space: Space | None, part: int) -> float:
    """Mean of distances, or with a space of those that squared distances are, in float64."""
    total = mass = 0.0
    for at in range(0, len(values), part):
        some = values[at : at + part].astype(np.float64)
        some = some if space is None else space.distance(some)
        w = None if weights is None else weights[at : at + part]
        total += float((some if w is None else some * w).sum())
        mass += len(some) if w is None else float(w.sum())
    return total / mass if mass > 0 else np.inf

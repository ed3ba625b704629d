"""Recall@1: how it is measured, and the least search effort that reaches one."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastann import kernels
from fastann.index.base import Index, Spec
from fastann.index.own import FlatIndex
from fastann.index.repair import search

SAMPLE = 4096  # rows on which recall is measured: its interval is 0.6% wide at 0.99


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95% interval of a proportion (Wilson, 1927): sound near 0 and 1, where recall lives."""
    z = 1.959963984540054
    p = hits / trials
    centre = p + z * z / (2 * trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


class Taken(Protocol):
    """Rows that can be asked for, whoever holds them: a `Source`, or a pass."""

    @property
    def n(self) -> int:
        """How many there are."""
        ...

    def take(self, indices: np.ndarray) -> Any:
        """Those at `indices`: float32 [len(indices), d], or a CSR matrix."""
        ...


class Recall(NamedTuple):
    """Recall@1 as measured on some rows.

    Attributes
    ----------
    hits : int
        Rows that got their nearest centroid, or one as near.
    trials : int
        Rows that were looked at.
    """

    hits: int
    trials: int

    @property
    def value(self) -> float:
        """Share of the rows that got their nearest centroid."""
        return self.hits / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% interval."""
        return wilson(self.hits, self.trials)

    def reaches(self, target: float) -> bool:
        """Whether the whole interval is above `target`."""
        return self.interval[0] >= target


class Audit:
    """Rows whose nearest centroids are known, against which labels and indexes are measured.

    Parameters
    ----------
    x : float32 [s, d], or a float32 CSR matrix
    centroids : float32 [k, d]

    Attributes
    ----------
    nearest : int32 [s]
        The nearest centroid of each row.
    """

    def __init__(self, x: Any, centroids: np.ndarray):
        self.x, self.centroids = x, centroids
        self.nearest = np.ascontiguousarray(FlatIndex(centroids).search(x, 1)[0][:, 0])
        self.least = kernels.own_sqdist(x, centroids, self.nearest)

    def of(self, labels: np.ndarray) -> Recall:
        """Recall of labels (int32 [s]): a centroid as near as the nearest is right too."""
        found = kernels.own_sqdist(self.x, self.centroids, labels)
        return Recall(int(np.count_nonzero(found <= self.least)), self.x.shape[0])

    def measure(self, index: Index) -> Recall:
        """Recall of an index, rows that it finds nothing for being searched exactly."""
        return self.of(search(index, self.x, 1, self.centroids)[0][:, 0])

    def part(self, step: int) -> Audit:
        """Every `step`th of its rows."""
        out, some = copy(self), np.arange(0, self.x.shape[0], step)
        out.x, out.nearest, out.least = self.x[some], self.nearest[some], self.least[some]
        return out


class Sampled(Audit):
    """An audit of a seeded sample of at most `sample` of some rows, of which `picks` are the numbers."""

    def __init__(self, rows: Taken, centroids: np.ndarray, seed: int, sample: int = SAMPLE):
        n, rng = rows.n, np.random.default_rng([seed, 5])  # of a seed alone come the rows that a fit starts from, too
        self.picks = np.sort(rng.choice(n, sample, replace=False)) if n > sample else np.arange(n)
        super().__init__(rows.take(self.picks), centroids)


def recall(rows: Taken, labels: np.ndarray, centroids: np.ndarray, seed: int, sample: int = SAMPLE) -> Recall:
    """Recall of the labels (int32 [n]) of some rows, measured on a seeded sample of at most `sample` of them."""
    audit = Sampled(rows, centroids, seed, sample)
    return audit.of(labels[audit.picks])


def least(passes: Callable[[int], bool], start: int, high: int) -> int:
    """Least value from 1 to `high` that passes, if larger ones pass too; `high` where none does.

    Doubles or halves from `start` until the border is between two values, then bisects.
    """
    at = min(max(1, start), high)
    if passes(at):
        good, bad = at, 0
        while good > 1 and passes(good // 2):
            good //= 2
        bad = good // 2
    else:
        bad, good = at, min(2 * at, high)
        while good < high and not passes(good):
            bad, good = good, min(2 * good, high)
    while good - bad > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if passes(middle) else (good, middle)
    return good


class Adaptive:
    """Chooses the search option that a spec leaves open, anew for every index that is built during a fit.

    Parameters
    ----------
    spec : Spec
        Its search option is "auto".
    target : float
        The recall to reach.
    rows : Taken
        Those that it is measured on are drawn from these.
    rng : numpy.random.Generator
    sample : int
        How many rows, at most.

    Attributes
    ----------
    spec : Spec
        With the number chosen last.
    """

    def __init__(self, spec: Spec, target: float, rows: Taken, rng: np.random.Generator, sample: int = SAMPLE):
        assert spec.open is not None
        self.target, self.spec = target, spec.started()
        picks = rng.choice(rows.n, min(sample, rows.n), replace=False)
        self.x = rows.take(np.sort(picks))

    def __call__(self, index: Index, centroids: np.ndarray) -> Index:
        """The index with the least effort that reaches the target, starting from the last one."""
        audit, option = Audit(self.x, centroids), self.spec.search_option
        assert option is not None

        def passes(value: int) -> bool:
            return audit.measure(index.retuned(self.spec.at(value))).reaches(self.target)

        self.spec = self.spec.at(least(passes, self.spec.number(option), index.most))
        return index.retuned(self.spec)

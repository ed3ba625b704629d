"""Search effort from recall: the least nprobe, or ef_search, whose measured recall reaches a target."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from fastann import kernels
from fastann.cluster.passes.every import search, wilson
from fastann.data.source import Source
from fastann.index.own import CellsIndex, FlatIndex, Index
from fastann.index.spec import FaissIndex, Spec

SAMPLE = 4096  # rows on which recall is measured: its interval is 0.6% wide at 0.99
MOST_EF = 4096  # a graph that does not reach a recall with this ef_search does not reach it


@dataclass(frozen=True)
class Recall:
    """Recall@1 as measured on some rows, and its 95% interval (Wilson, 1927)."""

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
    """Rows whose nearest centroids are known, against which an index is measured.

    Parameters
    ----------
    x : float32 [s, d]
    centroids : float32 [k, d]
    """

    def __init__(self, x: np.ndarray, centroids: np.ndarray):
        self.x, self.centroids = x, centroids
        nearest = FlatIndex(centroids).search(x, 1)[0][:, 0]
        self.least = kernels.own_sqdist(x, centroids, nearest)

    def measure(self, index: Index) -> Recall:
        """Recall of an index; a centroid as near as the nearest is right too."""
        ids = search(index, self.x, 1, self.centroids)[0][:, 0]
        found = kernels.own_sqdist(self.x, self.centroids, ids)
        return Recall(int(np.count_nonzero(found <= self.least)), len(self.x))


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


def most(index: Index) -> int:
    """Search effort beyond which an index has nothing more to look at."""
    if isinstance(index, CellsIndex):
        return len(index.centers)
    assert isinstance(index, FaissIndex)
    return index.index.nlist if index.nprobe is not None else min(MOST_EF, len(index.centroids))


def retuned(index: Index, spec: Spec) -> Index:
    """The same built index, searched with the options of `spec`."""
    if isinstance(index, CellsIndex):
        return index.retuned(getattr(spec, "nprobe"))  # noqa: B009 - a spec of cells
    assert isinstance(index, FaissIndex)
    return index.retuned(spec)


class Adaptive:
    """Chooses the option that a spec leaves open, anew for every index that is built during a fit.

    Attributes
    ----------
    spec : Spec
        With the number chosen last.
    recall : Recall or None
        As measured with it.
    """

    def __init__(self, spec: Spec, target: float, source: Source, rng: np.random.Generator, sample: int = SAMPLE):
        assert spec.open is not None
        self.option, self.target, self.spec = spec.open, target, spec.started()
        picks = rng.choice(source.n, min(sample, source.n), replace=False)
        self.x = source.take(np.sort(picks))
        self.recall: Recall | None = None

    def at(self, spec: Spec) -> Adaptive:
        """The same with another number."""
        other = copy(self)
        other.spec = spec
        return other

    def __call__(self, index: Index, centroids: np.ndarray) -> Index:
        """The index with the least effort that reaches the target, starting from the last one."""
        audit, seen = Audit(self.x, centroids), {}

        def passes(value: int) -> bool:
            spec = replace(self.spec, **{self.option: value})
            seen[value] = audit.measure(retuned(index, spec))
            return seen[value].reaches(self.target)

        value = least(passes, getattr(self.spec, self.option), most(index))
        self.spec = replace(self.spec, **{self.option: value})
        index = retuned(index, self.spec)
        self.recall = seen[value] if value in seen else audit.measure(index)
        return index

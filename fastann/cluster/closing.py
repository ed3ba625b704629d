"""How a fit is closed: final labels, runners-up, measured recall, in one frozen result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from fastann import kernels
from fastann.cluster.criterion import Criterion
from fastann.cluster.lloyd import Iteration
from fastann.cluster.memory import Memory
from fastann.cluster.outliers import Outliers, Tails
from fastann.cluster.passes.base import Closed, Pass
from fastann.cluster.passes.every import Every
from fastann.cluster.space import Space
from fastann.cluster.stop import StopReason, told
from fastann.data.source import Source
from fastann.index.base import Index, Spec
from fastann.index.recall import Sampled
from fastann.index.repair import search

COMPARED = 1000  # rows whose distances tell whether they are those of a fit
WITHOUT = "this model was saved without labels (labels=False, --no-labels)"


@dataclass(frozen=True, eq=False)
class Labelling:
    """Rows in clusters, and how good the labels are.

    Attributes
    ----------
    labels : int32 [n] or None
        Cluster of each row. None where a model was saved without.
    distances : float32 [n] or None
        To its centre: Euclidean, or 1 - cosine. None likewise.
    inertia : float
        Weighted sum of squared L2 distances, in float64.
    recall : float
        Share of the labels that are the true nearest centre, measured on a sample of rows; 1 for an exact index.
    interval : tuple of float
        Its 95% interval (Wilson, 1927).
    second : int32 [n] or None
        Second nearest centre, -1 if there is one centre only. None where it was not asked for.
    margins : float32 [n] or None
        How much farther that one is, infinite if there is one centre only.
    ids : ndarray [n] or None
        Names of the rows, where the data has them.
    data : dict or None
        The fingerprint of the files that hold the rows.
    n : int
        Rows.
    weights : float64 [n] or None
        Of the rows, as far as they are known: they are not saved.
    """

    labels: np.ndarray | None
    distances: np.ndarray | None
    inertia: float
    recall: float = 1.0
    interval: tuple[float, float] = (1.0, 1.0)
    second: np.ndarray | None = None
    margins: np.ndarray | None = None
    ids: np.ndarray | None = None
    data: dict[str, Any] | None = None
    n: int = -1
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.labels is not None:
            object.__setattr__(self, "n", len(self.labels))

    def needed(self, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels and distances, for something (`what`) that cannot do without."""
        if self.labels is None or self.distances is None:
            raise ValueError(f"{what} needs the label of every row, but {WITHOUT}; fit again and save all of it")
        return self.labels, self.distances

    @classmethod
    def of_none(cls, margins: bool = False) -> Labelling:
        """Of no rows."""
        labels, distances = np.empty(0, np.int32), np.empty(0, np.float32)
        return cls(labels, distances, 0.0, second=labels if margins else None, margins=distances if margins else None)

    def among(self, view: Source, zeros: np.ndarray, k: int, memory: Memory) -> Labelling:
        """The same for all rows of a view, those too (`zeros`, their numbers) that have no direction.

        Their cosine to every centre counts as 0: they get the first label, at distance 1.
        """
        others = np.ones(view.n, bool)
        others[zeros] = False

        def spread(values: np.ndarray | None, rest: float) -> np.ndarray | None:
            if values is None:
                return None
            out = memory.full(view.n, values.dtype, rest)
            out[others] = values
            return out

        labels, distances = spread(self.labels, 0), spread(self.distances, 1)
        assert labels is not None
        assert distances is not None
        second, margins = spread(self.second, 1 if k > 1 else -1), spread(self.margins, 0 if k > 1 else np.inf)
        weights = spread(np.ones(len(others) - len(zeros)) if self.weights is None else self.weights, 0)
        ids, data = view.ids(), view.fingerprint()
        return replace(
            self,
            labels=labels,
            distances=distances,
            second=second,
            margins=margins,
            ids=ids,
            data=data,
            weights=weights,
        )


@dataclass(frozen=True, eq=False)
class Means:
    """Centres, and how much each one weighs: all that a stream takes from one batch to the next.

    Attributes
    ----------
    centers : float32 or float64 [k, d]
        In the user's coordinates; not to be written to, as indexes are built over them.
    weights : float64 [k]
        Weight of the rows that each has seen.
    lengths : float64 [k]
        Length of each mean as a share of its centre's: below 1 for the cosine.
    steps : int
        Batches seen.
    seed : int
        Of the stream.
    seen : float
        Weight of all rows seen.
    """

    centers: np.ndarray
    weights: np.ndarray
    lengths: np.ndarray
    steps: int
    seed: int
    seen: float

    def __post_init__(self) -> None:
        self.centers.setflags(write=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()  # arrays come writable out of pickles and copies


@dataclass(frozen=True, eq=False)
class Clustering:
    """All that a fit leads to. Estimators publish it, runs are written from it, evaluations and exports read it.

    Attributes
    ----------
    space : Space
    spec : Spec
        The index that predicts.
    means : Means
    rows : Labelling
        Of the rows fitted on; of a stream, the last batch.
    history : list of Iteration
        A record per iteration of the best start.
    stop_reason : StopReason
    predict_recall : float
        Share of rows to which the index gives their nearest centre, measured on a sample; NaN where it was not.
    seconds : dict
        Those of the whole fit by phase (`fastann.cluster.clock.PHASES`), of all starts and of what a checkpoint went on
        from; empty where nobody knows.
    device : str
        What searched: ``cpu``, or GPUs such as ``cuda:0,cuda:1``.
    outliers : Outliers or None
        Which rows were left out, where that was asked for.
    known : Tails or None
        The distances of each cluster's rows, where the rows do not tell them.
    """

    space: Space
    spec: Spec
    means: Means
    rows: Labelling
    history: list[Iteration] = field(repr=False)
    stop_reason: StopReason
    predict_recall: float = 1.0
    seconds: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"
    outliers: Outliers | None = None
    known: Tails | None = None

    @property
    def fit_seconds(self) -> float:
        """Seconds of the whole fit; NaN where nobody knows."""
        return sum(self.seconds.values()) if self.seconds else math.nan

    @property
    def threshold(self) -> float:
        """The distance beyond which rows are outliers."""
        return np.inf if self.outliers is None else self.outliers.threshold

    @property
    def labels(self) -> np.ndarray | None:
        """Labels for users, who may want -1 for outliers; those of `rows` are the nearest centres."""
        rows = self.rows
        if self.outliers is None or not self.outliers.marked or rows.labels is None or rows.distances is None:
            return rows.labels
        return np.where(rows.distances <= self.threshold, rows.labels, np.int32(-1))

    @cached_property
    def tails(self) -> Tails | None:
        """How far from its centre the rows of each cluster are; None if nothing tells it."""
        rows = self.rows
        if self.known is not None or rows.labels is None or rows.distances is None or not rows.n:
            return self.known
        return Tails.of(rows.labels, rows.distances, rows.weights, len(self.centers), self.space, self.threshold)

    @property
    def centers(self) -> np.ndarray:
        """Centres in the user's coordinates: float32 or float64 [k, d]."""
        return self.means.centers

    @property
    def n_features(self) -> int:
        """Columns of the rows."""
        return int(self.means.centers.shape[1])

    @property
    def centroids(self) -> np.ndarray:
        """Centres in the space that rows are compared in: float32 [k, d]."""
        return self.space.inward(self.means.centers)

    def stopped(self, tol: float) -> str:
        """Which rule ended the fit, in a sentence; `tol` is that of the fit."""
        return told(self.stop_reason, self.history, tol) if self.history else self.stop_reason.sentence

    def has(self, view: Source, compared: int = COMPARED) -> bool:
        """Whether these rows, seen in its space, are its own: as many, and as far from the centres of their labels.

        The number alone would take the labels of one half of a table for those of the other.
        """
        rows = self.rows
        if rows.n != view.n or rows.labels is None or rows.distances is None:
            return False
        picks = np.unique(np.linspace(0, view.n - 1, compared).astype(np.int64))
        own = self.space.distance(kernels.own_sqdist(view.take(picks), self.centroids, rows.labels[picks]))
        near = 1e-3 * float(rows.distances.max())
        return bool(np.allclose(own, rows.distances[picks], rtol=1e-3, atol=near))

    def with_index(self, spec: Spec) -> Clustering:
        """The same, to be searched with another index."""
        return self if spec == self.spec else replace(self, spec=spec, predict_recall=np.nan)

    def with_centers(self, centers: np.ndarray) -> Clustering:
        """The same with other centres, as many; the rows keep their labels."""
        means = replace(self.means, centers=centers)
        return replace(self, means=means, predict_recall=np.nan, known=self.tails)

    def with_ids(self, ids: np.ndarray | None) -> Clustering:
        """The same, with other names of the rows."""
        return replace(self, rows=replace(self.rows, ids=ids))


def closer(work: Pass, view: Source, weights: np.ndarray | None, centroids: Any, exact: bool, memory: Memory) -> Pass:
    """The pass that gives all rows their final labels: the one that trained, if it saw all of them.

    With `exact` these are to come from a search of every row, whatever rows remember.
    """
    if work.source is not view:
        return Every.over(view, weights, centroids, work.space, memory)
    if exact and work.remembers:
        work = Every(view, work.rows, work.k, work.space)
    work.take_over(centroids)
    return work


def labelled(
    work: Pass,
    index: Index,
    criterion: Criterion,
    audit: Callable[[], Sampled],
    *,
    margins: bool,
    memory: Memory | None = None,
) -> Labelling:
    """Give the rows of a pass their final labels, and measure how good these are.

    Parameters
    ----------
    work : Pass
        With the centroids as they are published.
    index : Index
        Over these; it makes the labels, where rows do not remember what is near.
    criterion : Criterion
    audit : callable
        Gives the sample of rows that recall is measured on, if it is wanted.
    margins : bool
        Whether to find the second nearest centroids too.
    memory : Memory, optional
    """
    ids, data = work.source.ids(), work.source.fingerprint()
    closed = work.close(index, criterion)
    distances = work.space.distance(closed.sqdist, out=closed.sqdist)
    out = Labelling(closed.labels, distances, closed.inertia, ids=ids, data=data, weights=work.weights)
    if margins:
        second, apart = _runners_up(work, closed, distances, index, memory or Memory())
        out = replace(out, second=second, margins=apart)
    if closed.lists is not None or not index.exact or criterion.looks > 1:  # else they are exact by construction
        sample = audit()
        measured = sample.of(closed.labels[sample.picks])
        out = replace(out, recall=measured.value, interval=measured.interval)
    return out


def _runners_up(
    work: Pass, closed: Closed, distances: np.ndarray, index: Index, memory: Memory
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's second nearest centroid (int32 [n]), and how much farther than its own it is (float32 [n]).

    Among the centroids it remembers where these name another than the row's own, else among the nearest that the
    index finds, else by exact search.
    """
    second, margins = memory.empty(work.n, np.int32), memory.empty(work.n, np.float32)
    for start, block in work.chunks():
        part = slice(start, start + block.shape[0])
        labels = closed.labels[part]
        found, sqdist = np.full(len(labels), -1, np.int32), np.full(len(labels), np.inf)
        if closed.lists is not None:
            found, sqdist = kernels.runner_up(block, work.centroids, labels, closed.lists[part])
        lost = np.flatnonzero(found < 0)
        if len(lost) and work.k > 1:
            some = block if len(lost) == len(labels) else block[lost]
            near = search(index, some, 2, work.centroids)[0]
            found[lost], sqdist[lost] = kernels.runner_up(some, work.centroids, labels[lost], near)
        second[part], margins[part] = found, work.space.distance(sqdist) - distances[part]
    return second, margins


def means_of(
    work: Pass, rows: Labelling, counts: np.ndarray, centers: np.ndarray, seed: int, threshold: float = np.inf
) -> Means:
    """What the rows of a first fit, of which each cluster has so many (float64 [k]), weigh in it.

    Rows beyond the `threshold` are left out.
    """
    labels, distances = rows.needed("a first fit")
    own = work.weights
    if threshold < np.inf:
        own = (distances <= threshold) * (1.0 if own is None else own)
    weights = counts if own is None else kernels.tally(labels, work.k, None, own)
    lengths = np.ones(work.k)
    if work.space.unit:
        lengths = work.space.lengths(weights, kernels.tally(labels, work.k, distances, own))
    return Means(centers, weights, lengths, 1, seed, float(weights.sum()))

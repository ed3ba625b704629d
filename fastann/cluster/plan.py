"""What a fit does: fixed for a given index; for ``"auto"``, chosen from the problem's size and the course so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastann.cluster.criterion import NEAREST, SIZE_AWARE, Criterion
from fastann.cluster.memory import PART, Memory
from fastann.cluster.passes.base import Pass
from fastann.cluster.passes.bounded import Bounded
from fastann.cluster.passes.every import Every
from fastann.cluster.passes.rows import Rows
from fastann.cluster.passes.trimmed import TrimmedBounded, TrimmedEvery, own_weights
from fastann.cluster.space import Space
from fastann.cluster.trim import Trim
from fastann.data.source import Source
from fastann.index.base import Spec
from fastann.index.parse import parse_index
from fastann.index.spec import Cells, Flat

RECALL = 0.99  # what an index of open effort must reach when nothing is said
LISTED = 8  # candidates remembered per row, where nothing else is asked for


@dataclass(frozen=True)
class Regime:
    """How careful the automatic mode is.

    Attributes
    ----------
    caution : float
        Share of the largest drift among a row's candidates by which other centroids are taken to have come
        nearer. 1 searches often, 0 never again.
    gain : float
        Relative decrease of inertia at which to stop, beside the user's `tol`.
    """

    caution: float
    gain: float


@dataclass(frozen=True)
class Limits:
    """Sizes at which the plan changes. All are measured on embeddings and image patches; results do not need them.

    Attributes
    ----------
    small : int
        Rows x clusters x columns up to which an exact pass costs next to nothing.
    swapped, swapped_values : int
        Clusters, and clusters x columns, up to which a start is improved by swaps, which cost exact passes over a
        sample, and several times the centroids in memory.
    few : int
        Clusters below which one matrix product beats any bookkeeping.
    cells_from : int
        Clusters from which searching cells beats searching everything.
    per_cell : int
        Centroids a cell, while fitting.
    cells_values, small_cell : int
        Clusters x columns from which that is so of fewer clusters, while fitting, and centroids a cell then.
    cells_per_root : float
        Cells that predict, in square roots of the number of clusters.
    level : int
        Each sample is this many times larger than the one before.
    rows_per_cluster : int
        Rows a cluster that the first sample has at least.
    large : int
        Rows a cluster from which the size-aware rule gains little, so that searching must be careful.
    many, few_rows, careful : Regime
        For many clusters of few rows, for fewer of these, and for clusters of many rows.
    lead : float
        See `Plan`: a row is visited again after an iteration, half of which lies ahead on the average.
    gain_swapped : float
        Relative decrease of inertia at which to stop up to `swapped` clusters, where a low optimum is what is sought.
    gain_on_sample : float
        Relative decrease of inertia at which a sample is left, whose optimum is not the one sought.
    audited : int
        Rows of the sample on which recall is measured: at 0.99 its interval is about 0.6% wide.
    part : int
        Rows that are looked at once where that takes memory for each of them.
    """

    small: int = 2**29
    swapped: int = 512
    swapped_values: int = 2**22
    few: int = 64
    cells_from: int = 4096
    per_cell: int = 128
    cells_values: int = 3 * 2**18
    small_cell: int = 32
    cells_per_root: float = 2.0  # with 0.5, and cells placed less well, twice as many centroids are looked at
    level: int = 4
    rows_per_cluster: int = 512
    large: int = 256
    many: Regime = Regime(caution=0.25, gain=2.5e-3)
    few_rows: Regime = Regime(caution=0.25, gain=4e-4)
    careful: Regime = Regime(caution=0.35, gain=4e-4)  # with less, fits stall before rows find their clusters
    lead: float = 0.5
    gain_swapped: float = 1e-4
    gain_on_sample: float = 4e-3
    audited: int = 4096
    part: int = PART


LIMITS = Limits()


@dataclass(frozen=True)
class Plan:
    """How a fit goes about its work.

    Attributes
    ----------
    spec : Spec
        The index that finds centroids.
    candidates : int
        Candidates remembered per row, 0 for none: every row is then searched in every iteration.
    criterion : Criterion
        By which rows move, from the iteration on with which it begins.
    batches : int
        Parts in which an iteration visits the rows; centroids follow after each.
    caution : float
        See `Regime`.
    lead : float
        By which share of what an iteration moves it a centroid lies ahead of the mean of its rows.
    levels : tuple of int
        Numbers of rows trained on, one after the other, ending with all.
    gain, gain_on_sample : float
        Relative decrease of inertia at which to stop, beside the user's `tol`; and to leave a sample. 0: `tol` alone.
    recall : float or None
        What the search option that `spec` leaves open must reach.
    swaps : bool
        Whether the start is improved by swaps.
    trim : Trim or None
        Which rows are left out of the means, if any.
    reason : str
        Why, in a sentence.
    """

    spec: Spec
    candidates: int = 0
    criterion: Criterion = NEAREST
    batches: int = 1
    caution: float = 1.0
    lead: float = 0.0
    levels: tuple[int, ...] = ()
    gain: float = 0.0
    gain_on_sample: float = 0.0
    recall: float | None = None
    swaps: bool = False
    trim: Trim | None = None
    reason: str = ""

    def enough(self, level: int, inertias: Sequence[float]) -> bool:
        """Whether the gain of the last iteration on this level is too small to go on."""
        if len(inertias) < 2:
            return False
        before, now = inertias[-2:]
        gain = self.least(level)
        return gain > 0 and before - now <= gain * before

    def least(self, level: int) -> float:
        """The relative decrease of inertia at which to stop on this level."""
        return self.gain if level == len(self.levels) - 1 else self.gain_on_sample

    def work(self, source: Source, weights: np.ndarray | None, k: int, space: Space, memory: Memory) -> Pass:
        """The pass that goes over some rows."""
        trim = self.trim
        rows = Rows.new(source.n, weights if trim is None else own_weights(source.n, weights, memory), memory)
        if not self.candidates:
            if trim is None:
                return Every(source, rows, k, space)
            every: Pass = TrimmedEvery(source, rows, k, space).leave_out(trim, weights)
            return every
        kind = Bounded if trim is None else TrimmedBounded
        work = kind(
            source,
            rows,
            k,
            space,
            batches=self.batches,
            candidates=self.candidates,
            caution=self.caution,
            lead=self.lead * self.batches if trim is None else 0.0,
            memory=memory,
        )
        return work.leave_out(trim, weights) if isinstance(work, TrimmedBounded) and trim is not None else work


def choose_index(index: Spec | str, k: int, device: Any = "cpu", limits: Limits = LIMITS) -> Spec:
    """Turn the `index` parameter into the spec that predicts: ``"auto"`` is exact for few clusters, cells for many.

    Cells are for CPUs: a GPU compares rows with everything. How many of them are searched is a start: a fit finds how
    many its rows need.
    """
    if not (isinstance(index, str) and index == "auto"):
        return parse_index(index)
    if k < limits.cells_from or device != "cpu":
        return Flat()
    nlist = max(1, round(limits.cells_per_root * k**0.5))
    return Cells(nlist=nlist, nprobe=min(32, nlist), train_iter=4)


def searcher(index: Spec | str, k: int, d: int, device: Any = "cpu", limits: Limits = LIMITS) -> Spec:
    """The spec that searches during a fit: cheaper than `choose_index`'s, as rows remember what it found before."""
    spec = choose_index(index, k, device, limits)
    if index != "auto" or device != "cpu":
        return spec
    if k >= limits.cells_from:
        return Cells(nlist=max(1, k // limits.per_cell), nprobe=8, train_iter=2)
    if k * d >= limits.cells_values and k >= limits.cells_from // 2:
        return Cells(nlist=k // limits.small_cell, nprobe=8, train_iter=2)
    return spec


@dataclass(frozen=True)
class Wishes:
    """What a user asks of a fit, beside clusters.

    Attributes
    ----------
    index : Spec or str
    candidates : int or None
    size_aware, swaps : bool or "auto"
    effort : float
    recall : float or None
        See `fastann.KMeans`.
    trim : Trim or None
    """

    index: Spec | str = "auto"
    candidates: int | None = None
    size_aware: bool | str = "auto"
    swaps: bool | str = "auto"
    effort: float = 1.0
    recall: float | None = None
    trim: Trim | None = None

    @property
    def automatic(self) -> bool:
        """Whether the index is left to the plan."""
        return isinstance(self.index, str) and self.index == "auto"


def choose(
    wishes: Wishes,
    n: int,
    d: int,
    k: int,
    *,
    sparse: bool = False,
    columns: int | None = None,
    device: Any = "cpu",
    limits: Limits = LIMITS,
) -> Plan:
    """Plan a fit of `n` rows, `d` columns (of sparse rows: values a row, of so many `columns`) and `k` clusters.

    With a given index the plan is fixed: that index, on all rows, in every iteration, with candidates only if
    asked for. ``"auto"`` is exact on small problems; else it keeps candidates, and starts on samples where
    there are many rows a cluster. Sparse rows are searched exactly.
    """
    plan = _passes(wishes, n, d, k, sparse, device, limits)
    small = k <= limits.swapped and k * (columns or d) <= limits.swapped_values
    wanted = wishes.automatic and small if wishes.swaps == "auto" else bool(wishes.swaps)
    return replace(plan, swaps=wanted and k > 1, trim=wishes.trim)


def _passes(wishes: Wishes, n: int, d: int, k: int, sparse: bool, device: Any, limits: Limits) -> Plan:
    """What the plan says of passes."""
    asked = SIZE_AWARE if wishes.size_aware is True else NEAREST
    kept = wishes.candidates or (LISTED if wishes.size_aware is True else 0)
    if not wishes.automatic:
        return _given(wishes, Flat() if sparse else parse_index(wishes.index), n, kept, asked)
    if n * k * d <= limits.small:
        return Plan(Flat(), kept, asked, levels=(n,), reason="small enough for exact passes")
    levels = [n]
    while levels[0] > 2 * limits.level * limits.rows_per_cluster * k:
        levels.insert(0, levels[0] // limits.level)
    grown = "" if len(levels) == 1 else f", trained on {levels[0]:,} rows first"
    plan = Plan(Flat(), kept, asked, levels=tuple(levels), gain_on_sample=limits.gain_on_sample)
    if k < limits.few:
        return replace(plan, gain=limits.many.gain / wishes.effort, reason=f"few clusters: exact{grown}")
    spec = Flat() if sparse else searcher(wishes.index, k, d, device, limits)
    probes = "every centroid" if spec == Flat() else "cells of centroids"
    regime = limits.many if k >= limits.cells_from else limits.few_rows
    regime = limits.careful if n >= limits.large * k else regime
    return replace(
        plan,
        spec=spec,
        candidates=wishes.candidates or LISTED,
        criterion=NEAREST if wishes.size_aware is False else SIZE_AWARE,
        batches=4,
        caution=min(1.0, regime.caution * wishes.effort),
        lead=0.0 if sparse else limits.lead,
        gain=(limits.gain_swapped if k <= limits.swapped else regime.gain) / wishes.effort,
        reason=f"candidates from {probes}, searched anew where bounds fail{grown}",
    )


def _given(wishes: Wishes, spec: Spec, n: int, kept: int, criterion: Criterion) -> Plan:
    """The plan for an index that was given."""
    what = f"{kept} candidates a row" if kept else "every row searched in every iteration"
    if spec.open is None:
        return Plan(spec, kept, criterion, levels=(n,), reason=f"the given index, {what}")
    target = RECALL if wishes.recall is None else wishes.recall
    what = f"the given index, {spec.open} found for a recall of {target:g}, {what}"
    return Plan(spec, kept, criterion, levels=(n,), recall=target, reason=what)

"""What a fit does: fixed for a given index; for ``"auto"``, chosen from the problem's size and the course so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastann.index.base import Spec
from fastann.index.parse import parse_index
from fastann.index.spec import Cells, Flat

SMALL = 2**29  # rows x clusters x columns up to which an exact pass costs next to nothing
FEW = 64  # clusters below which one matrix product beats any bookkeeping
CELLS_FROM = 4096  # clusters from which searching cells beats searching everything
PER_CELL = 128  # centroids a cell, while fitting
LEVEL = 4  # each sample is this many times larger than the one before
ROWS_PER_CLUSTER = 512  # rows a cluster that the first sample has at least
RECALL = 0.99  # what an index of open effort must reach when nothing is said
LARGE = 256  # rows a cluster from which the size-aware rule gains little, so that searching must be careful
CAUTION, GAIN = 0.25, 1e-3  # see `Plan`, at effort 1, where there are many clusters of few rows
CAREFUL_CAUTION, CAREFUL_GAIN = 0.35, 2e-4  # elsewhere: a search is cheap there, and nothing makes up for its lack
GAIN_ON_SAMPLE = 4e-3  # the same on a sample, whose optimum is not the one sought


@dataclass(frozen=True)
class Plan:
    """How a fit goes about its work.

    Attributes
    ----------
    spec : Spec
        The index that finds centroids.
    candidates : int
        Candidates remembered per row, 0 for none: every row is then searched in every iteration.
    size_aware : bool
        Whether rows move by Hartigan's criterion from the third iteration on.
    batches : int
        Parts in which an iteration visits the rows; centroids follow after each.
    caution : float
        Share of the largest drift among a row's candidates by which other centroids are taken to have come
        nearer. 1 searches often, 0 never again.
    levels : tuple of int
        Numbers of rows trained on, one after the other, ending with all.
    gain : float
        Relative decrease of inertia at which to stop, beside the user's `tol`.
    recall : float or None
        What the search option that `spec` leaves open must reach.
    reason : str
        Why, in a sentence.
    """

    spec: Spec
    candidates: int = 0
    size_aware: bool = False
    batches: int = 1
    caution: float = 1.0
    levels: tuple[int, ...] = ()
    gain: float = 0.0
    recall: float | None = None
    reason: str = ""

    def enough(self, level: int, inertias: Sequence[float]) -> bool:
        """Whether the gain of the last iteration on this level is too small to go on."""
        if len(inertias) < 2:
            return False
        before, now = inertias[-2:]
        gain = self.gain if level == len(self.levels) - 1 else GAIN_ON_SAMPLE
        return gain > 0 and before - now <= gain * before


def choose_index(index: Spec | str, k: int) -> Spec:
    """Turn the `index` parameter into the spec that predicts: ``"auto"`` is exact for few clusters, cells for many."""
    if isinstance(index, str) and index == "auto":
        return Flat() if k < CELLS_FROM else Cells()
    return parse_index(index)


def searcher(index: Spec | str, k: int) -> Spec:
    """The spec that searches during a fit: cheaper than `choose_index`'s, as rows remember what it found before."""
    spec = choose_index(index, k)
    return Cells(nlist=k // PER_CELL, nprobe=8, train_iter=2) if spec == Cells() and index == "auto" else spec


def choose(
    index: Spec | str,
    n: int,
    d: int,
    k: int,
    *,
    candidates: int | None,
    size_aware: bool | str,
    effort: float,
    recall: float | None,
    sparse: bool = False,
) -> Plan:
    """Plan a fit of `n` rows, `d` columns and `k` clusters.

    With a given index the plan is fixed: that index, on all rows, in every iteration, with candidates only if
    asked for. ``"auto"`` is exact on small problems; else it keeps candidates, and starts on samples where
    there are many rows a cluster. Sparse rows are searched exactly.
    """
    automatic = isinstance(index, str) and index == "auto"
    spec = Flat() if sparse else choose_index(index, k)
    aware = size_aware is True
    if not automatic:
        kept = candidates or (8 if aware else 0)
        what = f"{kept} candidates a row" if kept else "every row searched in every iteration"
        if spec.open is None:
            return Plan(spec, kept, aware, levels=(n,), reason=f"the given index, {what}")
        target = RECALL if recall is None else recall
        what = f"the given index, {spec.open} found for a recall of {target:g}, {what}"
        return Plan(spec, kept, aware, levels=(n,), recall=target, reason=what)
    levels = [n]
    while levels[0] > 2 * LEVEL * ROWS_PER_CLUSTER * k:
        levels.insert(0, levels[0] // LEVEL)
    grown = "" if len(levels) == 1 else f", trained on {levels[0]:,} rows first"
    few = candidates or (8 if aware else 0)
    if n * k * d <= SMALL:
        return Plan(Flat(), few, aware, levels=(n,), reason="small enough for exact passes")
    if k < FEW:
        return Plan(Flat(), few, aware, levels=tuple(levels), gain=GAIN / effort, reason=f"few clusters: exact{grown}")
    probes = "every centroid" if k < CELLS_FROM or sparse else "cells of centroids"
    careful = k < CELLS_FROM or n >= LARGE * k
    caution, gain = (CAREFUL_CAUTION, CAREFUL_GAIN) if careful else (CAUTION, GAIN)
    return Plan(
        Flat() if sparse else searcher(index, k),
        candidates or 8,
        size_aware is not False,
        batches=4,
        caution=min(1.0, caution * effort),
        levels=tuple(levels),
        gain=gain / effort,
        reason=f"candidates from {probes}, searched anew where bounds fail{grown}",
    )

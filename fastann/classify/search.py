"""How prototypes are searched, dense or sparse, and how the search option of their index is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from fastann.classify.half import Half, HalfCells, HalfFlat, HalfInverted, wide
from fastann.classify.prototypes import Prototypes
from fastann.classify.start import drawn
from fastann.cluster import plan
from fastann.data.source import Source, Subset
from fastann.index.base import AUTO, Index, Spec
from fastann.index.inverted import InvertedIndex
from fastann.index.own import CellsIndex
from fastann.index.recall import Adaptive
from fastann.index.spec import Cells, Flat

AUDITED = 2**14  # rows that a search option is found on: the 95% interval of a recall of 0.99 is then 0.3% wide
FEWEST_AUDITED = 1000  # a batch of fewer rows leaves the option as it is
GROWTH = 1.25  # in a stream, the option is found anew when there are more than so many times the prototypes


@dataclass(frozen=True)
class PrototypeSearch:
    """What builds an index over prototypes: an inverted index over sparse ones, else what `index` says.

    Attributes
    ----------
    index : str or Spec
        Of dense prototypes; "auto" searches up to 4,096 of them exactly, and cells of them beyond.
    budget : int or None
        Values of sparse prototypes that one row may be compared with, None for all: see `kernels.search_inverted`.
    """

    index: Spec | str
    budget: int | None = None

    def spec(self, k: int, device: Any = "cpu") -> Spec:
        """The spec for `k` dense prototypes; that of "auto" may leave its search option open."""
        spec = plan.choose_index(self.index, k)
        if self.index != "auto" or spec == Flat():
            return spec
        # A GPU searches everything faster than cells, which are for CPUs.
        return Cells(nlist=round(2 * k**0.5), nprobe=AUTO) if device == "cpu" else Flat()

    def started(self) -> PrototypeSearch:
        """Itself: `build` starts the spec that it chooses, with the default of an option left open."""
        return self

    def build(self, centroids: Any, *, seed: int = 0, device: Any = "cpu") -> Index:
        """Index prototypes: float32 [k, d], a float32 CSR matrix, or a `Half` of either.

        A `Half` is searched as it is, through inverted lists, flat or in cells; other indexes have their own copies.
        """
        if isinstance(centroids, Half):
            return self._half(centroids, seed, device)
        if sparse.issparse(centroids):
            return InvertedIndex(centroids, self.budget)
        return self.spec(len(centroids), device).started().build(centroids, seed=seed, device=device)

    def _half(self, vectors: Half, seed: int, device: Any) -> Index:
        if vectors.sparse:
            return HalfInverted(vectors)
        spec = self.spec(vectors.shape[0], device)
        if device == "cpu" and isinstance(spec, Flat):
            return HalfFlat(vectors)
        index = self.build(wide(vectors), seed=seed, device=device)
        return HalfCells(vectors, index) if isinstance(index, CellsIndex) else index


def choose_search(
    search: PrototypeSearch,
    prototypes: Prototypes | None,
    view: Source,
    weights: np.ndarray | None,
    rng: np.random.Generator,
    *,
    recall: float,
    device: Any,
    known: tuple[Spec, int],
) -> tuple[Spec, int]:
    """The index that predicts; if it leaves its search option open, with the least that reaches the recall.

    Parameters
    ----------
    search : PrototypeSearch
    prototypes : Prototypes or None
        None before a stream brought rows of positive weight.
    view : Source
        Rows that were trained on, in the space of the prototypes: the recall is measured on some of them.
    weights : float64 [n] or None
        By which these are drawn.
    recall : float
        Recall@1 to reach, with its whole 95% interval.
    known : (Spec, int)
        What this function gave before, which is kept while the prototypes are about as many, or where the rows are
        too few to measure on; ``(Flat(), 0)`` the first time.

    Returns
    -------
    spec : Spec
    searched : int
        How many prototypes there were when a search option was found last.
    """
    before, searched = known
    if prototypes is None or sparse.issparse(prototypes.vectors):
        return Flat(), searched
    spec, k = search.spec(len(prototypes), device), len(prototypes)
    if spec.open is None:
        return spec, searched
    if type(before) is type(spec) and (k <= GROWTH * searched or view.n < FEWEST_AUDITED):
        return before, searched
    started = spec.started()
    if view.n < FEWEST_AUDITED:
        return started, k
    rows = view if weights is None else Subset(view, drawn(view.n, weights, AUDITED, rng)[0])
    adapt = Adaptive(spec, recall, rows, rng, AUDITED)
    adapt(started.build(prototypes.vectors, seed=0, device=device), prototypes.vectors)
    return adapt.spec, k

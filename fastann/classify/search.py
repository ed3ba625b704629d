"""How prototypes are searched, whether they are dense or sparse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scipy import sparse

from fastann.cluster import plan
from fastann.index.base import AUTO, Index, Spec
from fastann.index.inverted import InvertedIndex
from fastann.index.spec import Cells, Flat


@dataclass(frozen=True)
class PrototypeSearch:
    """What builds an index over prototypes: sparse ones get the inverted index.

    Attributes
    ----------
    index : str or Spec
        For dense prototypes; "auto" is exact for few, and cells for many.
    budget : int or None
        Products that a row may take among sparse ones, None for all: see `kernels.search_inverted`.
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
        """Itself: what is left open gets its default when it is built."""
        return self

    def build(self, centroids: Any, *, seed: int = 0, device: Any = "cpu") -> Index:
        """Index prototypes: float32 [k, d], or a float32 CSR matrix."""
        if sparse.issparse(centroids):
            return InvertedIndex(centroids, self.budget)
        return self.spec(len(centroids), device).started().build(centroids, seed=seed, device=device)

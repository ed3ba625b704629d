"""Queries seen in the space that the rows are searched in."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastann.cluster.space import Space
from fastann.data.csr import Densified, Sparsified
from fastann.data.open import as_source
from fastann.data.source import Source, UnitNorm

ORTHOGONAL = 2.0  # squared distance of unit vectors at right angles, as which a row without a direction counts


def queries_of(queries: Any, d: int, space: Space, *, sparse: bool) -> Source:
    """Queries of `d` columns seen in a space, sparse or dense as the rows are."""
    source = as_source(queries, "queries")
    if source.d != d:
        raise ValueError(f"queries have {source.d} columns, and the rows have {d}; pass queries of {d} columns")
    view = space.view(source, zero_rows=True, name="queries")
    return as_kind(view, sparse)


def as_kind(view: Source, sparse: bool) -> Source:
    """A view whose chunks are sparse, or dense, whatever they are."""
    if view.sparse == sparse:
        return view
    return Sparsified(view) if sparse else Densified(view)


def zeros_of(view: Source) -> np.ndarray:
    """Rows of a view that have no direction in its space: int64, ascending."""
    base = view.base if isinstance(view, Densified | Sparsified) else view
    return base.zeros if isinstance(base, UnitNorm) else np.empty(0, np.int64)

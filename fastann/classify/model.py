"""What training leads to: prototypes and how to search them, in one frozen result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse

from fastann.classify.fit import Verdict
from fastann.classify.half import Half, wide
from fastann.classify.prototypes import Prototypes
from fastann.classify.stream import Stream
from fastann.classify.training import Epoch
from fastann.cluster.space import Space
from fastann.index.base import Spec


@dataclass(frozen=True)
class Batch:
    """What a batch of a stream changed.

    Attributes
    ----------
    rows : int
        Rows of the batch.
    objective : float
        Weighted sum of squared distances of its rows to the prototypes.
    shift : float
        Mean L2 distance by which the prototypes moved that there were before; most of them are 0 in a small batch.
    merged : int
        Prototypes merged away.
    active : int
        Prototypes after it.
    new_classes : tuple
        Labels of classes that were not known before, sorted.
    """

    rows: int
    objective: float
    shift: float
    merged: int
    active: int
    new_classes: tuple[Any, ...] = ()

    @classmethod
    def of(cls, record: Epoch, new: np.ndarray) -> Batch:
        """From the record of the batch and the labels of classes that are new."""
        return cls(record.rows, record.objective, record.shift, record.merged, record.active, tuple(new.tolist()))


@dataclass(frozen=True, eq=False)
class Classification:
    """All that a fit, or a stream so far, leads to. The estimator publishes it, folders are written from it.

    Attributes
    ----------
    space : Space
    classes : ndarray [classes]
        Labels, sorted.
    stream : Stream
        Prototypes, and rows of classes that still wait for theirs. The next batch changes it in place. Vectors are
        float32 while a stream runs; after a fit, or read from a folder, they are a `Half` if `dtype` says so.
    scale : float
        Of the softmax that turns cosines, or minus squared distances, into probabilities.
    spec : Spec
        The index that predicts.
    history : list of Epoch
        A record per epoch, or per batch of a stream.
    seed : int
        Of all randomness.
    verdict : Verdict or None
        Whether refinement helped, where that was tried.
    searched : int
        How many prototypes there were when the search option of `spec` was found; 0 if it never was.
    dtype : {"float32", "float16", "bfloat16"}
        Of stored values.
    listed : ndarray or None
        Labels of the classes that a list of numbers of prototypes names, in its order.
    last : Batch or None
        What the last batch of a stream changed.
    """

    space: Space
    classes: np.ndarray
    stream: Stream
    scale: float
    spec: Spec
    history: list[Epoch] = field(repr=False)
    seed: int
    verdict: Verdict | None = None
    searched: int = 0
    dtype: str = "float32"
    listed: np.ndarray | None = None
    last: Batch | None = None

    @property
    def n_features(self) -> int:
        """Columns of the rows."""
        return int(self.prototypes.vectors.shape[1])

    @property
    def prototypes(self) -> Prototypes:
        """Prototypes as they are stored: vectors in float32, or a `Half` of `dtype`."""
        p = self.stream.prototypes
        if p is None:
            raise ValueError(
                "no row to learn from was seen yet: all were of weight 0, or zero and without the direction that "
                "metric='cosine' needs; pass others to partial_fit"
            )
        return replace(p, vectors=stored(p.vectors, self.dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors of the prototypes, as they are kept here.

        Those of a stream are float32 while it runs, whatever `dtype` says: half precision would stop a running mean
        once a row's share of it is below the distance of two values.
        """
        vectors = None if self.stream.prototypes is None else self.stream.prototypes.vectors
        if vectors is None or not sparse.issparse(vectors):
            return 0 if vectors is None else int(vectors.nbytes)
        return int(vectors.data.nbytes + vectors.indices.nbytes + vectors.indptr.nbytes)


def stored(vectors: Any, dtype: str) -> Any:
    """Vectors of prototypes in the precision of `dtype`: float32, or a `Half`."""
    if dtype == "float32":
        return wide(vectors)
    return vectors if isinstance(vectors, Half) and vectors.dtype == dtype else Half.of(vectors, dtype)

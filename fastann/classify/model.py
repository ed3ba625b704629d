"""What training leads to: prototypes and how to search them, in one frozen result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse

from fastann.classify.fit import Verdict
from fastann.classify.prototypes import Prototypes, round_to
from fastann.classify.stream import Stream
from fastann.classify.training import Epoch
from fastann.cluster.space import Space
from fastann.index.base import Spec


@dataclass(frozen=True, eq=False)
class Classification:
    """All that a fit, or a stream so far, leads to. The estimator publishes it, folders are written from it.

    Attributes
    ----------
    space : Space
    classes : ndarray [classes]
        Labels, sorted.
    stream : Stream
        Prototypes in float32, and rows of classes that still wait for theirs. The next batch changes it in place.
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

    @property
    def n_features(self) -> int:
        """Columns of the rows."""
        return int(self.prototypes.vectors.shape[1])

    @property
    def prototypes(self) -> Prototypes:
        """Prototypes as they are stored: values of `dtype`, held in float32."""
        p = self.stream.prototypes
        if p is None:
            raise ValueError(
                "no row to learn from was seen yet: all were of weight 0, or zero and without the direction that "
                "metric='cosine' needs; pass others to partial_fit"
            )
        if self.dtype == "float32":
            return p
        vectors: Any = p.vectors
        if sparse.issparse(vectors):
            values = round_to(vectors.data, self.dtype)
            return replace(p, vectors=sparse.csr_matrix((values, vectors.indices, vectors.indptr), vectors.shape))
        return replace(p, vectors=round_to(vectors, self.dtype))

"""Squared norms of rows. Compiled code is loaded for dense rows only, so that rooms below the engine may use this."""

from typing import Any

import numpy as np
from scipy import sparse


def sqnorms(x: Any) -> np.ndarray:
    """Squared L2 norms of the rows of a matrix: float64 [n].

    Parameters
    ----------
    x : float32 [n, d], or a CSR matrix of any floats
    """
    if not sparse.issparse(x):
        from fastann.kernels.sums import survey

        return survey(x)[0]
    rows = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    norms = np.bincount(rows, weights=np.square(x.data, dtype=np.float64), minlength=x.shape[0])
    return norms.astype(np.float64, copy=False)  # of no values, bincount counts in whole numbers

"""``.npz``: a sparse matrix, as ``scipy.sparse.save_npz`` writes it, or arrays, as ``numpy.savez`` does."""

from pathlib import Path

import numpy as np

from fastann import checks
from fastann.data.csr import CSRSource
from fastann.data.formats.file import Options
from fastann.data.formats.text import Loaded
from fastann.data.source import Source


def npz(path: Path, options: Options) -> Source:
    """The matrix, in whatever sparse format it was saved; or the only 2-D array, or `column`. All in memory."""
    shapes = checks.npz_arrays(path)
    if {"format", "shape", "data"} <= set(shapes):
        checks.only_options(path, options.given(), (), "a sparse matrix")
        return CSRSource(checks.csr(checks.npz_file(path), str(path)), path, options.limits)
    tables = [name for name, (shape, dtype) in shapes.items() if len(shape) == 2 and not dtype.hasobject]
    name = checks.column(options.column, tables, path, "2-D arrays of numbers")
    with checks.readable(path, ".npz"), np.load(path, allow_pickle=False) as arrays:
        array = arrays[name]
    what = f"{name!r} of {path}"
    if checks.bfloat16(array.dtype, options.dtype, what):
        array = (array.view("<u2").astype(np.uint32) << 16).view(np.float32)
    checks.table(array.shape, array.dtype, what, empty=True)
    return Loaded(array, path, options, npz)

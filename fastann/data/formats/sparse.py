"""``.npz``: a sparse matrix, as ``scipy.sparse.save_npz`` writes it."""

from pathlib import Path

from fastann import checks
from fastann.data.csr import CSRSource
from fastann.data.formats.file import Options
from fastann.data.source import Source


def npz(path: Path, options: Options) -> Source:
    """The matrix, in memory, in whatever sparse format it was saved."""
    return CSRSource(checks.csr(checks.npz_file(path), str(path)), path, options.limits)

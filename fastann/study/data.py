"""The rows of a study: files that stay where they are, or one in its folder; and how a run's process reads them.

Rows lie in memory while a run is measured, so that reading them is no part of its time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from fastann import storage
from fastann.data.csr import CSRSource
from fastann.data.identity import sampled
from fastann.data.open import as_source, can_reopen, in_files, reopen
from fastann.data.source import ArraySource, Source
from fastann.data.whole import stored_rows

DATA = {False: "data.npy", True: "data.npz"}  # of dense rows, and of sparse ones


class Data:
    """What a study was given: rows in files that can be opened again, or any other rows.

    Attributes
    ----------
    name : str
        For reports.
    source : Source
    n : int
        Rows.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, PermissionError, ImportError
        As `fastann.open_source` does.
    """

    def __init__(self, x: Any):
        self.source = as_source(x)
        known = self.source.fingerprint()
        files = list(known["files"]) if known is not None and can_reopen(known) else []
        self.name = _name(x) or _name(files) or "array"
        self.n = int(self.source.n)

    def about(self) -> dict[str, Any]:
        """What a study says of its data."""
        return {
            "name": self.name,
            "n": self.n,
            "d": int(self.source.d),
            "dtype": self.source.stored,
            "fingerprint": sampled(self.source),
        }

    def place(self, folder: Path) -> dict[str, Any]:
        """Where `read` finds the rows, as part of an order: files as they are, else a file in it, written once."""

        def write(source: Source) -> Path:
            path = folder / DATA[source.sparse]
            if not path.exists():
                rows = stored_rows(source)
                if source.sparse:
                    storage.write_file(path, lambda file: sparse.save_npz(file, rows))
                else:
                    storage.write_array(path, rows)
            return path

        return {"files": in_files(self.source, write)}


def read(order: dict[str, Any]) -> Any:
    """The rows of an order, in memory, as they are stored: all, or the first `n` of a fixed permutation.

    An array, or a CSR matrix.
    """
    source = reopen(order["files"])
    return stored_rows(source, _picks(source.n, order["n"]))


def in_memory(x: Any) -> Source:
    """What `read` gave, as a source."""
    return CSRSource(x) if sparse.issparse(x) else ArraySource(x)


def _picks(n: int, wanted: int) -> np.ndarray | None:
    return np.sort(np.random.default_rng(0).permutation(n)[:wanted]) if wanted < n else None


def _name(x: Any) -> str:
    """What paths are called: the stem of a file, the folder of a glob or of several; "" if these are no paths."""
    paths = [x] if isinstance(x, str | os.PathLike) else x if isinstance(x, Sequence) else []
    if not paths or not all(isinstance(path, str | os.PathLike) for path in paths):
        return ""
    path = Path(os.fsdecode(paths[0])).absolute()
    return path.stem if len(paths) == 1 and path.exists() else path.parent.name

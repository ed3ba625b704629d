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

SUFFIX = {False: ".npy", True: ".npz"}  # of files of dense rows, and of sparse ones
MADE_UP = 100_000  # rows that are made up where nothing else is said


class MadeUp:
    """Made-up rows in place of data, of any number of columns: overlapping Gaussian blobs, the same every time."""

    name, n = "made-up rows", MADE_UP

    def __init__(self, n: int = MADE_UP):
        self.n = n

    def about(self) -> dict[str, Any]:
        """What a study says of its data."""
        return {"name": self.name, "n": self.n, "d": 0, "dtype": "float32", "fingerprint": "made up, seed 0"}

    def place(self, folder: Path) -> dict[str, Any]:
        """Nowhere: every run makes them anew."""
        return {"files": None}


def made_up(n: int, d: int) -> np.ndarray:
    """`n` made-up rows of `d` columns, float32: sums of two of 1,024 centres, and noise."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((1024, d), dtype=np.float32)
    x = centers[rng.integers(1024, size=n)] + centers[rng.integers(1024, size=n)] * np.float32(0.5)
    x += np.float32(0.5) * rng.standard_normal(x.shape, dtype=np.float32)
    return x


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

    def place(self, folder: Path, name: str = "data") -> dict[str, Any]:
        """Where `read` finds the rows, as part of an order: files as they are, else a file in it, written once.

        `name` tells its file from that of other rows.
        """

        def write(source: Source) -> Path:
            path = folder / f"{name}{SUFFIX[source.sparse]}"
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

    An array, or a CSR matrix. Without files they are made up, with the order's `d` columns.
    """
    if order["files"] is None:
        return made_up(order["n"], order["d"])
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

"""The rows of a study: files that stay where they are, or `data.npy` in its folder; and how a run's process reads them.

Rows lie in memory while a run is measured, so that reading them is no part of its time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastann import storage
from fastann.data.open import as_source, reopen
from fastann.data.source import Source

DATA = "data.npy"
FINGERPRINT_BYTES = 2**20


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
        As `fastann.open_source` does; also for sparse rows.
    """

    def __init__(self, x: Any):
        self.source = as_source(x)
        if self.source.sparse:
            raise TypeError("sparse rows were passed, but the methods of a study take dense ones; call .toarray()")
        known = self.source.fingerprint()
        self.files = known if known is not None and not {"dataset", "picks"} & set(known) else None
        self.name = _name(x) or _name([*(self.files or {}).get("files", {})]) or "array"
        self.n = int(self.source.n)

    def about(self) -> dict[str, Any]:
        """What a study says of its data."""
        return {
            "name": self.name,
            "n": self.n,
            "d": int(self.source.d),
            "dtype": self.source.stored,
            "fingerprint": fingerprint(self.source),
        }

    def place(self, folder: Path) -> dict[str, Any]:
        """Where `read` finds the rows, as part of an order: files as they are, else `data.npy`, written once."""
        if self.files is not None:
            paths = list(self.files["files"])
            return {"path": paths[0]} if _is_npy(paths) else {"files": self.files}
        if not (folder / DATA).exists():
            storage.write_array(folder / DATA, self.source.native(slice(0, self.n)))
        return {"path": str(folder / DATA)}


def read(order: dict[str, Any]) -> np.ndarray:
    """The rows of an order, in memory, as they are stored: all, or the first `n` of a fixed permutation."""
    if "files" in order:
        source = reopen(order["files"])
        picks = _picks(source.n, order["n"])
        rows = source.native(slice(0, source.n) if picks is None else picks)
        return rows if rows.base is None else np.array(rows)  # a view may be of a mapped file
    x = np.load(order["path"], mmap_mode="r", allow_pickle=False)
    picks = _picks(len(x), order["n"])
    return np.array(x) if picks is None else x[picks]


def _picks(n: int, wanted: int) -> np.ndarray | None:
    return np.sort(np.random.default_rng(0).permutation(n)[:wanted]) if wanted < n else None


def fingerprint(source: Source) -> str:
    """SHA-256 of the shape and of about 1 MiB of rows at fixed places: enough to tell data sets apart."""
    shape = (int(source.n), int(source.d))
    row = max(1, source.dtype.itemsize * shape[1])
    at = np.unique(np.linspace(0, shape[0] - 1, max(1, min(shape[0], FINGERPRINT_BYTES // row))).astype(np.int64))
    digest = hashlib.sha256(f"{shape}".encode())
    digest.update(np.ascontiguousarray(source.native(at)).tobytes())
    return digest.hexdigest()


def _name(x: Any) -> str:
    """What paths are called: the stem of a file, the folder of a glob or of several; "" if these are no paths."""
    paths = [x] if isinstance(x, str | os.PathLike) else x if isinstance(x, Sequence) else []
    if not paths or not all(isinstance(path, str | os.PathLike) for path in paths):
        return ""
    path = Path(os.fsdecode(paths[0])).absolute()
    return path.stem if len(paths) == 1 and path.exists() else path.parent.name


def _is_npy(paths: list[str]) -> bool:
    return len(paths) == 1 and Path(paths[0]).suffix == ".npy"

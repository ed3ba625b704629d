"""What was found: which rows stay, which row each of the others is a near-duplicate of, and how both are written."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks, storage
from fastann.storage import tables

RECORD = "dedup.json"  # describes a folder that `Duplicates.save` wrote
_TABLES = {".csv": "csv", ".parquet": "parquet"}  # what is written as one file, by suffix


@dataclass(frozen=True, kw_only=True, eq=False)
class Duplicates:
    """Which rows to keep, and which row each of the others is a near-duplicate of.

    Attributes
    ----------
    kept : int64 [n - m]
        Rows to keep, ascending.
    dropped : int64 [m]
        The others, ascending.
    duplicate_of : int64 [m]
        For each dropped row a kept row that reaches the threshold with it.
    similarity : float32 [m]
        Their cosine.
    groups : int
        Kept rows that at least one row was dropped for.
    unchecked : int
        Rows that are near to the borders of more than `neighbours` clusters, and so were not compared with some of
        these; equal rows count once. Where it is 0 no two kept rows reach the threshold.
    threshold, keep, neighbours, seconds
        As asked for, and the time it took.
    ids : array of n integers or strings, or None
        Names of the rows, where the data or the model has them.
    """

    kept: np.ndarray = field(repr=False)
    dropped: np.ndarray = field(repr=False)
    duplicate_of: np.ndarray = field(repr=False)
    similarity: np.ndarray = field(repr=False)
    groups: int
    unchecked: int
    threshold: float
    keep: str
    neighbours: int
    seconds: float
    ids: np.ndarray | None = field(default=None, repr=False)

    @property
    def rows(self) -> int:
        """Number of rows, kept and dropped."""
        return len(self.kept) + len(self.dropped)

    @property
    def sentence(self) -> str:
        """What was found, and how sure it is that nothing was missed."""
        m = len(self.dropped)
        if m:
            found = (
                f"{m:,} of {self.rows:,} rows ({m / self.rows:.2%}) are dropped, as each has a cosine of at least "
                f"{self.threshold:g} with one of {self.groups:,} kept rows"
            )
        else:
            found = f"no two of {self.rows:,} rows were found to reach a cosine of {self.threshold:g}"
        return f"{found}; {self.certainty}"

    @property
    def certainty(self) -> str:
        """What `unchecked` means, in words."""
        if not self.unchecked:
            return "exact: every pair that may reach it was compared, across clusters too"
        return (
            f"exact inside clusters, but {self.unchecked:,} rows are near to more than {self.neighbours} borders and "
            "may have duplicates beyond these; raise neighbours or threshold"
        )

    def table(self, ids: Any = None) -> dict[str, np.ndarray]:
        """One entry per row, in row order: row, kept, duplicate_of (itself if kept), similarity; and ids.

        These are the rows' own (`ids`) when not given.
        """
        kept, of = np.zeros(self.rows, bool), np.arange(self.rows)
        similarity = np.ones(self.rows, np.float32)
        kept[self.kept] = True
        of[self.dropped], similarity[self.dropped] = self.duplicate_of, self.similarity
        columns = {"row": np.arange(self.rows), "kept": kept, "duplicate_of": of, "similarity": similarity}
        names = self._names(ids)
        if names is not None:
            columns = {"row": columns.pop("row"), "id": names, **columns, "duplicate_of_id": names[of]}
        return columns

    def _names(self, ids: Any) -> np.ndarray | None:
        return self.ids if ids is None else checks.given_ids(ids, self.rows)

    def save(self, path: str | os.PathLike[str], ids: Any = None, *, force: bool = False) -> Path:
        """Write a folder, or one file if `path` ends in .csv or .parquet (which needs pyarrow).

        A folder holds ``kept.npy``, ``dropped.npy``, ``duplicate_of.npy``, ``similarity.npy`` and ``dedup.json``; a
        file the columns of `table`. Each is written whole or not at all.

        Parameters
        ----------
        path : path
        ids : sequence of n integers or strings, optional
            Names of the rows, their own when not given: written too, to ``kept_ids.npy``, ``dropped_ids.npy`` and
            ``duplicate_of_ids.npy``.
        force : bool
            Replace an existing file, or a folder that this wrote.

        Raises
        ------
        FileExistsError
            If `path` exists and may not be replaced.
        ImportError
            If a .parquet file is asked for and pyarrow is not installed.
        """
        target = Path(path)
        check_target(target, force=force)
        if target.suffix in _TABLES:
            tables.write(target, self.table(ids), _TABLES[target.suffix])
        else:
            parts = {"kept": self.kept, "dropped": self.dropped, "duplicate_of": self.duplicate_of}
            arrays = {**parts, "similarity": self.similarity}
            names = self._names(ids)
            if names is not None:
                arrays |= {f"{name}_ids": names[rows] for name, rows in parts.items()}
            numbers = ("threshold", "keep", "neighbours", "groups", "unchecked", "seconds")
            record: dict[str, Any] = {"rows": self.rows, "kept": len(self.kept), "dropped": len(self.dropped)}
            record["settings"] = {name: getattr(self, name) for name in numbers[:3]}
            record |= {name: getattr(self, name) for name in numbers[3:]}
            storage.write_folder(target, record | {"sentence": self.sentence}, arrays, name=RECORD, force=force)
        return target


def check_target(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Refuse a path that `Duplicates.save` must not replace, or could not write."""
    target = Path(path)
    if target.suffix in _TABLES:
        tables.check_format(target, _TABLES[target.suffix])
        storage.check_file(target, force=force)
    else:
        storage.check_target(target, force=force, name=RECORD)

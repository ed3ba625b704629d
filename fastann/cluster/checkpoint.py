"""A fit on disk while it goes on: after a crash it continues, and ends where it would have ended."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastann import __version__, storage
from fastann.cluster.memory import size_of
from fastann.data.identity import check_identity, checksum, lasting

NAME = "checkpoint.json"
FORMAT = 2  # of what is written; one more whenever what a fit remembers is another thing
_HALF = re.compile(r"\.[0-9]{6,}\..*\.partial")  # what a crash leaves of one

Snapshot = tuple[dict[str, Any], dict[str, np.ndarray]]  # plain values, arrays


class Checkpoints:
    """Writes a fit to a folder from time to time, and reads the last one back.

    Every checkpoint is a folder of its own, written beside and renamed; the one before is removed after that. One fit
    at a time may have the folder.

    Parameters
    ----------
    folder : path
        Made when missing.
    seconds : float
        At least this long from one to the next; 0 writes one after every start and iteration.
    task : dict
        Plain values that tell what is clustered and how: a checkpoint of something else is refused.

    Attributes
    ----------
    seed : int
        Of the fit: the one it began with.
    latest : Snapshot or None
        The last one that was found.
    spent : float
        Seconds that the fit took up to there.

    Raises
    ------
    OSError
        If the folder cannot be made or written to.
    ValueError
        If it holds checkpoints of other data or parameters, or of another version of fastann.
    """

    def __init__(self, folder: str | os.PathLike, seconds: float, task: dict[str, Any]):
        self.folder, self.seconds, self.task = Path(folder).absolute(), seconds, task
        self._make()
        self.latest, self.spent = None, 0.0
        if found := self._sweep():
            values, arrays = storage.read_folder(found[0], name=NAME, what="a checkpoint")
            self._check_format(values)
            self._check(values["task"])
            self.task = values["task"]
            self.latest, self.spent = (values["fit"], arrays), values["seconds"]
        else:
            self.task = task | {"data": lasting(task["data"])}
        self.seed: int = self.task["seed"]
        self.began = self.written = time.perf_counter()

    def offer(self, record: Callable[[], Snapshot]) -> None:
        """Write ``record()`` if it is time.

        Raises
        ------
        OSError
            If that fails. The checkpoint before stays.
        """
        if time.perf_counter() - self.written < self.seconds:
            return
        values, arrays = record()
        before = self._found()
        number = 1 + (int(before[0].name) if before else 0)
        spent = self.spent + time.perf_counter() - self.began
        self.latest = None  # its files go
        try:
            whole = {"format": FORMAT, "fastann": __version__, "task": self.task, "seconds": spent, "fit": values}
            storage.write_folder(self.folder / f"{number:06d}", whole, arrays, name=NAME)
        except OSError as error:
            size = sum(array.nbytes for array in arrays.values())
            kept = f"the last one, {before[0]}, stays" if before else "there is none yet"
            raise OSError(
                error.errno or errno.EIO,
                f"a checkpoint of {size_of(size)} cannot be written: {error.strerror or error}; {kept}: mend that and "
                "fit again to go on",
            ) from error
        for path in before:
            _discard(path)
        self.written = time.perf_counter()

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise FileExistsError(f"{self.folder} is a file; checkpoints need a folder") from None
        except OSError as error:
            raise OSError(
                error.errno, f"the folder {self.folder} for checkpoints cannot be made ({error.strerror})"
            ) from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(f"checkpoints cannot be written to {self.folder}: it is read-only; choose another")

    def _found(self) -> list[Path]:
        """Checkpoints, the last one first."""
        found = (path for path in self.folder.iterdir() if path.name.isdecimal() and (path / NAME).is_file())
        return sorted(found, key=lambda path: int(path.name), reverse=True)

    def _sweep(self) -> list[Path]:
        """Remove what a crash left half-written; then as `_found`."""
        for path in self.folder.iterdir():
            if path.is_dir() and _HALF.fullmatch(path.name):
                shutil.rmtree(path)
        return self._found()

    def _check_format(self, values: dict[str, Any]) -> None:
        """Refuse what another version wrote, which remembers other things."""
        if values.get("format") != FORMAT:
            version = values.get("fastann", "of an earlier version")
            raise ValueError(
                f"{self.folder} holds a checkpoint that fastann {version} wrote, with which {__version__} cannot go "
                f"on: finish the fit with that version, or remove {self.folder} to begin anew"
            )

    def _check(self, before: dict[str, Any]) -> None:
        """Refuse to go on with a fit of something else."""
        how = f"remove {self.folder} to begin anew"
        try:
            check_identity(before["data"], self.task["data"])
        except ValueError as error:
            raise ValueError(f"{self.folder} holds checkpoints of other data: {error}; or {how}") from None
        for name, value in before["parameters"].items():
            if self.task["parameters"][name] != value:
                raise ValueError(
                    f"{self.folder} holds checkpoints of a fit with {name}={value!r}, given was "
                    f"{self.task['parameters'][name]!r}; pass the same, or {how}"
                )


def _discard(path: Path) -> None:
    """Remove a checkpoint, of which a crash leaves what `_HALF` tells."""
    shutil.rmtree(path.rename(path.with_name(f".{path.name}.old.partial")))


def remove(folder: str | os.PathLike) -> None:
    """Remove the checkpoints of a folder, and the folder if nothing else is in it."""
    path = Path(folder)
    if not path.is_dir():
        return
    for one in path.iterdir():
        if (one / NAME).is_file():
            _discard(one)
    if not any(path.iterdir()):
        path.rmdir()


def plain(value: Any) -> Any:
    """A parameter as JSON holds it; arrays by their checksum."""
    if isinstance(value, np.ndarray | list):
        return f"array {np.shape(value)}, checksum {checksum(np.asarray(value, np.float64))}"
    if isinstance(value, np.generic):
        return value.item()
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return value if isinstance(value, int | float | str | type(None)) else str(value)

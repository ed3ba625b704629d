"""How much memory a fit takes: what is kept of each row goes to files where it would be too much."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks
from fastann.data.source import Gathered, Source, Subset

PART = 2**18  # rows looked at once: what is computed for each of them is small beside a block of rows
CHUNKS = 6  # blocks alive at once: read ahead, stored, converted, sorted by cluster
PER_CENTROID = 64  # bytes for each value of a centroid: sums, means, the former ones, what an index packs
PER_ROW = 16  # bytes for each row of a block, beside the row: its place, its label before
SMALL = 16  # bytes for each row of the data, that a sample of it may take


class Memory:
    """Gives arrays with an entry per row: in memory while they fit, else mapped from files without a name.

    Such a file is gone when the array is, also after a SIGKILL. All its room on the disk is claimed at once, as a
    write to a mapped file on a full disk kills the process.

    Parameters
    ----------
    limit : int or None
        Bytes that may be taken; None is no limit.
    folder : path, optional
        Where the files lie: `tempfile.gettempdir()` when not given.
    part : int
        Rows that are looked at once where that takes memory for each of them.

    Attributes
    ----------
    left : float
        Bytes that are not taken.
    """

    def __init__(self, limit: float | None = None, folder: str | os.PathLike | None = None, part: int = PART):
        self.left: float = np.inf if limit is None else limit
        self.part = part
        self.folder = Path(tempfile.gettempdir() if folder is None else folder).absolute()

    def empty(self, shape: Any, dtype: Any, most: float = 1.0) -> np.ndarray:
        """An array, in memory if it takes at most the share `most` of what is left."""
        dtype, size = np.dtype(dtype), int(np.prod(shape))
        nbytes = size * dtype.itemsize
        if nbytes <= self.left * most:
            array = np.empty(shape, dtype)
            self.left -= nbytes
            weakref.finalize(array, self._give_back, nbytes)
            return array.view()  # so that the array lives as long as any view of it
        return self._mapped(shape, dtype, nbytes)

    def full(self, shape: Any, dtype: Any, value: float) -> np.ndarray:
        """The same, filled."""
        array = self.empty(shape, dtype)
        array[:] = value
        return array

    def sample(self, source: Source, picks: np.ndarray) -> Source:
        """The rows `picks` (ascending) of a source.

        From a disk they are read once, and kept in memory or side by side in a file. In memory they are copied where
        that takes little beside what is remembered of the rows.
        """
        sample, nbytes = Subset(source, picks), len(picks) * source.d * source.dtype.itemsize
        if source.sparse:
            return sample
        if source.ahead:
            if nbytes > self.left / 2 and nbytes > room(self.folder) / 2:
                return sample
        elif nbytes > min(SMALL * source.n, self.left / 2):
            return sample
        rows = self.empty((len(picks), source.d), source.dtype, most=0.5)
        step = source.rows_per_chunk()
        for start in range(0, len(picks), step):
            rows[start : start + step] = source.native(picks[start : start + step])
        return Gathered(source, rows)

    def _give_back(self, nbytes: int) -> None:
        self.left += nbytes

    def _mapped(self, shape: Any, dtype: np.dtype, nbytes: int) -> np.ndarray:
        try:
            with tempfile.TemporaryFile(dir=self.folder, prefix="fastann-") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, nbytes)
                else:  # pragma: no cover - macOS, Windows
                    file.truncate(nbytes)
                # No `numpy.memmap`: joblib would have other processes open the file, which has no name.
                return np.ndarray(shape, dtype, mmap.mmap(file.fileno(), nbytes))
        except OSError as error:
            raise OSError(
                error.errno,
                f"what is remembered of each row exceeds max_memory, and {size_of(nbytes)} of it cannot be written to "
                f"{self.folder}, where {size_of(room(self.folder))} are free ({error.strerror}); free space there, "
                "choose another temp_folder or raise max_memory",
            ) from error


def needed(source: Source, k: int) -> int:
    """Bytes that a fit takes whatever is kept of the rows: blocks of rows, and arrays of k x d."""
    blocks = CHUNKS * source.limits.chunk_bytes + PER_ROW * source.rows_at_once()
    return blocks + PER_CENTROID * k * source.d + source.buffered


def plan_memory(
    source: Source, k: int, limit: int | None, folder: str | os.PathLike | None, part: int = PART
) -> Memory:
    """Memory for a fit, less what it needs in any case; `limit` in bytes, None for half of what is free.

    Raises
    ------
    ValueError
        If a given limit is less than that.
    """
    least = needed(source, k)
    if limit is not None and limit < least - source.buffered:
        raise ValueError(
            f"max_memory={limit} ({size_of(limit)}) is too little: blocks of rows and {k:,} centroids of {source.d} "
            f"columns take {size_of(least)}; give at least {least}"
        )
    if limit is not None and limit < least:
        warnings.warn(
            f"max_memory={limit} ({size_of(limit)}) is less memory than the fit takes, about {size_of(least)}: "
            f"{size_of(source.buffered)} are rows that can only be read together; write the data in smaller groups of "
            "rows (row groups, batches, chunks) or as .npy",
            UserWarning,
            stacklevel=5,
        )
    left = max(0.0, (free() / 2 if limit is None else limit) - least)
    return Memory(left - source.hold(left / 2), folder, part)


def room(folder: Path) -> int:
    """Bytes that are free on the disk of a folder; 0 where nothing tells."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def free() -> float:
    """Bytes of memory that can be had: of the machine, or of the container; infinite where nothing tells."""
    found = [_available(), _left_in_container()]
    return min((value for value in found if value is not None), default=np.inf)


def _available() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):  # pragma: no cover - not Linux
        pass
    try:  # pragma: no cover - as above
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):  # pragma: no cover - as above
        return None


def _left_in_container(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """What the control groups of this process may still take; None where they have no limit."""
    left = checks.memory_left(root=str(root))
    return None if left == np.inf else left


def size_of(nbytes: float) -> str:
    """Bytes in words, such as 1.5 GiB."""
    value = float(nbytes)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"

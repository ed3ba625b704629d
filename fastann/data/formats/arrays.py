"""Arrays that a library reads by slices: HDF5 and zarr."""

import threading
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks
from fastann.data.formats.file import File, Options, joined
from fastann.data.source import BFloat16Source

GAP_BYTES = 2**16  # rows nearer to each other than this are read in one go


class Sliced(File):
    """An array that is read by slices, through a handle that is opened when needed. Subclasses open it."""

    what: str

    def __init__(self, path: Path, options: Options):
        if not is_zarr(path):
            checks.data_file(path)
        super().__init__(path, options)
        self._lock = threading.Lock()
        self._handle: Any = None
        with checks.readable(path, self.what):
            arrays = self._arrays()
        self.name = checks.column(self._default(list(arrays)), list(arrays), path, "2-D arrays")
        array, what = arrays[self.name], f"{self.name!r} of {path}"
        (self.n, self.d), self.dtype = array.shape, np.dtype(array.dtype)
        self.brain = checks.bfloat16(self.dtype, options.dtype, what)
        row = self.d * self.dtype.itemsize
        self.dtype = np.dtype(np.float32) if self.brain else self.dtype
        checks.table((self.n, self.d), self.dtype, what, empty=True)
        # Chunks of storage that a block touches are decoded as a whole; those beyond a block are what is said here.
        self.buffered = min(self.n, array.chunks[0] if array.chunks else 0) * row
        del arrays, array
        self.release()

    @abstractmethod
    def _arrays(self) -> dict[str, Any]:
        """Open the file; its 2-D arrays by name."""

    def _default(self, names: list[str]) -> str | None:
        return self.options.column

    @property
    def stored(self) -> str:
        return "bfloat16" if self.brain else super().stored

    def native(self, rows: Any) -> np.ndarray:
        block = self._block(rows)
        return BFloat16Source(block.view("<u2"), self.limits).native(slice(0, len(block))) if self.brain else block

    def _block(self, rows: Any) -> np.ndarray:
        with self._lock, checks.readable(self.path, self.what):
            if self._handle is None:
                self._handle = self._arrays()[self.name]
            if isinstance(rows, slice):
                return np.asarray(self._handle[rows.start : rows.stop])
            rows = np.asarray(rows)
            span, gap = self.rows_per_chunk(), GAP_BYTES // max(1, self.d * self.dtype.itemsize)
            cuts = np.flatnonzero((np.diff(rows) > gap) | (np.diff(rows // span) > 0)) + 1
            runs = [run for run in np.split(rows, cuts) if len(run)]
            pieces = [np.asarray(self._handle[int(r[0]) : int(r[-1]) + 1])[r - r[0]] for r in runs]
        return joined(pieces, self.d, np.dtype("<u2") if self.brain else self.dtype)

    def release(self) -> None:
        with self._lock:
            self._handle = None


class HDF5(Sliced):
    """``.h5``, ``.hdf5``: the dataset "train" (as ann-benchmarks has it), else the only 2-D one, or `column`."""

    what = "HDF5"

    def _arrays(self) -> dict[str, Any]:
        h5py, found = checks.library("h5py", self.path), {}

        def look(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and len(item.shape or ()) == 2:
                found[name] = item

        h5py.File(self.path, "r").visititems(look)  # closed with the last dataset that is held
        return found

    def _default(self, names: list[str]) -> str | None:
        return "train" if self.options.column is None and "train" in names else self.options.column


class Zarr(Sliced):
    """A zarr folder: an array, or the only 2-D array of a group and the groups in it, or `column` ("a/emb")."""

    what = "zarr"

    def _arrays(self) -> dict[str, Any]:
        root = checks.library("zarr", self.path).open(str(self.path), mode="r")
        found = {"array": root} if hasattr(root, "shape") else dict(_arrays_in(root, ""))
        return {name: array for name, array in sorted(found.items()) if len(array.shape) == 2}


def _arrays_in(group: Any, within: str) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of a zarr group and of the groups in it, by their paths."""
    yield from ((within + name, array) for name, array in group.arrays())
    for name, inside in group.groups():
        yield from _arrays_in(inside, f"{within}{name}/")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))

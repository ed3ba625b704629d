"""Formats whose rows lie in a file as they are, or in an array of a library: each a function or class.

Each takes a path and `Options` and gives a `Source` that can be pickled: a copy opens the file anew.
"""

import json
import math
import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks
from fastann.data.mapping import mapped
from fastann.data.source import ArraySource, Source

DIRECT_BYTES = 256 * 2**20  # a larger float32 file is read in chunks, so that disk and compute overlap
GAP_BYTES = 2**16  # rows nearer to each other than this are read in one go
VECS = {".fvecs": "<f4", ".ivecs": "<i4", ".bvecs": "u1"}
BINS = {".fbin": "<f4", ".u8bin": "u1", ".i8bin": "i1"}
TENSORS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "BOOL": "?"} | {
    f"{kind}{bits}": f"<{kind.lower()}{bits // 8}" for kind in "IU" for bits in (8, 16, 32, 64)
}


@dataclass(frozen=True)
class Options:
    """What `fastann.open_source` was told of files."""

    column: str | None = None
    id_column: str | None = None
    dtype: np.dtype | str | None = None
    d: int | None = None

    def given(self) -> list[str]:
        """Names of the options that were given."""
        return list(self.plain())

    def plain(self) -> dict[str, Any]:
        """The options that were given, as JSON holds them."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return given | ({"dtype": str(self.dtype)} if self.dtype is not None else {})


class File(Source):
    """Rows in one file (or a folder that is one, as zarr's are)."""

    ahead = True

    def __init__(self, path: Path, options: Options, opener: Callable[..., Any] | None = None):
        self.path, self.options = path, options
        self.opener: Callable[..., Any] = opener or type(self)
        self.written = written(path)  # as it is now: a change while rows are read is one that a later run sees

    def __reduce__(self) -> Any:
        return self.opener, (self.path, self.options)

    def release(self) -> None:
        """Give back handles and what is kept in memory; the next read opens the file again."""

    def fingerprint(self) -> dict[str, Any] | None:
        return about(self, {str(self.path.absolute()): self.written}) | {"options": self.options.plain()}


def written(path: Path) -> dict[str, int]:
    """Size and time of the last change, in nanoseconds, of a file, or of all files of a folder together."""
    inside = (Path(base, name) for base, _, names in os.walk(path) for name in names)
    stats = [file.stat() for file in (inside if path.is_dir() else [path])]
    return {"size": sum(s.st_size for s in stats), "mtime_ns": max((s.st_mtime_ns for s in stats), default=0)}


def about(source: Source, files: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Make a fingerprint."""
    return {"files": files, "n": source.n, "d": source.d, "dtype": source.stored}


def gather(rows: Any, ends: np.ndarray, read: Callable[[int, Any], np.ndarray]) -> Iterator[np.ndarray]:
    """Yield ``read(i, rows of part i)`` for the parts that `rows` lie in; part i ends before row ``ends[i]``."""
    if isinstance(rows, slice):
        start, stop, _ = rows.indices(int(ends[-1]))
        for i in range(int(np.searchsorted(ends, start, "right")), len(ends)):
            begin = int(ends[i - 1]) if i else 0
            if begin >= stop:
                return
            if ends[i] > begin:
                yield read(i, slice(max(start - begin, 0), min(stop, int(ends[i])) - begin))
        return
    rows = np.asarray(rows)
    owner = np.searchsorted(ends, rows, "right")
    for some in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(owner)) + 1):
        if len(some):
            i = int(owner[some[0]])
            yield read(i, rows[some] - (int(ends[i - 1]) if i else 0))


def joined(pieces: list[np.ndarray], d: int, dtype: np.dtype) -> np.ndarray:
    """Pieces one below the other; a single one as it is."""
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else np.empty((0, d), dtype)


# --------------------------------------------------------------------------- numbers as they lie in the file


class Mapping(File):
    """What is mapped into memory; a mapping keeps its file open, so it too is given back and made again."""

    _array: np.ndarray | None

    @property
    def array(self) -> np.ndarray:
        """The rows, as they lie in the file."""
        array = self._array
        if array is None:
            array = self._array = self.opener(self.path, self.options).array
            checks.unchanged(self.path, array.shape, (self.n, self.d))
        return array

    @array.setter
    def array(self, array: np.ndarray) -> None:
        self._array = array

    def release(self) -> None:
        self._array = None


class Mapped(Mapping, ArraySource):
    """A mapped array. A small float32 one is used as a whole; others a part at a time."""

    def __init__(self, array: np.ndarray, path: Path, options: Options, opener: Callable[..., Any]):
        File.__init__(self, path, options, opener)
        ArraySource.__init__(self, array)
        self.direct &= array.flags.aligned and array.nbytes <= DIRECT_BYTES
        self.ahead = not self.direct

    def native(self, rows: Any) -> np.ndarray:
        return np.asarray(self.array[rows]) if self.direct else mapped(self.array, rows)


class BFloat16(Mapping):
    """A mapped array of bfloat16, which NumPy does not have: the upper halves of float32 numbers."""

    dtype = np.dtype(np.float32)

    def __init__(self, array: np.ndarray, path: Path, options: Options, opener: Callable[..., Any]):
        super().__init__(path, options, opener)
        self.array = array
        self.n, self.d = array.shape

    @property
    def stored(self) -> str:
        return "bfloat16"

    def native(self, rows: Any) -> np.ndarray:
        wide = mapped(self.array, rows).astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)


def npy(path: Path, options: Options) -> Source:
    """``.npy``, as numpy.save writes it."""
    return Mapped(checks.matrix(checks.npy_file(path), str(path), empty=True), path, options, npy)


def raw(path: Path, options: Options) -> Source:
    """Numbers and nothing else; dtype and d come from the caller."""
    size, dtype, d = checks.data_file(path), options.dtype, options.d
    if dtype is None or d is None:
        raise ValueError(
            f"{path} is read as raw numbers, which say nothing of themselves; give both dtype and d: "
            f"{checks.OPEN}(path, dtype='float16', d=768)"
        )
    brain = dtype == "bfloat16"
    kind = np.dtype("<u2") if brain else np.dtype(dtype)
    checks.whole_rows(path, size, d * kind.itemsize, f"d={d} of {dtype}")
    array = _mapped(path, kind, 0, (size // (d * kind.itemsize), d))
    return (BFloat16 if brain else Mapped)(array, path, options, raw)


def vecs(path: Path, options: Options) -> Source:
    """``.fvecs``, ``.ivecs``, ``.bvecs`` of the TEXMEX sets: every row is its dimension (int32), then its numbers."""
    size, dtype = checks.data_file(path), np.dtype(VECS[path.suffix])
    d = int(np.fromfile(path, "<i4", 1)[0]) if size >= 4 else 0
    if d < 1:
        raise ValueError(f"{path} starts with the dimension {d}, which must be positive; it is no {path.suffix} file")
    checks.whole_rows(path, size, 4 + d * dtype.itemsize, f"its first row says {d} dimensions")
    rows = np.memmap(path, [("d", "<i4"), ("x", dtype, (d,))], "r")
    some = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 1000)).astype(np.int64))  # first and last are in
    said = np.asarray(rows["d"][some])
    if (said != d).any():
        place = int(np.argmax(said != d))
        raise ValueError(
            f"row {some[place]} of {path} says it has {said[place]} dimensions, but row 0 has {d}; all rows need as "
            "many: the file is damaged, or of another kind than its suffix says"
        )
    return Mapped(rows["x"], path, options, vecs)


def big_ann(path: Path, options: Options) -> Source:
    """``.fbin``, ``.u8bin``, ``.i8bin`` of the big-ann benchmarks: n and d (int32), then the numbers."""
    size, dtype = checks.data_file(path), np.dtype(BINS[path.suffix])
    n, d = (int(v) for v in np.fromfile(path, "<i4", 2)) if size >= 8 else (-1, -1)
    if n < 0 or d < 1:
        raise ValueError(
            f"{path} does not start with the number of rows and of dimensions; it is no {path.suffix} file"
        )
    checks.file_size(path, size, 8 + n * d * dtype.itemsize, f"its header ({n} rows, {d} dimensions)")
    return Mapped(_mapped(path, dtype, 8, (n, d)), path, options, big_ann)


def safetensors(path: Path, options: Options) -> Source:
    """``.safetensors``: the only 2-D tensor, or the one that `column` names."""
    size = checks.data_file(path)
    with checks.readable(path, ".safetensors"), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ValueError(f"its header would have {length} bytes")
        listed = {name: t for name, t in json.loads(file.read(length)).items() if name != "__metadata__"}
        shapes = {name: tuple(map(int, t["shape"])) for name, t in listed.items()}
        begins, ends = ({name: int(t["data_offsets"][i]) for name, t in listed.items()} for i in (0, 1))
    name = checks.column(options.column, [n for n, shape in shapes.items() if len(shape) == 2], path, "2-D tensors")
    kind, shape, begin = str(listed[name]["dtype"]), shapes[name], begins[name]
    if kind not in TENSORS:
        raise ValueError(f"{path} holds {name!r} as {kind}, which is not read; save it as one of {', '.join(TENSORS)}")
    dtype = np.dtype(TENSORS[kind])
    checks.table(shape, dtype, f"{name!r} of {path}", empty=True)
    checks.file_size(f"{name!r} of {path}", ends[name] - begin, math.prod(shape) * dtype.itemsize, f"its shape {shape}")
    checks.file_size(path, size, 8 + length + max(ends.values()), "what its header lists")
    array = _mapped(path, dtype, 8 + length + begin, shape)
    return (BFloat16 if kind == "BF16" else Mapped)(array, path, options, safetensors)


def _mapped(path: Path, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.memmap(path, dtype, "r", offset, shape) if math.prod(shape) else np.empty(shape, dtype)


# --------------------------------------------------------------------------- arrays of a library


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
        (self.n, self.d), self.dtype = arrays[self.name].shape, np.dtype(arrays[self.name].dtype)
        checks.table((self.n, self.d), self.dtype, f"{self.name!r} of {path}", empty=True)
        del arrays
        self.release()

    @abstractmethod
    def _arrays(self) -> dict[str, Any]:
        """Open the file; its 2-D arrays by name."""

    def _default(self, names: list[str]) -> str | None:
        return self.options.column

    def native(self, rows: Any) -> np.ndarray:
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
        return joined(pieces, self.d, self.dtype)

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
    """A zarr folder: an array, or the only 2-D array of a group, or `column`."""

    what = "zarr"

    def _arrays(self) -> dict[str, Any]:
        root = checks.library("zarr", self.path).open(str(self.path), mode="r")
        found = {"array": root} if hasattr(root, "shape") else dict(root.arrays())
        return {name: array for name, array in sorted(found.items()) if len(array.shape) == 2}


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))

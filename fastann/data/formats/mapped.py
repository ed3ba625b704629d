"""Numbers that lie in a file as they are, mapped into memory: ``.npy``, vectors of benchmarks, raw numbers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks
from fastann.data.formats.file import File, Options
from fastann.data.mapping import mapped
from fastann.data.source import ArraySource, BFloat16Source, Source

VECS = {".fvecs": "<f4", ".ivecs": "<i4", ".bvecs": "u1"}
BINS = {".fbin": "<f4", ".f16bin": "<f2", ".u8bin": "u1", ".i8bin": "i1"}


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
        ArraySource.__init__(self, array, options.limits)
        self.direct &= array.flags.aligned and array.nbytes <= self.limits.direct_bytes
        self.ahead = not self.direct

    def native(self, rows: Any) -> np.ndarray:
        return np.asarray(self.array[rows]) if self.direct else mapped(self.array, rows, self.limits.memory)


class BFloat16(Mapping, BFloat16Source):
    """A mapped array of bfloat16."""

    def __init__(self, array: np.ndarray, path: Path, options: Options, opener: Callable[..., Any]):
        File.__init__(self, path, options, opener)
        BFloat16Source.__init__(self, array, options.limits)


def npy(path: Path, options: Options) -> Source:
    """``.npy``, as numpy.save writes it; or raw numbers under that name, where dtype and d are given."""
    if options.dtype is not None and options.d is not None and not checks.is_npy(path):
        return raw(path, options)
    array = checks.npy_file(path)
    brain = checks.bfloat16(array.dtype, options.dtype, path)
    array = checks.matrix(array.view("<u2") if brain else array, str(path), empty=True)
    checks.stated(options.d, array.shape[1], "d", path)
    return (BFloat16 if brain else Mapped)(array, path, options, npy)


def raw(path: Path, options: Options) -> Source:
    """Numbers and nothing else, whose dtype and d come from the caller; or after the header of DiskANN's files."""
    size, dtype, d = checks.data_file(path), options.dtype, options.d
    head, offset = _header(path, size), 0
    kind = None if dtype is None else np.dtype("<u2") if dtype == "bfloat16" else np.dtype(dtype)
    if head is not None and (d is None or d == head[1]):
        if kind is None or kind.itemsize != head[2]:
            raise ValueError(
                f"{path} is written as DiskANN writes .bin: a header of {head[0]} rows and {head[1]} dimensions, then "
                f"numbers of {head[2]} bytes" + ("" if dtype is None else f", which {dtype} has not") + "; say of "
                f"which dtype they are: {checks.OPEN}(path, dtype='{_LIKELY[head[2]]}')"
            )
        d, offset = head[1], 8
    if kind is None or d is None:
        raise ValueError(
            f"{path} is read as raw numbers, which say nothing of themselves; give both dtype and d: "
            f"{checks.OPEN}(path, dtype='float16', d=768)"
        )
    checks.whole_rows(path, size - offset, d * kind.itemsize, f"d={d} of {dtype}")
    array = map_numbers(path, kind, offset, ((size - offset) // (d * kind.itemsize), d))
    return (BFloat16 if dtype == "bfloat16" else Mapped)(array, path, options, raw)


_LIKELY = {1: "uint8", 2: "float16", 4: "float32", 8: "float64"}  # dtypes of so many bytes


def _header(path: Path, size: int) -> tuple[int, int, int] | None:
    """Rows, dimensions and bytes of a number, where a file starts with these two and is as long as they say."""
    n, d = (int(v) for v in np.fromfile(path, "<u4", 2)) if size > 8 else (0, 0)
    each, rest = divmod(size - 8, n * d) if n * d else (0, 1)
    return (n, d, each) if rest == 0 and each in _LIKELY else None


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
    """``.fbin``, ``.f16bin``, ``.u8bin``, ``.i8bin`` of the big-ann benchmarks: n and d (uint32), then the numbers."""
    size, dtype = checks.data_file(path), np.dtype(BINS[path.suffix])
    n, d = (int(v) for v in np.fromfile(path, "<u4", 2)) if size >= 8 else (0, 0)
    if d < 1:
        raise ValueError(
            f"{path} does not start with the number of rows and of dimensions; it is no {path.suffix} file"
        )
    checks.file_size(path, size, 8 + n * d * dtype.itemsize, f"its header ({n} rows, {d} dimensions)")
    return Mapped(map_numbers(path, dtype, 8, (n, d)), path, options, big_ann)


def map_numbers(path: Path, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    """Map numbers that lie in a file from the byte `offset` on; no rows, which cannot be mapped, as an empty array."""
    return np.memmap(path, dtype, "r", offset, shape) if math.prod(shape) else np.empty(shape, dtype)

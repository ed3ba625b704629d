"""Lists of numbers in Parquet, in Arrow files and streams, and in Hugging Face datasets."""

import threading
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks
from fastann.data.formats.file import File, Forward, Options, gather, joined
from fastann.data.identity import about, written
from fastann.data.source import Source


@dataclass(frozen=True)
class Columns:
    """The columns that hold the rows: one of lists, or `wide`: one for each dimension.

    Attributes
    ----------
    names : list of str
    d : int
        Dimensions; negative: as many as the first list has.
    dtype : numpy.dtype
    """

    names: list[str]
    wide: bool
    d: int
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{len(self.names)} columns" if self.wide else f"column {self.names[0]!r}"

    def rows(self, table: Any, d: int, numbers: Any, path: Any) -> np.ndarray:
        """Rows of a table or record batch as an array; `numbers` (range or int array) are theirs, for errors."""
        if not self.wide:
            return vectors(table.column(self.names[0]), d, numbers, path, self.names[0])
        out = np.empty((table.num_rows, d), self.dtype)
        for j, name in enumerate(self.names):
            column = table.column(name)
            if column.null_count:
                valid = column.is_valid().to_numpy(zero_copy_only=False)
                checks.lists(valid, np.full(len(valid), d), d, numbers, path, name)
            out[:, j] = column.to_numpy(zero_copy_only=False)
        return out


def columns_of(schema: Any, options: Options, path: Any) -> Columns:
    """Choose the columns that hold the rows: of lists of numbers, else all of numbers (see `checks.dimensions`)."""
    types = checks.library("pyarrow", path).types

    def numeric(kind: Any) -> bool:
        return types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind)

    kinds = {field.name: getattr(field.type, "storage_type", field.type) for field in schema}  # tensors are lists below
    vectors_in = [
        name
        for name, kind in kinds.items()
        if (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
        and numeric(kind.value_type)
    ]
    index = [name for name in (schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)]
    names = [name for name in schema.names if name not in index]
    numbers = [name for name in names if numeric(kinds[name])]
    wanted, several = options.column, len(numbers) > 1
    if wanted not in vectors_in and (several if wanted is None else numbers) and (not vectors_in or "*" in str(wanted)):
        others = [name for name in names if name not in numbers]
        chosen = checks.dimensions(numbers, others, wanted, options.id_column, path)
        dtype = np.result_type(*(kinds[name].to_pandas_dtype() for name in chosen))
        return Columns(chosen, True, len(chosen), dtype)
    name = checks.column(wanted, vectors_in, path, "columns of lists of numbers")
    return Columns(
        [name], False, getattr(kinds[name], "list_size", -1), np.dtype(kinds[name].value_type.to_pandas_dtype())
    )


class Lists(File):
    """A column of lists, or a column per dimension, in groups of rows.

    A group that takes no more than a block is decoded as a whole, and the last one kept; of a larger one blocks are
    decoded, from the one that was read last on, or anew. Subclasses open a handle, when needed, and read it.
    """

    what: str

    def __init__(self, path: Path, options: Options):
        checks.data_file(path)
        super().__init__(path, options)
        self._lock = threading.Lock()
        self._handle: Any = None
        self._kept: dict[int, np.ndarray] = {}
        self._forward: tuple[int, Forward] | None = None
        self._holding = False
        with checks.readable(path, self.what):
            self._handle = self._open(None)
            schema = self._schema(self._handle)
        self.columns = columns_of(schema, options, path)
        if options.id_column is not None:
            checks.column(options.id_column, schema.names, path, "columns")
        with checks.readable(path, self.what):
            self._handle = self._open(self.columns.names)
            self.ends = np.cumsum([0, *self._sizes(self._handle)])[1:]
        self.n = int(self.ends[-1]) if len(self.ends) else 0
        self.d, self.dtype = self.columns.d, self.columns.dtype
        if self.d < 0:  # lists of any length: the first one says
            first = int(np.searchsorted(self.ends, 0, "right"))
            self.d = next(self._blocks(first, 1)).shape[1] if self.n else 0
        checks.table((self.n, self.d), self.dtype, f"{self.columns} of {path}", empty=True)
        self.buffered = self._decoded(self._handle)
        self.release()

    @abstractmethod
    def _open(self, names: list[str] | None) -> Any: ...

    @abstractmethod
    def _schema(self, handle: Any) -> Any: ...

    @abstractmethod
    def _sizes(self, handle: Any) -> list[int]: ...

    @abstractmethod
    def _streams(self) -> bool:
        """Whether some rows of a group can be decoded for about what they take."""

    @abstractmethod
    def _decoded(self, handle: Any) -> int:
        """Bytes that are decoded at once, whatever is asked for (see `Source.buffered`)."""

    @abstractmethod
    def _tables(self, handle: Any, group: int, rows: int, names: list[str]) -> Iterator[Any]:
        """Yield the rows of a group as record batches, of at most so many rows where that can be."""

    @abstractmethod
    def read_ids(self) -> np.ndarray:
        """The column that names rows."""

    def native(self, rows: Any) -> np.ndarray:
        if not self.n:
            return np.empty((0, self.d), self.dtype)
        with self._lock:
            return joined(list(gather(rows, self.ends, self._part)), self.d, self.dtype)

    def hold(self, limit: float) -> int:
        nbytes = self.n * self.d * self.dtype.itemsize
        self._holding = nbytes <= min(limit, self.limits.direct_bytes)
        return nbytes if self._holding else 0

    def _part(self, group: int, rows: Any) -> np.ndarray:
        size = int(self.ends[group]) - self._first(group)
        if self._streams() and not self._holding and size * self.d * self.dtype.itemsize > self.limits.chunk_bytes:
            if self._forward is None or self._forward[0] != group:
                self._kept.clear()
                self._forward = group, Forward(lambda: self._blocks(group, max(1, self.rows_per_chunk() // _PARTS)))
            return joined(self._forward[1].read(rows), self.d, self.dtype)
        if group not in self._kept:
            if not self._holding:
                self._kept.clear()
            self._kept[group] = self._whole(group, size)
        return self._kept[group][rows]

    def _whole(self, group: int, size: int) -> np.ndarray:
        """All rows of a group; a single block, which may be a view of a mapped file, as it is."""
        out, at = np.empty((size, self.d), self.dtype), 0
        for block in self._blocks(group, max(1, self.rows_per_chunk() // _PARTS) if self._streams() else size):
            if len(block) == size:
                return block
            out[at : at + len(block)] = block
            at += len(block)
        return out

    def _blocks(self, group: int, rows: int, columns: Columns | None = None) -> Iterator[np.ndarray]:
        first, handle, columns = self._first(group), self._handle, columns or self.columns
        with checks.readable(self.path, self.what):
            handle = self._handle = self._open(self.columns.names) if handle is None else handle
            tables = self._tables(handle, group, rows, columns.names)
        while True:
            with checks.readable(self.path, self.what):
                table = next(tables, None)
            if table is None:
                return
            yield columns.rows(table, columns.d if columns.wide else self.d, range(first, self.n), self.path)
            first += table.num_rows

    def _largest(self) -> int:
        """Bytes of the largest group."""
        return int(np.diff(self.ends, prepend=0).max(initial=0)) * self.d * self.dtype.itemsize

    def _first(self, group: int) -> int:
        return int(self.ends[group - 1]) if group else 0

    def release(self) -> None:
        with self._lock:
            self._handle, self._forward, self._holding = None, None, False
            self._kept.clear()


_PARTS = 4  # of a chunk: what is decoded at once, which takes several times its size
_COLUMNS, _ROWS = 16, 2**16  # of a wide table that are decoded at once


class Parquet(Lists):
    """``.parquet``, by row groups."""

    what = "Parquet"

    def _open(self, names: list[str] | None) -> Any:
        pq = checks.library("pyarrow.parquet", self.path)
        if self._handle is not None:
            return self._handle
        # Without these two all of a column in a row group is read before its first row is decoded.
        file = checks.library("pyarrow", self.path).OSFile(str(self.path))
        return pq.ParquetFile(file, pre_buffer=False, buffer_size=2**16)

    def _schema(self, handle: Any) -> Any:
        return handle.schema_arrow

    def _sizes(self, handle: Any) -> list[int]:
        return [handle.metadata.row_group(i).num_rows for i in range(handle.num_row_groups)]

    def _decoded(self, handle: Any) -> int:
        return 0 if self._streams() else self._largest()

    def _streams(self) -> bool:
        return not self.columns.wide  # each column has a page at work, and with many columns that is all of a group

    def _tables(self, handle: Any, group: int, rows: int, names: list[str]) -> Iterator[Any]:
        return handle.iter_batches(rows, row_groups=[group], columns=names)

    def _whole(self, group: int, size: int) -> np.ndarray:
        if self._streams():
            return super()._whole(group, size)
        out = np.empty((size, self.d), self.dtype)
        for j in range(0, self.d, _COLUMNS):
            names, at = self.columns.names[j : j + _COLUMNS], 0
            for block in self._blocks(group, _ROWS, replace(self.columns, names=names, d=len(names))):
                out[at : at + len(block), j : j + _COLUMNS] = block
                at += len(block)
        return out

    def read_ids(self) -> np.ndarray:
        name = str(self.options.id_column)
        with checks.readable(self.path, self.what):
            column = self._open(None).read(columns=[name]).column(name)
        return row_names(column, self.path, name)


class Arrow(Lists):
    """``.arrow`` and ``.feather``, by record batches: IPC files, and streams as Hugging Face datasets writes them."""

    what = "Arrow IPC"

    def _open(self, names: list[str] | None) -> Any:
        pa = checks.library("pyarrow", self.path)
        whole = self._file = pa.memory_map(str(self.path)).read_buffer()
        if whole[:6].to_pybytes() != b"ARROW1":
            with pa.ipc.open_stream(whole) as stream:
                schema = stream.schema
                return [schema] if names is None else [schema, *self._in_place(stream, whole, names)]
        reader = pa.ipc.open_file(whole)
        if names is None or not reader.num_record_batches or _lies_in(whole, reader.get_batch(0)):
            return reader  # asked for some columns alone, it would copy them
        fields = sorted(reader.schema.get_field_index(name) for name in names)
        return pa.ipc.open_file(whole, options=pa.ipc.IpcReadOptions(included_fields=fields))

    def _in_place(self, stream: Any, whole: Any, names: list[str]) -> Any:
        """Record batches of a stream: places in the mapped file, which take no memory unless they are compressed."""
        for batch in stream:
            some = batch.select(names)
            if not _lies_in(whole, some):
                raise ValueError(
                    "it is a compressed stream, which can only be read whole; write a file with pyarrow.feather"
                )
            yield some

    def _schema(self, handle: Any) -> Any:
        return handle[0] if isinstance(handle, list) else handle.schema

    def _sizes(self, handle: Any) -> list[int]:
        return [batch.num_rows for batch in self._batches(handle)]

    def _batches(self, handle: Any) -> Any:
        if isinstance(handle, list):
            return iter(handle[1:])
        return (handle.get_batch(i) for i in range(handle.num_record_batches))

    def _decoded(self, handle: Any) -> int:
        first = next(self._batches(handle), None)
        if first is None or _lies_in(self._file, first):
            return 0
        return 2 * self._largest()  # a compressed batch, and the one before it

    def _streams(self) -> bool:
        return False

    def _tables(self, handle: Any, group: int, rows: int, names: list[str]) -> Iterator[Any]:
        batch = handle[1 + group] if isinstance(handle, list) else handle.get_batch(group)
        return (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))

    def read_ids(self) -> np.ndarray:
        name = str(self.options.id_column)
        with checks.readable(self.path, self.what):
            columns = [batch.column(name) for batch in self._batches(self._open([name]))]
        pa = checks.library("pyarrow", self.path)
        kind = self._schema(self._open(None)).field(name).type
        return row_names(pa.chunked_array(columns, kind), self.path, name)


def _lies_in(file: Any, batch: Any) -> bool:
    """Whether the numbers of a record batch are places in a mapped file, and not decoded from it."""
    buffers = [buffer for column in batch.columns for buffer in column.buffers() if buffer and buffer.size]
    return all(0 <= buffer.address - file.address < file.size for buffer in buffers)


class HuggingFace(Source):
    """A ``datasets.Dataset``, with whatever was selected, shuffled or mapped."""

    ahead = True

    def __init__(self, dataset: Any, options: Options):
        self.what = f"the dataset of {len(dataset)} rows"
        self.dataset, self.options, self.limits = dataset, options, options.limits
        self.columns = columns_of(dataset.features.arrow_schema, options, self.what)
        self.rows = dataset.select_columns(self.columns.names).with_format("arrow")
        self.n = len(dataset)
        self.d, self.dtype = self.columns.d, self.columns.dtype
        if self.d < 0:
            self.d = self.native(slice(0, 1)).shape[1] if self.n else 0
        checks.table((self.n, self.d), self.dtype, f"{self.columns} of {self.what}")

    def native(self, rows: Any) -> np.ndarray:
        if not isinstance(rows, slice) and len(rows) == 0:
            return np.empty((0, self.d), self.dtype)
        found = self.rows[rows if isinstance(rows, slice) else np.asarray(rows).tolist()]
        numbers = range(rows.start, self.n) if isinstance(rows, slice) else rows
        return self.columns.rows(found, self.d, numbers, self.what)

    def read_ids(self) -> np.ndarray:
        """The column that names rows."""
        name = checks.column(self.options.id_column, self.dataset.column_names, self.what, "columns")
        return row_names(self.dataset.select_columns([name]).with_format("arrow")[:].column(name), self.what, name)

    def fingerprint(self) -> dict[str, Any] | None:
        paths = [Path(cached["filename"]) for cached in self.dataset.cache_files]
        if not paths:
            return None
        known = about(self, {str(path.absolute()): written(path) for path in paths})
        return known | {"dataset": getattr(self.dataset, "_fingerprint", None), "options": self.options.plain()}


def vectors(column: Any, d: int, rows: Any, path: Any, name: str) -> np.ndarray:
    """Lists of numbers as rows of an array, in place where they can be.

    Parameters
    ----------
    column : pyarrow Array or ChunkedArray
    d : int
        Numbers in every list; negative: as many as in the first.
    rows : range or int array
        Numbers of the rows, for errors.
    """
    compute = checks.library("pyarrow.compute", path)
    pieces = []
    for chunk in getattr(column, "chunks", [column]):
        chunk = getattr(chunk, "storage", chunk)
        lengths = np.full(len(chunk), d)
        if not hasattr(chunk.type, "list_size"):
            lengths = compute.list_value_length(chunk).fill_null(0).to_numpy(zero_copy_only=False)
            d = int(lengths[0]) if d < 0 and len(lengths) else d
        checks.lists(chunk.is_valid().to_numpy(zero_copy_only=False), lengths, d, rows, path, name)
        values = chunk.flatten()
        if values.null_count:
            whole = values.is_valid().to_numpy(zero_copy_only=False).reshape(-1, d).all(axis=1)
            checks.lists(whole, lengths, d, rows, path, name)
        pieces.append(values.to_numpy(zero_copy_only=False).reshape(len(chunk), max(d, 0)))
        rows = rows[len(chunk) :]
    return joined(pieces, max(d, 0), np.dtype(np.float32))


def row_names(column: Any, path: Any, name: str) -> np.ndarray:
    """Ids as int64 or strings."""
    types = checks.library("pyarrow", path).types
    kind = column.type
    if types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
        raise ValueError(f"column {name!r} of {path} is {kind}; ids are integers or strings: name another id_column")
    if column.null_count:
        row = int(np.argmin(column.is_valid().to_numpy()))
        raise ValueError(f"row {row} of {path} has no id in column {name!r} (null); every row needs one")
    if types.is_integer(kind):
        return column.to_numpy()
    return np.array(column.to_pylist(), dtype=str)

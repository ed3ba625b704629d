"""Lists of numbers in Parquet, in Arrow files and streams, and in Hugging Face datasets."""

import threading
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks
from fastann.data.formats.file import File, Options, gather, joined
from fastann.data.identity import about, written
from fastann.data.source import Source


class Lists(File):
    """A column of lists, in groups of rows that are decoded one at a time; the last one is kept.

    Subclasses open a handle, when needed, and read columns of it.
    """

    what: str

    def __init__(self, path: Path, options: Options):
        checks.data_file(path)
        super().__init__(path, options)
        self._lock = threading.Lock()
        self._handle: Any = None
        self._kept: tuple[int, np.ndarray] | None = None
        with checks.readable(path, self.what):
            self._handle = self._open(None)
            schema = self._schema(self._handle)
        self.name = list_column(schema, options.column, path)
        if options.id_column is not None:
            checks.column(options.id_column, schema.names, path, "columns")
        with checks.readable(path, self.what):
            self._handle = self._open(self.name)
            self.ends = np.cumsum([0, *self._sizes(self._handle)])[1:]
        self.n = int(self.ends[-1]) if len(self.ends) else 0
        self.d, self.dtype = list_type(schema, self.name)
        if self.d < 0:  # lists of any length: the first one says
            self.d = len(self._read(int(np.searchsorted(self.ends, 0, "right")), 1)[0]) if self.n else 0
        checks.table((self.n, self.d), self.dtype, f"column {self.name!r} of {path}", empty=True)
        self.release()

    @abstractmethod
    def _open(self, name: str | None) -> Any: ...

    @abstractmethod
    def _schema(self, handle: Any) -> Any: ...

    @abstractmethod
    def _sizes(self, handle: Any) -> list[int]: ...

    @abstractmethod
    def _column(self, handle: Any, group: int, rows: int | None) -> Any: ...

    @abstractmethod
    def read_ids(self) -> np.ndarray:
        """The column that names rows."""

    def native(self, rows: Any) -> np.ndarray:
        if not self.n:
            return np.empty((0, self.d), self.dtype)
        with self._lock:
            return joined(list(gather(rows, self.ends, self._part)), self.d, self.dtype)

    def _part(self, group: int, rows: Any) -> np.ndarray:
        if self._kept is None or self._kept[0] != group:
            self._kept = None
            self._kept = group, self._read(group)
        return self._kept[1][rows]

    def _read(self, group: int, rows: int | None = None) -> np.ndarray:
        with checks.readable(self.path, self.what):
            if self._handle is None:
                self._handle = self._open(self.name)
            column = self._column(self._handle, group, rows)
        first = int(self.ends[group - 1]) if group else 0
        return vectors(column, self.d, range(first, self.n), self.path, self.name)

    def release(self) -> None:
        with self._lock:
            self._handle = self._kept = None


class Parquet(Lists):
    """``.parquet``, by row groups."""

    what = "Parquet"

    def _open(self, name: str | None) -> Any:
        pq = checks.library("pyarrow.parquet", self.path)
        if self._handle is not None:
            return self._handle
        return pq.ParquetFile(checks.library("pyarrow", self.path).OSFile(str(self.path)))

    def _schema(self, handle: Any) -> Any:
        return handle.schema_arrow

    def _sizes(self, handle: Any) -> list[int]:
        return [handle.metadata.row_group(i).num_rows for i in range(handle.num_row_groups)]

    def _column(self, handle: Any, group: int, rows: int | None) -> Any:
        if rows is None:
            return handle.read_row_group(group, columns=[self.name]).column(self.name)
        return next(handle.iter_batches(rows, row_groups=[group], columns=[self.name])).column(self.name)

    def read_ids(self) -> np.ndarray:
        name = str(self.options.id_column)
        with checks.readable(self.path, self.what):
            column = self._open(name).read(columns=[name]).column(name)
        return row_names(column, self.path, name)


class Arrow(Lists):
    """``.arrow`` and ``.feather``, by record batches: IPC files, and streams as Hugging Face datasets writes them."""

    what = "Arrow IPC"

    def _open(self, name: str | None) -> Any:
        pa = checks.library("pyarrow", self.path)
        whole = pa.memory_map(str(self.path)).read_buffer()
        if whole[:6].to_pybytes() != b"ARROW1":
            with pa.ipc.open_stream(whole) as stream:
                return [stream.schema] if name is None else [stream.schema, *self._in_place(stream, whole, name)]
        reader = pa.ipc.open_file(whole)
        if name is None:
            return reader
        options = pa.ipc.IpcReadOptions(included_fields=[reader.schema.get_field_index(name)])
        return pa.ipc.open_file(whole, options=options)

    def _in_place(self, stream: Any, whole: Any, name: str) -> Any:
        """Record batches of a stream: places in the mapped file, which take no memory unless they are compressed."""
        for batch in stream:
            for buffer in batch.column(name).buffers():
                if buffer and buffer.size and not 0 <= buffer.address - whole.address < whole.size:
                    raise ValueError(
                        "it is a compressed stream, which can only be read whole; write a file with pyarrow.feather"
                    )
            yield batch.select([name])

    def _schema(self, handle: Any) -> Any:
        return handle[0] if isinstance(handle, list) else handle.schema

    def _sizes(self, handle: Any) -> list[int]:
        return [batch.num_rows for batch in self._batches(handle)]

    def _batches(self, handle: Any) -> Any:
        if isinstance(handle, list):
            return iter(handle[1:])
        return (handle.get_batch(i) for i in range(handle.num_record_batches))

    def _column(self, handle: Any, group: int, rows: int | None) -> Any:
        batch = handle[1 + group] if isinstance(handle, list) else handle.get_batch(group)
        return batch.column(self.name).slice(0, rows)

    def read_ids(self) -> np.ndarray:
        name = str(self.options.id_column)
        with checks.readable(self.path, self.what):
            columns = [batch.column(name) for batch in self._batches(self._open(name))]
        pa = checks.library("pyarrow", self.path)
        kind = self._schema(self._open(None)).field(name).type
        return row_names(pa.chunked_array(columns, kind), self.path, name)


class HuggingFace(Source):
    """A ``datasets.Dataset``, with whatever was selected, shuffled or mapped."""

    ahead = True

    def __init__(self, dataset: Any, options: Options):
        self.what = f"the dataset of {len(dataset)} rows"
        self.dataset, self.options, self.limits = dataset, options, options.limits
        schema = dataset.features.arrow_schema
        self.name = list_column(schema, options.column, self.what)
        self.rows = dataset.select_columns([self.name]).with_format("arrow")
        self.n = len(dataset)
        self.d, self.dtype = list_type(schema, self.name)
        if self.d < 0:
            self.d = self.native(slice(0, 1)).shape[1] if self.n else 0
        checks.table((self.n, self.d), self.dtype, f"column {self.name!r} of {self.what}")

    def native(self, rows: Any) -> np.ndarray:
        if not isinstance(rows, slice) and len(rows) == 0:
            return np.empty((0, self.d), self.dtype)
        found = self.rows[rows if isinstance(rows, slice) else np.asarray(rows).tolist()].column(self.name)
        numbers = range(rows.start, self.n) if isinstance(rows, slice) else rows
        return vectors(found, self.d, numbers, self.what, self.name)

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


def _plain(kind: Any) -> Any:
    return getattr(kind, "storage_type", kind)  # tensors of fixed shape are lists below


def list_column(schema: Any, wanted: str | None, path: Any) -> str:
    """Choose the column of lists of numbers."""
    types = checks.library("pyarrow", path).types
    names = []
    for field in schema:
        kind = _plain(field.type)
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            value = kind.value_type
            if types.is_floating(value) or types.is_integer(value) or types.is_boolean(value):
                names.append(field.name)
    return checks.column(wanted, names, path, "columns of lists of numbers")


def list_type(schema: Any, name: str) -> tuple[int, np.dtype]:
    """Length (-1: any) and dtype of the lists in a column."""
    kind = _plain(schema.field(name).type)
    return getattr(kind, "list_size", -1), np.dtype(kind.value_type.to_pandas_dtype())


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

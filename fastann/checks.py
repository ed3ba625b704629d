"""The only input validation. Every message says what was given, what was needed and what to do.

Functions here are called once, at the public boundary; everything below them assumes validated input.
"""

import csv
import io
import math
import numbers
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

LARGEST = 1e17  # values whose squares, summed over a few columns, still fit float32


def matrix(x: Any, name: str = "X", *, empty: bool = False) -> np.ndarray:
    """Check that `x` is a 2-D numeric array with at least one row (unless `empty`) and column; no copy, no cast."""
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise TypeError(
            f"Sparse data was passed as {name}, but dense data is required; call .toarray() if it fits in "
            "memory, or reduce it first, for example with sklearn.decomposition.TruncatedSVD"
        )
    if hasattr(x, "detach") and hasattr(x, "cpu"):  # a torch tensor: shares its memory with NumPy
        x = x.detach().cpu()
        if "bfloat16" in str(x.dtype):
            raise TypeError(f"{name} is a torch.bfloat16 tensor, which NumPy cannot read; pass {name}.float()")
    try:
        a = x if isinstance(x, np.ndarray) else np.asarray(x)
    except ValueError as error:  # rows of unequal length
        raise ValueError(f"{name} cannot be read as a table of numbers: {error}") from None
    if a.dtype.kind == "O":
        try:
            a = a.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{name} has dtype object and is not all numbers ({error}); pass a numeric array"
            ) from None
    table(a.shape, a.dtype, name, empty=empty)
    return a


def table(shape: tuple[int, ...], dtype: np.dtype, name: str, *, empty: bool = False) -> None:
    """Check shape and dtype of a table of numbers, without reading it; `empty`: whether 0 rows are fine."""
    if dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {dtype}; pass its real part or modulus")
    if dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {dtype}; a float or integer array is needed: dtype='numeric'")
    if len(shape) != 2:
        raise ValueError(
            f"{name} needs 2 dimensions (rows, features), got shape {shape}. Reshape your data either using "
            f"X.reshape(-1, 1) if it has a single feature or X.reshape(1, -1) if it contains a single sample."
        )
    if shape[0] == 0 and not empty:
        raise ValueError(
            f"{name} has 0 sample(s) (shape={shape}) while a minimum of 1 is required; pass at least one row"
        )
    if shape[1] == 0 and shape[0] > 0:
        raise ValueError(
            f"{name} has 0 feature(s) (shape={shape}) while a minimum of 1 is required; pass at least one column"
        )


def csr(x: Any, name: str = "X") -> Any:
    """Check a SciPy sparse matrix or array of real numbers; as CSR, without duplicate entries, not written to."""
    if x.ndim != 2:
        raise ValueError(f"{name} needs 2 dimensions (rows, features), got shape {x.shape}")
    if x.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {x.dtype}; pass its real part or modulus")
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {x.dtype}; a float or integer matrix is needed: dtype='numeric'")
    for count, what, part in zip(x.shape, ("sample(s)", "feature(s)"), ("row", "column"), strict=True):
        if count == 0:
            raise ValueError(
                f"{name} has 0 {what} (shape={x.shape}) while a minimum of 1 is required; pass at least one {part}"
            )
    rows = x.tocsr()
    try:
        rows.check_format(full_check=True)
    except ValueError as error:
        raise ValueError(f"{name} is not a valid sparse matrix ({error}); build it again") from None
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


def features(d: int, expected: int, estimator: str) -> None:
    """Check that data has as many columns as the fitted model."""
    if d != expected:
        raise ValueError(
            f"X has {d} features, but {estimator} is expecting {expected} features as input; "
            f"pass rows of {expected} columns or fit again"
        )


def integer(value: Any, name: str, low: int, high: int | None = None) -> int:
    """Check an integer parameter in ``[low, high]``; booleans are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer >= {low}, got {value!r} of type {type(value).__name__}")
    number = int(value)
    if number < low or (high is not None and number > high):
        bound = f">= {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {bound}, got {number}")
    return number


def real(value: Any, name: str, low: float, *, above: bool = False) -> float:
    """Check a real parameter that is at least `low`, or strictly `above` it."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    if not math.isfinite(value) or value < low or (above and value == low):
        raise ValueError(f"{name} must be {'>' if above else '>='} {low:g} and finite, got {value}")
    return float(value)


def choice(value: Any, name: str, options: Any) -> str:
    """Check that a string is one of `options`."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def class_labels(y: Any, n: int) -> np.ndarray:
    """Check class labels: one per row, of any kind scikit-learn accepts; 1-D."""
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import column_or_1d

    if y is None:
        raise ValueError("requires y to be passed, but the target y is None; pass one class label per row of X")
    if hasattr(y, "toarray"):
        raise ValueError("y is a sparse matrix; pass one class label per row, for example y.argmax(axis=1)")
    labels = np.asarray(y)
    if labels.ndim > 1 and labels.shape[-1] > 1:
        raise ValueError(
            f"y should be a 1d array, got an array of shape {labels.shape} instead: one class label per row is needed; "
            "for one-hot rows or probabilities pass y.argmax(axis=1)"
        )
    labels = column_or_1d(labels, warn=True)
    if len(labels) != n:
        raise ValueError(f"y has {len(labels)} labels for {n} rows of X; one per row is needed")
    if labels.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: y has dtype {labels.dtype}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        row = int(np.flatnonzero(~np.isfinite(labels))[0])
        raise ValueError(f"Input y contains NaN or infinity, first in row {row}; every row needs a class label")
    if labels.dtype.kind == "O" and any(v is None or v != v for v in labels):
        row = next(i for i, v in enumerate(labels) if v is None or v != v)
        raise ValueError(f"Input y contains None or NaN, first in row {row}; every row needs a class label")
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        row = int(np.flatnonzero(labels != np.floor(labels))[0])
        raise ValueError(
            f"Unknown label type: continuous. y[{row}] is {labels[row]}; class labels are integers or strings, so "
            "a regressor is needed for such targets, or bins for classes"
        )
    check_classification_targets(labels)
    return labels


def cosine(value: Any, name: str) -> float:
    """Check a cosine that pairs of rows are to reach: above -1, at most 1."""
    number = real(value, name, -1.0, above=True)
    if number > 1:
        raise ValueError(f"{name} must be a cosine, > -1 and at most 1, got {value}; near-duplicates are about 0.95")
    return number


def fitted_rows(n: int, fitted: int) -> None:
    """Check that a table has as many rows as a model was fitted to."""
    if n != fitted:
        raise ValueError(f"X has {n} rows, but the model was fitted to {fitted}; pass the rows it was fitted to")


def given_ids(value: Any, n: int) -> np.ndarray:
    """Check names of rows: `n` integers or strings."""
    ids = np.asarray(value)
    if ids.dtype.kind == "O" and all(isinstance(name, str) for name in ids.ravel()):
        ids = ids.astype(str)
    if ids.dtype.kind not in "iuUT":
        raise TypeError(f"ids must be integers or strings, one per row, got dtype {ids.dtype}")
    if ids.shape != (n,):
        raise ValueError(f"ids has shape {ids.shape}, but there are {n} rows: shape {(n,)} is needed")
    return ids.astype(str) if ids.dtype.kind == "T" else ids


def lengths(value: Any, n: int) -> np.ndarray:
    """Check lengths of consecutive runs of `n` rows: integers of 0 or more that add up to it."""
    parts = np.asarray(value)
    if parts.ndim != 1 or parts.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, one per run of rows, got {parts.dtype} of shape {parts.shape}")
    if len(parts) == 0 or (parts < 0).any() or parts.sum() != n:
        raise ValueError(f"lengths must be 0 or more and add up to the {n} rows, got a sum of {parts.sum()}")
    return parts.astype(np.int64)


def n_clusters(value: Any, n: int) -> int:
    """Check the number of clusters against the number of rows."""
    k = integer(value, "n_clusters", 1)
    if k > n:
        raise ValueError(f"n_clusters={k} needs at least {k} rows, got n_samples={n}; lower n_clusters or add data")
    return k


def seed(random_state: Any) -> int:
    """Draw a seed from what scikit-learn takes for `random_state`, or from a NumPy Generator."""
    from sklearn.utils import check_random_state

    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    return int(check_random_state(random_state).randint(2**31 - 1))


def place(value: Any, name: str) -> Any:
    """Check that a parameter is a path, or None."""
    if value is not None and not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path or None, got {value!r}")
    return value


_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def nbytes(value: Any, name: str) -> int | None:
    """Turn a size, in bytes or as a text like "2GiB" or "500 MB", into bytes; None stays None."""
    if value is None:
        return None
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?)?b?\s*", value.lower())
        if found is None:
            raise ValueError(f"{name} must be bytes, or a text such as '2GiB' or '500MB', got {value!r}")
        return int(float(found[1]) * _SIZES[found[2] or ""])
    return integer(value, name, 1)


def sample(value: Any, n: int, k: int) -> int | None:
    """Turn `sample` (None, a number of rows, or a fraction of them) into a number of rows, at least `k`."""
    if value is None:
        return None
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        rows = integer(value, "sample", 1)
    else:
        fraction = real(value, "sample", 0.0, above=True)
        if fraction > 1:
            raise ValueError(f"sample={value} as a fraction must be in (0, 1]; pass an int for a number of rows")
        rows = math.ceil(fraction * n)
    if rows < k:
        raise ValueError(f"sample={value} gives {rows} rows for n_clusters={k}; take at least {k}")
    return min(rows, n)


def sample_weight(value: Any, n: int) -> np.ndarray | None:
    """Check weights: float64 [n], finite, non-negative, not all zero."""
    if value is None:
        return None
    if isinstance(value, numbers.Real):
        value = np.full(n, value)
    w = np.asarray(value)
    if w.dtype.kind == "c":
        raise ValueError(f"sample_weight is complex ({w.dtype}); pass real weights")
    if w.dtype.kind not in "fiub":
        try:
            w = w.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"sample_weight must be numbers, got dtype {w.dtype}") from None
    if w.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got shape {w.shape}")
    if len(w) != n:
        raise ValueError(
            f"sample_weight.shape == {w.shape}, expected {(n,)}: one weight per row of X; check that both come "
            "from the same table"
        )
    w = w.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(w) | (w < 0))
    if len(bad):
        raise ValueError(
            f"sample_weight[{bad[0]}] is {w[bad[0]]}; weights must be finite and not negative (bad rows: {len(bad)})"
        )
    if not w.any():
        raise ValueError("sample_weight is zero for every row; at least one weight must be positive")
    return w


def centers(value: Any, k: int, d: int, name: str = "init") -> np.ndarray:
    """Check given centroids: finite numbers of shape (k, d)."""
    a = matrix(value, name)
    if a.shape != (k, d):
        raise ValueError(
            f"{name} has shape {a.shape}, but n_clusters={k} and X has {d} features: shape {(k, d)} is needed"
        )
    if not np.isfinite(a).all():
        row = int(np.argwhere(~np.isfinite(a))[0, 0])
        raise ValueError(f"{name} contains NaN or infinity, first in row {row}; replace it by a finite centre")
    if a.dtype.kind == "f" and (largest := float(np.abs(a).max())) > LARGEST:
        raise ValueError(
            f"{name} holds values up to {largest:.3g}, whose squares overflow float32; they must stay below {LARGEST:g}"
        )
    return a


def jobs(value: Any) -> int:
    """Number of threads that `n_jobs` means: None or -1 is every core this process may use, -2 all but one.

    More threads than cores would only wait for each other, so they are cut to the cores.
    """
    from joblib import cpu_count

    cores = int(cpu_count())
    if value is None:
        return cores
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"n_jobs must be an integer or None, got {value!r}")
    if value == 0:
        raise ValueError("n_jobs == 0 has no meaning; pass None for all cores, or a number of threads")
    count = int(value)
    return min(count, cores) if count > 0 else max(1, cores + 1 + count)  # FAISS crashes on absurd numbers


def npz_file(path: Any) -> Any:
    """Read a sparse matrix that ``scipy.sparse.save_npz`` wrote, never unpickling."""
    from scipy.sparse import load_npz

    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}; check the path")
    try:
        with file.open("rb") as opened:  # SciPy leaves a damaged archive open
            return load_npz(opened)
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise ValueError(
            f"{file} cannot be read as a sparse matrix ({error or type(error).__name__}); write it with "
            "scipy.sparse.save_npz"
        ) from None


def npy_file(path: Path, needed: str = "a numeric array") -> np.ndarray:
    """Open a ``.npy`` file as a read-only memmap, never unpickling; `needed` is what an error asks for."""
    if not path.exists():
        raise FileNotFoundError(f"no file {path}; check the path")
    if path.is_dir() or path.suffix != ".npy":
        what = "a folder" if path.is_dir() else f"a {path.suffix or 'suffix-less'} file"
        raise ValueError(f"{path} is {what}; a .npy file (numpy.save) is needed")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); write it again with numpy.save")
    with path.open("rb") as file:  # an unreadable file says so here, as PermissionError
        magic = file.read(6)
    if magic != b"\x93NUMPY":
        raise ValueError(f"{path} is not a .npy file: it starts with {magic!r}; write it with numpy.save")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "object" in str(error).lower():
            raise ValueError(f"{path} holds Python objects, which are never unpickled; save {needed}") from None
        raise ValueError(
            f"{path} cannot be read as .npy ({error}); it may be truncated ({path.stat().st_size} bytes): "
            "write it again with numpy.save"
        ) from None


def labels_file(path: Any, column: str | None = None, *, as_text: bool = False) -> np.ndarray:
    """Read class labels: ``.npy``, ``.txt`` with one a line, or a column of a ``.csv`` with a header line.

    Without `column` it is the only one, or the one named "label". See `text_labels` for `as_text`.
    """
    file = Path(path)
    if column is not None and file.suffix != ".csv":
        raise ValueError(f"a label column ({column!r}) was named, but {file} has no columns; only a .csv file has")
    if file.suffix not in (".npy", ".txt", ".csv") or file.is_dir():
        what = "a folder" if file.is_dir() else f"a {file.suffix or 'suffix-less'} file"
        raise ValueError(f"{file} is {what}; labels are read from .npy, .txt (one a line) or .csv (with a header line)")
    if file.suffix == ".npy":
        labels = npy_file(file, "integers, or strings as y.astype(str) gives them")
        return np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
    if not file.exists():
        raise FileNotFoundError(f"no file {file}; check the path")
    data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{file} is not UTF-8 (byte {data[error.start]:#04x} in line {line}); save it as UTF-8"
        ) from None
    if not text.strip():
        raise ValueError(f"{file} is empty ({len(data)} bytes); one label per row of the data is needed")
    values = _column(file, text, column) if file.suffix == ".csv" else _lines(file, text)
    return text_labels(values, as_text=as_text)


def _lines(file: Path, text: str) -> list[str]:
    lines = [line.strip() for line in io.StringIO(text, newline=None).read().removesuffix("\n").split("\n")]
    if "" in lines:
        raise ValueError(f"line {lines.index('') + 1} of {file} is blank; every line is one row's label")
    return lines


def _column(file: Path, text: str, column: str | None) -> list[str]:
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        head = [name.strip() for name in next(reader)]
        wanted = column if column is not None else head[0] if len(head) == 1 else "label"
        if head.count(wanted) != 1:
            listed = ", ".join(map(repr, head[:20])) + (f" and {len(head) - 20} more" if len(head) > 20 else "")
            if wanted in head:
                raise ValueError(f"{file} has {head.count(wanted)} columns {wanted!r} ({listed}); rename all but one")
            raise ValueError(
                f"{file} has no column {wanted!r}, it has {listed}; name the one of the labels with --label-column"
            )
        place, values = head.index(wanted), []
        for row in reader:
            value = row[place].strip() if len(row) == len(head) else ""
            if not value:
                what = f"no {wanted!r}" if len(row) == len(head) else f"{len(row)} fields, not {len(head)}"
                what = f"has {what}" if row else "is blank"
                raise ValueError(f"line {reader.line_num} of {file} {what}; every line is one row of the data")
            values.append(value)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of {file} cannot be read as CSV ({error}); write it again") from None
    if not values:
        raise ValueError(f"{file} has a header line but no labels; one per row of the data is needed")
    return values


def text_labels(values: list[str], *, as_text: bool = False) -> np.ndarray:
    """Labels that were read as text: int64 if every one is an integer that fits, unless `as_text`; else strings."""
    if not as_text and all(re.fullmatch("-?[0-9]{1,19}", value) for value in values):
        try:
            return np.array([int(value) for value in values], np.int64)
        except OverflowError:
            pass
    return np.array(values)


def labels_like(labels: np.ndarray, classes: np.ndarray, name: Any) -> None:
    """Check that labels can be compared with the classes of a model: both numbers, or both strings."""
    kinds = ["strings" if a.dtype.kind in "US" else "numbers" for a in (labels, classes)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"the labels in {name} are {kinds[0]} ({labels[0]!s}), but the classes of the model are {kinds[1]} "
            f"({classes[0]!s}); give labels of the kind that it was fitted with"
        )


def label_lines(labels: list[str], path: Any) -> None:
    """Check that a text file can hold labels: none is blank, padded with blanks, or longer than a line."""
    for label in labels:
        if not label or label != label.strip() or "\n" in label or "\r" in label:
            raise ValueError(f"{path} cannot hold the label {label!r} as a line of text; give a name that ends in .npy")


# --------------------------------------------------------------------------- files of rows

OPEN = "fastann.open_source"


def library(name: str, path: Any) -> Any:
    """Import a library that only some formats need; the error names the command that installs it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ImportError(f"{path} needs {package}, which is not installed: pip install 'fastann[files]'") from None


def data_file(path: Path) -> int:
    """Check that a file of rows exists, is no folder, is not empty and may be read; returns its bytes."""
    if not path.exists():
        raise FileNotFoundError(f"no file {path}; check the path")
    if path.is_dir():
        raise ValueError(f"{path} is a folder where a file is needed; name the files in it, for example by a glob")
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty (0 bytes); write it again, or leave it out")
    with path.open("rb"):  # an unreadable file says so here, as PermissionError
        return size


@contextmanager
def readable(path: Any, kind: str) -> Iterator[None]:
    """Turn what a library raises over a damaged file into a sentence that names the file."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except (ValueError, OSError, LookupError, EOFError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} cannot be read as {kind} ({error or type(error).__name__}); it may be truncated, or of another "
            "kind than its suffix says: write it again"
        ) from error


def file_size(path: Any, size: int, needed: int, why: str) -> None:
    """Check that a file has as many bytes as what it says of itself takes."""
    if size != needed:
        what = "truncated" if size < needed else "longer than it says"
        raise ValueError(f"{path} has {size} bytes, but {why} takes {needed}: it is {what}; write it again")


def whole_rows(path: Any, size: int, row: int, why: str) -> None:
    """Check that a file consists of whole rows."""
    if size % row:
        raise ValueError(
            f"{path} has {size} bytes, which is no multiple of a row's {row} ({why}); it is truncated, or its rows are "
            "of another dtype or dimension"
        )


def storage_dtype(value: Any) -> np.dtype | str:
    """Check a dtype of numbers in a raw file: NumPy's, or "bfloat16"."""
    if "bfloat16" in str(value):
        return "bfloat16"
    try:
        dtype = np.dtype(value)
    except TypeError:
        raise TypeError(f"dtype={value!r} is no dtype; pass NumPy's name of one, or 'bfloat16'") from None
    if dtype.kind not in "fiub":
        raise ValueError(f"dtype={value!r} is not one of numbers; pass a float or integer dtype, or 'bfloat16'")
    return dtype


def only_options(path: Any, given: list[str], taken: tuple[str, ...], kind: str) -> None:
    """Check that a format has a use for the options that were given."""
    for name in given:
        if name not in taken:
            uses = "takes " + " and ".join(taken) if taken else "takes no options"
            raise ValueError(f"{name} was given for {path}, but {kind} {uses}; leave it out")


def column(wanted: str | None, names: list[str], path: Any, what: str) -> str:
    """Check which part of a file is meant: the one that is named, else the only one; `what` they are, in plural."""
    listed = ", ".join(map(repr, names[:20])) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    if not names:
        raise ValueError(f"{path} has no {what}; one is needed, with a vector for every row")
    if wanted is not None and wanted not in names:
        raise ValueError(f"{path} has no {wanted!r} among its {what} ({listed}); check the name")
    if wanted is None and len(names) > 1:
        raise ValueError(f"{path} has several {what} ({listed}); name one: {OPEN}(path, column={names[0]!r})")
    return names[0] if wanted is None else wanted


def same_shape(names: list[str], widths: list[int], dtypes: list[str], sizes: list[int]) -> None:
    """Check that shards make one table: equal dimensions, equal dtypes; shards without rows may leave both open."""
    full = [i for i, n in enumerate(sizes) if n > 0]
    known = [i for i, d in enumerate(widths) if d > 0]
    for i in known[1:]:
        if widths[i] != widths[known[0]]:
            raise ValueError(
                f"shard {i + 1} of {len(names)}, {names[i]}, has {widths[i]} columns, but {names[known[0]]} has "
                f"{widths[known[0]]}; shards of one table need the same number: leave it out or write it again"
            )
    for i in full[1:]:
        if dtypes[i] != dtypes[full[0]]:
            raise ValueError(
                f"shard {i + 1} of {len(names)}, {names[i]}, holds {dtypes[i]}, but {names[full[0]]} holds "
                f"{dtypes[full[0]]}; shards of one table need one dtype: write them again in one"
            )


def same_block(x: np.ndarray, d: int, dtype: np.dtype, what: str) -> None:
    """Check that a block goes with those before it."""
    if x.shape[1] != d or x.dtype != dtype:
        raise ValueError(
            f"{what} has {x.shape[1]} columns of {x.dtype}, but those before it have {d} of {dtype}; all blocks need "
            "the same number of columns and dtype"
        )


def unchanged(path: Any, shape: tuple[int, ...], before: tuple[int, ...]) -> None:
    """Check that a file that is opened again has the rows that it had."""
    if shape != before:
        raise ValueError(
            f"{path} has shape {shape}, but had {before} when it was opened; read files that do not change"
        )


def row_ids(parts: list[np.ndarray], names: list[str]) -> np.ndarray:
    """Check ids of rows, shard by shard: integers or strings, each once; as one array."""
    kinds = {"strings" if ids.dtype.kind == "U" else "integers": name for ids, name in zip(parts, names, strict=True)}
    if len(kinds) > 1:
        raise ValueError(
            f"ids are integers in {kinds['integers']} but strings in {kinds['strings']}; all shards need one kind"
        )
    ids = np.concatenate(parts)
    ordered = np.sort(ids)  # takes a third of what argsort does, which only an error needs
    if (ordered[1:] == ordered[:-1]).any():
        order = np.argsort(ids, kind="stable")
        row = int(order[1:][ids[order[1:]] == ids[order[:-1]]].min())
        first = int(np.flatnonzero(ids == ids[row])[0])
        raise ValueError(f"id {ids[row].item()!r} stands in rows {first} and {row}; every row needs an id of its own")
    return ids


def fingerprint(known: Any, n: int) -> dict[str, Any] | None:
    """Check what a run says of its data: None, or what `Source.fingerprint` gives for `n` rows."""
    if known is None:
        return None
    told = known if isinstance(known, dict) else {}
    files, options = told.get("files"), told.get("options", {})
    if not isinstance(files, dict) or not files or not all(map(_is_stat, files.values())):
        raise ValueError(f"data must list files with their size and mtime_ns, got {known!r:.200}")
    if not isinstance(options, dict) or not set(options) <= {"column", "id_column", "dtype", "d"}:
        raise ValueError(f"data was opened with options that there are not: {options!r:.200}")
    if known.get("n") != n:
        raise ValueError(f"data has n={known.get('n')!r}, but there are {n} rows")
    for name, kind in (("d", int), ("dtype", str)):
        if not isinstance(known.get(name), kind):
            raise ValueError(f"data has {name}={known.get(name)!r}, which is no {kind.__name__}")
    return known


def _is_stat(of: Any) -> bool:
    return isinstance(of, dict) and all(isinstance(of.get(name), int) for name in ("size", "mtime_ns"))


def lists(valid: np.ndarray, lengths: np.ndarray, d: int, rows: Any, path: Any, name: str) -> None:
    """Check lists of a column: none is null, all have `d` numbers. `rows` are the numbers of their rows."""
    if not valid.all():
        row = rows[int(np.argmin(valid))]
        raise ValueError(f"row {row} of {path} is null in column {name!r}; every row needs a vector: remove such rows")
    if (lengths != d).any():
        place = int(np.argmax(lengths != d))
        raise ValueError(
            f"row {rows[place]} of {path} has {lengths[place]} numbers in column {name!r}, but {d} are needed, as in "
            "the first row; remove such rows"
        )

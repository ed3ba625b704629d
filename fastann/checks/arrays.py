"""Rows of numbers and what goes with them, one entry per row: labels, ids, weights; also given centroids."""

import numbers
from typing import Any, NoReturn

import numpy as np

from fastann.checks.labels import first_missing, missing, one_kind

LARGEST = 1e17  # values whose squares, summed over a few columns, still fit float32
_WEIGHTS, _NOTHING = (1e-100, 1e100), 1e-200  # of the largest weight; those below this count as none


def matrix(x: Any, name: str = "X", *, empty: bool = False) -> np.ndarray:
    """Check that `x` is a table of numbers with at least one row (unless `empty`) and column.

    A table of numbers is neither copied nor cast. A column of vectors (of pandas, polars, Arrow, or an array of
    objects) becomes the 2-D array of these.
    """
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        dense(None, name)
    if hasattr(x, "detach") and hasattr(x, "cpu"):  # a torch tensor: shares its memory with NumPy
        if str(getattr(x, "layout", "torch.strided")) != "torch.strided":
            dense(None, name)
        x = on_host(x)
        x = x.float() if "bfloat16" in str(x.dtype) else x
    if hasattr(x, "collect") and hasattr(x, "collect_schema"):  # a polars LazyFrame is a query, not its result
        raise TypeError(f"{name} is a {type(x).__name__}, which holds no rows yet; pass {name}.collect()")
    x = unmasked(x, name)
    try:
        a = x if isinstance(x, np.ndarray) else np.asarray(x)
    except ValueError as error:  # rows of unequal length
        raise ValueError(f"{name} cannot be read as a table of numbers: {error}") from None
    if a.dtype.kind == "O":
        column = a.ndim == 1 or (a.ndim == 2 and a.shape[1] == 1)
        if column and any(map(_is_vector, a.flat[:_LOOKED_AT])):
            a = _stacked(a.reshape(-1), name)
        else:
            _refuse_mixed(x, a, name)
            a = _numbers(a, name)
    if str(a.dtype) == "bfloat16":
        a = a.astype(np.float32)
    table(a.shape, a.dtype, name, empty=empty)
    return a


def on_host(x: Any) -> Any:
    """A torch tensor where NumPy reads it: in the memory of the CPU, without its history; others as they are."""
    return x.detach().cpu() if hasattr(x, "detach") and hasattr(x, "cpu") else x


def unmasked(x: Any, name: str) -> Any:
    """Refuse masked values, which hold no data; a masked array without any becomes the array beneath."""
    if isinstance(x, list | tuple) and any(map(np.ma.is_masked, x)):
        x = np.ma.array(x)
    if not isinstance(x, np.ma.MaskedArray):
        return x
    if np.ma.is_masked(x):
        mask = np.ma.getmaskarray(x)
        rows = np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1))
        where = f"~numpy.ma.getmaskarray({name})" + (".any(axis=1)" if mask.ndim > 1 else "")
        raise ValueError(
            f"{name} is a masked array, {int(mask.sum()):,} of whose values are masked (in {len(rows):,} rows, row "
            f"{rows[0]} first) and hold no data; leave such rows out, {name}[{where}], or give these values numbers, "
            f"{name}.filled(0)"
        )
    return x.data


_LOOKED_AT = 1000  # cells of a column that tell whether it holds vectors: the first ones may be missing


def _is_vector(cell: Any) -> bool:
    return not isinstance(cell, str | bytes) and (isinstance(cell, list | tuple) or np.ndim(cell) == 1)


def _refuse_mixed(x: Any, a: np.ndarray, name: str) -> None:
    """Refuse a frame in which some columns hold vectors, as nothing says what the others are."""
    names = getattr(x, "column_names", getattr(x, "columns", None))  # Arrow's columns are no names
    if names is None or a.ndim != 2:
        return
    found = [names[j] for j in range(a.shape[1]) if any(map(_is_vector, a[:_LOOKED_AT, j]))]
    if found:
        raise ValueError(
            f"{name} has vectors in column {found[0]!r}, and {a.shape[1] - 1} other columns; pass that column alone: "
            f"{name}[{found[0]!r}]"
        )


def _stacked(cells: np.ndarray, name: str) -> np.ndarray:
    """Vectors in the cells of a column as rows of an array."""
    try:
        whole = np.array(cells.tolist())
    except ValueError:  # not all are vectors, or not all as long
        whole = None
    if whole is not None and whole.ndim == 2 and not any(isinstance(cell, np.ma.MaskedArray) for cell in cells):
        return _numbers(whole, name)
    rows: list[np.ndarray] = []
    for row, cell in enumerate(cells):
        if not _is_vector(cell):
            what = "nothing (null)" if missing(cell) else f"{cell!r:.40} of type {type(cell).__name__}"
            raise ValueError(f"row {row} of {name} holds {what}, but others hold vectors; remove such rows")
        rows.append(np.asarray(unmasked(cell, f"row {row} of {name}")))
        if len(rows[-1]) != len(rows[0]):
            raise ValueError(
                f"row {row} of {name} has {len(rows[-1])} numbers, but row 0 has {len(rows[0])}; all vectors need as "
                "many: remove such rows"
            )
    return _numbers(np.stack(rows), name)


def _numbers(a: np.ndarray, name: str) -> np.ndarray:
    """An array of objects as one of numbers; others as they are."""
    if a.dtype.kind != "O":
        return a
    try:
        return a.astype(np.float64)
    except (TypeError, ValueError) as error:
        if a.size and (row := first_missing(a.reshape(-1))) is not None:
            place = ", column ".join(map(str, np.unravel_index(row, a.shape)))
            raise ValueError(
                f"Input {name} contains NaN or NA, first in row {place}; every value must be finite: remove or impute "
                "such rows"
            ) from None
        raise type(error)(f"{name} has dtype object and is not all numbers ({error}); pass a numeric array") from None


def dense(path: str | None, name: str = "X") -> NoReturn:
    """Refuse sparse rows, of a file or (path None) as they were passed, where dense ones are required."""
    what = f"Sparse data was passed as {name}" if path is None else f"{path} holds sparse data"
    raise (TypeError if path is None else ValueError)(
        f"{what}, but dense data is required; call .toarray() if it fits in memory, or reduce it first, for example "
        "with sklearn.decomposition.TruncatedSVD"
    )


def table(shape: tuple[int, ...], dtype: np.dtype, name: str, *, empty: bool = False) -> None:
    """Check shape and dtype of a table of numbers, without reading it; `empty`: whether 0 rows are fine."""
    if dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {dtype}; pass its real part or modulus")
    if dtype.kind not in "fiub":
        two = "; where these are bfloat16, pass X.view(ml_dtypes.bfloat16)" if dtype.str[1:] == "V2" else ""
        raise ValueError(f"{name} has dtype {dtype}; a float or integer array is needed, of a numeric dtype{two}")
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
        raise ValueError(f"{name} has dtype {x.dtype}; a float or integer matrix is needed, of a numeric dtype")
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


def features(d: int, expected: int, estimator: str, name: str = "X") -> None:
    """Check that data of a name has as many columns as the fitted model."""
    if d != expected:
        have = "have" if name.endswith("s") else "has"  # rows, queries
        raise ValueError(
            f"{name} {have} {d} features, but {estimator} is expecting {expected} features as input; "
            f"pass rows of {expected} columns or fit again"
        )


def class_labels(y: Any, n: int) -> np.ndarray:
    """Check class labels: one per row, of any kind scikit-learn accepts; 1-D."""
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import column_or_1d

    if y is None:
        raise ValueError("requires y to be passed, but the target y is None; pass one class label per row of X")
    if hasattr(y, "toarray"):
        raise ValueError("y is a sparse matrix; pass one class label per row, for example y.argmax(axis=1)")
    if isinstance(y, list | tuple):  # NumPy makes text of what is missing beside strings
        y = np.array(y, object) if any(map(missing, y)) else y
    labels = np.asarray(one_kind(unmasked(on_host(y), "y")))
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
    if (gap := first_missing(labels)) is not None:
        raise ValueError(
            f"Input y contains None, NaN or NA, first in row {gap}; every row needs a class label: leave such rows "
            "out, of X too"
        )
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        row = int(np.flatnonzero(labels != np.floor(labels))[0])
        raise ValueError(
            f"Unknown label type: continuous. y[{row}] is {labels[row]}; class labels are integers or strings, so "
            "a regressor is needed for such targets, or bins for classes"
        )
    check_classification_targets(labels)
    return labels


def given_ids(value: Any, n: int) -> np.ndarray:
    """Check names of rows: `n` integers or strings."""
    ids = np.asarray(unmasked(value, "ids"))
    if ids.dtype.kind == "O" and all(isinstance(name, str) for name in ids.ravel()):
        ids = ids.astype(str)
    if ids.dtype.kind not in "iuUT":
        raise TypeError(f"ids must be integers or strings, one per row, got dtype {ids.dtype}")
    if ids.shape != (n,):
        raise ValueError(f"ids has shape {ids.shape}, but there are {n} rows: shape {(n,)} is needed")
    return ids.astype(str) if ids.dtype.kind == "T" else ids


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


def lengths(value: Any, n: int) -> np.ndarray:
    """Check lengths of consecutive runs of `n` rows: integers of 0 or more that add up to it."""
    parts = np.asarray(value)
    if parts.ndim != 1 or parts.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, one per run of rows, got {parts.dtype} of shape {parts.shape}")
    if len(parts) == 0 or (parts < 0).any() or parts.sum() != n:
        raise ValueError(f"lengths must be 0 or more and add up to the {n} rows, got a sum of {parts.sum()}")
    return parts.astype(np.int64)


def sample_weight(value: Any, n: int) -> np.ndarray | None:
    """Check weights: float64 [n], finite, non-negative, neither all zero nor out of float64's reach."""
    if value is None:
        return None
    if isinstance(value, numbers.Real):
        value = np.full(n, value)
    w = np.asarray(unmasked(on_host(value), "sample_weight"))
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
    least, most = _WEIGHTS
    if not least <= w.max() <= most:
        raise ValueError(
            f"sample_weight has values up to {w.max():.3g}, sums of which float64 cannot hold; the largest must "
            f"be from {least:g} to {most:g}: divide them by their mean"
        )
    w[w < _NOTHING] = 0  # whose reciprocals are infinite, and so would be means of such rows alone
    return w


def centers(value: Any, k: int, d: int, name: str = "init", origin: np.ndarray | None = None) -> np.ndarray:
    """Check given centroids: finite numbers of shape (k, d), not too far from the `origin` that they are seen from."""
    a = matrix(value, name)
    if a.shape != (k, d):
        raise ValueError(
            f"{name} has shape {a.shape}, but n_clusters={k} and X has {d} features: shape {(k, d)} is needed"
        )
    if not np.isfinite(a).all():
        row = int(np.argwhere(~np.isfinite(a))[0, 0])
        raise ValueError(f"{name} contains NaN or infinity, first in row {row}; replace it by a finite centre")
    far = a if origin is None else a.astype(np.float64) - origin
    if far.dtype.kind == "f" and (largest := float(np.abs(far).max())) > LARGEST:
        raise ValueError(
            f"{name} holds values up to {largest:.3g}, whose squares overflow float32; they must stay below {LARGEST:g}"
        )
    return a


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


def no_shard(sparse: bool, path: Any, count: int) -> None:
    """Check that one of several files holds dense rows."""
    if sparse:
        raise ValueError(
            f"{path} is one of {count} files and holds sparse rows, which are read from one file, not from shards; put "
            "them together with scipy.sparse.vstack and save_npz"
        )


def same_columns(names: list[str], columns: list[Any]) -> None:
    """Check that shards with a column for each dimension have the same, in the same order."""
    wide = [of.names for of in columns if getattr(of, "wide", False)]
    for i, found in enumerate(wide):
        if found != wide[0]:
            j = next((j for j, pair in enumerate(zip(found, wide[0], strict=False)) if pair[0] != pair[1]), len(found))
            raise ValueError(
                f"the columns of {names[i]} are not those of {names[0]}, from column {j} on ({found[j : j + 3]} and "
                f"{wide[0][j : j + 3]}); write the shards with the same columns in the same order"
            )


def same_block(x: np.ndarray, d: int, dtype: np.dtype, what: str) -> None:
    """Check that a block goes with those before it."""
    if x.shape[1] != d or x.dtype != dtype:
        raise ValueError(
            f"{what} has {x.shape[1]} columns of {x.dtype}, but those before it have {d} of {dtype}; all blocks need "
            "the same number of columns and dtype"
        )


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

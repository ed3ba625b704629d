"""Labels as they come: lists, columns of objects and text of several types, as one array of one kind."""

import numbers
from typing import Any

import numpy as np


def missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, NaT, pandas.NA, a masked value."""
    if value is None or value is np.ma.masked:
        return True
    try:
        return bool(value != value)
    except TypeError:  # whether pandas.NA differs from itself is NA
        return type(value).__name__ == "NAType"
    except ValueError:  # an array
        return False


def first_missing(values: np.ndarray) -> int | None:
    """Place of the first value of a 1-D array that stands for none, if there is one."""
    if values.dtype.kind == "f":
        found = np.isnan(values)
    elif values.dtype.kind in "mM":
        found = np.isnat(values)
    elif values.dtype.kind == "O":
        found = np.fromiter(map(missing, values), bool, len(values))
    else:
        return None
    return int(found.argmax()) if found.any() else None


def one_kind(y: Any, name: str = "y") -> Any:
    """Labels in an array of integers, floats, booleans or strings where they are lists or objects of one of these.

    Whatever is not 1-D, or is missing, is left to others to refuse.

    Raises
    ------
    ValueError
        If strings and numbers are mixed, which NumPy would make strings of, or labels are of another type.
    """
    if isinstance(y, list | tuple):
        try:
            labels = np.array(y, object)
        except ValueError:  # of unequal lengths
            return y
    else:
        labels = np.asarray(y)
    if labels.dtype.kind == "T":
        return np.array(labels.tolist())
    given = y if isinstance(y, list | tuple) else labels
    if labels.dtype.kind != "O" or not labels.ndim or labels.size != len(labels):
        return given
    column = labels.reshape(-1)
    if first_missing(column) is not None:
        return given
    kinds = {_kind(kind) for kind in set(map(type, column))} - {"missing", "complex"}
    if len(kinds) > 1 or kinds - {"strings", "numbers", "bytes"}:
        first = {_kind(type(v)): row for row, v in reversed(list(enumerate(column))) if _kind(type(v)) in kinds}
        told = " and ".join(f"{kind} (row {row}: {column[row]!r:.40})" for kind, row in sorted(first.items()))
        if len(kinds) > 1:
            raise ValueError(
                f"{name} mixes {told}; class labels must be of one kind: pass all as strings, for example "
                f"[str(label) for label in {name}], or all as integers"
            )
        raise ValueError(
            f"Unknown label type: {name} has {told}, but class labels are integers or strings; pass "
            f"[str(label) for label in {name}], or numbers as pandas.factorize({name}) gives them"
        )
    if kinds == {"numbers"}:
        plain = np.array(column.tolist())
        if plain.dtype.kind == "O":
            raise ValueError(
                f"{name} has integers beyond 64 bits, such as {max(column, key=abs)}; pass them as strings"
            )
        return plain.reshape(labels.shape)
    return given


def _kind(kind: type) -> str:
    if issubclass(kind, str):
        return "strings"
    if issubclass(kind, bytes):
        return "bytes"
    if issubclass(kind, bool | np.bool_ | numbers.Real):
        return "numbers"
    if issubclass(kind, numbers.Complex):
        return "complex"
    if kind is type(None) or kind.__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return "missing"
    return f"values of type {kind.__name__}"

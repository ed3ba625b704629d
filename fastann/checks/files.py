"""Files of rows: whether they can be read, whether they are whole, and what they were opened with."""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

OPEN = "fastann.open_source"
NPY = b"\x93NUMPY"  # what numpy.save writes first


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


def is_npy(path: Path) -> bool:
    """Whether a file starts as numpy.save starts one."""
    data_file(path)
    with path.open("rb") as file:
        return file.read(6) == NPY


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
    if magic != NPY:
        raise ValueError(
            f"{path} is not a .npy file: it starts with {magic!r}; write it with numpy.save or, where it holds raw "
            f"numbers, say which: {OPEN}(path, dtype='float32', d=768)"
        )
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "object" in str(error).lower():
            raise ValueError(f"{path} holds Python objects, which are never unpickled; save {needed}") from None
        raise ValueError(
            f"{path} cannot be read as .npy ({error}); it may be truncated ({path.stat().st_size} bytes): "
            "write it again with numpy.save"
        ) from None


def npz_arrays(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of every array in an ``.npz`` file, by name; none is read."""
    data_file(path)
    found = {}
    try:
        with ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    read = np.lib.format.read_array_header_1_0
                    if np.lib.format.read_magic(file) != (1, 0):
                        read = np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(file)
                    found[member.removesuffix(".npy")] = shape, dtype
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as a sparse matrix or as arrays ({error or type(error).__name__}); write it with "
            "scipy.sparse.save_npz or numpy.savez"
        ) from None
    return found


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


def unchanged(path: Any, shape: tuple[int, ...], before: tuple[int, ...]) -> None:
    """Check that a file that is opened again has the rows that it had."""
    if shape != before:
        raise ValueError(
            f"{path} has shape {shape}, but had {before} when it was opened; read files that do not change"
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


def bfloat16(kind: np.dtype, given: np.dtype | str | None, path: Any) -> bool:
    """Whether numbers of 2 bytes in a file are bfloat16, which only the caller can say: NumPy calls them V2.

    Raises
    ------
    ValueError
        If nobody says what V2 is, or another dtype is `given` than the file says itself.
    """
    nameless = kind.str[1:] == "V2" and kind.names is None
    if given is None and nameless:
        raise ValueError(
            f"{path} holds numbers of 2 bytes without a type (V2), as bfloat16 is saved; say that they are: "
            f"{OPEN}(path, dtype='bfloat16')"
        )
    if given == "bfloat16" and (nameless or kind == np.uint16):
        return True
    stated(given, kind, "dtype", path)
    return False


def stated(given: Any, own: Any, name: str, path: Any) -> None:
    """Check that an option, if it is given, is what the file says itself."""
    if given is not None and given != own:
        raise ValueError(f"{name}={given} was given for {path}, which says itself that it is {own}; leave it out")


def only_options(path: Any, given: list[str], taken: tuple[str, ...], kind: str) -> None:
    """Check that a format has a use for the options that were given."""
    for name in given:
        if name not in taken:
            uses = "takes " + " and ".join(taken) if taken else "takes no options"
            raise ValueError(f"{name} was given for {path}, but {kind} {uses}; leave it out")


def column(wanted: str | None, names: list[str], path: Any, what: str) -> str:
    """Check which part of a file is meant: the one that is named, else the only one; `what` they are, in plural."""
    listed = _listed(names)
    if not names:
        raise ValueError(f"{path} has no {what}; one is needed, with a vector for every row")
    if wanted is not None and wanted not in names:
        raise ValueError(f"{path} has no {wanted!r} among its {what} ({listed}); check the name")
    if wanted is None and len(names) > 1:
        raise ValueError(f"{path} has several {what} ({listed}); name one: {OPEN}(path, column={names[0]!r})")
    return names[0] if wanted is None else wanted


NO_DIMENSIONS = {"id", "index", "row", "label", "labels", "class", "target", "y", "unnamed: 0"}  # unless asked for


def dimensions(
    numbers: list[str], others: list[str], wanted: str | None, id_column: str | None, path: Any
) -> list[str]:
    """Which columns of a wide table are the dimensions of its rows.

    Parameters
    ----------
    numbers, others : list of str
        Names of the columns of numbers, and of the rest.
    wanted : str or None
        Names or shell patterns, parted by commas. None: all columns, which are refused where some are no dimensions, or
        look so.
    id_column : str or None
        A column that names rows, and is no dimension.
    """
    numbers = [name for name in numbers if name != id_column]
    if wanted is not None:
        asked = [wanted, *wanted.split(",")]
        chosen = [name for name in numbers if name in asked or any(fnmatchcase(name, one) for one in asked)]
        if not chosen:
            raise ValueError(f"{path} has no column of numbers that {wanted!r} matches ({_listed(numbers)}); check it")
    else:
        plain = [name for name in numbers if name.lower() not in NO_DIMENSIONS]
        odd = [name for name in (*numbers, *others) if name not in plain and name != id_column]
        if odd:
            first, last = min(plain, default=""), max(plain, default="")
            same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
            pattern = first[:same].rstrip("0123456789") + "*"
            if pattern == "*":
                pattern = ",".join(plain[:20])
            raise ValueError(
                f"{path} has columns that seem to be no dimensions of its rows ({_listed(odd)}); choose by names or a "
                f"pattern those that are: {OPEN}(path, column='{pattern}')"
            )
        chosen = numbers
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"{path} has several columns of one name ({_listed(chosen)}); rename all but one")
    return chosen


def fits(nbytes: int, memory: float, path: Any) -> None:
    """Check that what can only be read as a whole fits into the memory of the machine."""
    if nbytes > memory:
        raise ValueError(
            f"{path} is read as a whole and takes {nbytes:,} bytes, but this machine has {memory:,.0f}; write it as "
            ".npy or Parquet, which are read in blocks"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


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

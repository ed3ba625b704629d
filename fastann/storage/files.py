"""Single files, written beside their target and renamed over it; what files and folders need of the system."""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

PARTIAL = ".partial"  # ends the name of what is not written whole yet


def check_file(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Refuse a path that a file must not replace."""
    target = Path(path)
    if target.is_dir():
        raise FileExistsError(f"{target} is a folder; give the name of a file")
    if target.exists() and not force:
        raise FileExistsError(f"{target} exists already; choose another path, or pass force (--force) to replace it")


def write_array(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write a .npy file beside its target, then rename it over it."""
    write_file(path, lambda file: save_array(file, array))


class _Stream:
    """A file that can be written to, and nothing else."""

    def __init__(self, file: BinaryIO):
        self.write = file.write


def save_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write an array to an open file as .npy.

    What NumPy is given is not the file itself: to that it writes through a buffer of C's, and does not look at what
    closing it says, so that on a full disk the last bytes are missing and nothing is raised.
    """
    np.save(_Stream(file), array, allow_pickle=False)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text, as UTF-8, beside its target, then rename it over it."""
    write_file(path, lambda file: file.write(text.encode("utf-8")))


def write_file(path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]) -> None:
    """Have a file written beside its target, then rename it over it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = unused(target)
    try:
        file = beside.open("xb")
        with explaining(target), file:  # closing it may fail too
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(target.parent)


@contextmanager
def explaining(target: Path) -> Iterator[None]:
    """Where something cannot be written, on a full disk first of all, say what, why, and how much room there is."""
    try:
        yield
    except OSError as error:  # of writing to an open file, it has no path
        free = shutil.disk_usage(target.parent).free
        why = f"{error.strerror or error}; {free / 1e6:,.1f} MB are free there"
        raise OSError(error.errno or errno.EIO, f"{target} cannot be written ({why})") from error


def unused(target: Path, suffix: str = PARTIAL) -> Path:
    """A name beside a target that nothing has.

    What is made there by `open` or `mkdir` gets the permissions that umask, the folder's group and its access list give
    new files; `tempfile` would keep others out.
    """
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}{suffix}")


def digest(file: BinaryIO) -> str:
    """SHA-256 of an open file, from its beginning."""
    file.seek(0)
    return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()


def sync(folder: Path) -> None:
    """Have renames in a folder reach the disk, where a folder can be opened: they would not survive a power cut."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    with suppress(OSError):  # of a file system that cannot; the rename is done all the same
        os.fsync(handle)
    os.close(handle)

"""Single files, written beside their target and renamed over it; what files and folders need of the system."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

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
    write_file(path, lambda file: np.save(file, array, allow_pickle=False))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text, as UTF-8, beside its target, then rename it over it."""
    write_file(path, lambda file: file.write(text.encode("utf-8")))


def write_file(path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]) -> None:
    """Have a file written beside its target, then rename it over it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~umask())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
    sync(target.parent)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def umask() -> int:
    """Permissions that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync(folder: Path) -> None:
    """Have renames in a folder reach the disk, where a folder can be opened: they would not survive a power cut."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    with suppress(OSError):  # of a file system that cannot; the rename is done all the same
        os.fsync(handle)
    os.close(handle)

"""Run directories: what a fit leaves on disk, written whole or not at all, and read without trust.

A run holds ``manifest.json`` (schema version, parameters, statistics, and the size and SHA-256 of every
other file), ``centroids.safetensors``, ``labels.npy`` and ``distances.npy``. Nothing in it is ever
unpickled. It is written to a folder beside its target and renamed.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastann import checks

SCHEMA = 1
MANIFEST = "manifest.json"
CENTROIDS = "centroids.safetensors"


class RunError(ValueError):
    """A run directory that cannot be read: missing, altered, or of another version."""


def write_run(
    path: str | os.PathLike,
    manifest: dict[str, Any],
    tensors: dict[str, np.ndarray],
    arrays: dict[str, np.ndarray],
    *,
    force: bool = False,
) -> Path:
    """Write a run directory atomically.

    Parameters
    ----------
    path : path
        Where the run will be. Its parent folder is made when missing.
    manifest : dict
        Plain values, stored beside the schema version and the files' checksums.
    tensors : dict of str to ndarray
        Stored in ``centroids.safetensors``.
    arrays : dict of str to ndarray
        Each stored in ``<name>.npy``.
    force : bool
        Replace an existing run; a folder that is not a run is never replaced.

    Raises
    ------
    FileExistsError
        If `path` exists and may not be replaced.
    """
    from safetensors.numpy import save_file

    def save_tensors(folder: Path) -> None:
        save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, folder / CENTROIDS)

    return write_folder(path, manifest, arrays, name=MANIFEST, force=force, more=save_tensors)


def write_folder(
    path: str | os.PathLike,
    record: dict[str, Any],
    arrays: dict[str, np.ndarray],
    *,
    name: str,
    force: bool = False,
    more: Callable[[Path], None] | None = None,
) -> Path:
    """Write a folder of .npy files, and of what `more` writes there, atomically.

    `record` goes to the file `name` of it, beside the schema version and the files' checksums. See `write_run`.
    """
    target = Path(path)
    check_target(target, force=force, name=name)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        if more is not None:
            more(beside)
        for array_name, array in arrays.items():
            np.save(beside / f"{array_name}.npy", array, allow_pickle=False)
        files = {p.name: {"bytes": p.stat().st_size, "sha256": _digest(p)} for p in sorted(beside.iterdir())}
        text = json.dumps({"schema": SCHEMA, **record, "files": files}, indent=2, allow_nan=False)
        (beside / name).write_text(text + "\n", encoding="utf-8")
        for p in beside.iterdir():
            with p.open("rb") as file:
                os.fsync(file.fileno())
        beside.chmod(0o777 & ~_umask())
        _swap(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def _swap(new: Path, target: Path) -> None:
    """Rename `new` to `target`; what was there is put back if that fails, and removed if it does not."""
    if not target.exists():
        new.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    try:
        target.rename(old / target.name)
        try:
            new.rename(target)
        except BaseException:
            (old / target.name).rename(target)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _is_ours(folder: Path, name: str) -> bool:
    """Whether a folder has a manifest of ours, of that name."""
    try:
        manifest = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and isinstance(manifest.get("schema"), int)


def check_target(path: str | os.PathLike, *, force: bool = False, name: str = MANIFEST) -> None:
    """Refuse a path that a run, or another folder with a manifest of this name, must not replace."""
    target = Path(path)
    for parent in target.absolute().parents:
        if parent.exists():
            if not parent.is_dir():
                raise FileExistsError(f"{parent} is a file, so {target} cannot be made inside it; choose another path")
            break
    if target.is_symlink() and not target.exists():
        raise FileExistsError(f"{target} is a link to nothing; remove it or choose another path")
    if not target.exists():
        return
    if not force:
        raise FileExistsError(f"{target} exists already; choose another path, or pass force (--force) to replace it")
    if not _is_ours(target, name) and not (target.is_dir() and not any(target.iterdir())):
        what = "a run directory" if name == MANIFEST else "a folder of this kind"
        raise FileExistsError(f"{target} is not {what} (it has no {name} of one), so force does not replace it")


def read_run(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Read a run directory, after checking its version and every file's size and checksum.

    Returns
    -------
    manifest : dict
    tensors : dict of str to ndarray
    arrays : dict of str to ndarray
        Read-only memmaps.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    RunError
        If a file is missing, altered or unreadable, or the schema is of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"no run directory {folder}; a folder written by save or 'fastann fit' is needed")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise RunError(f"{folder} has no {MANIFEST}; it is not a run directory, or was not written whole") from None
    except ValueError as error:
        raise RunError(f"{folder / MANIFEST} is not JSON ({error}); fit again or restore it") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else None
        raise RunError(f"{folder} has schema {found!r}, this fastann reads {SCHEMA}; use the version that wrote it")
    listed = manifest.get("files")
    if not isinstance(listed, dict) or CENTROIDS not in listed:
        raise RunError(f"{folder / MANIFEST} does not list {CENTROIDS}; fit again or restore it")
    for name, expected in listed.items():
        _verify(folder, name, expected)
    try:
        tensors = load_file(folder / CENTROIDS)
        arrays = {name[:-4]: checks.npy_file(folder / name) for name in listed if name.endswith(".npy")}
    except SafetensorError as error:
        raise RunError(f"{folder / CENTROIDS} cannot be read: {error}") from None
    except ValueError as error:
        raise RunError(str(error)) from None
    return manifest, tensors, arrays


def _verify(folder: Path, name: str, expected: Any) -> None:
    file = folder / name
    if name in ("", ".", "..") or Path(name).name != name or not isinstance(expected, dict):
        raise RunError(f"{folder / MANIFEST} lists a file it may not: {name!r}")
    if not file.is_file():
        raise RunError(f"{folder} lacks {name}, which its manifest lists; restore it or fit again")
    size = file.stat().st_size
    if size != expected.get("bytes") or _digest(file) != expected.get("sha256"):
        raise RunError(
            f"{file} is not the file that was saved (it has {size} bytes, {expected.get('bytes')} were written, or "
            "its checksum differs); restore it or fit again"
        )


def write_array(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write a .npy file beside its target, then rename it over it."""
    write_file(path, lambda file: np.save(file, array, allow_pickle=False))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write text, as UTF-8, beside its target, then rename it over it."""
    write_file(path, lambda file: file.write(text.encode("utf-8")))


def write_file(path: str | os.PathLike, write: Callable[[BinaryIO], Any]) -> None:
    """Have a file written beside its target, then rename it over it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""Folders that are written whole or not at all and read without trust: run directories, first of all.

A run directory holds ``manifest.json``: the schema version, a status, parameters and statistics, and the size and
SHA-256 of every other file; ``centroids.safetensors``; and files that the estimator adds (see `fastann.runs`). Nothing
in it is ever unpickled. It is written to a folder beside its target and renamed.

A long fit begins with the manifest alone, whose status is "running", and keeps its checkpoints in the folder
``checkpoints``. Such a run is finished in place. Its files are written to a folder inside it and renamed, the manifest
last: until then the run is unfinished, from then on complete.
"""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastann import checks

SCHEMA = 2
READS = (1, 2)  # 1 had labels and distances only, and no status
MANIFEST = "manifest.json"
CENTROIDS = "centroids.safetensors"
CHECKPOINTS = "checkpoints"
RUNNING, COMPLETE = "running", "complete"
_PARTIAL = ".partial"


class RunError(ValueError):
    """A run directory that cannot be read: missing, altered, unfinished, or of another version."""


# --------------------------------------------------------------------------- writing folders


def write_run(
    path: str | os.PathLike,
    manifest: dict[str, Any],
    tensors: dict[str, np.ndarray],
    arrays: dict[str, np.ndarray],
    *,
    force: bool = False,
    finish: bool = False,
    more: Callable[[Path], None] | None = None,
) -> Path:
    """Write a run directory atomically, or finish the one that `begin_run` made.

    Parameters
    ----------
    path : path
        Where the run will be. Its parent folder is made when missing.
    manifest : dict
        Plain values, stored beside the schema version, the status and the files' checksums.
    tensors : dict of str to ndarray
        Stored in ``centroids.safetensors``.
    arrays : dict of str to ndarray
        Each stored in ``<name>.npy``.
    force : bool
        Replace an existing run; a folder that is not a run is never replaced.
    finish : bool
        An unfinished run there is this one: complete it.
    more : callable, optional
        Writes further files to the folder that it is given.

    Raises
    ------
    FileExistsError
        If `path` exists and may not be replaced.
    """
    from safetensors.numpy import save_file

    def save_rest(folder: Path) -> None:
        save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, folder / CENTROIDS)
        if more is not None:
            more(folder)

    record = {**manifest, "status": COMPLETE}
    if finish and is_running(path):
        return _finish(Path(path), record, arrays, save_rest)
    return write_folder(path, record, arrays, name=MANIFEST, force=force, more=save_rest)


def begin_run(path: str | os.PathLike, manifest: dict[str, Any], *, force: bool = False) -> Path:
    """Make a run directory of a fit that has yet to be done, atomically: a manifest, of status "running".

    `write_run` finishes it. `force` replaces an existing run, as there.

    Raises
    ------
    FileExistsError
        If `path` exists and may not be replaced.
    """
    return write_folder(path, {**manifest, "status": RUNNING}, {}, name=MANIFEST, force=force)


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
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_PARTIAL, dir=target.parent))
    try:
        _fill(beside, record, arrays, name, more, target)
        beside.chmod(0o777 & ~_umask())
        _swap(beside, target)
        _sync(target.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def _fill(
    folder: Path,
    record: dict[str, Any],
    arrays: dict[str, np.ndarray],
    name: str,
    more: Callable[[Path], None] | None,
    target: Path,
) -> None:
    """Write all files of a folder, which will be `target`, and have them reach the disk."""
    try:
        if more is not None:
            more(folder)
        for array_name, array in arrays.items():
            np.save(folder / f"{array_name}.npy", array, allow_pickle=False)
    except OSError as error:  # NumPy's has neither number nor path
        why = f"{error.strerror or error}; {shutil.disk_usage(folder).free / 1e6:,.1f} MB are free there"
        raise OSError(error.errno or errno.ENOSPC, f"{target} cannot be written ({why})") from error
    files = {p.name: {"bytes": p.stat().st_size, "sha256": _digest(p)} for p in sorted(folder.iterdir())}
    text = json.dumps({"schema": SCHEMA, **record, "files": files}, indent=2, allow_nan=False)
    (folder / name).write_text(text + "\n", encoding="utf-8")
    for p in folder.iterdir():
        with p.open("r+b") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
    _sync(folder)


def _finish(
    run: Path, record: dict[str, Any], arrays: dict[str, np.ndarray], more: Callable[[Path], None] | None
) -> Path:
    """Complete a running run in place; what it kept only to go on with is removed then."""
    beside = Path(tempfile.mkdtemp(prefix=".finish.", suffix=_PARTIAL, dir=run))
    try:
        _fill(beside, record, arrays, MANIFEST, more, run)
        for file in beside.iterdir():
            if file.name != MANIFEST:
                os.replace(file, run / file.name)
        _sync(run)  # before the manifest, which vouches for them
        os.replace(beside / MANIFEST, run / MANIFEST)
        _sync(run)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for left in (run / CHECKPOINTS, *run.glob(f"*{_PARTIAL}")):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with suppress(OSError):
                left.unlink()
    return run


def _swap(new: Path, target: Path) -> None:
    """Rename `new` to `target`; what was there is put back if that fails, and else removed, here or as `new`."""
    if not target.exists():
        new.rename(target)
        return
    if not target.is_symlink() and _exchange(new, target):
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


def _exchange(a: Path, b: Path) -> bool:
    """Let two paths change places in one step, so that neither is ever missing; whether the system can (Linux)."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # of the C library
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0


def _sync(folder: Path) -> None:
    """Have renames in a folder reach the disk, where a folder can be opened: they would not survive a power cut."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    with suppress(OSError):  # of a file system that cannot; the rename is done all the same
        os.fsync(handle)
    os.close(handle)


def _peek(folder: Path, name: str) -> dict[str, Any]:
    """A manifest of ours, of that name, without any check; {} if there is none."""
    try:
        record = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("schema"), int) else {}


def is_running(path: str | os.PathLike) -> bool:
    """Whether a path is a run directory that was begun and not finished."""
    return _peek(Path(path), MANIFEST).get("status") == RUNNING


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
        if name == MANIFEST and is_running(target):
            raise FileExistsError(f"{_unfinished(target)}, or pass force (--force) to replace it")
        raise FileExistsError(f"{target} exists already; choose another path, or pass force (--force) to replace it")
    if not _peek(target, name) and not (target.is_dir() and not any(target.iterdir())):
        what = "a run directory" if name == MANIFEST else "a folder of this kind"
        raise FileExistsError(f"{target} is not {what} (it has no {name} of one), so force does not replace it")


def _unfinished(run: Path) -> str:
    return f"{run} is an unfinished run; go on with it by 'fastann fit --resume {run}'"


# --------------------------------------------------------------------------- reading folders


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
        If a file is missing, altered or unreadable, the run is unfinished, or the schema is of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(path)
    manifest = read_manifest(folder)
    if manifest["status"] == RUNNING:
        raise RunError(_unfinished(folder))
    arrays = _read_arrays(folder, manifest, MANIFEST, (CENTROIDS,))
    try:
        return manifest, load_file(folder / CENTROIDS), arrays
    except SafetensorError as error:
        raise RunError(f"{folder / CENTROIDS} cannot be read: {error}") from None


def read_manifest(path: str | os.PathLike) -> dict[str, Any]:
    """Read the manifest alone of a run directory, finished or not; no other file is looked at.

    Its ``status`` is "running" or "complete". Raises as `read_run` does.
    """
    manifest = _read_record(Path(path), MANIFEST, "a run directory")
    status = manifest.setdefault("status", COMPLETE) if manifest["schema"] == 1 else manifest.get("status")
    if status not in (RUNNING, COMPLETE):
        raise RunError(
            f"{Path(path) / MANIFEST} has the status {status!r}, not {RUNNING!r} or {COMPLETE!r}; fit again or restore "
            "it"
        )
    return manifest


def read_folder(
    path: str | os.PathLike, *, name: str, what: str, needs: tuple[str, ...] = ()
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_folder` wrote: its record, and its .npy files as read-only memmaps, all verified.

    `what` it is, for messages, with an article; `needs` are files it must list. Raises as `read_run` does.
    """
    record = _read_record(Path(path), name, what)
    return record, _read_arrays(Path(path), record, name, needs)


def _read_record(folder: Path, name: str, what: str) -> dict[str, Any]:
    if not folder.is_dir():
        needed = "a folder written by save or 'fastann fit' is needed" if name == MANIFEST else "check the path"
        raise FileNotFoundError(f"no {what.partition(' ')[2]} {folder}; {needed}")
    try:
        record = json.loads((folder / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise RunError(f"{folder} has no {name}; it is not {what}, or was not written whole") from None
    except ValueError as error:
        raise RunError(f"{folder / name} is not JSON ({error}); fit again or restore it") from None
    schema = record.get("schema") if isinstance(record, dict) else None
    if type(schema) is not int or schema not in READS:
        known = " and ".join(map(str, READS))
        raise RunError(f"{folder} has schema {schema!r}, this fastann reads {known}; use the version that wrote it")
    return record


def _read_arrays(folder: Path, record: dict[str, Any], name: str, needs: tuple[str, ...]) -> dict[str, np.ndarray]:
    listed = record.get("files")
    missing = [file for file in needs if not isinstance(listed, dict) or file not in listed]
    if not isinstance(listed, dict) or missing:
        raise RunError(f"{folder / name} does not list {', '.join(missing) or 'files'}; fit again or restore it")
    for file, expected in listed.items():
        _verify(folder, file, expected, name)
    try:
        return {file[:-4]: checks.npy_file(folder / file) for file in listed if file.endswith(".npy")}
    except ValueError as error:
        raise RunError(str(error)) from None


def _verify(folder: Path, name: str, expected: Any, record: str) -> None:
    file = folder / name
    if name in ("", ".", "..") or Path(name).name != name or not isinstance(expected, dict):
        raise RunError(f"{folder / record} lists a file it may not: {name!r}")
    if not file.is_file():
        raise RunError(f"{folder} lacks {name}, which its manifest lists; restore it or fit again")
    size = file.stat().st_size
    if size != expected.get("bytes") or _digest(file) != expected.get("sha256"):
        raise RunError(
            f"{file} is not the file that was saved (it has {size} bytes, {expected.get('bytes')} were written, or "
            "its checksum differs); restore it or fit again"
        )


# --------------------------------------------------------------------------- single files


def check_file(path: str | os.PathLike, *, force: bool = False) -> None:
    """Refuse a path that a file must not replace."""
    target = Path(path)
    if target.is_dir():
        raise FileExistsError(f"{target} is a folder; give the name of a file")
    if target.exists() and not force:
        raise FileExistsError(f"{target} exists already; choose another path, or pass force (--force) to replace it")


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
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_PARTIAL, dir=target.parent)
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
    _sync(target.parent)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

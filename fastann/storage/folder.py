"""Folders that are written whole or not at all: run directories, first of all.

A run directory holds ``manifest.json``: the schema version, a status, parameters and statistics, and the size and
SHA-256 of every other file; ``centroids.safetensors``; and files that the estimator adds (see `fastann.runs`). Nothing
in it is ever unpickled. It is written to a folder beside its target and renamed.

A long fit begins with the manifest alone, whose status is "running", and keeps its checkpoints in the folder
``checkpoints``. Such a run is finished in place. Its files are written to a folder inside it and renamed, the manifest
last: until then the run is unfinished, from then on complete.
"""

import ctypes
import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fastann.storage.files import PARTIAL, digest, explaining, save_array, sync, unused, write_file, write_text
from fastann.storage.manifest import (
    CENTROIDS,
    CHECKPOINTS,
    COMPLETE,
    MANIFEST,
    OLD,
    RUNNING,
    SCHEMA,
    is_running,
    peek,
    unfinished,
)


def write_run(
    path: str | os.PathLike[str],
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

    def save_rest(folder: Path) -> None:
        _save_tensors(tensors, folder / CENTROIDS)
        if more is not None:
            more(folder)

    record = {**manifest, "status": COMPLETE}
    if finish and is_running(path):
        return _finish(Path(path), record, arrays, save_rest)
    return write_folder(path, record, arrays, name=MANIFEST, force=force, more=save_rest)


def _save_tensors(tensors: dict[str, np.ndarray], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, path)
    except SafetensorError as error:  # of a full disk too: no OSError, whose number is at the end of the text
        found = re.search(r"os error (\d+)", str(error))
        raise OSError(int(found[1]) if found else errno.EIO, str(error)) from error


def begin_run(path: str | os.PathLike[str], manifest: dict[str, Any], *, force: bool = False) -> Path:
    """Make a run directory of a fit that has yet to be done, atomically: a manifest, of status "running".

    `write_run` finishes it. `force` replaces an existing run, as there.

    Raises
    ------
    FileExistsError
        If `path` exists and may not be replaced.
    """
    return write_folder(path, {**manifest, "status": RUNNING}, {}, name=MANIFEST, force=force)


def amend_run(path: str | os.PathLike[str], **changes: Any) -> None:
    """Change what the manifest of a run that was begun says."""
    write_text(Path(path) / MANIFEST, _text(peek(Path(path), MANIFEST) | changes))


def amend_files(path: str | os.PathLike[str], files: dict[str, bytes]) -> None:
    """Replace or add files of a complete run, whole or not at all; whoever reads it meanwhile reads the old one.

    All else in the folder stays, as links to the same bytes where the file system has these.
    """
    run = Path(path)
    manifest = peek(run, MANIFEST)
    beside = unused(run)
    beside.mkdir()
    try:
        for old in run.iterdir():
            if old.is_dir():
                shutil.copytree(old, beside / old.name)
            elif old.name not in (*files, MANIFEST):
                try:
                    os.link(old, beside / old.name)
                except OSError:
                    shutil.copy2(old, beside / old.name)
        for name, content in files.items():
            _write(beside / name, content)
        known = {name: _written(beside / name) for name in files}
        write_text(beside / MANIFEST, _text({**manifest, "files": manifest["files"] | known}))
        _swap(beside, run)
        sync(run.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    write_file(path, lambda file: file.write(content))


def write_folder(
    path: str | os.PathLike[str],
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
    beside = unused(target)
    beside.mkdir()
    try:
        _fill(beside, record, arrays, name, more, target)
        _swap(beside, target)
        sync(target.parent)
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
    with explaining(target):
        if more is not None:
            more(folder)
        for array_name, array in arrays.items():
            with (folder / f"{array_name}.npy").open("xb") as file:
                save_array(file, array)
        files = {p.name: _written(p) for p in sorted(folder.iterdir())}
        (folder / name).write_text(_text({"schema": SCHEMA, **record, "files": files}), encoding="utf-8")
    mode = (folder / name).stat().st_mode  # what the system gives new files here; safetensors' own has 0600
    for p in folder.iterdir():
        if p.stat().st_mode != mode:
            p.chmod(mode & 0o777)
        with p.open("r+b") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
    sync(folder)


def _text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=2, allow_nan=False) + "\n"


def _written(path: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": digest(file)}


def _finish(
    run: Path, record: dict[str, Any], arrays: dict[str, np.ndarray], more: Callable[[Path], None] | None
) -> Path:
    """Complete a running run in place; what it kept only to go on with is removed then."""
    beside = unused(run / "finish")
    beside.mkdir()
    try:
        _fill(beside, record, arrays, MANIFEST, more, run)
        for file in beside.iterdir():
            if file.name != MANIFEST:
                os.replace(file, run / file.name)
        sync(run)  # before the manifest, which vouches for them
        os.replace(beside / MANIFEST, run / MANIFEST)
        sync(run)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for left in (run / CHECKPOINTS, *run.glob(f"*{PARTIAL}")):
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
    old = unused(target, OLD)
    old.mkdir()
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


def check_target(path: str | os.PathLike[str], *, force: bool = False, name: str = MANIFEST) -> None:
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
            raise FileExistsError(f"{unfinished(target)}, or pass force (--force) to replace it")
        raise FileExistsError(f"{target} exists already; choose another path, or pass force (--force) to replace it")
    if not peek(target, name) and not (target.is_dir() and not any(target.iterdir())):
        what = "a run directory" if name == MANIFEST else "a folder of this kind"
        raise FileExistsError(f"{target} is not {what} (it has no {name} of one), so force does not replace it")

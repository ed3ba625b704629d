"""Reading folders without trust: every file's size and checksum is looked at, nothing is ever unpickled."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks
from fastann.storage.files import digest
from fastann.storage.manifest import CENTROIDS, COMPLETE, MANIFEST, READS, RUNNING, RunError, unfinished


def read_run(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
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
        raise RunError(unfinished(folder))
    arrays = _read_arrays(folder, manifest, MANIFEST, (CENTROIDS,))
    try:
        return manifest, load_file(folder / CENTROIDS), arrays
    except SafetensorError as error:
        raise RunError(f"{folder / CENTROIDS} cannot be read: {error}") from None


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
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
    path: str | os.PathLike[str], *, name: str, what: str, needs: tuple[str, ...] = ()
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
    if size != expected.get("bytes") or digest(file) != expected.get("sha256"):
        raise RunError(
            f"{file} is not the file that was saved (it has {size} bytes, {expected.get('bytes')} were written, or "
            "its checksum differs); restore it or fit again"
        )

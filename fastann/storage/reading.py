"""Reading folders without trust, and whole: every file's size and checksum is looked at, nothing is ever unpickled.

A folder may be replaced by another while it is read. All its files are opened first, and what is verified through a
handle is read through the same one. What does not fit together is read anew if the manifest is another one by then.
"""

import json
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from fastann.storage.files import digest
from fastann.storage.manifest import CENTROIDS, COMPLETE, MANIFEST, OLD, READS, RUNNING, RunError, unfinished

PATIENCE = 5.0  # seconds for which a folder that is replaced again and again is read anew
MAPPED = os.name == "posix"  # elsewhere a folder whose files are mapped cannot be replaced
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

Read = TypeVar("Read")
Run = tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run directory, after checking its version and every file's size and checksum.

    It is one whole run, also where others take its place meanwhile.

    Returns
    -------
    manifest : dict
    tensors : dict of str to ndarray
    arrays : dict of str to ndarray
        Mapped from their files, which need not stay where they are; what is written to them stays in memory.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    RunError
        If a file is missing, altered or unreadable, the run is unfinished, or the schema is of another version.
    """
    folder = Path(path)
    return steady(folder, lambda: _read_run(folder))


def _read_run(folder: Path) -> Run:
    manifest = _read_manifest(folder)
    if manifest["status"] == RUNNING:
        raise RunError(unfinished(folder))
    with _verified(folder, manifest, MANIFEST, (CENTROIDS,)) as files:
        return manifest, _tensors(files[CENTROIDS], folder / CENTROIDS), _arrays(files, folder)


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the manifest alone of a run directory, finished or not; no other file is looked at.

    Its ``status`` is "running" or "complete". Raises as `read_run` does.
    """
    folder = Path(path)
    return steady(folder, lambda: _read_manifest(folder))


def _read_manifest(folder: Path) -> dict[str, Any]:
    manifest = _read_record(folder, MANIFEST, "a run directory")
    status = manifest.setdefault("status", COMPLETE) if manifest["schema"] == 1 else manifest.get("status")
    if status not in (RUNNING, COMPLETE):
        raise RunError(
            f"{folder / MANIFEST} has the status {status!r}, not {RUNNING!r} or {COMPLETE!r}; fit again or restore it"
        )
    return manifest


def read_folder(
    path: str | os.PathLike[str], *, name: str, what: str, needs: tuple[str, ...] = ()
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_folder` wrote: its record, and its .npy files as `read_run` does, all verified.

    `what` it is, for messages, with an article; `needs` are files it must list. Raises as `read_run` does.
    """
    folder = Path(path)

    def read() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        record = _read_record(folder, name, what)
        with _verified(folder, record, name, needs) as files:
            return record, _arrays(files, folder)

    return steady(folder, read, name)


def steady(folder: Path, read: Callable[[], Read], name: str = MANIFEST, *, throughout: bool = False) -> Read:
    """What `read` makes of a folder: anew as long as it fails and the folder is replaced by another meanwhile.

    With `throughout` also where it does not fail, for what is not verified by the manifest `name`.
    """
    end = time.perf_counter() + PATIENCE
    while True:
        before = _which(folder, name)
        try:
            found = read()
        except (RunError, OSError):
            if not _replaced(folder, name, before) or time.perf_counter() > end:
                raise
            time.sleep(0.001)
        else:
            if not throughout or _which(folder, name) == before or time.perf_counter() > end:
                return found


def _which(folder: Path, name: str) -> tuple[int, ...] | None:
    """What tells one manifest from another that takes its place; None if there is none."""
    try:
        of = (folder / name).stat()
    except OSError:
        return None
    return of.st_dev, of.st_ino, of.st_size, of.st_mtime_ns


def _replaced(folder: Path, name: str, before: tuple[int, ...] | None) -> bool:
    """Whether a folder was replaced since `before`, or is just now, where that takes two steps."""
    now = _which(folder, name)
    return now != before or (now is None and any(folder.parent.glob(f".{folder.name}.*{OLD}")))


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


@contextmanager
def _verified(folder: Path, record: dict[str, Any], name: str, needs: tuple[str, ...]) -> Iterator[dict[str, BinaryIO]]:
    """Open all files that a manifest lists, and compare size and checksum of each."""
    listed = record.get("files")
    missing = [file for file in needs if not isinstance(listed, dict) or file not in listed]
    if not isinstance(listed, dict) or missing:
        raise RunError(f"{folder / name} does not list {', '.join(missing) or 'files'}; fit again or restore it")
    with ExitStack() as stack:
        files = {file: stack.enter_context(_opened(folder, file, listed[file], name)) for file in listed}
        for file, handle in files.items():
            size, expected = os.fstat(handle.fileno()).st_size, listed[file]
            if size != expected.get("bytes") or digest(handle) != expected.get("sha256"):
                raise RunError(
                    f"{folder / file} is not the file that was saved (it has {size} bytes, {expected.get('bytes')} "
                    "were written, or its checksum differs); restore it or fit again"
                )
        yield files


def _opened(folder: Path, name: str, expected: Any, record: str) -> BinaryIO:
    if name in ("", ".", "..") or Path(name).name != name or not isinstance(expected, dict):
        raise RunError(f"{folder / record} lists a file it may not: {name!r}")
    if not (folder / name).is_file():
        raise RunError(f"{folder} lacks {name}, which its manifest lists; restore it or fit again")
    return (folder / name).open("rb")


def _tensors(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    """Tensors of an open file, which safetensors reads by its path: it must be the same file still."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise RunError(f"{path} was replaced while it was read; read it again")
    return tensors


def _arrays(files: dict[str, BinaryIO], folder: Path) -> dict[str, np.ndarray]:
    return {name[:-4]: _array(file, folder / name) for name, file in files.items() if name.endswith(".npy")}


def _array(file: BinaryIO, path: Path) -> np.ndarray:
    """The array of an open .npy file, mapped; no `numpy.memmap`, which joblib would have other processes open anew."""
    file.seek(0)
    try:
        shape, columns_first, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never unpickled")
        if MAPPED:
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            array = np.ndarray(shape, dtype, pages, file.tell(), order="F" if columns_first else "C")
            return array if array.flags.aligned else array.copy()
        file.seek(0)
        return np.load(file, allow_pickle=False)
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} cannot be read as .npy ({error}); write it again with numpy.save") from None


def rested(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Mapped arrays that nothing was written to, without the memory that looking at them took."""
    for array in arrays.values():
        if isinstance(array.base, mmap.mmap) and hasattr(array.base, "madvise"):
            array.base.madvise(mmap.MADV_DONTNEED)
    return arrays

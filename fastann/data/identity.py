"""Is this the same data? Fingerprints of files, checksums of rows, and what differs."""

import hashlib
import os
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fastann.data.source import Source

BLOCK_BYTES = 2**20  # of a file, that are read at once
SAMPLED_BYTES = 2**20  # of rows that `sampled` reads


def written(path: Path) -> dict[str, int]:
    """Size and time of the last change, in nanoseconds, of a file, or of all files of a folder together."""
    inside = (Path(base, name) for base, _, names in os.walk(path) for name in names)
    stats = [file.stat() for file in (inside if path.is_dir() else [path])]
    return {"size": sum(s.st_size for s in stats), "mtime_ns": max((s.st_mtime_ns for s in stats), default=0)}


def about(source: Source, files: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Make the fingerprint of rows in files (see `Source.fingerprint`); `files` has a `written` for every path."""
    return {"files": files, "n": source.n, "d": source.d, "dtype": source.stored}


def lasting(known: dict[str, Any] | None) -> dict[str, Any] | None:
    """A fingerprint that files are known by wherever they lie and whenever they were written: with their checksums.

    Reads them once.
    """
    if known is None or "files" not in known:
        return known
    return known | {"files": {path: stat | {"checksum": _content(path, stat)} for path, stat in known["files"].items()}}


def _content(path: str, stat: dict[str, int]) -> int:
    return _checksum(path, stat["size"], stat["mtime_ns"])


@lru_cache(maxsize=2**16)
def _checksum(path: str, size: int, mtime_ns: int) -> int:
    """CRC-32 of a file of that size and time; of a folder that of all files in it, with their places."""
    crc, given = 0, Path(path)
    files = sorted(Path(base, name) for base, _, names in os.walk(given) for name in names)
    for file in files if given.is_dir() else [given]:
        if file != given:
            crc = zlib.crc32(file.relative_to(given).as_posix().encode(), crc)
        with file.open("rb") as opened:
            while block := opened.read(BLOCK_BYTES):
                crc = zlib.crc32(block, crc)
    return crc


def _found_again(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What files are `now`, under the names they had `before` where size and checksum say that they are the same.

    Raises
    ------
    ValueError
        If one that lies elsewhere now holds something else.
    """
    files, pairs = {}, list(zip(before["files"].items(), now["files"].items(), strict=False))
    for (old, was), (path, here) in pairs:
        kept = old == path and here["mtime_ns"] == was["mtime_ns"]
        same = here["size"] == was["size"] and (kept or _content(path, here) == was["checksum"])
        if not same and old not in now["files"]:
            raise ValueError(f"{path} does not hold what {old} held; pass the same rows, wherever they lie")
        files[old if same else path] = was if same else here
    return now | {"files": files}


def check_unchanged(before: dict[str, Any] | None, now: dict[str, Any] | None) -> None:
    """Refuse data whose fingerprint is not what it was before.

    A `lasting` one is that of files, wherever they lie now; others go by the times of files, and where they lie.

    Raises
    ------
    ValueError
        The message names the first file that changed, and how; or what else differs.
    """
    if before is None or now is None:
        if before is not now:
            then, here = ("in memory" if of is None else "in files" for of in (before, now))
            raise ValueError(f"the rows were {then} before and are {here} now; pass them as before")
        return
    known = len(before["files"]) == len(now["files"]) and all("checksum" in was for was in before["files"].values())
    if known:
        now = _found_again(before, now)
    for path, was in before["files"].items():
        here = now["files"].get(path)
        if here is None:
            raise ValueError(f"{path} is not among the files that were given, but was before; pass the same files")
        if any(here[name] != was[name] for name in ("size", "mtime_ns")):
            sizes = f"size {was['size']} -> {here['size']} bytes"
            how = sizes if here["size"] != was["size"] else "it was modified since"
            raise ValueError(
                f"{path} is not as it was before ({how}); put the former file back, pass the rows as X, or fit again"
            )
    for path in now["files"]:
        if path not in before["files"]:
            raise ValueError(f"{path} was not among the files before; pass the same files")
    for path, other in zip(before["files"], now["files"], strict=True):
        if path != other:
            raise ValueError(f"{other} comes where {path} came before; pass the files in the same order")
    for name in {**before, **now}:
        if name != "files" and before.get(name) != now.get(name):
            raise ValueError(
                f"the data has {name} = {now.get(name)!r}, but had {before.get(name)!r} before; pass the same rows, "
                "opened in the same way"
            )


def checksum(array: np.ndarray, before: int = 0) -> int:
    """CRC-32 of an array's bytes, in C order; `before` is that of what comes before it."""
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data, before)


def identity(source: Source, weights: np.ndarray | None) -> dict[str, Any]:
    """What tells whether data is the same: the fingerprint of files, or a checksum of all rows; and of weights."""
    known = source.fingerprint()
    if known is None:
        crc, size = 0, source.rows_per_chunk()
        for start in range(0, source.n, size):
            block: Any = source.native(slice(start, min(start + size, source.n)))
            for array in (block.data, block.indices, block.indptr) if source.sparse else (block,):
                crc = checksum(array, crc)
        known = {"n": source.n, "d": source.d, "dtype": source.stored, "checksum": crc}
    return known | {"weights": None if weights is None else checksum(weights)}


def check_identity(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse data whose `identity` is not what it was before.

    Raises
    ------
    ValueError
        The message says what differs.
    """
    if "files" in before and "files" in now:
        check_unchanged(before, now)
    elif before != now:
        raise ValueError(f"{_told(before)} before, {_told(now)} now; pass the same rows and weights")


def _told(data: dict[str, Any]) -> str:
    sums = [f"{name} {data[key]}" for name, key in (("values", "checksum"), ("weights", "weights")) if data.get(key)]
    checksums = f" (checksums: {', '.join(sums)})" if sums else ""
    return f"{data['n']:,} x {data['d']} {data['dtype']}{checksums}"


def sampled(source: Source) -> str:
    """SHA-256 of the shape and of about 1 MiB of rows at fixed places: enough to tell data sets apart."""
    row = 1024 if source.sparse else max(1, source.dtype.itemsize * source.d)
    at = np.unique(np.linspace(0, source.n - 1, max(1, min(source.n, SAMPLED_BYTES // row))).astype(np.int64))
    digest = hashlib.sha256(f"{(int(source.n), int(source.d))}".encode())
    block: Any = source.native(at)
    if source.sparse:  # as they were written: neither sorted nor summed up
        for part, dtype in ((block.data, source.dtype), (block.indices, np.int64), (block.indptr, np.int64)):
            digest.update(np.ascontiguousarray(part, dtype).tobytes())
    else:
        digest.update(np.ascontiguousarray(block, source.dtype).tobytes())
    return digest.hexdigest()

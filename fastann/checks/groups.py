"""Limits of this process's control groups (Linux, version 1 or 2): containers, SLURM and systemd set them.

A limit counts wherever it is set: a process of SLURM is in ``slurm/job_7/step_0``, and what bounds it is that of
``slurm/job_7``.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

GROUPS = "/proc/self/cgroup"
ROOT = "/sys/fs/cgroup"
UNLIMITED = 2**60  # bytes: version 1 says "no limit" by a number near 2^63


def levels(controller: str, groups: str, root: str) -> Iterator[Path]:
    """Folders of the groups that bound this process's use of something, from the innermost to the root.

    Some may be missing: in a container the path of the group is the host's, and the root is the container's own.
    """
    try:
        lines = Path(groups).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    top = Path(root)
    for _, controllers, inside in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 lies in the root, or beside version 1 in a folder of its own.
        for base in (top / controllers,) if controllers else (top, top / "unified"):
            at = base / inside.lstrip("/")
            for folder in (at, *at.parents):
                yield folder
                if folder == top:
                    break


@lru_cache(maxsize=1)
def quota(groups: str = GROUPS, root: str = ROOT) -> float:
    """Cores that this process may use by the quotas of its control groups, nested ones too.

    Infinite where there is none. joblib, like most, reads the outermost group alone.
    """
    return min(map(_quota_of, levels("cpu", groups, root)), default=math.inf)


def memory_limit(groups: str = GROUPS, root: str = ROOT) -> float:
    """Bytes of memory that this process's control groups may take in all; infinite where there is no limit."""
    return min(map(_limit_of, (*levels("memory", groups, root), Path(root))))


def memory_left(groups: str = GROUPS, root: str = ROOT) -> float:
    """Bytes that they may take beside what they have; their cache of files counts as free, as it is given up."""
    return min(map(_left_of, (*levels("memory", groups, root), Path(root))))


def _quota_of(folder: Path) -> float:
    """Cores by one group's quota: its share of a period."""
    try:
        if (folder / "cpu.max").exists():
            share, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            share, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
        return float(share) / float(period) if share.strip() != "max" and float(share) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def _limit_of(folder: Path) -> float:
    """Bytes that one group may take; from `memory.high` on it is slowed down until it takes less."""
    found = [_number(folder / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
    return min((value for value in found if value is not None and value < UNLIMITED), default=math.inf)


def _left_of(folder: Path) -> float:
    limit = _limit_of(folder)
    if limit == math.inf:
        return limit
    used = _number(folder / "memory.current")
    if used is None:
        used = _number(folder / "memory.usage_in_bytes")
    cache = 0.0
    try:
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
        pairs = (("file", "shmem"), ("total_cache", "total_shmem"), ("cache", "shmem"))  # shared memory is no cache
        name, shared = next((pair for pair in pairs if pair[0] in stat), pairs[0])
        cache = max(0.0, float(stat.get(name, 0)) - float(stat.get(shared, 0)))
    except (OSError, ValueError):
        pass
    return max(0.0, limit - (used or 0.0) + min(cache, used or 0.0))


def _number(file: Path) -> float | None:
    """The number in a file; None where there is no file, or no number ("max") in it."""
    try:
        return float(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

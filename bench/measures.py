"""What is measured: memory as the kernel counts it, and how good centres are, computed outside any timer."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from fastann.study.process import forget_peak

BLOCK = 8192  # rows whose float64 differences are held at once


# --------------------------------------------------------------------- memory


def memory() -> dict[str, int]:
    """Bytes of this process by the kernel's names: VmRSS, VmHWM (its peak), RssAnon, RssFile, RssShmem."""
    with open("/proc/self/status") as file:
        pairs = (line.split(":", 1) for line in file if line.startswith(("Vm", "Rss")))
        return {name: 1024 * int(value.split()[0]) for name, value in pairs}


def own(now: dict[str, int]) -> int:
    """Bytes that a process holds itself: without pages of files, which the kernel may drop at any time."""
    return now["RssAnon"] + now["RssShmem"]


def available() -> int:
    """Bytes of memory that are free, or can be."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Sampler(ABC):
    """A thread that takes samples every so many seconds while a block runs.

    The loops of this package and of its peers let it run.
    """

    every: float

    @abstractmethod
    def sample(self) -> None:
        """Take one."""

    def start(self) -> None:
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.over.wait(self.every):
            self.sample()

    def stop(self) -> None:
        self.over.set()
        self.thread.join()


class Peak(Sampler):
    """Most memory of this process while a block runs, above what it held before.

    By the kernel's own peak where it can be reset. Else, and where data stay in a file (`in_file`), whose pages the
    kernel's peak would count, by samples of the process's own memory every few milliseconds.

    Attributes
    ----------
    before, extra : int
        Bytes held before the block, and at most beyond that in it.
    by : str
        What was measured.
    """

    every = 0.004  # seconds

    def __init__(self, *, in_file: bool = False):
        self.in_file = in_file

    def __enter__(self) -> Peak:
        self.sampled = not forget_peak() or self.in_file  # also trims the heap, so it comes first
        self.by = "RssAnon, sampled" if self.sampled else "VmHWM"
        self.before = self.most = self._now("VmRSS")
        if self.sampled:
            self.start()
        return self

    def _now(self, name: str) -> int:
        return own(memory()) if self.sampled else memory()[name]

    def sample(self) -> None:
        self.most = max(self.most, own(memory()))

    def __exit__(self, *_: object) -> None:
        self.most = max(self.most, self._now("VmHWM"))
        if self.sampled:
            self.stop()
        self.extra = self.most - self.before


def reading() -> tuple[int, int]:
    """Bytes that this process had fetched from disk, and bytes it asked for by read calls, as no mapped page is."""
    pairs = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(pairs["read_bytes"]), int(pairs["rchar"])


class Watch(Sampler):
    """Memory and bytes read so far, written down every 50 ms while a block runs: columns of `course`, by the clock."""

    every = 0.05  # seconds
    columns = ("clock", "anonymous", "file", "resident", "disk", "asked")

    def __enter__(self) -> Watch:
        self.samples: list[tuple[float, ...]] = []
        self.sample()
        self.start()
        return self

    def sample(self) -> None:
        now = memory()
        self.samples.append((time.perf_counter(), own(now), now["RssFile"], now["VmRSS"], *reading()))

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.sample()
        self.course = dict(zip(self.columns, np.array(self.samples).T, strict=True))

    def most(self, name: str) -> int:
        """Peak of a column."""
        return int(self.course[name].max())

    def between(self, name: str, begin: float, end: float) -> int:
        """How much a column grew from one time to another."""
        a, b = np.interp([begin, end], self.course["clock"], self.course[name])
        return int(b - a)


# --------------------------------------------------------------------- centres


def quality(x: np.ndarray, centers: np.ndarray) -> dict[str, float]:
    """Measure centres against all rows: exact nearest centres, distances summed in float64.

    Returns
    -------
    dict
        `inertia`, the mean squared distance; `empty`, clusters no row is nearest to; `imbalance`,
        k * sum(size^2) / n^2, which is 1 for equal sizes; `size_cv`, the standard deviation of sizes over their mean;
        `largest`, the largest size over the mean; `scanned_p99`, which 99% of the rows find no more rows than in their
        cluster: what a query scans that looks into its nearest list alone.
    """
    from fastann.index.own import FlatIndex

    if not np.isfinite(centers).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(centers).all(1))} centres are not finite")
    n, k = len(x), len(centers)
    index = FlatIndex(np.ascontiguousarray(centers, np.float32))
    wide = centers.astype(np.float64)
    total, sizes = 0.0, np.zeros(k, np.int64)
    for i in range(0, n, BLOCK):
        block = x[i : i + BLOCK]
        ids = index.search(block, 1)[0][:, 0]
        gap = block - wide[ids]
        total += float(np.einsum("ij,ij->", gap, gap))
        sizes += np.bincount(ids, minlength=k)
    return {"inertia": total / n, "empty": int((sizes == 0).sum()), **balance(sizes)}


def balance(sizes: np.ndarray) -> dict[str, float]:
    """How uneven clusters of some sizes (int64 [k]) are: see `quality`."""
    n, k, ascending = int(sizes.sum()), len(sizes), np.sort(sizes)
    rows = np.cumsum(ascending)
    return {
        "imbalance": k * float((sizes.astype(np.float64) ** 2).sum()) / n**2,
        "size_cv": float(sizes.std() / sizes.mean()),
        "largest": float(sizes.max() / sizes.mean()),
        "scanned_p99": int(ascending[np.searchsorted(rows, 0.99 * n)]),
    }


def inertia(x: Any, centers: np.ndarray) -> float:
    """Mean squared distance to the nearest centre, all in float64 and without this package; rows dense or CSR."""
    across = np.ascontiguousarray(centers.T, np.float64)
    norms, total = np.einsum("ij,ij->j", across, across), 0.0
    for i in range(0, x.shape[0], BLOCK):
        block = x[i : i + BLOCK].astype(np.float64)
        near = (norms - 2 * (block @ across)).min(axis=1)
        values = block.data if hasattr(block, "indptr") else block
        total += float(near.sum() + np.square(values).sum())
    return total / x.shape[0]

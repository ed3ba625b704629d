"""Rows of files that are mapped into memory: read by the thread that asks for them, and not copied."""

import mmap
import os
from contextlib import suppress
from typing import Any

import numpy as np

_POPULATE_READ = 22  # MADV_POPULATE_READ of Linux 5.14, which Python does not name


def mapped(array: np.ndarray, rows: Any) -> np.ndarray:
    """Rows (a slice, or indices) of an array that may be mapped from a file; of a slice a view, where that can be.

    A mapped page is read when it is first touched. This touches all pages of the rows, so that a thread which reads
    ahead does the waiting. Pages stay mapped, as the system's cache, which it takes back at will; of a file larger than
    memory those before the last block are let go at once.
    """
    if not isinstance(rows, slice):
        return np.array(array[rows])
    block = array[rows]
    if not block.flags.aligned or block.strides[0] < block.strides[1]:
        return np.array(block)
    pages: Any = array
    while isinstance(pages, np.ndarray):
        pages = pages.base
    if not isinstance(pages, mmap.mmap) or not block.size:
        return block
    origin = np.frombuffer(pages, np.uint8, 1).ctypes.data
    low = block.ctypes.data - origin
    high = low + (block.shape[0] - 1) * block.strides[0] + (block.shape[1] - 1) * block.strides[1] + block.itemsize
    low -= low % mmap.PAGESIZE
    if len(pages) > MEMORY and (behind := 2 * low - high) > mmap.PAGESIZE:
        pages.madvise(mmap.MADV_DONTNEED, 0, behind - behind % mmap.PAGESIZE)
    try:
        pages.madvise(_POPULATE_READ, low, high - low)
    except (AttributeError, OSError):  # another system, or an older Linux: copying reads too
        return np.array(block)
    return block


def _memory() -> float:
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


MEMORY = _memory()

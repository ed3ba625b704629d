"""Rows of files that are mapped into memory: read by the thread that asks for them, and not copied."""

import mmap
from typing import Any

import numpy as np

POPULATE_READ = 22  # MADV_POPULATE_READ of Linux 5.14, which Python does not name


def mapped(array: np.ndarray, rows: Any, memory: float = float("inf"), *, advice: int = POPULATE_READ) -> np.ndarray:
    """Rows of an array that may be mapped from a file; of a slice a view, where that can be.

    A mapped page is read from disk when it is first touched. This has all pages of the rows read now, so that a thread
    which reads ahead does the waiting, not the one that computes. Pages that were read stay in the system's cache,
    which gives them up when memory is needed elsewhere; of a file larger than memory, those before the previous block
    are given up here.

    Parameters
    ----------
    array : [n, d] array
    rows : slice or int array
    memory : float
        Bytes of memory of the machine.
    advice : int
        What asks the system to read pages; one that it does not know leaves that to a copy.
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
    if len(pages) > memory and (behind := 2 * low - high) > mmap.PAGESIZE:
        pages.madvise(mmap.MADV_DONTNEED, 0, behind - behind % mmap.PAGESIZE)
    try:
        pages.madvise(advice, low, high - low)
    except (AttributeError, OSError):  # another system, or an older Linux: copying reads too
        return np.array(block)
    return block

"""How much is read at once: bytes and rows that a `Source` keeps to. No result depends on them."""

import os
from contextlib import suppress
from dataclasses import dataclass, field

from fastann import checks


def _memory() -> float:
    physical = float("inf")
    with suppress(AttributeError, ValueError, OSError):
        physical = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(physical, checks.memory_limit())


@dataclass(frozen=True)
class Limits:
    """What `fastann.data.open.as_source` takes, and every `Source` carries; views have those of their base.

    Attributes
    ----------
    chunk_bytes : int
        float32 bytes of a converted chunk: big enough for BLAS, small beside the data. glibc keeps freed blocks of up
        to 32 MiB for the next chunk; larger ones it maps anew, and touching new pages takes several times longer than
        converting.
    at_once : int
        Rows of a chunk that is only a view of memory. The chunk itself costs nothing then, but what is computed for
        each of its rows does.
    direct_bytes : int
        A larger float32 file is read in chunks, so that disk and compute overlap; a smaller one is used as mapped.
    memory : float
        Bytes of memory of the machine, or of the control groups of this process. Of a larger mapped file, pages that
        were read are let go.
    """

    chunk_bytes: int = 30 * 2**20
    at_once: int = 2**20
    direct_bytes: int = 256 * 2**20
    memory: float = field(default_factory=_memory)


DEFAULT = Limits()

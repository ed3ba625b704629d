"""How many threads compiled loops and the BLAS run on."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import numba
from scipy import sparse
from threadpoolctl import ThreadpoolController


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep the BLAS single-threaded while a kernel calls it from every Numba thread at once."""
    with _blas().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Run kernels that this thread calls on at most `count` threads."""
    before = numba.get_num_threads()
    numba.set_num_threads(max(1, min(count, numba.config.NUMBA_NUM_THREADS)))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def threads_for(x: Any, small: int) -> AbstractContextManager[None]:
    """Run kernels on one thread if `x`, dense or CSR, stores fewer values than `small`.

    Waking and waiting for other threads would then take longer than the work itself.
    """
    return limit_threads(1) if (x.nnz if sparse.issparse(x) else x.size) < small else nullcontext()


def pieces(x: Any) -> int:
    """Number of tasks to cut a loop over `x` into, where tasks do not depend on each other.

    For CSR rows it is the number of threads, as each task holds vectors of all columns; for dense rows it is 64.
    """
    return numba.get_num_threads() if sparse.issparse(x) else 64

"""How many threads the compiled loops run on."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

from fastann.kernels import _core

if hasattr(os, "register_at_fork"):  # a child has none of the threads; Python warns of those that are there at a fork
    os.register_at_fork(before=_core.end_idle_workers)


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Run the loops that this thread calls on at most `count` threads."""
    before = _core.set_threads(max(1, count))
    try:
        yield
    finally:
        _core.set_threads(before)


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[None]:
    """Keep the BLAS single-threaded while a loop calls it from every thread at once."""
    return _blas().limit(limits=1, user_api="blas")

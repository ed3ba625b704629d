"""The BLAS."""

from functools import lru_cache

from threadpoolctl import ThreadpoolController


@lru_cache(maxsize=1)
def _blas():
    return ThreadpoolController()


def one_blas_thread():
    """Keep the BLAS single-threaded."""
    return _blas().limit(limits=1, user_api="blas")

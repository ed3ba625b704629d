"""Parameters: numbers, choices, sizes in bytes, seeds and threads."""

import math
import numbers
import os
import re
import sys
from typing import Any

import numpy as np

from fastann.checks.groups import quota


def integer(value: Any, name: str, low: int, high: int | None = None) -> int:
    """Check an integer parameter in ``[low, high]``; booleans are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer >= {low}, got {value!r} of type {type(value).__name__}")
    number = int(value)
    if number < low or (high is not None and number > high):
        bound = f">= {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {bound}, got {number}")
    return number


def real(value: Any, name: str, low: float, *, above: bool = False) -> float:
    """Check a real parameter that is at least `low`, or strictly `above` it."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    if not math.isfinite(value) or value < low or (above and value == low):
        raise ValueError(f"{name} must be {'>' if above else '>='} {low:g} and finite, got {value}")
    return float(value)


def choice(value: Any, name: str, options: Any) -> str:
    """Check that a string is one of `options`."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def cosine(value: Any, name: str) -> float:
    """Check a cosine that pairs of rows are to reach: above -1, at most 1."""
    number = real(value, name, -1.0, above=True)
    if number > 1:
        raise ValueError(f"{name} must be a cosine, > -1 and at most 1, got {value}; near-duplicates are about 0.95")
    return number


def place(value: Any, name: str) -> Any:
    """Check that a parameter is a path, or None."""
    if value is not None and not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path or None, got {value!r}")
    return value


_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def nbytes(value: Any, name: str) -> int | None:
    """Turn a size, in bytes or as a text like "2GiB" or "500 MB", into bytes; None stays None."""
    if value is None:
        return None
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?)?b?\s*", value.lower())
        if found is None:
            raise ValueError(f"{name} must be bytes, or a text such as '2GiB' or '500MB', got {value!r}")
        return int(float(found[1]) * _SIZES[found[2] or ""])
    return integer(value, name, 1)


def n_clusters(value: Any, n: int) -> int:
    """Check the number of clusters against the number of rows."""
    k = integer(value, "n_clusters", 1)
    if k > n:
        raise ValueError(f"n_clusters={k} needs at least {k} rows, got n_samples={n}; lower n_clusters or add data")
    return k


def sample(value: Any, n: int, k: int) -> int | None:
    """Turn `sample` (None, a number of rows, or a fraction of them) into a number of rows, at least `k`."""
    if value is None:
        return None
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        rows = integer(value, "sample", 1)
    else:
        fraction = real(value, "sample", 0.0, above=True)
        if fraction > 1:
            raise ValueError(f"sample={value} as a fraction must be in (0, 1]; pass an int for a number of rows")
        rows = math.ceil(fraction * n)
    if rows < k:
        raise ValueError(f"sample={value} gives {rows} rows for n_clusters={k}; take at least {k}")
    return min(rows, n)


def seed(random_state: Any) -> int:
    """Draw a seed from what scikit-learn takes for `random_state`, or from a NumPy Generator."""
    from sklearn.utils import check_random_state

    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    return int(check_random_state(random_state).randint(2**31 - 1))


def _cores() -> int:
    """Cores that this process may use: of the machine, its affinity, its control groups, and what joblib is held to."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = quota()
    count = count if share == math.inf else min(count, math.ceil(share))
    loky = os.environ.get("LOKY_MAX_CPU_COUNT", "")
    return max(1, min(count, int(loky)) if loky.isdecimal() else count)


def _openmp_threads(most: int) -> int:
    """Threads that OpenMP is held to, by the environment or by threadpoolctl; `most` if it is not."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is one number for each level
    if first.isdecimal() and int(first) > 0:
        most = min(most, int(first))
    faiss = sys.modules.get("faiss")  # its OpenMP is the one that is loaded
    return most if faiss is None else min(most, int(faiss.omp_get_max_threads()))


def jobs(value: Any) -> int:
    """Number of threads that `n_jobs` means: None or -1 is every core this process may use, -2 all but one.

    The cores are those of its affinity and its share of a container. None also heeds what other libraries are held to:
    OMP_NUM_THREADS, which workers of joblib have, and limits of threadpoolctl. More threads than cores would only wait
    for each other, so they are cut to the cores.
    """
    cores = _cores()
    if value is None:
        return max(1, min(cores, _openmp_threads(cores)))
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"n_jobs must be an integer or None, got {value!r}")
    if value == 0:
        raise ValueError("n_jobs == 0 has no meaning; pass None for all cores, or a number of threads")
    count = int(value)
    return min(count, cores) if count > 0 else max(1, cores + 1 + count)  # FAISS crashes on absurd numbers

"""The compiled core: arrays in, arrays out. It knows nothing of this package.

Its functions check their arguments once, name the one that is wrong, and run without the GIL, on threads of their own.
Work is cut into pieces that do not depend on the number of threads, and no two pieces write to the same place: the same
input gives the same bits on any number of threads. Labels of exact searches are the same whatever the instructions.

The best instructions that the CPU has are chosen when this is imported; ``FASTANN_KERNELS`` names others. `src` has the
C++ code, `_core.pyi` the signatures.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    from fastann.kernels import _core
except ImportError as error:
    if [*Path(__file__).parent.glob("_core*.so"), *Path(__file__).parent.glob("_core*.pyd")]:  # it cannot be loaded
        raise
    raise ImportError(
        f"the compiled core is not in {Path(__file__).parent}: Python found fastann's source folder before the "
        "installed package. Start Python in another folder, or build the core here: pip install -e ."
    ) from error

from fastann.kernels._core import (
    CLEAR,
    DROPPED,
    KEPT,
    LLOYD,
    SIZE_AWARE,
    SIZE_AWARE_COSINE,
    UNDECIDED,
    UNSEEN,
    WANTING,
    Grouped,
    Packed,
    Spread,
    add_rows,
    assign,
    borders,
    coefficients,
    cost,
    decide,
    descend,
    drift,
    eight,
    fingerprints,
    first_near,
    greedy,
    group,
    grouped,
    hear,
    in_lanes,
    level,
    levels,
    look,
    means,
    members_at,
    merge,
    nearest,
    nearest_in_group,
    nearest_m,
    own_sqdist,
    pack,
    pair_scores,
    pairs_by_prototype,
    plus_plus,
    project,
    ready,
    rescore,
    runner_up,
    search_inverted,
    search_sparse,
    search_spread,
    sqnorms,
    suits_screen,
    survey,
    tally,
    threads,
    unit,
    use,
    widened,
)

__all__ = [
    "CLEAR",
    "DROPPED",
    "KEPT",
    "LLOYD",
    "SIZE_AWARE",
    "SIZE_AWARE_COSINE",
    "UNDECIDED",
    "UNSEEN",
    "WANTING",
    "Grouped",
    "Packed",
    "Spread",
    "add_rows",
    "assign",
    "borders",
    "coefficients",
    "cost",
    "decide",
    "descend",
    "drift",
    "eight",
    "fingerprints",
    "first_near",
    "greedy",
    "group",
    "grouped",
    "hear",
    "in_lanes",
    "level",
    "levels",
    "limit_threads",
    "look",
    "means",
    "members_at",
    "merge",
    "nearest",
    "nearest_in_group",
    "nearest_m",
    "own_sqdist",
    "pack",
    "pair_scores",
    "pairs_by_prototype",
    "plus_plus",
    "project",
    "ready",
    "rescore",
    "runner_up",
    "search_inverted",
    "search_sparse",
    "search_spread",
    "sqnorms",
    "suits_screen",
    "survey",
    "tally",
    "threads",
    "unit",
    "use",
    "widened",
]

_PLAIN = ("avx512-f32", "avx2-f32", "neon", "baseline")  # instructions that round nothing


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Run the loops that this thread calls on at most `count` threads."""
    before = _core.set_threads(max(1, count))
    try:
        yield
    finally:
        _core.set_threads(before)


def _choose(wanted: str) -> None:
    """Use the instructions that FASTANN_KERNELS names; "blas", an old name, means the best that round nothing."""
    known = levels()
    if wanted == "blas":
        wanted = next(name for name in known if name in _PLAIN)
    if not use(wanted):
        names = ", ".join(known)
        raise ValueError(f"FASTANN_KERNELS is {wanted!r} in the environment; here it may be {names}, or not set")


if os.environ.get("FASTANN_KERNELS"):
    _choose(os.environ["FASTANN_KERNELS"])
if hasattr(os, "register_at_fork"):  # a child has none of the threads, and Python warns of those that are there
    os.register_at_fork(before=_core.end_idle_workers)

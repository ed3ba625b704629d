"""Which index searches each iteration. Fixed for a given index, chosen for ``"auto"``."""

from fastann.cluster.index import IVF, Flat, Spec, parse_index

FLAT_BELOW = 2048  # clusters up to which one matrix product beats scanning cells


def choose(index: Spec | str, k: int) -> Spec:
    """Turn the `index` parameter into a spec: ``"auto"`` is exact for few clusters, IVF for many."""
    if isinstance(index, str) and index == "auto":
        return Flat() if k < FLAT_BELOW else IVF()
    return parse_index(index)

"""The compiled core: arrays in, arrays out. Its files import nothing of this package but each other.

What other rooms use stands in this one namespace, ``kernels.nearest(...)``, whichever file it comes from; a file is
imported, and Numba with it, when one of its names is first used.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "base": "add_rows drift group limit_threads means members_at one_blas_thread sqnorms survey tally threads_for",
    "exact": "eight_in_cells nearest nearest_m own_sqdist rescore runner_up",
    "bounds": "LLOYD SIZE_AWARE SIZE_AWARE_COSINE WANTING look merge",
    "groups": "nearest_in_group plus_plus",
    "gradient": "coefficients descend pair_scores pairs_by_prototype",
    "sparse": "search_sparse",
    "inverted": "search_inverted",
    "borders": "CLEAR DROPPED KEPT UNDECIDED UNSEEN borders decide fingerprints first_near ready unit",
    "rows": "CSR pieces table",
    "half": "CAN widened",
    "screen.certificate": "pad_columns",
    "screen.search": "ScreenedCells eight_screened nearest_screened pack_screen suits_screen",
}
_HOME = {name: file for file, names in _NAMES.items() for name in names.split()}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastann.kernels' has no attribute {name!r}")
    value = getattr(import_module(f"fastann.kernels.{_HOME[name]}"), name)
    globals()[name] = value
    return value

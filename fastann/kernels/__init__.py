"""The compiled core: arrays in, arrays out. Its files import nothing of this package but each other.

What other rooms use stands in this one namespace, ``kernels.nearest(...)``, whichever file it comes from. The names
are listed once, in ``__init__.pyi``; a file is imported, and Numba with it, when one of its names is first used.

Every function assumes validated input: float32 C-ordered rows and centroids, int32 ids. Arrays are handed to compiled
code as read-only, so that a read-only memmap and an ordinary array share one compiled version, which is cached on
disk. Work is cut into pieces that do not depend on the number of threads, and no two pieces write to the same place:
the same input gives the same bits on any number of threads, up to the rounding of the BLAS.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOME = {line.names[0].name: line.module for line in _STUB.body if isinstance(line, ast.ImportFrom) and line.module}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastann.kernels' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value

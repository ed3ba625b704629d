"""Tensors of torch as NumPy and SciPy hold them, and arrays as tensors, without importing torch before it is needed.

NumPy has no bfloat16, whose bits are handed on as they are; SciPy has no sparse half precision, whose values become
float32.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from scipy import sparse

BFLOAT16 = "torch.bfloat16"


def is_tensor(x: Any) -> bool:
    """Whether `x` is a tensor of torch."""
    return hasattr(x, "detach") and hasattr(x, "cpu")


def is_sparse(x: Any) -> bool:
    """Whether a tensor is not laid out as a dense one is."""
    return str(getattr(x, "layout", "torch.strided")) != "torch.strided"


def bits_of(x: Any) -> np.ndarray:
    """The bits of a dense bfloat16 tensor, which share its memory if it is on the CPU: uint16."""
    torch = import_module("torch")
    bits: np.ndarray = x.detach().cpu().view(torch.int16).numpy().view(np.uint16)
    return bits


def csr_of(x: Any, name: str) -> Any:
    """A sparse tensor of CSR, CSC or COO layout as a SciPy CSR matrix; of half precision as float32.

    Raises
    ------
    TypeError
        If it is of another layout, or some of its dimensions are dense.
    """
    x, layout = x.detach().cpu(), str(x.layout)
    if layout == "torch.sparse_coo" and x.sparse_dim() == 2 and not x.dense_dim():
        x = x.coalesce()
        rows, columns = (_numbers(part) for part in x.indices())
        return sparse.csr_matrix((_numbers(x.values()), (rows, columns)), tuple(x.shape))
    if layout == "torch.sparse_csr" and x.ndim == 2:
        parts = x.values(), x.col_indices(), x.crow_indices()
        return sparse.csr_matrix(tuple(map(_numbers, parts)), tuple(x.shape))
    if layout == "torch.sparse_csc" and x.ndim == 2:
        parts = x.values(), x.row_indices(), x.ccol_indices()
        return sparse.csc_matrix(tuple(map(_numbers, parts)), tuple(x.shape)).tocsr()
    raise TypeError(
        f"{name} is a tensor of layout {layout} and shape {tuple(x.shape)}; a dense, CSR, CSC or COO tensor of rows "
        f"and columns is needed: pass {name}.to_sparse_csr(), or {name}.to_dense() if that fits in memory"
    )


def _numbers(x: Any) -> np.ndarray:
    half = str(x.dtype) in (BFLOAT16, "torch.float16")
    return np.asarray(x.float() if half else x)


def tensor_of(a: np.ndarray, like: Any) -> Any:
    """An array as a tensor: on the device of `like` if that is a tensor, else on the CPU.

    Raises
    ------
    ImportError
        Without torch.
    TypeError
        If the array is of strings or objects.
    """
    try:
        torch = import_module("torch")
    except ModuleNotFoundError:
        raise ImportError("output='torch' needs torch, which is not installed: pip install 'fastann[torch]'") from None
    if a.dtype.kind not in "fiub":
        raise TypeError(
            f"output='torch' gives tensors, which hold numbers, but the labels are of dtype {a.dtype}; fit with "
            "integers as labels, or pass output='numpy'"
        )
    made = torch.from_numpy(np.require(a, requirements=["C", "W"]))
    return made.to(like.device) if is_tensor(like) else made

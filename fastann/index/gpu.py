"""Placing a FAISS index on one or several GPUs, and searching it there.

FAISS is handed in, so that this module imports nothing and can be tested with a fake at the boundary.
"""

from typing import Any

import numpy as np


def parse_device(device: Any) -> str | tuple[int, ...]:
    """Turn ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or a list of those into ``"cpu"`` or GPU numbers.

    Raises
    ------
    ValueError
        If a name is not one of those. Numbers and booleans are refused too: FAISS's ``gpu=1`` means every GPU.
    """
    names = list(device) if isinstance(device, (list, tuple)) else [device]
    numbers = []
    for name in names:
        head, _, tail = name.partition(":") if isinstance(name, str) else ("", "", "")
        if name == "cpu" and len(names) == 1:
            return "cpu"
        if head != "cuda" or (tail and not tail.isdigit()) or name == "cuda:":
            raise ValueError(
                f"device must be 'cpu', 'cuda', 'cuda:N' or a list such as ['cuda:0', 'cuda:1'], got {device!r}"
            )
        numbers.append(int(tail or 0))
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"device={device!r} must name at least one GPU, and none twice")
    return tuple(numbers)


def require(faiss: Any, device: str | tuple[int, ...]) -> None:
    """Check that the GPUs exist; FAISS itself falls back to the CPU without a word.

    Raises
    ------
    RuntimeError
        If this FAISS has no GPU support or too few GPUs are visible.
    """
    if device == "cpu":
        return
    if not hasattr(faiss, "StandardGpuResources"):
        raise RuntimeError(
            f"device={_names(device)} needs FAISS with GPU support and this is a CPU build; "
            "pip uninstall faiss-cpu, then pip install 'fastann[gpu]'; or use device='cpu'"
        )
    count = faiss.get_num_gpus()
    if max(map(int, device)) >= count:
        raise RuntimeError(f"device={_names(device)} was asked for, but FAISS sees {count} GPU(s)")


def place(faiss: Any, index: Any, device: str | tuple[int, ...]) -> Any:
    """Copy `index` to the GPUs: rows are split between them, centroids replicated on each."""
    if device == "cpu":
        return index
    require(faiss, device)
    resources = [faiss.StandardGpuResources() for _ in device]
    if len(device) == 1:
        placed = faiss.index_cpu_to_gpu(resources[0], int(device[0]), index)
    else:
        options = faiss.GpuMultipleClonerOptions()
        options.shard = False
        placed = faiss.index_cpu_to_gpu_multiple_py(resources, index, options, list(map(int, device)))
    placed.fastann_resources = resources  # FAISS keeps only a C++ pointer to them
    return placed


def search(
    faiss: Any, index: Any, x: np.ndarray, m: int, *, nprobe: int | None, ef_search: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Search `index` with its options, whichever way its kind takes them; (sqdist, ids) as FAISS returns."""
    if hasattr(index, "fastann_resources"):
        if nprobe is not None:  # replicated indexes reject search parameters
            faiss.GpuParameterSpace().set_index_parameter(index, "nprobe", min(nprobe, 2048))
        return index.search(x, m)
    if nprobe is not None:
        return index.search(x, m, params=faiss.SearchParametersIVF(nprobe=nprobe))
    if ef_search is not None:
        return index.search(x, m, params=faiss.SearchParametersHNSW(efSearch=max(ef_search, m)))
    return index.search(x, m)


def _names(device: Any) -> str:
    return ",".join(f"cuda:{number}" for number in device)

"""Placing a FAISS index on one or several GPUs, and searching it there.

FAISS is handed in, so that this module imports nothing, and tests can hand in one whose copies are CPU indexes. Nothing
is set on FAISS's objects: they refuse it, and replicas would free what is added to what they refer to.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

MOST = 2048  # cells searched, and neighbours found, of a row: FAISS's limit on GPUs

_resources: dict[
    tuple[int, int, int], tuple[Any, Any]
] = {}  # of a process, a FAISS and a card: each takes up to 1.5 GiB there


def parse_device(device: Any, faiss: Callable[[], Any] | None = None) -> str | tuple[int, ...]:
    """Turn a device or a list of some into ``"cpu"`` or GPU numbers.

    Parameters
    ----------
    device : str or list of str
        ``"cpu"``; ``"cuda"`` (the first GPU), ``"cuda:N"`` or a list of such; ``"cuda:all"``; ``"auto"``: the first GPU
        if FAISS sees one, else the CPU.
    faiss : callable, optional
        Gives FAISS, for the names that depend on the machine; without it these are only checked.

    Raises
    ------
    ValueError
        If a name is not one of those. Numbers and booleans are refused too: FAISS's ``gpu=1`` means every GPU.
    """
    if isinstance(device, str) and device in ("auto", "cuda:all"):
        seen = 0 if faiss is None else visible(faiss())
        if device == "auto":
            return (0,) if seen else "cpu"
        return tuple(range(max(1, seen)))  # where there is none, `require` says so
    names = list(device) if isinstance(device, (list, tuple)) else [device]
    numbers = []
    for name in names:
        head, _, tail = name.partition(":") if isinstance(name, str) else ("", "", "")
        if name == "cpu" and len(names) == 1:
            return "cpu"
        if head != "cuda" or (tail and not tail.isdigit()) or name == "cuda:":
            raise ValueError(
                "device must be 'cpu', 'auto', 'cuda', 'cuda:N', 'cuda:all' or a list such as ['cuda:0', 'cuda:1'], "
                f"got {device!r}"
            )
        numbers.append(int(tail or 0))
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"device={device!r} must name at least one GPU, and none twice")
    return tuple(numbers)


def visible(faiss: Any) -> int:
    """GPUs that FAISS sees; 0 of a build without support for them."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


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
    """Copy `index` to the GPUs: rows are split between them, centroids replicated on each.

    Raises
    ------
    RuntimeError
        As of `require`.
    ValueError
        If FAISS has no such index on GPUs. On one card it says so; on several it searches on the CPU without a word.
    """
    if device == "cpu":
        return index
    require(faiss, device)
    cards = list(map(int, device))
    try:
        if len(cards) == 1:
            placed = faiss.index_cpu_to_gpu(_resources_of(faiss, cards[0]), cards[0], index)
        else:
            options = faiss.GpuMultipleClonerOptions()
            options.shard = False
            resources = [_resources_of(faiss, card) for card in cards]
            placed = faiss.index_cpu_to_gpu_multiple_py(resources, index, options, cards)
    except RuntimeError as error:
        raise _not_there(index, device, str(error).strip().splitlines()[-1]) from None
    if not is_on_gpu(faiss, placed):
        raise _not_there(index, device, "it stays on the CPU")
    return placed


def _resources_of(faiss: Any, card: int) -> Any:
    key = (os.getpid(), id(faiss), card)
    if key not in _resources:
        _resources[key] = faiss, faiss.StandardGpuResources()
    return _resources[key][1]


def _not_there(index: Any, device: Any, reason: str) -> ValueError:
    kind = type(index).__name__
    return ValueError(
        f"FAISS has no {kind} on {_names(device)} ({reason}); use index='flat', 'ivf' or a factory string of IVF with "
        "Flat, SQ or PQ, or device='cpu'"
    )


def is_on_gpu(faiss: Any, index: Any) -> bool:
    """Whether an index, or each of its replicas, lies on a GPU."""
    if isinstance(index, (faiss.IndexReplicas, faiss.IndexShards)):
        return all(faiss.isGpuIndex(index.at(i)) for i in range(index.count()))
    return bool(faiss.isGpuIndex(index))


def search(
    faiss: Any, index: Any, x: np.ndarray, m: int, *, on_gpu: bool, nprobe: int | None, ef_search: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Search `index` with its options, whichever way its kind takes them; (sqdist, ids) as FAISS returns."""
    if on_gpu:
        if nprobe is not None:  # replicated indexes reject search parameters
            faiss.GpuParameterSpace().set_index_parameter(index, "nprobe", min(nprobe, MOST))
        return index.search(x, m)
    if nprobe is not None:
        return index.search(x, m, params=faiss.SearchParametersIVF(nprobe=nprobe))
    if ef_search is not None:
        return index.search(x, m, params=faiss.SearchParametersHNSW(efSearch=max(ef_search, m)))
    return index.search(x, m)


def _names(device: Any) -> str:
    return ",".join(f"cuda:{number}" for number in device)

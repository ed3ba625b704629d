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


class Shards(tuple[int, ...]):
    """Numbers of GPUs that have a part of the centroids each; GPUs in any other tuple have all of them."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shards) and super().__eq__(other)

    def __hash__(self) -> int:
        return hash((Shards, *self))


def parse_device(device: Any, faiss: Callable[[], Any] | None = None, *, shard: bool = False) -> str | tuple[int, ...]:
    """Turn a device or a list of some into ``"cpu"`` or GPU numbers.

    Parameters
    ----------
    device : str or list of str
        ``"cpu"``; ``"cuda"`` (the first GPU), ``"cuda:N"`` or a list of such; ``"cuda:all"``; ``"auto"``: the first GPU
        if FAISS sees one, else the CPU.
    faiss : callable, optional
        Gives FAISS, for the names that depend on the machine; without it these are only checked.
    shard : bool, default=False
        Whether several GPUs split the centroids between them (`Shards`), and not the rows.

    Raises
    ------
    ValueError
        If a name is not one of those. Numbers and booleans are refused too: FAISS's ``gpu=1`` means every GPU. If
        centroids are to be split and the device is no list of GPUs, nor all of them.
    """
    if shard:
        if isinstance(device, str) and device != "cuda:all":
            raise ValueError(
                "shard=True splits the centroids over several GPUs; pass device='cuda:all' or a list such as "
                f"['cuda:0', 'cuda:1'], got {device!r}"
            )
        cards = parse_device(device, faiss)
        return cards if isinstance(cards, str) else Shards(cards)
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
            f"device={name_of(device)} needs FAISS with GPU support and this is a CPU build; "
            "pip uninstall faiss-cpu, then pip install 'fastann[gpu]'; or use device='cpu'"
        )
    count = faiss.get_num_gpus()
    if max(map(int, device)) >= count:
        raise RuntimeError(f"device={name_of(device)} was asked for, but FAISS sees {count} GPU(s)")


def place(faiss: Any, index: Any, device: str | tuple[int, ...]) -> Any:
    """Copy `index` to the GPUs: rows are split between them and centroids replicated on each, or the other way round.

    Parameters
    ----------
    faiss : module
    index : faiss.Index
    device : "cpu", tuple of int or Shards

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
    cards, shard = list(map(int, device)), isinstance(device, Shards)
    if shard:
        cards = cards[: max(1, index.ntotal)]  # a card without any centroid has nothing to find
    try:
        if len(cards) == 1:
            placed = faiss.index_cpu_to_gpu(_resources_of(faiss, cards[0]), cards[0], index)
        else:
            options = faiss.GpuMultipleClonerOptions()
            options.shard = shard
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
        f"FAISS has no {kind} on {name_of(device)} ({reason}); use index='flat', 'ivf' or a factory string of IVF with "
        "Flat, SQ or PQ, or device='cpu'"
    )


def is_on_gpu(faiss: Any, index: Any) -> bool:
    """Whether an index, each of its replicas or shards, or what it hands transformed rows to, lies on a GPU."""
    if isinstance(index, (faiss.IndexReplicas, faiss.IndexShards)):
        return all(is_on_gpu(faiss, faiss.downcast_index(index.at(i))) for i in range(index.count()))
    if isinstance(index, (faiss.IndexPreTransform, faiss.IndexIDMap)):
        return is_on_gpu(faiss, faiss.downcast_index(index.index))
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


def name_of(device: str | tuple[int, ...]) -> str:
    """The name of what `parse_device` gives: ``cpu``, or ``cuda:0,cuda:1``, with how it is split where that is told."""
    if isinstance(device, str):
        return device
    return ",".join(f"cuda:{number}" for number in device) + (" (sharded)" if isinstance(device, Shards) else "")

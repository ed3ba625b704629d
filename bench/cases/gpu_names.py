"""FAISS's names and signatures that indexes on GPUs need, checked against the FAISS that is installed, without a card.

python -m bench gpu-names

In an environment of its own, as builds of FAISS for CPUs and for GPUs overwrite each other's files:
python -m venv gpu; gpu/bin/pip install faiss-gpu; gpu/bin/python -m bench gpu-names
"""

from __future__ import annotations

import argparse
import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastann.index import gpu

FILES = [Path(gpu.__file__).with_name(name) for name in ("gpu.py", "faiss.py")]  # nothing else knows of FAISS
SEEN_AS = {"faiss", "lib", "module"}  # names that FAISS has in the sources of fastann/index


def used() -> list[str]:
    """Every attribute of FAISS that `fastann/index` takes, or looks for with `hasattr`."""
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and _is_faiss(node.value):
                found.add(node.attr)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr":
                of, name = node.args
                if _is_faiss(of) and isinstance(name, ast.Constant):
                    found.add(str(name.value))
    return sorted(found - {"cache_clear"})


def _is_faiss(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return not node.args and _is_faiss(node.func)
    return isinstance(node, ast.Name) and node.id in SEEN_AS


def names(faiss: Any) -> None:
    """All names are there."""
    missing = [name for name in used() if not hasattr(faiss, name)]
    assert not missing, f"FAISS has no {', '.join(missing)}"


def signatures(faiss: Any) -> None:
    """Copies to cards are asked for as FAISS's own functions take it."""
    inspect.signature(faiss.index_cpu_to_gpu).bind(object(), 0, object())
    inspect.signature(faiss.index_cpu_to_gpu_multiple_py).bind([object()], object(), object(), [0])
    assert isinstance(faiss.get_num_gpus(), int), "get_num_gpus gives no number"


def options(faiss: Any) -> None:
    """Whether to split is an option that FAISS has: its objects for options take any attribute without a word."""
    made = faiss.GpuMultipleClonerOptions()
    assert hasattr(made, "shard"), "GpuMultipleClonerOptions has no shard"
    assert not made.shard, "shard is on when nobody asked for it"
    made.shard = True
    assert made.shard, "shard stays off"


def resources(faiss: Any) -> None:
    """A card is set up once in a process."""
    assert gpu._resources_of(faiss, 0) is gpu._resources_of(faiss, 0), "set up twice"


def parameters(faiss: Any) -> None:
    """Search options reach an index in cells by itself, replicated, split and behind a transform."""
    rows = _rows()
    plain, behind = (_trained(faiss, string, rows) for string in ("IVF4,Flat", "PCA8,IVF4,Flat"))
    replicas = _several(faiss, faiss.IndexReplicas, "addIndex", plain)
    shards = _several(faiss, faiss.IndexShards, "add_shard", plain)
    for index in (plain, behind, replicas, shards):
        for number in (3, 2):
            faiss.GpuParameterSpace().set_index_parameter(index, "nprobe", number)
            assert _nprobe(faiss, index) == number, f"nprobe does not reach {type(index).__name__}"
        faiss.GpuParameterSpace().set_index_parameters(index, "nprobe=4")
        assert _nprobe(faiss, index) == 4, f"nprobe=4 does not reach {type(index).__name__}"


def copies(faiss: Any) -> None:
    """An index is copied to a card and found there; where there is no card, FAISS refuses card 0 and nothing else."""
    rows = _rows()
    index = _trained(faiss, "IVF4,Flat", rows)
    cards = faiss.get_num_gpus()
    devices = [(0,), gpu.Shards((0, 1)), (0, 1)] if cards != 1 else [(0,)]
    for device in devices:
        if cards:
            placed = gpu.place(faiss, index, device)
            assert gpu.is_on_gpu(faiss, placed), f"{gpu.name_of(device)}: a copy is not known to be there"
            found = gpu.search(faiss, placed, rows, 1, on_gpu=True, nprobe=4, ef_search=None)[1][:, 0]
            assert (found == np.arange(len(rows))).all(), f"{gpu.name_of(device)}: rows do not find themselves"
            continue
        said = "nothing"
        try:
            gpu.place(_Pretended(faiss), index, device)
        except ValueError as error:
            said = str(error)
        assert "getNumDevices" in said, f"of a card that is not there FAISS says {said}"


class _Pretended:
    """FAISS, which says that it sees two cards."""

    def __init__(self, faiss: Any):
        self.faiss = faiss

    def get_num_gpus(self) -> int:
        return 2

    def __getattr__(self, name: str) -> Any:
        return getattr(self.faiss, name)


def _rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)


def _trained(faiss: Any, string: str, rows: np.ndarray) -> Any:
    index = faiss.index_factory(rows.shape[1], string)
    index.train(rows)
    index.add(rows)
    return index


def _several(faiss: Any, kind: Any, add: str, index: Any) -> Any:
    several = kind(index.d)
    for _ in range(2):
        getattr(several, add)(faiss.clone_index(index))
    return several


def _nprobe(faiss: Any, index: Any) -> int:
    """The option of an index in cells, or of the last one in it."""
    index = faiss.downcast_index(index)
    if isinstance(index, (faiss.IndexReplicas, faiss.IndexShards)):
        return min(_nprobe(faiss, index.at(i)) for i in range(index.count()))
    return _nprobe(faiss, index.index) if hasattr(index, "index") else int(index.nprobe)


CHECKS = (names, signatures, options, resources, parameters, copies)


def failed(faiss: Any, checks: tuple[Callable[[Any], None], ...] = CHECKS) -> Iterator[tuple[str, str]]:
    """What each check is of, and what is wrong, "" for nothing; whatever FAISS raises is wrong too."""
    for check in checks:
        what = str(check.__doc__).split("\n")[0]
        try:
            check(faiss)
        except Exception as error:  # of any kind: a report on all checks is wanted
            yield what, f"{type(error).__name__}: {error}"
        else:
            yield what, ""


def main(argv: list[str]) -> None:
    """Command line."""
    form = argparse.RawTextHelpFormatter
    argparse.ArgumentParser("python -m bench gpu-names", None, __doc__, formatter_class=form).parse_args(argv)
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        raise SystemExit(f"FAISS {faiss.__version__} here is a build for CPUs, and has none of the names.\n\n{__doc__}")
    print(f"FAISS {faiss.__version__} for GPUs, which sees {faiss.get_num_gpus()}; {len(used())} names are used")
    wrong = 0
    for what, why in failed(faiss):
        wrong += bool(why)
        print(f"{'WRONG' if why else 'right'}  {what}" + (f"\n       {why}" if why else ""))
    if wrong:
        raise SystemExit(1)

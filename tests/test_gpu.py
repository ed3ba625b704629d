"""GPU placement against a fake FAISS: what is asked of it, and when it is refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from fastann import KMeans
from fastann.index import gpu


class FakeIndex:
    def __init__(self, calls):
        self.calls = calls

    def search(self, x, m, params=None):
        self.calls.append(("search", params))
        return np.zeros((len(x), m), "f"), np.zeros((len(x), m), np.int64)


def fake_faiss(gpus):
    calls = []

    class Space:
        def set_index_parameter(self, index, name, value):
            calls.append((name, value))

    def to_one(resources, number, index):
        calls.append(("one", number))
        return FakeIndex(calls)

    def to_many(resources, index, options, numbers):
        calls.append(("many", len(resources), options.shard, numbers))
        return FakeIndex(calls)

    return SimpleNamespace(
        StandardGpuResources=object,
        get_num_gpus=lambda: gpus,
        GpuMultipleClonerOptions=SimpleNamespace,
        GpuParameterSpace=Space,
        index_cpu_to_gpu=to_one,
        index_cpu_to_gpu_multiple_py=to_many,
        calls=calls,
    )


@pytest.mark.parametrize(
    ("device", "parsed"),
    [("cpu", "cpu"), ("cuda", (0,)), ("cuda:3", (3,)), (["cuda:0", "cuda:1"], (0, 1)), (("cuda:1",), (1,))],
)
def test_device_names(device, parsed):
    assert gpu.parse_device(device) == parsed


@pytest.mark.parametrize("device", [1, True, None, "gpu", "cuda:", "cuda:x", [], ["cuda", "cuda:0"], ["cpu", "cuda"]])
def test_other_devices_are_refused(device):
    with pytest.raises(ValueError, match="device"):
        gpu.parse_device(device)


def test_one_gpu_gets_the_index_and_its_nprobe():
    faiss = fake_faiss(2)
    placed = gpu.place(faiss, object(), (1,))
    gpu.search(faiss, placed, np.zeros((3, 2), "f"), 1, nprobe=4096, ef_search=None)
    assert faiss.calls == [("one", 1), ("nprobe", 2048), ("search", None)]


def test_several_gpus_hold_replicas():
    faiss = fake_faiss(2)
    gpu.place(faiss, object(), (0, 1))
    assert faiss.calls == [("many", 2, False, [0, 1])]


def test_missing_gpus_are_an_error_not_a_silent_cpu_run():
    with pytest.raises(RuntimeError, match=r"cuda:2 was asked for, but FAISS sees 2 GPU"):
        gpu.place(fake_faiss(2), object(), (2,))
    with pytest.raises(RuntimeError, match="this is a CPU build"):
        gpu.place(SimpleNamespace(), object(), (0,))


def test_estimator_refuses_a_gpu_that_is_not_there(blobs):
    import faiss

    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        pytest.skip("this machine has a GPU")
    with pytest.raises(RuntimeError, match="device=cuda:0"):
        KMeans(4, device="cuda").fit(blobs)

"""Fixtures shared by the tests: small data with known structure, and real data where it lies beside."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastann import kernels

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def limited(**limits: Any) -> type:
    """KMeans with a plan that changes at other sizes, so that problems of test size count as large."""
    from fastann import KMeans

    return type("KMeans", (KMeans,), {"limits": replace(KMeans.limits, **limits), "__module__": KMeans.__module__})


def embeddings(name: str) -> np.ndarray:
    """Real embeddings, float32; skips where they are not at hand (they are not part of the project)."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs the real embeddings {name}, which are not at hand")
    return np.load(path).astype(np.float32)


@pytest.fixture(scope="session")
def wordnet() -> np.ndarray:
    return embeddings("wordnet_117k_384.f16.npy")


@pytest.fixture(scope="session")
def tokens() -> np.ndarray:
    return embeddings("tokens_300k_128.f16.npy")


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    from fastann.data.patches import patches

    return patches(stride=5)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def blobs() -> np.ndarray:
    """Twelve thousand rows in 40 overlapping Gaussian blobs of unequal sizes, float32."""
    rng = np.random.default_rng(7)
    centers = rng.standard_normal((40, 24)) * 2
    sizes = rng.multinomial(12_000, rng.dirichlet(np.full(40, 2.0)))
    x = np.repeat(centers, sizes, axis=0) + rng.standard_normal((12_000, 24))
    return rng.permutation(x).astype(np.float32)


@pytest.fixture(params=kernels.levels())
def level(request: pytest.FixtureRequest) -> Any:
    """Each set of instructions that this CPU has."""
    before = kernels.level()
    assert kernels.use(request.param)
    yield request.param
    kernels.use(before)


@pytest.fixture(params=["this CPU", "baseline"])
def instructions(request: pytest.FixtureRequest) -> Any:
    """The instructions that this CPU has, and then those that every one has."""
    before = kernels.level()
    if request.param == "baseline":
        assert kernels.use("baseline")
    yield request.param
    kernels.use(before)

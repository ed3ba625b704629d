"""FAISS-backed k-means clustering for embeddings.

The public names are imported on first use, so that ``import fastann`` is instant and loads neither
FAISS nor Numba.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "KMeans": "fastann.cluster.kmeans",
    "PrototypeClassifier": "fastann.classify.classifier",
    "Flat": "fastann.cluster.index",
    "IVF": "fastann.cluster.index",
    "HNSW": "fastann.cluster.index",
    "Cells": "fastann.cluster.index",
    "Factory": "fastann.cluster.index",
    "parse_index": "fastann.cluster.index",
    "StopReason": "fastann.cluster.stop",
    "tune": "fastann.study.tune",
    "estimate": "fastann.study.estimate",
    "sweep": "fastann.study.sweep",
    "bench": "fastann.study.sweep",
    "evaluate": "fastann.quality.evaluate",
    "export": "fastann.exports",
    "open_source": "fastann.data.files",
    "dedup": "fastann.duplicates",
    "Duplicates": "fastann.duplicates",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from fastann.classify.classifier import PrototypeClassifier as PrototypeClassifier
    from fastann.cluster.index import HNSW as HNSW
    from fastann.cluster.index import IVF as IVF
    from fastann.cluster.index import Cells as Cells
    from fastann.cluster.index import Factory as Factory
    from fastann.cluster.index import Flat as Flat
    from fastann.cluster.index import parse_index as parse_index
    from fastann.cluster.kmeans import KMeans as KMeans
    from fastann.cluster.stop import StopReason as StopReason
    from fastann.data.files import open_source as open_source
    from fastann.duplicates import Duplicates as Duplicates
    from fastann.duplicates import dedup as dedup
    from fastann.exports import export as export
    from fastann.quality.evaluate import evaluate as evaluate
    from fastann.study.estimate import estimate as estimate
    from fastann.study.sweep import bench as bench
    from fastann.study.sweep import sweep as sweep
    from fastann.study.tune import tune as tune


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastann' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

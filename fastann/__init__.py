"""FAISS-backed k-means clustering for embeddings.

The public names are imported on first use, so that ``import fastann`` is instant and does not load FAISS.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "KMeans": "fastann.estimators.kmeans",
    "robust_pipeline": "fastann.estimators.robust",
    "PrototypeClassifier": "fastann.estimators.classifier",
    "Flat": "fastann.index.spec",
    "IVF": "fastann.index.spec",
    "HNSW": "fastann.index.spec",
    "Cells": "fastann.index.spec",
    "Factory": "fastann.index.spec",
    "LSH": "fastann.index.spec",
    "KDTree": "fastann.index.spec",
    "BallTree": "fastann.index.spec",
    "parse_index": "fastann.index.parse",
    "build_index": "fastann.search.rows",
    "RowIndex": "fastann.search.rows",
    "StopReason": "fastann.cluster.stop",
    "tune": "fastann.study.tune",
    "estimate": "fastann.study.estimate",
    "sweep": "fastann.study.studies",
    "bench": "fastann.study.studies",
    "evaluate": "fastann.quality.evaluate",
    "export": "fastann.runs.exports",
    "open_source": "fastann.data.open",
    "dedup": "fastann.duplicates.find",
    "describe": "fastann.topics.describe",
    "Description": "fastann.topics.result",
    "Duplicates": "fastann.duplicates.result",
    "RunError": "fastann.storage",
    "show_versions": "fastann.versions",
}

_PACKAGES = ("plot", "report")  # the latter is a function, too: `fastann.report(folder)`

__all__ = ["__version__", *_HOME, *_PACKAGES]

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent until a program says what to do with messages

if TYPE_CHECKING:
    from fastann.cluster.stop import StopReason as StopReason
    from fastann.data.open import open_source as open_source
    from fastann.duplicates.find import dedup as dedup
    from fastann.duplicates.result import Duplicates as Duplicates
    from fastann.estimators.classifier import PrototypeClassifier as PrototypeClassifier
    from fastann.estimators.kmeans import KMeans as KMeans
    from fastann.estimators.robust import robust_pipeline as robust_pipeline
    from fastann.index.parse import parse_index as parse_index
    from fastann.index.spec import HNSW as HNSW
    from fastann.index.spec import IVF as IVF
    from fastann.index.spec import LSH as LSH
    from fastann.index.spec import BallTree as BallTree
    from fastann.index.spec import Cells as Cells
    from fastann.index.spec import Factory as Factory
    from fastann.index.spec import Flat as Flat
    from fastann.index.spec import KDTree as KDTree
    from fastann.quality.evaluate import evaluate as evaluate
    from fastann.runs.exports import export as export
    from fastann.search.rows import RowIndex as RowIndex
    from fastann.search.rows import build_index as build_index
    from fastann.storage import RunError as RunError
    from fastann.study.estimate import estimate as estimate
    from fastann.study.studies import bench as bench
    from fastann.study.studies import sweep as sweep
    from fastann.study.tune import tune as tune
    from fastann.topics.describe import describe as describe
    from fastann.topics.result import Description as Description
    from fastann.versions import show_versions as show_versions


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fastann' has no attribute {name!r}")
    try:
        if name in _PACKAGES:
            return import_module(f"fastann.{name}")
        value = getattr(import_module(_HOME[name]), name)
    except AttributeError as error:  # of which `from fastann import ...` would hide everything
        raise ImportError(f"fastann.{name} cannot be imported: AttributeError: {error}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""A clustering in the formats of other programs: FAISS indexes, arrays, tables, lines of units."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from sklearn.utils.validation import check_is_fitted

from fastann import checks, storage
from fastann.cluster.closing import Clustering
from fastann.index.faiss import faiss
from fastann.storage import tables

UNITS_AT_ONCE = 2**16  # written at once, of a long utterance

Writer = Callable[[Clustering, Path, dict[str, Any]], None]
FORMATS: dict[str, tuple[str, Writer]] = {}  # by name: what it is, and what writes it


def export(
    model: Any,
    path: str | os.PathLike[str],
    format: str,
    *,
    ids: Any = None,
    lengths: Any = None,
    force: bool = False,
) -> None:
    """Write a fitted `KMeans` for another program, beside its target and then renamed.

    Parameters
    ----------
    model : KMeans
        Fitted.
    path : path
        File to write.
    format : {"faiss", "faiss-ivf", "npy", "csv", "parquet", "km"}
        An index over the centres, as FAISS reads it (``faiss.read_index``); a trained, empty IndexIVFFlat whose cells
        are the clusters; the centres as an array; a table of row, id, cluster, distance, second_cluster and margin
        (of these, what the model has); the clusters alone, as the units of speech that HuBERT's tools read: one
        utterance a line. With the cosine metric the indexes take inner products: search them with rows of unit norm.
    ids : array-like of shape (n_samples,), optional
        Names of rows for the tables; the model's `ids_` when not given.
    lengths : array-like of int, optional
        For "km", the rows of each utterance; all rows are one when not given.
    force : bool
        Replace an existing file.

    Raises
    ------
    ValueError, TypeError, FileExistsError, ImportError, NotFittedError
        If something does not match, exists already, or needs a library that is missing.
    """
    checks.choice(format, "format", FORMATS)
    target = Path(path)
    storage.check_file(target, force=force)
    found = _clustering(model)
    n = found.rows.n
    if lengths is not None and format != "km":
        raise ValueError(f"lengths are for format='km', got format={format!r}; leave them out")
    extra = {
        "ids": found.rows.ids if ids is None else checks.given_ids(ids, n),
        "lengths": [n] if lengths is None else checks.lengths(lengths, n),
    }
    FORMATS[format][1](found, target, extra)


def _clustering(model: Any) -> Clustering:
    """The result of a fitted model."""
    if hasattr(model, "fit"):
        check_is_fitted(model)
    found = getattr(model, "clustering_", None)
    if not isinstance(found, Clustering):
        raise TypeError(
            f"model must be a fitted fastann.KMeans, got {type(model).__name__}; read a run with KMeans.load(path)"
        )
    return found


def assignments(
    labels: np.ndarray,
    distances: np.ndarray,
    *,
    ids: np.ndarray | None = None,
    second: np.ndarray | None = None,
    margins: np.ndarray | None = None,
    scores: np.ndarray | None = None,
) -> dict[str, Any]:
    """Columns of the table of assignments: row, id, cluster, distance and more, but for None."""
    columns = {"id": ids, "cluster": labels, "distance": distances, "second_cluster": second, "margin": margins}
    columns["outlier_score"] = scores
    return {"row": range(len(labels))} | {name: of for name, of in columns.items() if of is not None}


def _format(name: str, help: str) -> Callable[[Writer], Writer]:
    def add(write: Writer) -> Writer:
        FORMATS[name] = (help, write)
        return write

    return add


@_format("faiss", "a flat FAISS index over the centres")
def _faiss(found: Clustering, path: Path, extra: dict[str, Any]) -> None:
    _write_index(_flat(found), path)


@_format("faiss-ivf", "a trained, empty IndexIVFFlat whose cells are the clusters")
def _faiss_ivf(found: Clustering, path: Path, extra: dict[str, Any]) -> None:
    lib, quantizer = faiss(), _flat(found)
    index = lib.IndexIVFFlat(quantizer, quantizer.d, quantizer.ntotal, quantizer.metric_type)
    index.is_trained = True
    _write_index(index, path)


@_format("npy", "the centres as an array")
def _npy(found: Clustering, path: Path, extra: dict[str, Any]) -> None:
    storage.write_array(path, found.centers)


@_format("csv", "a table of row, cluster, distance and more")
def _csv(found: Clustering, path: Path, extra: dict[str, Any]) -> None:
    tables.write(path, _table(found, extra), "csv")


@_format("parquet", "the same as Parquet")
def _parquet(found: Clustering, path: Path, extra: dict[str, Any]) -> None:
    tables.write(path, _table(found, extra), "parquet")


def _table(found: Clustering, extra: dict[str, Any]) -> dict[str, Any]:
    rows = found.rows
    nearest, distances = rows.needed("a table of rows")
    scores = None
    if found.outliers is not None and found.tails is not None:
        scores = found.tails.scores(distances, nearest)
    labels = nearest if found.labels is None else found.labels
    return assignments(labels, distances, ids=extra["ids"], second=rows.second, margins=rows.margins, scores=scores)


@_format("km", "clusters as HuBERT's units, one utterance a line")
def _km(found: Clustering, path: Path, extra: dict[str, Any]) -> None:
    write_units(path, found.rows.needed("format='km'")[0], extra["lengths"])


def write_units(path: Path, labels: np.ndarray, lengths: Any, at_once: int = UNITS_AT_ONCE) -> None:
    """Write labels as lines of numbers: the first line has the first ``lengths[0]`` of them, and so on."""

    def write(file: BinaryIO) -> None:
        for part in np.split(labels, np.cumsum(lengths)[:-1]):
            for start in range(0, len(part), at_once):
                units = " ".join(map(str, part[start : start + at_once].tolist()))
                file.write((" " * (start > 0) + units).encode())
            file.write(b"\n")

    storage.write_file(path, write)


def _flat(found: Clustering) -> Any:
    centres = np.ascontiguousarray(found.centers, np.float32)
    lib = faiss()
    index = lib.IndexFlatIP(centres.shape[1]) if found.space.unit else lib.IndexFlatL2(centres.shape[1])
    index.add(centres)
    return index


def _write_index(index: Any, path: Path) -> None:
    data = faiss().serialize_index(index)
    storage.write_file(path, lambda file: file.write(data.tobytes()))

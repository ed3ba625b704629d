"""What `evaluate` was given, checked: a model, labels or true labels become clusters of rows that can be measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks, kernels
from fastann.cluster.space import METRICS, Space, fit_space
from fastann.data.csr import Densified
from fastann.data.labels import read_labels
from fastann.data.source import Source
from fastann.quality.metrics import Clusters

_MOST_CLUSTERS = 2**20  # unless there are more rows: labels beyond are hashes or ids, not numbers of clusters


def model_of(clustering: Any) -> Any:
    """The fitted model that `clustering` is or that lies there, or None for labels."""
    from sklearn.utils.validation import check_is_fitted

    from fastann.estimators.kmeans import KMeans

    if isinstance(clustering, (str, os.PathLike)):
        path = Path(clustering).expanduser()
        if path.is_dir():
            return KMeans.load(path)
        if not path.exists():
            raise FileNotFoundError(f"no run directory or file of labels {path}; check the path")
        return None
    if isinstance(clustering, KMeans):
        check_is_fitted(clustering)
        return clustering
    if hasattr(clustering, "fit"):
        raise TypeError(
            f"clustering must be a fitted fastann.KMeans, a run directory or labels, got {type(clustering).__name__}; "
            "pass its labels_"
        )
    return None


def metric_of(metric: str | None, model: Any) -> str:
    """The metric to measure with: the model's own, or of labels the one asked for, euclidean for None."""
    if metric is not None:
        checks.choice(metric, "metric", METRICS)
    if model is None:
        return metric or "euclidean"
    if metric not in (None, model.metric):
        raise ValueError(f"metric={metric!r}, but the model was fitted with {model.metric!r}; leave metric out")
    return str(model.metric)


def check_refit(model: Any, n: int) -> None:
    """Refuse what cannot be fitted anew to `n` rows with other seeds: labels, given centres, too few rows."""
    if model is None:
        raise ValueError("stability fits anew, which labels cannot; pass a fastann.KMeans or a run directory")
    if not isinstance(model.init, str):
        raise ValueError("stability needs random starts, but the model's init is given centres; pass stability=0")
    checks.n_clusters(model.n_clusters, n)


def _labels(given: Any, n: int) -> np.ndarray:
    """Labels as an array: int, [n], not negative."""
    if isinstance(given, (str, os.PathLike)):
        given = checks.npy_file(Path(given).expanduser())
    labels = np.asarray(checks.unmasked(given, "labels"))
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels have dtype {labels.dtype} and shape {labels.shape}; integers of shape ({n},) are needed"
        )
    if len(labels) != n:
        raise ValueError(f"there are {len(labels)} labels for {n} rows; one label per row of X is needed")
    if (least := int(labels.min())) < 0:
        raise ValueError(
            f"labels[{int(labels.argmin())}] is {least}; labels must be 0 or more: leave such rows out, of X too"
        )
    if (most := int(labels.max())) >= max(n, _MOST_CLUSTERS):
        raise ValueError(
            f"labels[{int(labels.argmax())}] is {most}, too much for a cluster of {n} rows; number them from 0, for "
            " example with numpy.unique(labels, return_inverse=True)[1]"
        )
    return labels


def classes_of(truth: Any, n: int, column: str | None) -> np.ndarray:
    """Number the classes of true labels from 0: int64 [n]."""
    if isinstance(truth, (str, os.PathLike)):
        truth = read_labels(truth, column)
    elif column is not None:
        raise ValueError(f"label_column={column!r} names a column of a file, but truth is no path; pass that column")
    if not isinstance(truth, list | tuple):
        truth = np.asarray(checks.unmasked(truth, "truth"))
        if truth.ndim != 1:
            raise ValueError(f"truth has shape {truth.shape}; one label per row, shape ({n},), is needed")
    if len(truth) != n:
        raise ValueError(f"truth has {len(truth)} labels for {n} rows; one label per row of X is needed")
    if isinstance(truth, np.ndarray) and truth.dtype.kind in "iubSU":
        return np.unique(truth, return_inverse=True)[1]
    numbers: dict[Any, int] = {}
    classes = np.empty(n, np.int64)
    for row, label in enumerate(truth):
        if checks.missing(label):
            what = "NaN" if isinstance(label, float | np.floating) else label
            raise ValueError(
                f"truth[{row}] is {what}, which is no class; give every row a label, or leave such rows out, of X and "
                "of the labels too"
            )
        try:
            classes[row] = numbers.setdefault(label, len(numbers))
        except TypeError:
            raise TypeError(f"truth[{row}] is {label!r}, which is not hashable; pass numbers or strings") from None
    return classes


def clusters_of(clustering: Any, source: Source, metric: str) -> tuple[Clusters, str]:
    """Rows, labels and centres of a model or of labels, and where the labels are from."""
    if hasattr(clustering, "cluster_centers_"):
        checks.features(source.d, clustering.n_features_in_, type(clustering).__name__)
        space: Space = clustering.clustering_.space
        if source.sparse and space.mean is not None:
            source = Densified(source)
        view, centroids = space.view(source, zero_rows=True), space.inward(clustering.cluster_centers_)
        kind = "stored" if clustering.clustering_.has(view) else "predicted"
        if kind == "stored":
            labels, _ = clustering.clustering_.rows.needed("an evaluation by the labels of the fit")
        else:
            labels = clustering.kneighbors(source, 1, return_distance=False)[:, 0]
        k = len(centroids)
    else:
        labels = _labels(clustering, source.n)
        space, view = fit_space(source, metric, zero_rows=True)
        centroids, kind, k = None, "given", int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=k)
    used = np.flatnonzero(sizes)
    place = np.zeros(k, np.int32)
    place[used] = np.arange(len(used))
    labels, sizes = place[labels], sizes[used]
    centroids = _means(view, labels, sizes, space) if centroids is None else centroids[used]
    return Clusters(view, space, labels, centroids, used, sizes, k), kind


def _means(view: Source, labels: np.ndarray, sizes: np.ndarray, space: Space) -> np.ndarray:
    """Mean of each cluster, float32 [u, d]; of unit norm for cosine, zero where its rows cancel."""
    sums, counts = np.zeros((len(sizes), view.d)), np.zeros(len(sizes), np.int64)
    for start, block in view.chunks():
        kernels.add_rows(block, None, labels[start : start + block.shape[0]], sums, counts)
    return space.means(sums, counts, np.zeros(sums.shape, np.float32))

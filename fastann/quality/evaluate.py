"""How good is this clustering? One call that measures it, and the record of what was measured."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks, kernels, records
from fastann.cluster.space import METRICS, Space, fit_space
from fastann.data.labels import read_labels
from fastann.data.open import as_source
from fastann.data.source import Source
from fastann.quality import metrics
from fastann.quality.projection import METHODS, draw_map, umap
from fastann.quality.retrieval import measure_retrieval

FILE = "evaluation.json"
LISTED = 1000  # clusters in the table of the file
_MOST_CLUSTERS = 2**20  # unless there are more rows: labels beyond are hashes or ids, not numbers of clusters
_COMPARED = 1000  # rows whose distances tell whether a model was fitted on them


@dataclass(kw_only=True)
class Evaluation(metrics.Findings):
    """What was measured of a clustering; `values`, `intervals`, `samples` and `notes` are those of `Findings`.

    Attributes
    ----------
    n, d, k : int
        Rows, columns, and clusters with or without rows.
    metric : str
    labels : {"stored", "predicted", "given"}
        Whether the labels are those of the model's fit, its prediction of these rows, or the caller's.
    sizes : int64 [k]
    clusters : dict of arrays
        One entry per cluster: see `fastann.quality.metrics.table`. Loaded from a file, only the largest.
    retrieval : list of (nprobe, share of rows scanned, recall)
    map : dict
        ``method``; ``points`` and their ``labels``; ``centroids``, their ``clusters`` and ``sizes``; ``explained``.
    """

    n: int
    d: int
    k: int
    metric: str
    labels: str
    sizes: np.ndarray
    clusters: dict[str, np.ndarray]
    retrieval: list[tuple[int, float, float]] = field(default_factory=list)
    map: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write evaluation.json into a folder, made when missing; its table holds the 1,000 largest clusters."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        size = self.clusters["size"]
        if len(size) > LISTED:
            kept = np.sort(np.argsort(-size, kind="stable")[:LISTED])
            content["clusters"] = {name: column[kept] for name, column in self.clusters.items()}
            content["notes"] = [*self.notes, f"The table of clusters in {FILE} holds the {LISTED:,} largest."]
        target = Path(folder) / FILE
        records.write_json(target, {"schema": records.SCHEMA, "kind": "evaluation", **content})
        return target

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Evaluation:
        """Read what `save` wrote.

        Raises
        ------
        fastann.records.RecordError
            If there is no evaluation in the folder, or it cannot be read.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise records.RecordError(f"{folder} has no {FILE}; a folder written by Evaluation.save is needed")
        content = records.read_json(path)
        kind = content.pop("kind", None)
        if kind != "evaluation":
            raise records.RecordError(f"{path} is of kind {kind!r}, not an evaluation; evaluate again")
        del content["schema"]
        try:
            content["sizes"] = np.array(content["sizes"], np.int64)
            content["clusters"] = {
                name: np.array(column, float if name in ("mean_distance", "radius", "nearest_distance") else np.int64)
                for name, column in content["clusters"].items()
            }
            content["intervals"] = {name: tuple(pair) for name, pair in content["intervals"].items()}
            content["retrieval"] = [tuple(point) for point in content["retrieval"]]
            return cls(**content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise records.RecordError(f"{path} is not a whole evaluation ({error}); evaluate again") from None

    def summary(self) -> str:
        """Lines for a terminal: what was measured, with intervals and samples, then the notes."""
        lines = [
            ("rows", f"{self.n:,} x {self.d:,}"),
            ("clusters", f"{self.k:,}, {self.metric}, labels {self.labels}"),
            *((records.METRICS[name].label, self._told(name)) for name in records.METRICS if name in self.values),
        ]
        width = max(len(label) for label, _ in lines) + 2
        return "\n".join([*(f"{label:<{width}}{text}" for label, text in lines), *self.notes])

    def _told(self, name: str) -> str:
        value = self.values[name]
        text = f"{value:,.0f}" if value.is_integer() else f"{value:.5g}"
        if name in self.intervals:
            low, high = self.intervals[name]
            text += f" [{low:.5g} to {high:.5g}]"
        return text + (f" (sample of {self.samples[name]:,} rows)" if name in self.samples else "")


def evaluate(
    clustering: Any,
    x: Any,
    *,
    truth: Any = None,
    label_column: str | None = None,
    metric: str | None = None,
    sample: int = 20_000,
    stability: int = 0,
    retrieval: bool = False,
    members: int = 5,
    projection: str = "pca",
    random_state: int = 0,
) -> Evaluation:
    """Measure how good a clustering is.

    Rows are read in chunks; what is too slow for all of them rests on a sample, which is stated, with a 95% interval
    of what all rows would give (for Calinski-Harabasz, which grows with rows, of what samples of its size would).
    Intervals come from leaving out each of ten random parts of the sample; those of retrieval, whose queries are
    drawn one by one, are Wilson's and the normal one. Rows count alike, whatever weights a model was fitted with.

    Parameters
    ----------
    clustering : KMeans, path of a run directory, int array of shape (n_samples,), or path of a .npy file of labels
        With labels, centres are the means of their rows, of unit norm for cosine; numbers without rows count as
        empty clusters. Of a model, the labels of its fit are taken if `x` are the rows it was fitted on, else it
        predicts them.
    x : array-like of shape (n_samples, n_features), torch tensor, or what `fastann.open_source` takes
        Dense rows.
    truth : sequence of n_samples hashable labels, or path of a .npy, .txt, .csv or .parquet file, default=None
        Adds adjusted Rand index, adjusted mutual information, V-measure and purity. A .txt file has one label a line,
        a .csv file a header line.
    label_column : str, default=None
        Column of a .csv or .parquet file of `truth`; None is its only one, or the one named "label".
    metric : {"euclidean", "cosine"} or None, default=None
        None is the model's own, or euclidean for labels.
    sample : int, default=20_000
        Rows for silhouette, Davies-Bouldin and Calinski-Harabasz; the silhouette takes time in their square.
    stability : int, default=0
        Fits of other seeds to compare with each other, at least 2; needs a model.
    retrieval : bool, default=False
        Measure the recall of an inverted file with these clusters for its lists.
    members : int, default=5
        Representatives and outliers listed per cluster.
    projection : {"pca", "tsne", "umap"}, default="pca"
        How the map of up to 2,000 rows and 500 centroids (of the largest clusters) is drawn.
    random_state : int, default=0
        Seed of all samples.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        If an argument makes no sense; `fastann.RunError`, a ValueError, if a run cannot be read.
    """
    for value, name, low, high in ((sample, "sample", 10, None), (members, "members", 1, 1000)):
        checks.integer(value, name, low, high)
    checks.integer(random_state, "random_state", 0)
    if checks.integer(stability, "stability", 0) == 1:
        raise ValueError("stability=1 has nothing to compare; pass 2 fits or more, or 0 for none")
    if not isinstance(retrieval, bool | np.bool_):
        raise TypeError(f"retrieval must be True or False, got {retrieval!r}")
    if checks.choice(projection, "projection", METHODS) == "umap":
        umap()
    if label_column is not None and truth is None:
        raise ValueError(f"label_column={label_column!r} names a column of a file of true labels; pass truth too")
    model = _model(clustering)
    metric = _metric(metric, model)
    source = as_source(x, sparse=False)
    classes = None if truth is None else _classes(truth, source.n, label_column)
    if stability:
        _check_refit(model, source.n)
    with kernels.limit_threads(checks.jobs(None if model is None else model.n_jobs)):
        clusters, kind = _clusters(clustering if model is None else model, source, metric)
        picks = metrics.draw(source.n, sample, np.random.default_rng([random_state, 0]))
        own, other = metrics.row_distances(clusters)
        out = metrics.Findings()
        metrics.measure_rows(clusters, own, other, out)
        listed = metrics.table(clusters, own, members, out)
        metrics.measure_sample(clusters, picks, out, np.random.default_rng([random_state, 1]))
        if classes is not None:
            metrics.measure_agreement(clusters, classes, picks, out, np.random.default_rng([random_state, 2]))
        if stability:
            metrics.measure_stability(model, source, stability, np.random.default_rng([random_state, 3]), out)
        curve = []
        if retrieval:
            curve = measure_retrieval(clusters, np.random.default_rng([random_state, 4]), out)
        return Evaluation(
            **vars(out),
            n=source.n,
            d=source.d,
            k=clusters.k,
            metric=metric,
            labels=kind,
            sizes=listed["size"],
            clusters=listed,
            retrieval=curve,
            map=draw_map(clusters, picks, projection, random_state),
        )


# --------------------------------------------------------------------------- what was given


def _model(clustering: Any) -> Any:
    """The fitted model that `clustering` is or that lies there, or None for labels."""
    from sklearn.utils.validation import check_is_fitted

    from fastann.estimators.kmeans import KMeans

    if isinstance(clustering, (str, os.PathLike)):
        path = Path(clustering)
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


def _metric(metric: str | None, model: Any) -> str:
    if metric is not None:
        checks.choice(metric, "metric", METRICS)
    if model is None:
        return metric or "euclidean"
    if metric not in (None, model.metric):
        raise ValueError(f"metric={metric!r}, but the model was fitted with {model.metric!r}; leave metric out")
    return str(model.metric)


def _check_refit(model: Any, n: int) -> None:
    if model is None:
        raise ValueError("stability fits anew, which labels cannot; pass a fastann.KMeans or a run directory")
    if not isinstance(model.init, str):
        raise ValueError("stability needs random starts, but the model's init is given centres; pass stability=0")
    checks.n_clusters(model.n_clusters, n)


def _labels(given: Any, n: int) -> np.ndarray:
    """Labels as an array: int, [n], not negative."""
    if isinstance(given, (str, os.PathLike)):
        given = checks.npy_file(Path(given))
    labels = np.asarray(given)
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


def _classes(truth: Any, n: int, column: str | None) -> np.ndarray:
    """Number the classes of true labels from 0: int64 [n]."""
    if isinstance(truth, (str, os.PathLike)):
        truth = read_labels(truth, column)
    elif column is not None:
        raise ValueError(f"label_column={column!r} names a column of a file, but truth is no path; pass that column")
    if not isinstance(truth, list | tuple):
        truth = np.asarray(truth)
        if truth.ndim != 1:
            raise ValueError(f"truth has shape {truth.shape}; one label per row, shape ({n},), is needed")
    if len(truth) != n:
        raise ValueError(f"truth has {len(truth)} labels for {n} rows; one label per row of X is needed")
    if isinstance(truth, np.ndarray) and truth.dtype.kind in "iubSU":
        return np.unique(truth, return_inverse=True)[1]
    numbers: dict[Any, int] = {}
    classes = np.empty(n, np.int64)
    for row, label in enumerate(truth):
        if isinstance(label, float | np.floating) and label != label:
            raise ValueError(f"truth[{row}] is NaN; give every row a label, or leave such rows out, of X too")
        try:
            classes[row] = numbers.setdefault(label, len(numbers))
        except TypeError:
            raise TypeError(f"truth[{row}] is {label!r}, which is not hashable; pass numbers or strings") from None
    return classes


def _clusters(clustering: Any, source: Source, metric: str) -> tuple[metrics.Clusters, str]:
    """Rows, labels and centres of a model or of labels, and where the labels are from."""
    if hasattr(clustering, "cluster_centers_"):
        checks.features(source.d, clustering.n_features_in_, type(clustering).__name__)
        space: Space = clustering.clustering_.space
        view, centroids = space.view(source), space.inward(clustering.cluster_centers_)
        kind = "stored" if _is_fitted_on(clustering, view, centroids) else "predicted"
        labels, k = clustering.labels_ if kind == "stored" else clustering.predict(source), len(centroids)
    else:
        labels = _labels(clustering, source.n)
        space, view = fit_space(source, metric)
        centroids, kind, k = None, "given", int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=k)
    used = np.flatnonzero(sizes)
    place = np.zeros(k, np.int32)
    place[used] = np.arange(len(used))
    labels, sizes = place[labels], sizes[used]
    centroids = _means(view, labels, sizes, space) if centroids is None else centroids[used]
    return metrics.Clusters(view, space, labels, centroids, used, sizes, k), kind


def _is_fitted_on(model: Any, view: Source, centroids: np.ndarray) -> bool:
    """Whether these are the rows a model was fitted on: as many, and at the same distances from their centres.

    The number alone would take the labels of one half of a table for those of the other.
    """
    if len(model.labels_) != view.n:
        return False
    picks = np.unique(np.linspace(0, view.n - 1, _COMPARED).astype(np.int64))
    own = kernels.own_sqdist(view.take(picks), centroids, model.labels_[picks])
    near = 1e-3 * float(model.distances_.max())
    return np.allclose(model.clustering_.space.distance(own), model.distances_[picks], rtol=1e-3, atol=near)


def _means(view: Source, labels: np.ndarray, sizes: np.ndarray, space: Space) -> np.ndarray:
    """Mean of each cluster, float32 [u, d]; of unit norm for cosine, zero where its rows cancel."""
    sums, counts = np.zeros((len(sizes), view.d)), np.zeros(len(sizes), np.int64)
    for start, block in view.chunks():
        kernels.add_rows(block, None, labels[start : start + len(block)], sums, counts)
    return space.means(sums, counts, np.zeros(sums.shape, np.float32))

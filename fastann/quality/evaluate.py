"""How good is this clustering? One call that measures it, and the record of what was measured."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks, kernels, records
from fastann.cluster.clock import in_words
from fastann.data.identity import checksum
from fastann.data.open import as_source
from fastann.quality import metrics
from fastann.quality import outliers as far
from fastann.quality.given import check_refit, classes_of, clusters_of, metric_of, model_of
from fastann.quality.projection import COMPONENTS, METHODS, draw_map, umap
from fastann.quality.retrieval import measure_retrieval

FILE = "evaluation.json"
LISTED = 1000  # clusters in the table of the file


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
        One entry per cluster: see `fastann.quality.metrics.describe`. Loaded from a file, only the largest.
    retrieval : list of (nprobe, share of rows scanned, recall)
    centers : int or None
        CRC-32 of the model's centres, which tells what run it is of; None of labels.
    map : dict
        ``method``; ``points`` and their ``labels``; ``centroids``, their ``clusters`` and ``sizes``; ``explained``.
    seconds : dict
        Of the model's fit, by phase (`KMeans.seconds_`); empty of labels.
    tail : dict
        How far rows are from their centres, and the farthest: see `fastann.quality.outliers.measure_outliers`.
    """

    n: int
    d: int
    k: int
    metric: str
    labels: str
    sizes: np.ndarray
    clusters: dict[str, np.ndarray]
    retrieval: list[tuple[int, float, float]] = field(default_factory=list)
    centers: int | None = None
    map: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tail: dict[str, Any] = field(default_factory=dict)

    @property
    def fit_seconds(self) -> float:
        """Seconds that the model's fit took; NaN where nobody knows."""
        return sum(self.seconds.values()) if self.seconds else math.nan

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
        if self.seconds:
            lines.append(("seconds of the fit", in_words(self.seconds)))
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
    outliers: Any = None,
    metric: str | None = None,
    sample: int = 20_000,
    stability: int = 0,
    retrieval: bool = False,
    members: int = 5,
    projection: str = "pca",
    components: int = 2,
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
    x : array-like of shape (n_samples, n_features), SciPy sparse matrix, torch tensor, or what `open_source` takes
        Sparse rows are made dense a few at a time.
    truth : sequence of n_samples hashable labels, or path of a .npy, .txt, .csv or .parquet file, default=None
        Adds adjusted Rand index, adjusted mutual information, V-measure and purity. A .txt file has one label a line,
        a .csv file a header line.
    label_column : str, default=None
        Column of a .csv or .parquet file of `truth`; None is its only one, or the one named "label".
    outliers : bool array of shape (n_samples,), or path of a .npy file, default=None
        Rows known to belong nowhere: adds the share of them that the model leaves out, and the share that they are of
        the rows left out. Needs a model fitted with `trim` or `outlier_threshold`.
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
        How the map of up to 2,000 rows and 500 centroids (of the largest clusters) is drawn; "umap" needs
        ``pip install "fastann[umap]"``.
    components : {2, 3}, default=2
        Dimensions of the map.
    random_state : int, default=0
        Seed of all samples.

    Returns
    -------
    Evaluation
        Its ``values["inertia"]`` is the mean squared distance of all rows, where a model's `inertia_` is the sum over
        those that it did not leave out.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        If an argument makes no sense; `fastann.RunError`, a ValueError, if a run cannot be read.
    """
    _check_numbers(sample, members, random_state, stability, retrieval)
    if checks.choice(projection, "projection", METHODS) == "umap":
        umap()
    if checks.integer(components, "components", 2) not in COMPONENTS:
        raise ValueError(f"components must be 2 or 3, the dimensions of a map, got {components}")
    if label_column is not None and truth is None:
        raise ValueError(f"label_column={label_column!r} names a column of a file of true labels; pass truth too")
    model = model_of(clustering)
    metric = metric_of(metric, model)
    source = as_source(x)
    classes = None if truth is None else classes_of(truth, source.n, label_column)
    known = None if outliers is None else far.planted(outliers, source.n)
    if known is not None:
        far.check_planted(model)
    if stability:
        check_refit(model, source.n)

    def rng(which: int) -> np.random.Generator:  # one for each measure, so that leaving one out changes no other
        return np.random.default_rng([random_state, which])

    with kernels.limit_threads(checks.jobs(None if model is None else model.n_jobs)):
        clusters, kind = clusters_of(clustering if model is None else model, source, metric)
        out = metrics.Findings()
        picks = metrics.draw(source.n, metrics.affordable(clusters, sample, out), rng(0))
        own, other = metrics.row_distances(clusters)
        metrics.measure_rows(clusters, own, other, out)
        listed = metrics.describe(clusters, own, members, out)
        tail = far.measure_outliers(clusters, own, model, known, out)
        metrics.measure_sample(clusters, picks, out, rng(1))
        if classes is not None:
            metrics.measure_agreement(clusters, classes, picks, out, rng(2))
        if stability:
            metrics.measure_stability(model, source, stability, rng(3), out)
        curve = []
        if retrieval:
            curve = measure_retrieval(clusters, rng(4), out)
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
            centers=None if model is None else checksum(model.cluster_centers_),
            map=draw_map(clusters, picks, projection, random_state, components=components),
            seconds={} if model is None else model.seconds_,
            tail=tail,
        )


def _check_numbers(sample: Any, members: Any, random_state: Any, stability: Any, retrieval: Any) -> None:
    for value, name, low, high in ((sample, "sample", 10, None), (members, "members", 1, 1000)):
        checks.integer(value, name, low, high)
    checks.integer(random_state, "random_state", 0)
    if checks.integer(stability, "stability", 0) == 1:
        raise ValueError("stability=1 has nothing to compare; pass 2 fits or more, or 0 for none")
    if not isinstance(retrieval, bool | np.bool_):
        raise TypeError(f"retrieval must be True or False, got {retrieval!r}")

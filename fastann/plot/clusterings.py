"""Plots of a clustering: where its clusters lie, how large they are, how the fit went, how well they part."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastann import checks
from fastann.cluster.closing import Clustering
from fastann.data.open import as_source
from fastann.plot.axes import COLOURS, GREY, board
from fastann.quality.given import clusters_of, metric_of, model_of
from fastann.quality.metrics import LIMITS, Clusters, Findings, affordable, draw
from fastann.quality.projection import METHODS, draw_map, umap
from fastann.records import METRICS
from fastann.report import plots
from fastann.report.clusters import CLUSTERS, binned, diameter, directions
from fastann.report.runs import course

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 20  # clusters that get a place in a plot of silhouettes: the largest


def clusters(
    clustering: Any,
    x: Any,
    *,
    metric: str | None = None,
    projection: str = "pca",
    sample: int = 2000,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
    random_state: int = 0,
) -> Axes:
    """Draw a map: rows coloured by cluster below centroids, whose areas follow the sizes of their clusters.

    With more than eight clusters colours repeat, in clusters that lie far from each other: these differ in the marker
    of their rows and centre, so that up to 48 clusters look different.

    Parameters
    ----------
    clustering : KMeans, path of a run directory, or int array of shape (n_samples,)
        What `fastann.evaluate` takes.
    x : array-like of shape (n_samples, n_features), SciPy sparse matrix, torch tensor, or path
        Rows to draw; those that the model was fitted to, or others, which it predicts.
    metric : {"euclidean", "cosine"} or None, default=None
        None is the model's own, or euclidean for labels.
    projection : {"pca", "tsne", "umap"}, default="pca"
        How rows and centroids come into two dimensions; "umap" needs umap-learn.
    sample : int, default=2000
        Rows drawn at most; centroids are those of the 500 largest clusters.
    names : sequence of str or None, default=None
        A name for each cluster, such as ``fastann.describe(...).names``, written above the 20 largest where there is
        room.
    ax : matplotlib Axes or None, default=None
        Where to draw; None makes a figure.
    random_state : int, default=0
        Seed of the sample and of the projection.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError, TypeError
        If an argument makes no sense.
    ImportError
        If matplotlib is missing, or umap-learn where it is asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from fastann import KMeans, plot
    >>> x = np.random.default_rng(0).standard_normal((500, 8))
    >>> ax = plot.clusters(KMeans(5, random_state=0).fit(x), x)
    >>> ax.get_xlabel().startswith("first direction")
    True
    """
    checks.integer(sample, "sample", 1)
    checks.integer(random_state, "random_state", 0)
    if checks.choice(projection, "projection", METHODS) == "umap":
        umap()
    it, found = board(ax), _clusters(clustering, x, metric)
    sample = affordable(found, sample, Findings())
    picks = draw(len(found.labels), sample, np.random.default_rng([random_state, 1]))
    given = draw_map(found, picks, projection, random_state, replace(LIMITS, map_rows=sample))
    places, sizes = np.array(given["centroids"]), given["sizes"]
    looks = dict(zip(given["clusters"], _looks(places), strict=True))
    points = [(px, py, looks.get(j, (GREY, 0))) for (px, py), j in zip(given["points"], given["labels"], strict=True)]
    centres = [
        (px, py, looks[j], diameter(size, max(sizes), len(sizes)))
        for (px, py), j, size in zip(given["centroids"], given["clusters"], sizes, strict=True)
    ]
    plots.draw_map(it, points, centres, directions(given)[0])
    if names is not None:
        if len(names) != found.k:
            raise ValueError(f"there are {len(names)} names for {found.k} clusters; give one for each")
        largest = np.argsort(sizes)[: -plots.NAMED - 1 : -1]
        plots.draw_names(it, [(names[given["clusters"][i]], centres[i]) for i in largest])
    return _axes(it.axes)


def sizes(clustering: Any, *, ax: Axes | None = None) -> Axes:
    """Draw how many clusters have how many rows, in bins whose widths grow with the size.

    Parameters
    ----------
    clustering : KMeans, path of a run directory, int array of shape (n_samples,), or path of a .npy file of labels
        A model or its labels. Clusters without rows are not drawn.
    ax : matplotlib Axes or None, default=None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError, TypeError
        If `clustering` is no fitted model, and no labels.
    ImportError
        If matplotlib is missing.
    """
    it, model = board(ax), model_of(clustering)
    if model is not None:
        labels = _result(model).rows.needed("a plot of sizes")[0]
    elif isinstance(clustering, str | os.PathLike):
        labels = checks.npy_file(Path(clustering).expanduser())
    else:
        labels = np.asarray(clustering)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or labels.min() < 0:
        raise ValueError(
            f"labels have dtype {labels.dtype} and shape {labels.shape}; integers from 0 of shape (n_samples,) are "
            "needed"
        )
    edges, heights, axis = binned(np.unique(labels, return_counts=True)[1].tolist())
    plots.draw_histogram(it, edges, heights, axis, CLUSTERS)
    return _axes(it.axes)


def convergence(clustering: Any, *, against: str = "iteration", ax: Axes | None = None) -> Axes:
    """Draw the inertia a row after each iteration of a fit, or of several fits.

    Early iterations of the automatic mode may see samples of the rows; their inertia is the samples'.

    Parameters
    ----------
    clustering : KMeans, path of a run directory, or a dict of names and such
        A fit; several are drawn as a line each, named by their keys.
    against : {"iteration", "seconds"}, default="iteration"
        What the horizontal axis is; seconds are those of iterations, without start and final labels.
    ax : matplotlib Axes or None, default=None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError, TypeError
        If a fit has no iterations, or is none.
    ImportError
        If matplotlib is missing.
    """
    checks.choice(against, "against", ("iteration", "seconds"))
    fits = clustering if isinstance(clustering, Mapping) else {"": clustering}
    it, drawn = board(ax), []
    for i, (name, fit) in enumerate(fits.items()):
        history = [record.as_dict() for record in _result(model_of(fit)).history]
        if not history:
            raise ValueError(
                f"the fit {name!r} has no iterations to draw (max_iter=0, or given centres); fit with some"
            )
        inertias, seconds = course(history)
        xs = seconds if against == "seconds" else [float(at) for at in range(1, len(history) + 1)]
        drawn.append(plots.Line(xs, inertias, i, str(name), dash=i // len(COLOURS), marked=len(xs) <= 40))
    if not drawn:
        raise ValueError("there are no fits to draw, clustering is an empty dict; give it a name and a fit")
    x = plots.Axis("time of iterations (s)") if against == "seconds" else plots.Axis("iteration", whole=True)
    plots.draw_lines(it, drawn, x, plots.Axis.of(METRICS["inertia"], [y for line in drawn for y in line.ys]))
    if isinstance(clustering, Mapping):
        it.axes.legend()
    return _axes(it.axes)


def silhouette(
    clustering: Any,
    x: Any,
    *,
    metric: str | None = None,
    sample: int = 2000,
    ax: Axes | None = None,
    random_state: int = 0,
) -> Axes:
    """Draw the silhouettes (Rousseeuw, 1987) of rows, sorted within their clusters, and their mean as a line.

    Parameters
    ----------
    clustering : KMeans, path of a run directory, or int array of shape (n_samples,)
        What `fastann.evaluate` takes.
    x : array-like of shape (n_samples, n_features), SciPy sparse matrix, torch tensor, or path
        Rows that the model was fitted to, or others, which it predicts.
    metric : {"euclidean", "cosine"} or None, default=None
        None is the model's own, or euclidean for labels.
    sample : int, default=2000
        Rows used at most, as it takes time in their square. The 20 clusters that have most of them are drawn; the mean
        is that of all.
    ax : matplotlib Axes or None, default=None
        Where to draw; None makes a figure.
    random_state : int, default=0
        Seed of the sample.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError, TypeError
        If an argument makes no sense, or the rows drawn are of a single cluster.
    ImportError
        If matplotlib is missing.
    """
    from sklearn.metrics import silhouette_samples

    checks.integer(sample, "sample", 2)
    checks.integer(random_state, "random_state", 0)
    it, found = board(ax), _clusters(clustering, x, metric)
    sample = affordable(found, sample, Findings())
    picks = draw(len(found.labels), sample, np.random.default_rng([random_state, 2]))
    labels = found.used[found.labels[picks]]
    names, counts = np.unique(labels, return_counts=True)
    if not 2 <= len(names) < len(labels):
        raise ValueError(
            f"silhouettes compare clusters, but {len(labels):,} rows drawn are of {len(names):,}; draw more (sample) "
            "or use another number of clusters"
        )
    scores = silhouette_samples(found.take(picks).astype(np.float64), labels, metric=found.space.metric)
    largest = np.sort(names[np.argsort(-counts, kind="stable")[:SHOWN]])
    start, ticks = 0, []
    for i, j in enumerate(largest):
        own = np.sort(scores[labels == j])
        rows = np.arange(start, start + len(own))
        it.axes.barh(rows, own, height=1.0, color=it.roles[f"c{i % GREY}"], label=str(j))
        ticks.append(start + (len(own) - 1) / 2)
        start += len(own) + max(1, len(labels) // 100)
    it.axes.axvline(scores.mean(), color=it.roles["mute"], ls="--", label=f"mean {scores.mean():.3f}")
    which = "cluster" if len(largest) == found.k else f"cluster, {len(largest)} of {found.k:,}"
    it.axes.set(xlabel=f"silhouette, mean {scores.mean():.3f}", ylabel=which, yticks=ticks, yticklabels=largest)
    it.axes.invert_yaxis()
    return _axes(it.axes)


def _clusters(clustering: Any, x: Any, metric: str | None) -> Clusters:
    """Rows, labels and centres of a model, a run or labels."""
    model = model_of(clustering)
    source = as_source(x)
    return clusters_of(clustering if model is None else model, source, metric_of(metric, model))[0]


def _result(model: Any) -> Clustering:
    if model is None:
        raise TypeError("clustering must be a fitted fastann.KMeans or a run directory, got neither; fit one first")
    found: Clustering = model.clustering_
    return found


def _looks(places: np.ndarray) -> list[plots.Look]:
    """A colour for each cluster, and a shape that others of its colour do not have, as far as there are enough."""
    looks: list[plots.Look] = []
    for i, place in enumerate(places):
        far, colours = np.hypot(*(places[:i] - place).T), [colour for colour, _ in looks]
        # However clusters lie, no colour serves so many that they differ in nothing while other colours have shapes.
        most = plots.SHAPES * (1 + i // (GREY * plots.SHAPES))
        colour = _free(colours, far, GREY, most)
        same = [j for j, other in enumerate(colours) if other == colour]
        looks.append((colour, _free([looks[j][1] for j in same], far[same], plots.SHAPES, i + 1)))
    return looks


def _free(taken: Sequence[int], far: np.ndarray, many: int, most: int) -> int:
    """The first of `many` that no cluster has taken, else that of the farthest, of those taken less than `most` times.

    `taken` and `far` are of the clusters that have one: which, and how far they are.
    """
    apart = np.full(many, np.inf)
    np.minimum.at(apart, np.array(taken, int), far)
    apart[np.bincount(taken, minlength=many) >= most] = -1
    return int(apart.argmax())


def _axes(ax: Any) -> Axes:
    drawn: Axes = ax
    return drawn

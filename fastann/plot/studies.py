"""Plots of many fits: what quality costs, and how the inertia falls with the number of clusters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastann import checks, records
from fastann.plot.axes import COLOURS, board
from fastann.quality.given import model_of
from fastann.records import METRICS
from fastann.report import digest, plots
from fastann.report.studies import kinds_of, tradeoff
from fastann.study.results import Result, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUMBERED = 8  # methods on the frontier that the legend names


def frontier(study: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the quality of every method of a study against its time, and join those that no other beats in both.

    Quality is the inertia relative to the baseline, or the recall in a study of searches; values are medians over
    seeds. Methods on the frontier are numbered as in the report; the legend says which the first eight are. Of a study
    of several sizes the largest is drawn.

    Parameters
    ----------
    study : path of a study's folder, or what `fastann.sweep` and `fastann.bench` return
        With at least one run that ended well.
    ax : matplotlib Axes or None, default=None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    fastann.records.RecordError
        If the folder is no study, or no run of it has both a time and a quality.
    ImportError
        If matplotlib is missing.
    """
    it, result = board(ax), _study(study)
    parts = digest.panels(result.study, result.records)
    shown = [panel for panel in parts if panel.shown]
    if not shown:
        raise records.RecordError(
            f"no run of {result.folder} has both a time and a quality, so there is nothing to draw; retry those that "
            "failed"
        )
    kinds = kinds_of(parts)
    plots.draw_pareto(it, *tradeoff(shown[-1], kinds))
    for kind in dict.fromkeys(group.kind for group in shown[-1].shown):
        look = plots.marker(kinds[kind], 8, it.roles["paper"])
        it.axes.plot([], [], ls="", color=it.roles[f"c{kinds[kind] % len(COLOURS)}"], label=kind, **look)
    for group, number in sorted(shown[-1].rank.items(), key=lambda pair: pair[1])[:NUMBERED]:
        it.axes.plot([], [], ls="", label=f"{number}: {group.method}")
    it.axes.legend()
    drawn: Axes = it.axes
    return drawn


def elbow(fits: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the inertia a row against the number of clusters.

    It falls with every further cluster; where it bends, if it does, further clusters begin to split what belongs
    together (Thorndike, 1953). Look at `fastann.plot.silhouette` and stability too: many data have no bend.

    Parameters
    ----------
    fits : iterable of fitted KMeans, dict of number of clusters and inertia, path of a study's folder, or its result
        Models of one data set. Of a study, whose runs have several numbers of clusters, each method is a line of
        medians over seeds.
    ax : matplotlib Axes or None, default=None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError, TypeError
        If there are fewer than two numbers of clusters, or models of different numbers of rows.
    ImportError
        If matplotlib is missing.
    """
    it, curves = board(ax), _curves(fits)
    if all(len(curve) < 2 for curve in curves.values()):
        found = sorted({k for curve in curves.values() for k in curve})
        raise ValueError(f"an elbow needs two numbers of clusters or more, got {found}; fit with others too")
    drawn = [
        plots.Line(sorted(curve), [curve[k] for k in sorted(curve)], i, name, dash=i // len(COLOURS), marked=True)
        for i, (name, curve) in enumerate(curves.items())
        if len(curve) > 1
    ]
    title = "inertia" if isinstance(fits, Mapping) else METRICS["inertia"].title
    ks = [k for line in drawn for k in line.xs]
    x = plots.Axis("clusters", scale="log" if max(ks) > 50 * min(ks) else "linear", whole=True)
    plots.draw_lines(it, drawn, x, plots.Axis(title))
    if len(drawn) > 1:
        it.axes.legend()
    axes: Axes = it.axes
    return axes


def _study(study: Any) -> Result:
    """A study's result; read, if it is a folder."""
    if isinstance(study, Result):
        return study
    if not isinstance(study, str | os.PathLike):
        raise TypeError(
            f"study must be a folder, or what sweep and bench return, got {type(study).__name__}; pass its folder"
        )
    return Result.load(Path(study))


def _curves(fits: Any) -> dict[str, dict[int, float]]:
    """Inertia by number of clusters, by method."""
    if isinstance(fits, Mapping):
        return {"": {checks.integer(k, "number of clusters", 1): float(value) for k, value in fits.items()}}
    if isinstance(fits, Result | str | os.PathLike):
        rows = [row for row in rows_of(_study(fits).records) if "inertia" in row.values]
        most = max((row.n for row in rows), default=0)
        curves: dict[str, dict[int, float]] = {}
        for row in rows:
            if row.n == most:
                curves.setdefault(row.method, {})[row.n_clusters] = row.values["inertia"]
        return curves
    if not isinstance(fits, Iterable):
        raise TypeError(f"fits must be models, a dict or a study, got {type(fits).__name__}; pass a list of models")
    models = [_model(fit) for fit in fits]
    counts = sorted({model.clustering_.rows.n for model in models})
    if len(counts) > 1:
        raise ValueError(f"models must be of the same rows, got models of {counts} rows; fit all to one data set")
    return {"": {len(m.cluster_centers_): m.inertia_ / counts[0] for m in models}}


def _model(fit: Any) -> Any:
    model = model_of(fit)
    if model is None:
        raise TypeError(f"fits must be fitted fastann.KMeans, got {type(fit).__name__}; pass {{k: inertia}} of others")
    return model

"""A fit's run directory as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from fastann import storage
from fastann.cluster.clock import in_words
from fastann.cluster.stop import StopReason
from fastann.data.identity import checksum
from fastann.records import METRICS, RecordError
from fastann.report import classifiers, clusters, evaluations, html, plots, topics
from fastann.report.html import Cell, Column, Figure, Page, Section, Table

PHASES = {name: METRICS[f"seconds_{name}"] for name in ("build", "assign", "update")}
WORK = {"moved": "moved to another cluster", "looked": "compared with candidates", "searched": "searched in the index"}
INERTIA, RECALL = METRICS["inertia"], METRICS["recall"]
OTHER = "The evaluation in this folder is of other centres, so it is left out; evaluate again."
COUNTED = 2**22  # labels counted at once


def page(folder: Path, evaluation: dict[str, Any] | None = None) -> Page:
    """Read a run directory, and say what it holds; an evaluation in the same folder is shown with it."""
    try:
        manifest, tensors, arrays = storage.read_run(folder)
    except storage.RunError as error:
        raise RecordError(str(error)) from None
    if "owner" in tensors:
        return classifiers.page(manifest, tensors, arrays)
    history = [record for record in manifest.get("history", []) if isinstance(record, dict)]
    counts, centroids = _sizes(folder, manifest, tensors, arrays), tensors["centroids"]
    other = (evaluation or {}).get("centers") not in (None, checksum(centroids))
    evaluation = None if other else evaluation
    values = _values(manifest, history, counts)
    own = {"values": values, "sizes": counts.tolist(), "map": clusters.pca(centroids, counts)}
    content = own | {name: value for name, value in (evaluation or {}).items() if value}
    # What both measured is the evaluation's: it knows its sample.
    content["values"] = values | html.mapping(evaluation or {}, "values")
    description = topics.read(folder, checksum(centroids))
    if description is not None:
        content["clusters"] = _described(description, html.mapping(content, "clusters"), counts)
    first, *rest = evaluations.sections(content, topics.names(description))
    return Page(
        kind="Fit",
        title=f"{len(centroids):,} clusters of {html.number(manifest.get('n_rows'))} rows",
        finding=_finding(values, history),
        lead=[_reason(manifest), *([OTHER] if other else [])],
        facts=_facts(manifest, centroids),
        command=_command(manifest),
        sections=[_course(history), first, *rest[:-1], _iterations(history), rest[-1]],
    )


def _described(description: dict[str, Any], table: dict[str, Any], counts: np.ndarray) -> dict[str, Any]:
    """The table of clusters with words and texts of a description; made where there was no evaluation."""
    if not table:
        largest = np.sort(np.argsort(-counts, kind="stable")[: evaluations.ROWS])
        table = {"cluster": largest.tolist(), "size": counts[largest].tolist()}
    numbers = table.get("cluster") or list(range(len(table.get("size", []))))
    return topics.columns(description, numbers) | table


def _sizes(
    folder: Path, manifest: dict[str, Any], tensors: dict[str, np.ndarray], arrays: dict[str, np.ndarray]
) -> np.ndarray:
    """Rows of each cluster; in a run without labels the weight of rows that its centre has seen."""
    labels, centroids, weights = arrays.get("labels"), tensors.get("centroids"), tensors.get("weights")
    without = manifest.get("labels") is False and weights is not None
    if centroids is None or not len(centroids) or ((labels is None or not len(labels)) and not without):
        raise RecordError(f"{folder} lacks labels or centroids, so there is nothing to report; fit again")
    if labels is None:
        assert weights is not None
        return weights
    if labels.dtype != np.int32 or labels.ndim != 1 or labels.min() < 0 or labels.max() >= len(centroids):
        raise RecordError(f"{folder} has labels that do not fit its {len(centroids)} centroids; fit again")
    return _counts(labels, len(centroids))


def _counts(labels: np.ndarray, k: int) -> np.ndarray:
    """Rows of each cluster, int64 [k]; labels may be mapped from a file, and NumPy copies what it counts to 64 bits."""
    counts = np.zeros(k, np.int64)
    for start in range(0, len(labels), COUNTED):
        counts += np.bincount(labels[start : start + COUNTED], minlength=k)
    return counts


def _values(manifest: dict[str, Any], history: list[dict[str, Any]], counts: np.ndarray) -> dict[str, float]:
    """The run's metrics, from its manifest and labels."""
    n = float(counts.sum())
    low, high = (*html.numbers(manifest.get("assignment_recall_interval")), None, None)[:2]
    inertia = html.mapping(manifest, "outliers").get("inertia_all", manifest.get("inertia"))  # of all rows
    values: dict[str, Any] = {
        RECALL.name: manifest.get("assignment_recall"),
        f"{RECALL.name}_low": low,
        f"{RECALL.name}_high": high,
        INERTIA.name: float(inertia) / n if inertia is not None and html.is_number(inertia) else None,
        "iterations": len(history),
        "empty": int((counts == 0).sum()),
        "imbalance": len(counts) * float(((counts / n) ** 2).sum()),
    }
    for phase, of in PHASES.items():
        spent = [record["seconds"][phase] for record in history if phase in record.get("seconds", {})]
        values[of.name] = sum(spent) if spent else None
    return {name: value for name, value in values.items() if html.is_number(value)}


def _finding(values: dict[str, float], history: list[dict[str, Any]]) -> str:
    """What the fit reached, in a sentence."""
    told = f"After {len(history)} iterations the {INERTIA.label} is {html.number(values.get(INERTIA.name))}"
    spent = sum(values.get(of.name, 0.0) for of in PHASES.values())
    told += f", reached in {html.number(spent)} s of iterations" if spent else ""
    recall = values.get(RECALL.name)
    if recall is None:
        return f"{told}."
    low, high = (values.get(f"{RECALL.name}_{end}") for end in ("low", "high"))
    if recall == low == high == 1:
        return f"{told}; every row has its nearest centroid."
    return f"{told}; {RECALL.label} is {html.number(recall)} (95%: {html.number(low)} to {html.number(high)})."


def _reason(manifest: dict[str, Any]) -> str:
    told, given = html.plain(manifest.get("stopped")), html.plain(manifest.get("stop_reason"))
    try:
        reason = StopReason(given).sentence
    except ValueError:
        return f"Why it stopped is not known ({given or 'nothing'} was recorded)."
    return told or reason  # runs of older versions have no sentence with the numbers of their fit


def _facts(manifest: dict[str, Any], centroids: np.ndarray) -> list[tuple[str, str]]:
    files = list(html.mapping(html.mapping(manifest, "data"), "files"))
    told = ", ".join(files) if len(files) < 4 else f"{files[0]} and {len(files) - 1:,} more"
    data = {"data": told, "rows": manifest.get("n_rows"), "columns": centroids.shape[1]}
    data["index"], data["device"] = manifest.get("index"), manifest.get("device")
    seconds = {phase: spent for phase, spent in html.mapping(manifest, "seconds").items() if html.is_number(spent)}
    data["seconds of the fit"] = in_words(seconds) if seconds else None
    parameters = html.facts(manifest.get("parameters"), code=True)
    pairs = html.facts(data) + [pair for pair in parameters if pair[0] not in data]
    pairs += html.facts({"parameters not saved": manifest.get("not_saved")})
    return pairs + html.facts(manifest.get("machine")) + html.facts(manifest.get("versions"))


def _command(manifest: dict[str, Any]) -> str:
    """The estimator's call."""
    parameters = manifest.get("parameters")
    if not isinstance(parameters, dict):
        return ""
    given = {name: value for name, value in parameters.items() if value is not None}
    arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
    return f"{manifest.get('estimator', 'KMeans')}({arguments}).fit(x)"


# --------------------------------------------------------------------- its course


def course(history: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Inertia a row of every iteration, and the seconds since the start at its end."""
    inertias = [record["inertia"] / record["rows"] for record in history]
    return inertias, list(accumulate(sum(record["seconds"].values()) for record in history))


def _course(history: list[dict[str, Any]]) -> Section:
    """Inertia against time and iteration; the work that iterations did, and the time they took."""
    section = Section("Its course")
    if len(history) < 2:
        return section
    at = [float(i) for i in range(1, len(history) + 1)]
    iteration = plots.Axis("iteration", whole=True)
    inertias, seconds = course(history)
    grown = len({record["rows"] for record in history}) > 1
    for name, xs, x in [("seconds", seconds, plots.Axis("time since the start (s)")), ("iteration", at, iteration)]:
        caption = f"{INERTIA.label.capitalize()} against {x.title}."
        caption += " Early iterations saw samples of the rows; their inertia is the samples'." if grown else ""
        line = plots.Line(xs, inertias, 0, INERTIA.label, marked=len(at) <= 40)
        y = plots.Axis.of(INERTIA, inertias, hint=True)
        section.figures.append(Figure([plots.lines(f"inertia-{name}", [line], x, y)], caption, caption))
    section.figures.append(_work(history, at, iteration))
    layers = [(name, [record["seconds"].get(name, 0.0) for record in history]) for name in PHASES]
    caption = (
        "Seconds of each iteration by phase: " + "; ".join(f"{name}, {of.about}" for name, of in PHASES.items()) + "."
    )
    legend = [html.Key(name, i, outline="M-6-6H6V6H-6Z") for i, name in enumerate(PHASES)]
    drawing = plots.stacked("phases", at, layers, iteration, plots.Axis("seconds of the iteration"))
    section.figures.append(Figure([drawing], caption, caption, legend))
    return section


def _work(history: list[dict[str, Any]], at: list[float], iteration: plots.Axis) -> Figure:
    """Shares of the rows that iterations looked at."""
    shares = {name: [record.get(name, 0) / record["rows"] for record in history] for name in WORK}
    # An iteration that keeps no candidates looks at none and searches all: nothing to draw but what moved.
    kept = {name: ys for name, ys in shares.items() if name == "moved" or any(ys)}
    caption = "Share of the rows that each iteration " + ", ".join(WORK[name] for name in kept) + "."
    drawn = [plots.Line(at, ys, i, WORK[name]) for i, (name, ys) in enumerate(kept.items())]
    legend = [plots.key(WORK[name], i, 0) for i, name in enumerate(kept)]
    drawing = plots.lines("work", drawn, iteration, plots.Axis("share of the rows"))
    return Figure([drawing], caption, caption, legend)


def _iterations(history: list[dict[str, Any]]) -> Section:
    """Every iteration."""
    names = ["rows", *WORK, "empty", "repaired"]
    columns = [Column("iteration"), Column(INERTIA.title), *(Column(name) for name in names)]
    columns += [Column(of.title) for of in PHASES.values()] + [
        Column("index", numeric=False),
        Column("plan", numeric=False),
    ]
    rows = []
    for i, record in enumerate(history, 1):
        row = [Cell(str(i)), Cell(html.number(record["inertia"] / record["rows"]))]
        row += [Cell(html.number(record.get(name))) for name in names]
        row += [Cell(html.number(record["seconds"].get(phase))) for phase in PHASES]
        rows.append([*row, Cell(html.plain(record.get("index"))), Cell(html.plain(record.get("plan")))])
    table = Table("Every iteration", columns, rows, f"All {len(rows)} iterations")
    return Section("Iterations", tables=[table] if rows else [])

"""An evaluation as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastann import records
from fastann.records import METRICS, Metric
from fastann.report import clusters, html, plots
from fastann.report.html import Cell, Column, Figure, Page, Section, Table

KIND = "evaluation"
OPEN = 50  # clusters up to which a table that has their words is open from the start
ROWS = 200  # clusters that the table shows, the largest
# What the first sentence is about: the first of these that there is.
HEADLINES = ("ari", "stability", "silhouette", "simplified_silhouette", "inertia")
CLUSTERS = {
    "words": "key words",
    "size": "rows",
    "mean_distance": "mean distance",
    "radius": "radius",
    "nearest": "nearest cluster",
    "nearest_distance": "centre to centre",
    "nearest_text": "nearest row",
    "representatives": "representative rows",
    "outliers": "farthest rows",
}
TEXTS = ("words", "nearest_text", "representatives", "outliers")
INDICES = ("nearest", "representatives", "outliers")  # numbers that name rows or clusters


def read(path: Path) -> dict[str, Any]:
    """Read an evaluation."""
    content = records.read_json(path)
    if content.get("kind") != KIND:
        raise records.RecordError(f"{path} is of kind {content.get('kind')!r}, {KIND!r} is needed; evaluate again")
    if not any(content.get(name) for name in ("values", "sizes", "clusters", "map", "retrieval")):
        raise records.RecordError(f"{path} holds no values, sizes, clusters, map or retrieval; evaluate again")
    return content


def page(content: dict[str, Any]) -> Page:
    """The page of an evaluation alone."""
    settings = {"rows": content.get("n"), "columns": content.get("d"), "clusters": content.get("k")}
    facts = html.facts(settings | {"metric": content.get("metric"), "labels": content.get("labels")})
    facts += html.facts(content.get("machine"))
    return Page(
        kind="Evaluation",
        title=html.plain(content.get("name")) or "Evaluation of a clustering",
        finding=finding(content),
        lead=[],
        facts=facts,
        command=html.plain(content.get("command")),
        sections=sections(content),
    )


def sections(content: dict[str, Any], names: Sequence[str] = ()) -> list[Section]:
    """All that an evaluation says; `names` are those of all clusters, where they have some."""
    values = html.mapping(content, "values")
    metrics = html.present([values])
    return [
        _metrics(content, metrics),
        _retrieval(content),
        clusters.sizes(_sizes(content)),
        clusters.chart(content.get("map"), names),
        _clusters(content),
        _tail(content),
        html.how(metrics),
    ]


def finding(content: dict[str, Any]) -> str:
    """The finding in a sentence: how good, and how even."""
    values, sizes = html.mapping(content, "values"), _sizes(content)
    n, k = (html.number(size) if html.is_number(size := content.get(name)) else "" for name in ("n", "k"))
    told = f"{k} clusters" if k else "The clusters"
    told += f" of {n} rows" if n else ""
    name = next((name for name in HEADLINES if html.is_number(values.get(name))), None)
    if name is None:
        return f"{told}: sizes from {html.number(min(sizes))} to {html.number(max(sizes))}." if sizes else f"{told}."
    of = METRICS[name]
    told += f" have {'an' if of.label[0] in 'aeiou' else 'a'} {of.label} of {html.with_unit(values[name], of)}"
    low, high = _interval(content, name)
    told += f" (95%: {html.written(low, of)} to {html.written(high, of)})" if low is not None else ""
    return told + (f", and between {html.number(min(sizes))} and {html.number(max(sizes))} rows." if sizes else ".")


def _sizes(content: dict[str, Any]) -> list[float]:
    return html.numbers(content.get("sizes")) or html.numbers(html.mapping(content, "clusters").get("size"))


def _interval(content: dict[str, Any], name: str) -> tuple[float | None, float | None]:
    """The ends of a metric's interval: its own entry, or values named ``_low`` and ``_high``."""
    ends = html.numbers(html.mapping(content, "intervals").get(name))
    values = html.mapping(content, "values")
    ends = ends if len(ends) == 2 else html.numbers([values.get(f"{name}_{end}") for end in ("low", "high")])
    return (ends[0], ends[1]) if len(ends) == 2 else (None, None)


def _metrics(content: dict[str, Any], metrics: list[Metric]) -> Section:
    """Every metric with its interval and the rows it was computed on."""
    values, samples = html.mapping(content, "values"), html.mapping(content, "samples")
    rows = []
    for of in metrics:
        low, high = _interval(content, of.name)
        interval = html.NOTHING if low is None else f"{html.written(low, of)} to {html.written(high, of)}"
        sample = samples.get(of.name)
        rows.append(
            [
                Cell(f"{of.title} {html.ARROWS[of.better]}".rstrip()),
                Cell(html.written(values[of.name], of)),
                Cell(interval),
                Cell(html.number(sample if html.is_number(sample) else None)),
            ]
        )
    columns = [Column("metric", numeric=False), Column("value"), Column("95% interval"), Column("rows used")]
    table = Table("What was measured; arrows show which direction is better", columns, rows)
    notes = content.get("notes")
    text = [html.plain(note) for note in notes] if isinstance(notes, list) else []
    return Section("Quality", text=text, tables=[table] if rows else [])


def _retrieval(content: dict[str, Any]) -> Section:
    """Recall of the IVF that the clusters make against the share of rows it scans."""
    given = content.get("retrieval")
    curve = [html.numbers(point) for point in given] if isinstance(given, list) else []
    curve = [point for point in curve if len(point) == 3]
    section = Section("Retrieval")
    if not curve:
        return section
    scanned, recall = METRICS["ivf_scanned"], METRICS["ivf_recall_10"]
    probes, xs, ys = zip(*curve, strict=True)
    caption = f"{recall.label.capitalize()} against {scanned.label}: {recall.about}."
    if len(curve) > 1:
        axes = (plots.Axis(f"{scanned.label}, share of all"), plots.Axis(recall.title))
        drawing = plots.lines("retrieval", [plots.Line(xs, ys, 0, recall.label, marked=True)], *axes)
        section.figures.append(Figure([drawing], caption, caption))
    columns = [Column("clusters probed"), html.column(scanned), html.column(recall)]
    rows = [
        [Cell(html.number(p)), Cell(html.number(x)), Cell(html.number(y))]
        for p, x, y in zip(probes, xs, ys, strict=True)
    ]
    section.tables.append(Table("Clusters probed, and what is found in them", columns, rows))
    return section


def _clusters(content: dict[str, Any]) -> Section:
    """The largest clusters: size, extent, neighbour, rows to look at."""
    given = html.mapping(content, "clusters")
    names = [name for name in CLUSTERS if isinstance(given.get(name), list) and given[name]]
    if not names:
        return Section("Clusters")
    count = min(len(given[name]) for name in names)
    ids = given.get("cluster") if isinstance(given.get("cluster"), list) else given.get("id")
    ids = ids if isinstance(ids, list) and len(ids) >= count else list(range(count))
    size = html.numbers(given.get("size"))
    order = sorted(range(count), key=lambda i: -size[i]) if len(size) >= count else list(range(count))
    rows = []
    for i in order[:ROWS]:
        row = [Cell(html.plain(ids[i]))]
        for name in names:
            value = given[name][i]
            row.append(Cell(_told(value, name), sort=value if html.is_number(value) else None))
        rows.append(row)
    columns = [Column("cluster"), *(Column(CLUSTERS[name], numeric=name not in TEXTS) for name in names)]
    fold = f"{len(rows)} of {count} clusters, the largest" if count > ROWS else f"All {count} clusters"
    if "words" in names and len(rows) <= OPEN:
        fold = ""
    return Section("Clusters", tables=[Table("Clusters, the largest first", columns, rows, fold, sortable=True)])


def _tail(content: dict[str, Any]) -> Section:
    """How far rows are from their centres, and the farthest of them."""
    tail = html.mapping(content, "tail")
    shares, far = html.numbers(tail.get("levels")), html.numbers(tail.get("distances"))
    section = Section("Far rows")
    if len(shares) < 2 or len(shares) != len(far):
        return section
    threshold = tail.get("threshold")
    caption = "Share of the rows that are within a distance of their centre."
    if html.is_number(threshold):
        caption += f" Rows beyond {html.number(threshold)} are left out of the means."
    axes = plots.Axis("distance to the own centre"), plots.Axis("share of the rows")
    line = plots.Line(far, shares, 0, "share of the rows", marked=True)
    section.figures.append(Figure([plots.lines("tail", [line], *axes)], caption, caption))
    names = ("ids", "clusters", "far", "rows")
    listed = [tail[name] if isinstance(tail.get(name), list) else [] for name in names]
    columns = [Column("row"), Column("cluster"), Column("distance")]
    rows = [
        [Cell(html.plain(name)), Cell(html.plain(cluster)), Cell(html.number(distance))]
        for name, cluster, distance, _ in zip(*listed, strict=False)
    ]
    if rows:
        section.tables.append(Table("Farthest rows", columns, rows, f"The {len(rows)} rows farthest from their centre"))
    return section


def _told(value: Any, name: str) -> str:
    """A cell of the table of clusters: indices as they are, numbers rounded; -1 pads lists of rows."""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value if item != -1)
    if isinstance(value, str):
        return value
    if name in INDICES:
        return "" if value in (-1, None) else str(value)
    return html.number(value) if html.is_number(value) else html.NOTHING

"""The tables of a study: methods, runs without a result, every run."""

from __future__ import annotations

from collections.abc import Sequence

from fastann import records
from fastann.records import Metric, Record
from fastann.report import html
from fastann.report.digest import PROBLEM, TIME, Group, Panel
from fastann.report.html import Cell, Column, Section, Table

METHODS, RUNS = 400, 1000  # rows at most


def methods(parts: Sequence[Panel], metrics: Sequence[Metric]) -> Section:
    """Medians of every method, fastest first, the best of each column bold."""
    several = len(parts) > 1
    section = Section("Methods")
    columns = [Column("method", numeric=False), Column("no.", "place on the frontier"), Column("seeds", "runs done")]
    columns[:0] = [Column(PROBLEM[name]) for name in parts[0].sizes]
    rows = []
    for panel in reversed(parts):
        best = {
            m.name: (min if m.better == "lower" else max)(values)
            for m in metrics
            if m.better and (values := _medians(panel, m))
        }
        done = sorted(
            (g for g in panel.groups if g.done), key=lambda g: (g.median(TIME) is None, g.median(TIME) or 0.0)
        )
        for group in done:
            row = [Cell(html.number(size), sort=size) for size in panel.sizes.values()]
            place = panel.rank.get(group)
            row += [Cell(group.method), Cell("" if place is None else str(place)), Cell(str(len(group.done)))]
            for m in metrics:
                median = group.median(m)
                more = "" if median is None else html.span(group.values(m), m) or _interval(group, m)
                strong = len(done) > 1 and median is not None and median == best.get(m.name)
                row.append(Cell(html.written(median, m), more, median, strong))
            rows.append(row)
    caption = (
        "Medians over seeds; below them, smallest to largest, or the 95% interval where all are equal or alone. "
        f"Bold: the best of its column{' and size' if several else ''}."
    )
    if len(rows) > METHODS:
        section.text.append(
            f"The first {METHODS} of {len(rows)} rows are shown; every run's record lies in {records.RUNS}."
        )
    if rows:
        section.tables.append(
            Table(caption, columns + [html.column(m) for m in metrics], rows[:METHODS], sortable=True)
        )
    return section


def _medians(panel: Panel, of: Metric) -> list[float]:
    return [median for group in panel.groups if (median := group.median(of)) is not None]


def _interval(group: Group, of: Metric) -> str:
    """The 95% interval of a metric whose record has one, of the median run."""
    values = group.middle.values if group.middle else {}
    low, high = (values.get(f"{of.name}_{end}") for end in ("low", "high"))
    if not html.is_number(low) or not html.is_number(high) or low == high:
        return ""
    return f"{html.written(low, of)} to {html.written(high, of)}"


def failures(runs: Sequence[Record]) -> Section:
    """Runs without a result, and why."""
    rows = []
    for state in sorted({run.status for run in runs} - {"done"}):
        found: dict[tuple[str, str], int] = {}
        for run in runs:
            if run.status == state:
                found[run.method, run.error] = found.get((run.method, run.error), 0) + 1
        rows += [[Cell(method), Cell(state), Cell(str(times)), Cell(error)] for (method, error), times in found.items()]
    columns = [Column(head, numeric=head == "runs") for head in ("method", "what", "runs", "why")]
    return Section(
        "Without a result", tables=[Table("Runs that failed or were skipped", columns, rows)] if rows else []
    )


def every_run(runs: Sequence[Record], metrics: Sequence[Metric]) -> Section:
    """Every run."""
    settings = [name for name in ("n", "d", "n_clusters", "seed") if any(name in run.configuration for run in runs)]
    columns = [
        Column("run", numeric=False),
        *(Column(name.replace("_", " ")) for name in settings),
        Column("status", numeric=False),
    ]
    rows = []
    for run in runs[:RUNS]:
        row = [Cell(run.method)]
        for name in settings:
            value = run.configuration.get(name)
            row.append(Cell(html.plain(value), sort=value if html.is_number(value) else None))
        row.append(Cell(run.status))
        for m in metrics:
            number = run.values.get(m.name)
            number = number if html.is_number(number) else None
            row.append(Cell(html.written(number, m), sort=number))
        rows.append(row)
    fold = f"All {len(runs)} runs" if len(runs) <= RUNS else f"The first {RUNS} of {len(runs)} runs"
    table = Table("Every run, by name", columns + [html.column(m) for m in metrics], rows, fold, sortable=True)
    return Section("Every run", tables=[table])

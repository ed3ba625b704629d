"""A sweep or benchmark as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastann import records
from fastann.records import Metric, Record, Study
from fastann.report import html, plots, tables
from fastann.report.digest import INERTIA, PROBLEM, QUALITY, TIME, Group, Panel, count, panels
from fastann.report.html import Cell, Column, Figure, Page, Section, Table

PLOTTED, FAINT, PANELS = 9, 40, 6  # what a page draws at most
LONG = 20  # rows from which the table of a frontier is folded
SERIES = {of.name: of for of in (INERTIA, QUALITY["assign"])}
TITLES = {
    ("sweep", "fit"): "Sweep of fits",
    ("sweep", "assign"): "Sweep of searches",
    ("sweep", "search"): "Sweep of searches of rows",
    ("bench", "fit"): "Benchmark of fits",
    ("bench", "assign"): "Benchmark of searches",
}


def page(folder: Path) -> Page:
    """Read the records of a study and say what they hold."""
    study, runs = records.load_study(folder), records.load_records(folder)
    if not runs:
        raise records.RecordError(
            f"{folder} has a {records.STUDY} but no runs in {records.RUNS}; run the sweep or benchmark first"
        )
    parts = panels(study, runs)
    told = [panel for panel in parts if panel.shown] or parts
    last = told[-1]
    finding = last.finding()
    if last.name:
        finding = f"With {last.name}: {finding}"
    kinds = kinds_of(parts)
    metrics = html.present(run.values for run in runs if run.status == "done")
    name = html.plain(study.data.get("name"))
    title = TITLES.get((study.kind, study.what), study.kind.capitalize())
    methods = len({run.method for run in runs})
    return Page(
        kind=title,
        title=name or title,
        finding=finding,
        lead=[f"{methods} {'method' if methods == 1 else 'methods'}, {count(runs)}."],
        facts=_facts(study, runs),
        command=study.command,
        sections=[
            _others(told),
            _tradeoff(told, kinds),
            _growth(told, kinds),
            _convergence(last, kinds),
            tables.methods(parts, metrics),
            tables.failures(runs),
            tables.every_run(runs, metrics),
            html.how(metrics),
        ],
    )


def kinds_of(parts: Sequence[Panel]) -> dict[str, int]:
    """A number, for its colour and marker, for each kind of method."""
    return {kind: i for i, kind in enumerate(dict.fromkeys(g.kind for panel in parts for g in panel.groups))}


def _facts(study: Study, runs: Sequence[Record]) -> list[tuple[str, str]]:
    data = {name: value for name, value in study.data.items() if name not in ("name", "fingerprint")}
    pairs = html.facts({"data": study.data.get("name"), **data})
    pairs = [({"n": "rows", "d": "columns"}.get(name, name), text) for name, text in pairs]
    for key, label in [("n_clusters", "clusters"), ("seed", "seeds")]:
        values = html.numbers([run.configuration.get(key) for run in runs])
        pairs.append((label, ", ".join(map(html.number, sorted(set(values))))))
    pairs.append(("baseline", study.baseline))
    known = {name for name, _ in pairs}
    pairs += [pair for pair in html.facts(study.settings, code=True) if pair[0] not in known | {"n_clusters"}]
    pairs += html.facts(study.machine)
    pairs += html.facts({"fingerprint": study.data.get("fingerprint")})
    return [pair for pair in pairs if pair[1]]


def _others(told: Sequence[Panel]) -> Section:
    """The findings on the other problems of a benchmark."""
    return Section("The other sizes", text=[f"With {panel.name}: {panel.finding()}" for panel in reversed(told[:-1])])


# --------------------------------------------------------------------- drawings


def _tradeoff(told: Sequence[Panel], kinds: dict[str, int]) -> Section:
    """Quality against time: the largest problem in full with its frontier as a table, the others small."""
    last = told[-1]
    if not last.shown:
        return Section("")
    front = sorted(last.rank, key=last.rank.__getitem__)
    columns = [Column("no."), Column("on the frontier", numeric=False), html.column(TIME), html.column(last.quality)]
    rows = [
        [Cell(str(last.rank[g])), Cell(g.method), *(Cell(html.written(g.median(m), m)) for m in (TIME, last.quality))]
        for g in front
    ]
    fold = f"The {len(rows)} methods on the frontier" if len(rows) > LONG else ""
    return Section(
        f"{last.quality.label.capitalize()} against {TIME.label}",
        figures=[_pareto(panel, i, kinds) for i, panel in enumerate(reversed(told[-PANELS:])) if panel.shown],
        tables=[Table("The frontier" + (f" with {last.name}" if last.name else ""), columns, rows, fold)],
    )


def tradeoff(panel: Panel, kinds: dict[str, int]) -> tuple[list[plots.Point], plots.Axis, plots.Axis, float | None]:
    """Quality against time: points, axes, and the quality that is enough, where it lies among them."""
    x_values, y_values = zip(*panel.points, strict=True)
    x, y = (plots.Axis.of(m, v, hint=True) for m, v in ((TIME, x_values), (panel.quality, y_values)))
    points = [
        plots.Point(
            px,
            py,
            kinds[group.kind],
            _label(group, panel.quality),
            panel.rank.get(group),
            _range(group),
            group is panel.baseline,
        )
        for group, (px, py) in zip(panel.shown, panel.points, strict=True)
    ]
    assert panel.enough is not None
    return points, x, y, panel.enough if min(y_values) <= panel.enough <= max(y_values) else None


def _pareto(panel: Panel, at: int, kinds: dict[str, int]) -> Figure:
    points, x, y, level = tradeoff(panel, kinds)
    given = f" With {panel.name}: medians" if panel.name else " Medians"
    caption = f"{panel.quality.label.capitalize()} against {TIME.label}.{given} over seeds, {len(points)} methods."
    if not at:
        caption += (
            " Joined, and numbered where there is room: those that no other beats in both; their horizontal lines "
            "reach from the fastest to the slowest seed. Faint: all others."
        )
        if level is not None:
            caption += f" Dotted: {html.written(level, panel.quality)}, from where a method counts as good enough."
    front = sorted(panel.rank, key=panel.rank.__getitem__)
    shown = dict.fromkeys(group.kind for group in panel.shown)
    return Figure(
        plots.pareto(f"pareto-{at}", points, x, y, level, small=bool(at)),
        alt=f"{panel.quality.label} against {TIME.label}; on the frontier: {', '.join(g.method for g in front[:20])}",
        caption=caption,
        legend=[plots.key(kind, kinds[kind]) for kind in shown],
    )


def _label(group: Group, quality: Metric) -> str:
    parts = [f"{m.label} {html.with_unit(group.median(m), m)}" for m in (TIME, quality)]
    return f"{group.method}: {', '.join(parts)}"


def _range(group: Group) -> tuple[float, float]:
    values = group.values(TIME)
    return min(values), max(values)


def _picked(panel: Panel, kinds: dict[str, int]) -> list[Group]:
    """The baseline, and of each kind the fastest method that is good enough, or else the nearest to it."""
    picked = [panel.baseline] if panel.baseline else []
    for kind in kinds:
        own = [g for g in panel.groups if g.kind == kind and g is not panel.baseline]
        part = Panel(panel.study, panel.sizes, own)
        best = (part.best() or part.nearest()) if part.shown else None
        picked += [best] if best else []
    return picked[:PLOTTED]


def _dashes(groups: Sequence[Group]) -> list[int]:
    """A dash pattern for each group: the first of a kind is solid."""
    return [sum(other.kind == group.kind for other in groups[:i]) for i, group in enumerate(groups)]


def _growth(told: Sequence[Panel], kinds: dict[str, int]) -> Section:
    """Time against each size of the problem, the others being the largest."""
    section = Section("How time grows")
    last = told[-1]
    groups = _picked(last, kinds)
    for name in last.sizes:
        rest = {other: size for other, size in last.sizes.items() if other != name}
        same = [panel for panel in told if all(panel.sizes[other] == size for other, size in rest.items())]
        drawn, legend = [], []
        for group, dash in zip(groups, _dashes(groups), strict=True):
            found = ((p.sizes[name], g.median(TIME)) for p in same for g in p.groups if g.method == group.method)
            times = [(size, time) for size, time in found if time is not None]
            if len(times) > 1:
                xs, ys = zip(*times, strict=True)
                drawn.append(plots.Line(xs, ys, kinds[group.kind], group.method, dash, marked=True))
                legend.append(plots.key(group.method, kinds[group.kind], dash))
        if drawn:
            given = "".join(f", with {html.number(size)} {PROBLEM[other]}" for other, size in rest.items())
            caption = f"{TIME.label.capitalize()} by number of {PROBLEM[name]}{given}: medians over seeds, log-log."
            axes = [plots.Axis(title, scale="log") for title in (PROBLEM[name], TIME.title)]
            section.figures.append(Figure([plots.lines(f"growth-{name}", drawn, *axes)], caption, caption, legend))
    return section


def _convergence(panel: Panel, kinds: dict[str, int]) -> Section:
    """Series of the median seed against time and iteration: the best of each kind bold, the others faint."""
    section = Section("Convergence" + (f": {panel.name}" if panel.name else ""))
    bold = _picked(panel, kinds)
    others = [group for group in panel.groups if group not in bold][:FAINT]
    for series, of in SERIES.items():
        for against in (TIME.name, ""):
            drawn, legend = [], []
            for group, dash in [*((g, 0) for g in others), *zip(bold, _dashes(bold), strict=True)]:
                xs, ys = _curve(group.middle, series, against)
                if len(xs) > 1:
                    faint = group not in bold
                    drawn.append(plots.Line(xs, ys, kinds[group.kind], group.method, dash, faint))
                    legend += [] if faint else [plots.key(group.method, kinds[group.kind], dash)]
            if not any(not line.faint for line in drawn):
                continue
            x = (
                plots.Axis.of(TIME, [v for line in drawn for v in line.xs])
                if against
                else plots.Axis("iteration", whole=True)
            )
            y = plots.Axis.of(of, [v for line in drawn for v in line.ys], hint=True)
            top = _top(drawn) if of.better == "lower" else None
            caption = f"{of.label.capitalize()} against {x.title}."
            if top is not None:
                caption += " What lies above the second iterations is cut off."
            drawing = plots.lines(f"{series}-{against or 'iteration'}", drawn, x, y, top=top)
            section.figures.append(Figure([drawing], caption, caption, legend))
    if section.figures:
        section.text = [
            f"Each curve is a method's run of median {TIME.label}. Bold: the baseline, and of each kind the fastest "
            "that is good enough, or else the nearest to it. Faint: other methods."
        ]
    return section


def _curve(run: Record | None, series: str, against: str) -> tuple[list[float], list[float]]:
    """A series of a run and what it is drawn against, thinned to a hundred points."""
    ys = run.series.get(series) if run else None
    ys = ys if isinstance(ys, list) else []
    given = run.series.get(against) if run and against else list(range(1, len(ys) + 1))
    pairs = [(x, y) for x, y in zip(given or [], ys, strict=False) if html.is_number(x) and html.is_number(y)]
    step = max(1, len(pairs) // 100)
    pairs = [pair for i, pair in enumerate(pairs) if i % step == 0 or i == len(pairs) - 1]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _top(drawn: Sequence[plots.Line]) -> float | None:
    """Where to cut curves whose first iterations would flatten all that follows; None where none does."""
    low, high = (pick(value for line in drawn for value in line.ys) for pick in (min, max))
    second = max(line.ys[1] for line in drawn)
    return second if second > low and high - low > 3 * (second - low) else None

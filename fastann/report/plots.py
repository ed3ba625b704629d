"""Drawings: what is drawn (points, lines, bars, maps) and how axes are scaled.

A ``draw_...`` draws on a `Board`: a canvas of a page, or a user's axes (`fastann.plot`). The others return SVG.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fastann.records import Metric
from fastann.report.html import Key, number, written
from fastann.report.svg import COLOURS, ROLES, Board, canvas

WIDE, NARROW, SMALL = (780, 420), (400, 360), (470, 330)  # in CSS pixels
_ROOM = 30  # dots (100 an inch) between numbered points: nearer ones stay without a number
_SPREAD = 20  # ratio of largest to smallest from which an axis is logarithmic
_DASHES = ["", "6 3", "2 2.5", "9 3 2 3"]
_FINEST = 1e-4  # misses below this share are drawn alike


def _outline(corners: int, turn: float, waist: float = 1.0) -> list[tuple[float, float]]:
    """Corners of a regular polygon of area pi, closed; of a star when `waist` is below 1."""
    radii = [1.0, waist] if waist < 1 else [1.0]
    steps = corners * len(radii)
    angles = [math.pi * (2 * i / steps + turn) for i in range(steps + 1)]
    points = [(radii[i % len(radii)] * math.cos(a), radii[i % len(radii)] * math.sin(a)) for i, a in enumerate(angles)]
    area = abs(sum(x * v - u * y for (x, y), (u, v) in pairwise(points))) / 2
    scale = math.sqrt(math.pi / area)
    return [(scale * x, scale * y) for x, y in points]


_SHAPES = [(24, 0), (4, 0.25), (3, 0.5), (4, 0), (3, -0.5), (5, 0.5, 0.45), (6, 0), (4, 0.25, 0.4), (5, 0.5)]
_MARKERS = [_outline(int(corners), *rest) for corners, *rest in _SHAPES]


def _corners(kind: int) -> list[tuple[float, float]]:
    """The outline of a kind's marker; where there are more kinds than colours, those of one colour differ in it."""
    return _MARKERS[(kind + kind // COLOURS) % len(_MARKERS)]


def marker(kind: int, size: float, paper: str) -> dict[str, Any]:
    """Arguments of a kind's marker, with an edge in the colour of what it lies on."""
    return _shaped(_corners(kind), size) | {"mec": paper, "mew": 0.8}


def _shaped(corners: list[tuple[float, float]], size: float) -> dict[str, Any]:
    """Arguments of an outline: all cover the same area, though matplotlib fits each into a square."""
    reach = max(abs(value) for corner in corners for value in corner)
    return {"marker": corners, "ms": size * reach}


def dashes(kind: int) -> Any:
    """A line style of matplotlib: the first kind is solid."""
    pattern = _DASHES[kind % len(_DASHES)]
    return (0, tuple(float(part) / 2 for part in pattern.split())) if pattern else "-"


def key(label: str, colour: int, dash: int | None = None) -> Key:
    """The entry of a legend; with `dash` for a line, else for points."""
    if dash is not None:
        return Key(label, colour % COLOURS, dash=_DASHES[dash % len(_DASHES)])
    corners = _corners(colour)[:-1]
    return Key(
        label, colour % COLOURS, outline="M" + "L".join(f"{4.5 * x:.1f} {-4.5 * y:.1f}" for x, y in corners) + "Z"
    )


# --------------------------------------------------------------------- what is drawn


@dataclass(frozen=True)
class Axis:
    """An axis: its title, how its numbers are written, and how it is scaled.

    Attributes
    ----------
    scale : {"linear", "log", "to one", "about zero"}
        The last two spread shares near one, and what lies within 1% of zero.
    whole : bool
        Whether ticks are whole numbers.
    below : bool
        Whether the better lies below.
    least : float
        Room on both sides of the values, at least: differences far below it are not worth looking at.
    """

    title: str
    write: Callable[[float], str] = number
    scale: str = "linear"
    whole: bool = False
    below: bool = False
    least: float = 0.0

    @classmethod
    def of(cls, metric: Metric, values: Sequence[float], *, hint: bool = False) -> Axis:
        """The axis that suits a metric's values; `hint` adds which direction is better."""
        low, high = min(values), max(values)
        scale = "linear"
        if metric.unit and low > 0 and high > _SPREAD * low:
            scale = "log"
        elif metric.better == "higher" and low < 0.95 < high <= 1:
            scale = "to one"
        elif low < 0.01 and high > 0.2 and not metric.unit and metric.better == "lower":
            scale = "about zero"
        title = f"{metric.title}, {metric.better} is better" if hint and metric.better else metric.title
        least = 1e-4 if metric.name == "relative_inertia" else 0.0
        return cls(title, lambda value: written(value, metric), scale, below=metric.better == "lower", least=least)


@dataclass(frozen=True)
class Point:
    """A point: colour and marker by `kind`; `number` is its place on the frontier, None off it."""

    x: float
    y: float
    kind: int
    title: str
    number: int | None = None
    x_range: tuple[float, float] | None = None
    baseline: bool = False


@dataclass(frozen=True)
class Line:
    """A curve; `faint` ones are drawn thin and without a dash."""

    xs: Sequence[float]
    ys: Sequence[float]
    kind: int
    title: str
    dash: int = 0
    faint: bool = False
    marked: bool = False


def pareto(
    name: str, points: Sequence[Point], x: Axis, y: Axis, level: float | None = None, *, small: bool = False
) -> list[str]:
    """Points, their frontier joined and numbered; `level` is a dotted line across. Wide and narrow, or one `small`."""
    sizes = (SMALL,) if small else (WIDE, NARROW)
    drawings = []
    for i, size in enumerate(sizes):
        with canvas(f"{name}-{i}", size) as it:
            draw_pareto(it, points, x, y, level)
        drawings.append(it.svg)
    return drawings


def draw_pareto(it: Board, points: Sequence[Point], x: Axis, y: Axis, level: float | None = None) -> None:
    """Points, their frontier joined and numbered, on axes."""
    ax, roles = it.axes, it.roles
    if level is not None:
        ax.axhline(level, color=roles["mute"], lw=1, ls=(0, (1, 3)))
    front = sorted((p for p in points if p.number is not None), key=lambda p: p.number or 0)
    ax.plot([p.x for p in front], [p.y for p in front], color=roles["mute"], lw=1.2)
    for i, p in enumerate(sorted(points, key=lambda p: p.number is not None)):
        colour, bold = roles[f"c{p.kind % COLOURS}"], p.number is not None or p.baseline
        if p.number is not None and p.x_range:
            ax.plot(p.x_range, [p.y, p.y], color=colour, lw=1)
        classes = ("pt front" if p.number is not None else "pt") if bold else "pt faint"
        style = it.artist(f"p{i}", p.title, classes) | marker(p.kind, 9 if bold else 7, roles["paper"])
        ax.plot([p.x], [p.y], color=colour, **style)
    _scale(it, "x", x, [p.x for p in points])
    _scale(it, "y", y, [p.y for p in points])
    # Labels stand on the side where, by definition, nothing lies: that of the better.
    side = {"ha": "right", "va": "top" if y.below else "bottom", "textcoords": "offset points", "fontsize": 11}
    taken: list[Any] = []
    for place, text in _together(front).items():
        here = ax.transData.transform(place)
        if all(max(abs(here - other)) > _ROOM for other in taken):
            taken.append(here)
            ax.annotate(text, place, (-4, -4 if y.below else 4), **side)
    for p in points:
        if p.baseline:
            ax.annotate("baseline", (p.x, p.y), (0, 7), **side | {"ha": "center", "va": "bottom"})


def _together(front: Sequence[Point]) -> dict[tuple[float, float], str]:
    """Numbers of the frontier by place: tied points share one label."""
    labels: dict[tuple[float, float], list[str]] = {}
    for point in front:
        labels.setdefault((point.x, point.y), []).append(str(point.number))
    return {place: ", ".join(ranks) for place, ranks in labels.items()}


def lines(name: str, drawn: Sequence[Line], x: Axis, y: Axis, *, top: float | None = None) -> str:
    """Curves, faint ones below; what lies above `top` is cut off."""
    with canvas(name, SMALL) as it:
        draw_lines(it, drawn, x, y, top=top)
    return it.svg


def draw_lines(it: Board, drawn: Sequence[Line], x: Axis, y: Axis, *, top: float | None = None) -> None:
    """Curves on axes, faint ones below."""
    for i, line in enumerate(sorted(drawn, key=lambda line: not line.faint)):
        style = it.artist(f"l{i}", line.title, "faint" if line.faint else "")
        style |= {"color": it.roles[f"c{line.kind % COLOURS}"], "lw": 1 if line.faint else 2}
        if not line.faint:
            style["ls"] = dashes(line.dash)
        if line.marked:
            style |= marker(line.kind, 7, it.roles["paper"])
        it.axes.plot(line.xs, line.ys, label=line.title, **style)
    _scale(it, "x", x, [value for line in drawn for value in line.xs])
    _scale(it, "y", y, [value for line in drawn for value in line.ys if top is None or value <= top])


def stacked(name: str, xs: Sequence[float], layers: Sequence[tuple[str, Sequence[float]]], x: Axis, y: Axis) -> str:
    """Bars of several layers on each other, each layer a colour."""
    with canvas(name, SMALL) as it:
        base = [0.0] * len(xs)
        for i, (_, heights) in enumerate(layers):
            it.axes.bar(xs, heights, bottom=base, width=0.8, color=ROLES[f"c{i % COLOURS}"])
            base = [a + b for a, b in zip(base, heights, strict=True)]
        _scale(it, "x", x, xs)
        _scale(it, "y", y, [0.0, *base])
        it.axes.set_ylim(bottom=0)
        low, high = it.axes.get_xlim()
        it.axes.set_xlim(min(low, min(xs) - 0.5), max(high, max(xs) + 0.5))  # of few bars, the first and last are whole
    return it.svg


def histogram(name: str, edges: Sequence[float], counts: Sequence[float], x: Axis, y: Axis) -> str:
    """Bars between edges."""
    with canvas(name, SMALL) as it:
        draw_histogram(it, edges, counts, x, y)
    return it.svg


def draw_histogram(it: Board, edges: Sequence[float], counts: Sequence[float], x: Axis, y: Axis) -> None:
    """Bars between edges, on axes; a bin without anything has none."""
    for i, (low, high, count) in enumerate(zip(edges, edges[1:], counts, strict=False)):
        if count:
            what = f"{x.write(low)}" if high - low <= 1 else f"{x.write(low)} to {x.write(high - 1)}"
            style = it.artist(f"b{i}", f"{what}: {y.write(count)}")
            style |= {"align": "edge", "color": it.roles["c0"], "edgecolor": it.roles["paper"], "lw": 0.6}
            it.axes.bar([low], [count], width=high - low, **style)
    _scale(it, "x", x, [edges[0], edges[-1]])
    _scale(it, "y", y, [0.0, *counts])
    it.axes.set_ylim(bottom=0)


SHAPES = 6  # of a map: markers that can be told apart as small as rows are drawn; the first is a disc
Look = tuple[int, int]  # colour and shape
Cloud = Sequence[tuple[float, float, Look]]  # x, y
Centre = tuple[float, float, Look, float]  # x, y, diameter in pixels
NAMED = 20  # clusters of a map that get a name: the largest


def scatter(
    name: str, points: Cloud, centroids: Sequence[Centre], titles: Sequence[str], names: Sequence[str] = ()
) -> list[str]:
    """A map: points below centroids, the first of which have names. Wide and narrow."""
    drawings = []
    for i, size in enumerate((WIDE, NARROW)):
        with canvas(f"{name}-{i}", size) as it:
            draw_map(it, points, centroids, titles)
            draw_names(it, list(zip(names, centroids, strict=False)))
        drawings.append(it.svg)
    return drawings


def draw_map(it: Board, points: Cloud, centroids: Sequence[Centre], titles: Sequence[str]) -> None:
    """A map on axes: points below centroids. Points other than discs are larger, so that corners can be seen."""
    for look in sorted({p[2] for p in points}):
        own = [p for p in points if p[2] == look]
        style = it.artist(f"m{_id(look)}", "", "cloud") | {"ls": "", "mew": 0} | _seen(it, look, 4 if look[1] else 3)
        it.axes.plot([p[0] for p in own], [p[1] for p in own], **style)
    # One artist per look and size: each is a shape that is drawn once and used many times.
    for diameter, look in sorted({(c[3], c[2]) for c in centroids}, reverse=True):
        own_c = [c for c in centroids if (c[3], c[2]) == (diameter, look)]
        style = it.artist(f"c{_id(look)}-{diameter:g}".replace(".", "-"), "", "centre")
        style |= {"ls": "", "mec": it.roles["paper"], "mew": 0.7} | _seen(it, look, diameter)
        it.axes.plot([c[0] for c in own_c], [c[1] for c in own_c], **style)
    it.axes.set(xticks=[], yticks=[])
    it.axes.margins(0.04)
    it.axes.set_xlabel(titles[0], loc="left")
    it.title_y(titles[1])


def _seen(it: Board, look: Look, size: float) -> dict[str, Any]:
    """Arguments of a map's marker."""
    colour, shape = look
    of = _shaped(_MARKERS[shape], size) if shape else {"marker": "o", "ms": size}
    return of | {"color": it.roles[f"c{colour % COLOURS}"]}


def draw_names(it: Board, named: Sequence[tuple[str, Centre]]) -> None:
    """Names above centres of a map, where those before them leave room."""
    if not named:
        return
    it.axes.margins(0.16, 0.08)
    it.axes.autoscale_view()  # now: places on the figure, which tell what overlaps, depend on the limits
    taken: list[Any] = []
    for i, (name, (x, y, look, diameter)) in enumerate(named):
        if not name:
            continue
        above = (0, max(up for _, up in _MARKERS[look[1]]) * diameter / 2 + 2)  # in points: the centre stays whole
        text = it.axes.annotate(name, (x, y), above, ha="center", textcoords="offset points", **it.halo(f"n{i}"))
        room = text.get_window_extent()
        if any(room.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(room)


def _id(look: Look) -> str:
    return "-".join(map(str, look))


# --------------------------------------------------------------------- axes


def _scale(it: Board, which: str, axis: Axis, values: Sequence[float]) -> None:
    """Scale, ticks and title of an axis."""
    from matplotlib import ticker

    ax = it.axes
    this = ax.xaxis if which == "x" else ax.yaxis
    set_scale, set_limits = getattr(ax, f"set_{which}scale"), getattr(ax, f"set_{which}lim")
    low, high = min(values), max(values)
    if axis.scale == "log":
        set_scale("log")
        narrow = math.log10(high / low) < 2.5
        few = high < 4 * low  # powers of ten, and two and five times these, might all lie outside
        logs = ticker.LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=12)
        this.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]) if few else logs)
        pad = (high / low) ** 0.06
        set_limits(low / pad, high * pad)
    elif axis.scale == "to one":
        set_scale("function", functions=(_nines, _share))
        this.set_major_locator(ticker.FixedLocator([0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1]))
        pad = (_nines(high) - _nines(low)) * 0.1
        set_limits(_share(_nines(low) - pad), _share(min(_nines(high) + pad, 4.4)))
    elif axis.scale == "about zero":
        set_scale("symlog", linthresh=0.01, linscale=1)
        this.set_major_locator(ticker.FixedLocator([-1, -0.1, -0.01, 0, 0.01, 0.1, 1, 10, 100]))
        set_limits(low - max(0.003, -low * 0.3), high * 1.6)
    else:
        this.set_major_locator(ticker.MaxNLocator(5, integer=axis.whole, steps=[1, 2, 2.5, 5, 10]))
        same = high - low <= 1e-9 * max(abs(high), abs(low))  # but for the noise of computing them
        pad = max(axis.least, (high - low) * 0.07 if axis.least or not same else abs(high) * 0.1 or 1.0)
        set_limits(low - pad, high + pad)
    this.set_minor_locator(ticker.NullLocator())

    class Labels(ticker.Formatter):
        def __call__(self, value: float, pos: int | None = None) -> str:
            return _tick(axis, value)

        def format_ticks(self, values: Sequence[float]) -> list[str]:
            return _ticks(axis, values)

    this.set_major_formatter(Labels())
    if which == "x":
        ax.set_xlabel(axis.title, loc="left")
    else:
        it.title_y(axis.title)


def _ticks(axis: Axis, values: Sequence[float]) -> list[str]:
    """Numbers on an axis, with as many digits as it takes to tell them apart."""
    labels = [_tick(axis, value) for value in values]
    if len(set(labels)) == len(set(map(float, values))):
        return labels
    percent = labels[0].endswith("%")
    scale, sign = (100, "+") if percent else (1, "")
    for digits in range(1, 16):
        finer = [f"{scale * value:{sign if value else ''},.{digits}f}" for value in values]
        if len(set(finer)) == len(set(map(float, values))):
            return [_shorn(text) + ("%" if percent else "") for text in finer]
    return labels


def _tick(axis: Axis, value: float) -> str:
    """A number on an axis: without the noise of its computation, nor zeros at its end."""
    return _shorn(axis.write(float(f"{value:.10g}")))


def _shorn(text: str) -> str:
    """A number without zeros at the end of its fraction."""
    return re.sub(r"\.?0+(?=%?$)", "", text) if "." in text else text


def _nines(share: Any) -> Any:
    """How many nines a share has: recalls of 0.9, 0.99 and 0.999 lie equally far apart."""
    import numpy as np

    return -np.log10(np.maximum(1 - np.asarray(share) + _FINEST, _FINEST / 10))


def _share(nines: Any) -> Any:
    import numpy as np

    return 1 + _FINEST - 10.0 ** -np.asarray(nines)

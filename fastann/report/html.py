"""What a page is made of, how numbers are written in it, and the template that makes it one file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastann import records
from fastann.records import METRICS, Metric

TEMPLATES = Path(__file__).parent / "templates"
NOTHING = "\N{EN DASH}"
ARROWS = {"lower": "↓", "higher": "↑", None: ""}


@dataclass(frozen=True)
class Cell:
    """A cell of a table: text, a second line below it, and what it is sorted by if not by its text."""

    text: str
    more: str = ""
    sort: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Column:
    """A column: its head, what hovering over that tells, and whether it holds numbers."""

    head: str
    about: str = ""
    numeric: bool = True


@dataclass
class Table:
    """A table; `fold` is the line that opens it, "" where it is always open."""

    caption: str
    columns: list[Column]
    rows: list[list[Cell]]
    fold: str = ""
    sortable: bool = False

    @property
    def named(self) -> int:
        """The column that names a row: the first that holds no numbers, or the first of all."""
        return next((i for i, column in enumerate(self.columns) if not column.numeric), 0)


@dataclass(frozen=True)
class Key:
    """An entry of a legend: colour number, outline of the marker (an SVG path), dash pattern of the line."""

    label: str
    colour: int
    outline: str = ""
    dash: str | None = None


@dataclass
class Figure:
    """A drawing as one SVG, or as two for wide and narrow pages."""

    drawings: list[str]
    alt: str
    caption: str
    legend: list[Key] = field(default_factory=list)

    @property
    def wide(self) -> bool:
        """Whether it takes the page's whole width."""
        return len(self.drawings) > 1


@dataclass
class Section:
    """A heading with text, figures and tables; left out of the page when it has none of them."""

    heading: str
    text: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    terms: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.text or self.figures or self.tables or self.terms)


@dataclass
class Page:
    """A report: what it is about, what was found, how that came about, and all the rest."""

    kind: str
    title: str
    finding: str
    lead: list[str]
    facts: list[tuple[str, str]]
    command: str
    sections: list[Section]


def render(page: Page) -> str:
    """The page as HTML; every text in it is escaped by the template."""
    import jinja2
    from markupsafe import Markup

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["drawn"] = Markup  # SVG that `plots` made, whose texts it has escaped
    return environment.get_template("report.html.j2").render(page=page, sections=[s for s in page.sections if s])


# --------------------------------------------------------------------- numbers


def is_number(value: Any) -> bool:
    """Whether a value of a record is a number to show: not None, a boolean or infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def numbers(values: Any) -> list[float]:
    """The numbers of a list that may hold others, or be no list."""
    return [value for value in values if is_number(value)] if isinstance(values, list | tuple) else []


def mapping(content: dict[str, Any], name: str) -> dict[str, Any]:
    """An entry of a record that should be a dict; an empty one where it is missing, or something else."""
    value = content.get(name)
    return value if isinstance(value, dict) else {}


def number(value: float | None) -> str:
    """Four significant digits, thousands apart; whole numbers whole."""
    if value is None:
        return NOTHING
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    size = abs(value)
    if not 1e-4 <= size < 1e9:
        return f"{value:.3g}"
    text = f"{value:,.{max(0, 3 - math.floor(math.log10(size)))}f}"
    if text != "1.0000" or value >= 1:
        return text
    return f"{value:.7f}" if value < 1 - 1e-6 else f"1 - {1 - value:.1g}"  # a recall of 0.99998 is not 1


def percent(value: float | None) -> str:
    """A share as a signed percentage."""
    if value is None:
        return NOTHING
    digits = 2 if abs(value) < 0.0995 else 1 if abs(value) < 0.995 else 0
    text = f"{100 * value:+,.{digits}f}%"
    return text[1:] if float(text[:-1].replace(",", "")) == 0 else text


_WRITTEN = {"relative_inertia": percent}  # all others are plain numbers


def written(value: float | None, metric: Metric) -> str:
    """A metric's value, without its unit."""
    return _WRITTEN.get(metric.name, number)(value)


def with_unit(value: float | None, metric: Metric) -> str:
    """A metric's value and its unit."""
    return f"{written(value, metric)} {metric.unit}".rstrip()


def span(values: Iterable[float], metric: Metric) -> str:
    """``least to most``, or "" where these are the same."""
    low, high = (written(pick(values), metric) for pick in (min, max))
    return "" if low == high else f"{low} to {high}"


# --------------------------------------------------------------------- metrics


def metric(name: str) -> Metric:
    """The metric of a name; an unknown one is shown under its name."""
    return records.metric(name) or Metric(name, name.replace("_", " "))


def bounds_of(name: str) -> str | None:
    """The metric whose interval a name is an end of, if it is one: ``recall`` of ``recall_low``."""
    stem, _, end = name.rpartition("_")
    return stem if end in ("low", "high") and records.metric(stem) else None


def present(values: Iterable[Mapping[str, Any]]) -> list[Metric]:
    """The metrics that some of these mappings hold numbers of, in the order of `METRICS`, without ends of intervals."""
    names = {name for mapping in values for name, value in mapping.items() if is_number(value)}
    known = [name for name in METRICS if name in names]
    return [metric(name) for name in known + sorted(names - set(METRICS)) if bounds_of(name) is None]


def column(of: Metric) -> Column:
    """The column of a metric."""
    return Column(f"{of.title} {ARROWS[of.better]}".rstrip(), of.about)


def how(metrics: Iterable[Metric]) -> Section:
    """How each number was computed."""
    terms = [(m.label, f"{m.about}{f'; {m.better} is better' if m.better else ''}") for m in metrics if m.about]
    return Section("How the numbers were computed", terms=terms)


def facts(mapping: Any, *, code: bool = False) -> list[tuple[str, str]]:
    """A mapping as pairs of texts, in its order; what is empty is left out. With `code` names are as they are written.

    Those are names of parameters, which a reader types.
    """
    if not isinstance(mapping, Mapping):
        return []
    pairs = [(str(name) if code else str(name).replace("_", " "), plain(value)) for name, value in mapping.items()]
    return [(name, text) for name, text in pairs if text]


def plain(value: Any) -> str:
    """Any value of a record as text."""
    if value is None or (isinstance(value, str | list | tuple | dict) and not value):
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={plain(item)}" for name, item in value.items())
    return number(value) if is_number(value) else str(value)

"""A canvas of matplotlib whose SVG can lie in a page: colours by CSS variables, ids of its own, titles to hover."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# matplotlib knows no CSS variables, so it draws in colours that stand for them.
COLOURS = 9
ROLES = {"ink": "#010101", "mute": "#020202", "line": "#030303", "paper": "#040404"}
ROLES |= {f"c{i}": f"#10101{i}" for i in range(COLOURS)}

OPACITY = {"faint": 0.5, "cloud": 0.45, "centre": 0.85}  # of classes, as in style.css

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fastann",
    "font.family": "sans-serif",
    "font.size": 12,
    "text.parse_math": False,
    "text.color": ROLES["ink"],
    "axes.labelcolor": ROLES["ink"],
    "axes.edgecolor": ROLES["mute"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlepad": 10,
    "grid.color": ROLES["line"],
    "grid.linewidth": 0.8,
    "xtick.color": ROLES["mute"],
    "ytick.color": ROLES["mute"],
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
}


class Board:
    """Axes that somebody draws on, with the colours of roles there: those of a page, or those a user gave."""

    def __init__(self, axes: Any, roles: Mapping[str, str]):
        self.axes, self.roles = axes, roles

    def artist(self, gid: str, title: str = "", classes: str = "") -> dict[str, Any]:
        """Arguments of an artist: what a page says by classes of CSS is its opacity here."""
        seen = [OPACITY[name] for name in classes.split() if name in OPACITY]
        return {"alpha": seen[0]} if seen else {}

    def halo(self, gid: str) -> dict[str, Any]:
        """Arguments of a text that has an edge in the colour of the paper, as it lies on other things."""
        from matplotlib.patheffects import withStroke

        return {"path_effects": [withStroke(linewidth=3, foreground=self.roles["paper"])]}

    def title_y(self, text: str) -> None:
        """Name the vertical axis."""
        self.axes.set_ylabel(text)


class Canvas(Board):
    """One figure with one pair of axes; `svg` is there once its context has ended."""

    def __init__(self, name: str, size: tuple[int, int]):
        from matplotlib.figure import Figure

        self.name, self.svg = name, ""
        self.titles: dict[str, tuple[str, str]] = {}
        self.figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")  # SVG has 72 units an inch
        self.figure.patch.set_visible(False)
        super().__init__(self.figure.add_subplot(), ROLES)
        self.axes.patch.set_visible(False)

    def artist(self, gid: str, title: str = "", classes: str = "") -> dict[str, Any]:
        """Remember what hovering over an artist tells, and its CSS classes; the arguments are its id."""
        self.titles[gid] = (title, classes)
        return {"gid": gid}

    def halo(self, gid: str) -> dict[str, Any]:
        """The edge is a matter of CSS: with one of matplotlib's, text would be drawn as outlines."""
        return self.artist(gid, "", "name")

    def title_y(self, text: str) -> None:
        """Name the vertical axis above it, where the name reads as text."""
        self.axes.set_title(text, loc="left", fontsize=12)


@contextmanager
def canvas(name: str, size: tuple[int, int]) -> Iterator[Canvas]:
    """A canvas of a size in CSS pixels, whose ids will begin with `name`."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        made = Canvas(name, size)
        yield made
        file = io.StringIO()
        made.figure.savefig(file, format="svg", metadata={"Date": None})
    made.svg = _inline(file.getvalue(), name, made.titles)


def _inline(text: str, name: str, titles: dict[str, tuple[str, str]]) -> str:
    """Make a document's SVG a part of a page."""
    text = text[text.index("<svg") :]
    for pattern in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<defs>\s*<style.*?</style>\s*</defs>"):
        text = re.sub(pattern, "", text, flags=re.S)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) | titles.keys()
    text = re.sub(r"<[^>]+>", lambda tag: _tag(tag[0], name, used), text)
    text = re.sub(r">\s+<", "><", text)
    for gid, (title, classes) in titles.items():
        opened = f'<g id="{name}-{gid}">'
        extra = f' class="{classes}"' if classes else ""
        told = f"<title>{html.escape(title)}</title>" if title else ""
        text = text.replace(opened, f'<g id="{name}-{gid}"{extra}>{told}')
    return text


def _tag(tag: str, name: str, used: set[str]) -> str:
    """One tag: short numbers, our ids only, CSS variables for colours, the page's font."""
    if tag.startswith("<svg"):
        box = re.search(r'viewBox="[^"]*"', tag)
        return f'<svg {box[0] if box else ""} aria-hidden="true">'
    tag = re.sub(r'\sid="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", tag)
    tag = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', tag).replace("url(#", f"url(#{name}-")
    tag = re.sub(r'font: (?:\w+ )*([\d.]+)px [^;"]*', r"font-size: \1px", tag)
    tag = re.sub(r'font-family: [^;"]*;? ?', "", tag)  # of text that is not left-aligned
    tag = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), tag)
    for role, colour in ROLES.items():
        tag = tag.replace(colour, f"var(--{role})")
    return re.sub(r"\s*\n\s*", " ", tag)

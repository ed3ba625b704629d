"""What fits and evaluations both show: how large clusters are, and where they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fastann.report import html, plots, svg
from fastann.report.html import Figure, Section

BINS, POINTS, CENTROIDS, DIAMETERS = 30, 2000, 500, (5.0, 7.0, 9.0, 12.0, 16.0, 21.0)
CLUSTERS = plots.Axis("clusters", whole=True)
COLOURED = 8  # clusters that get a colour of their own; with more, colours would say nothing


def binned(counts: Sequence[float]) -> tuple[list[int], list[int], plots.Axis]:
    """Bins of the sizes of clusters that have rows, whose widths grow with the size: edges, heights and the axis."""
    full = [int(count) for count in counts if count > 0]
    low, high = min(full), max(full)
    edges = np.unique(np.rint(np.geomspace(low, high + 1, BINS + 1)).astype(np.int64))
    heights = np.histogram(full, edges)[0]
    axis = plots.Axis("rows in the cluster", scale="log" if high > 5 * low else "linear", whole=True)
    return edges.tolist(), heights.tolist(), axis


def sizes(counts: Sequence[float]) -> Section:
    """The distribution of cluster sizes."""
    section = Section("Cluster sizes")
    counts = [count for count in html.numbers(list(counts)) if count >= 0]
    full = [int(count) for count in counts if count > 0]
    if not full:
        return section
    empty = len(counts) - len(full)
    low, high = min(full), max(full)
    caption = f"Clusters by their number of rows: {html.number(low)} "
    caption += f"to {html.number(high)}, the median {html.number(float(np.median(full)))}. " if low < high else "each. "
    caption += f"{'No cluster is' if not empty else f'{html.number(empty)} are'} empty."
    edges, heights, x = binned(counts)
    drawing = plots.histogram("sizes", edges, heights, x, CLUSTERS)
    section.figures.append(Figure([drawing], caption, caption))
    return section


def pca(centroids: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    """The map of centroids alone, as an evaluation's ``map``: the largest clusters in their two main directions."""
    kept = np.sort(np.argsort(-counts, kind="stable")[:POINTS])
    centred = centroids[kept].astype(np.float64)
    centred -= centred.mean(axis=0)
    if len(kept) < 3 or centred.shape[1] < 2:
        return {}
    _, scales, directions = np.linalg.svd(centred, full_matrices=False)
    # A direction and its opposite are the same to the decomposition, not to the eye.
    signs = np.sign(directions[np.arange(2), np.abs(directions[:2]).argmax(axis=1)])
    total = float((scales**2).sum())
    return {
        "method": "pca",
        "centroids": (centred @ directions[:2].T * signs).tolist(),
        "clusters": kept.tolist(),
        "sizes": counts[kept].tolist(),
        "explained": (scales[:2] ** 2 / total).tolist() if total else [],
    }


def chart(given: Any, names: Sequence[str] = ()) -> Section:
    """The map of an evaluation: sampled rows below centroids, which are as large as their clusters.

    `names` are those of all clusters, by number.
    """
    section = Section("Map")
    if not isinstance(given, dict):
        return section
    points, centroids = (_places(given.get(name)) for name in ("points", "centroids"))
    if not points and not centroids:
        return section
    axes = min(map(len, points + centroids))
    known = given.get("labels")
    labels = [label if html.is_number(label) else 0 for label in known] if isinstance(known, list) else []
    labels += [0] * (len(points) - len(labels))
    counts = html.numbers(given.get("sizes"))
    counts = counts if len(counts) == len(centroids) else [1.0] * len(centroids)
    order = sorted(range(len(centroids)), key=lambda i: -counts[i])[:CENTROIDS]
    distinct = sorted(set(labels[: len(points)]))
    few = bool(points) and len(distinct) <= COLOURED
    # By their order, not their numbers: of a few clusters any may have a number beyond that of colours.
    colours = {label: i if few else svg.COLOURS - 1 for i, label in enumerate(distinct)}
    cloud = [(place, colours[label]) for place, label in zip(points[:POINTS], labels, strict=False)]
    centres = [
        (centroids[i], svg.COLOURS - 1 if few else 0, diameter(counts[i], max(counts), len(order))) for i in order
    ]
    named = _named(given, names, order[: plots.NAMED])
    titles, method = directions(given, axes)
    parts = [f"{len(centres):,} of {len(centroids):,} centroids, the largest" if len(centres) < len(centroids) else ""]
    parts[0] = parts[0] or (f"{len(centres):,} centroids" if centres else "")
    parts += (
        [f"{len(cloud):,} rows{', coloured by cluster, centroids grey' if few and centres else ''}"] if cloud else []
    )
    caption = f"{' and '.join(filter(None, parts))}, by {method}. A centroid's area follows its cluster's size."
    caption += f" Named, where there is room: {html.number(len(named))} of the largest." if named else ""
    for across, up in combinations(range(axes), 2):  # a map in three dimensions is seen from three sides
        name = "map" if (across, up) == (0, 1) else f"map-{across}-{up}"
        seen = [(place[across], place[up], (colour, 0)) for place, colour in cloud]
        seen_centres = [(place[across], place[up], (colour, 0), wide) for place, colour, wide in centres]
        side = plots.scatter(name, seen, seen_centres, (titles[across], titles[up]), named)
        told = caption if axes == 2 else f"{caption} Directions {across + 1} and {up + 1} of three."
        section.figures.append(Figure(side, told, told))
    return section


def _named(given: dict[str, Any], names: Sequence[str], order: Sequence[int]) -> list[str]:
    """Names of the centroids at some places in a map, which says what clusters these are of."""
    numbers = [int(number) for number in html.numbers(given.get("clusters"))]
    known = all(i < len(numbers) and 0 <= numbers[i] < len(names) for i in order)
    return [names[numbers[i]] for i in order] if known else []


def directions(given: dict[str, Any], axes: int = 2) -> tuple[list[str], str]:
    """Titles of the axes of a map, and the name of its method."""
    method = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}.get(str(given.get("method")), str(given.get("method")))
    explained = html.numbers(given.get("explained"))
    shares = [f", {100 * share:.0f}% of the variance" for share in explained] if len(explained) == axes else [""] * axes
    return [
        f"{name} direction{share}" for name, share in zip(("first", "second", "third"), shares, strict=False)
    ], method


def _places(values: Any) -> list[tuple[float, ...]]:
    """The points of a list, of two coordinates or all of three; others at the origin, so that indices stay."""
    found = [html.numbers(value) for value in values] if isinstance(values, list) else []
    size = 3 if found and all(len(place) == 3 for place in found) else 2
    return [tuple(place) if len(place) == size else (0.0,) * size for place in found]


def diameter(count: float, largest: float, many: int) -> float:
    """The diameter, of a few steps, whose area is in proportion to a size; smaller where there are many centroids."""
    shrink = 1.0 if many <= 100 else 0.7
    wanted = DIAMETERS[-1] * math.sqrt(max(count, 0) / largest) if largest else DIAMETERS[0]
    return shrink * min(DIAMETERS, key=lambda diameter: abs(diameter - wanted))

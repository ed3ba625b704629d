"""What a fitted model says of itself: lines of text, and a table beside the parameters in notebooks."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
from sklearn.utils import estimator_html_repr

from fastann.cluster.clock import in_words


def text(facts: dict[str, str]) -> str:
    """Facts as aligned lines."""
    width = max(11, *(len(name) + 2 for name in facts))
    return "\n".join(f"{name:<{width}}{value}" for name, value in facts.items())


def html(model: Any, facts: dict[str, str]) -> str:
    """What scikit-learn shows of an estimator in a notebook, and below it, of a fitted one, a table of facts."""
    shown: str = estimator_html_repr(model)
    if not facts:
        return shown
    rows = "".join(
        f'<tr><th scope="row" style="text-align: left; font-weight: 600; padding-right: 1em">{escape(name)}</th>'
        f'<td style="text-align: left">{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    style = 'class="fastann-summary" style="font-size: 0.85em; margin-top: 0.5em"'
    return f"{shown}<table {style}><tbody>{rows}</tbody></table>"


def of_centers(km: Any) -> dict[str, str]:
    """Rows, clusters, index, iterations, inertia, recall and seconds of a fitted `KMeans`."""
    found = km.clustering_
    rows, (low, high) = found.rows, found.rows.interval
    recall = "1, exact search" if low == high == 1.0 else f"{rows.recall:.4f} (95%: {low:.4f} to {high:.4f})"
    facts = {"rows": f"{rows.n:,} x {km.n_features_in_}", "clusters": f"{len(found.centers):,}"}
    index = "auto" if isinstance(km.index, str) and km.index == "auto" else str(km.index_)
    if found.history:
        last = found.history[-1]
        repaired = sum(record.repaired for record in found.history)
        facts["rows"] += f", trained on {last.rows:,}" if last.rows != rows.n else ""
        where = "" if km.device == "cpu" else f", on {km.device_}"
        index += f": {last.plan}{where}" + (f" ({repaired:,} rows repaired by exact search)" if repaired else "")
    kept = 1.0 if found.outliers is None else 1 - found.outliers.share
    each = "a row" if kept == 1 else "a row of those kept"
    facts |= {
        "index": index,
        "iterations": f"{len(found.history)}: {found.stopped(km.tol)}",
        "inertia": f"{rows.inertia:.6g}" + (f" ({rows.inertia / (rows.n * kept):.6g} {each})" if rows.n else ""),
        "recall": recall,
    }
    if found.outliers is not None:
        facts["left out"] = found.outliers.told()
    if found.seconds:
        facts["seconds"] = in_words(found.seconds)
    return facts


def of_classes(model: Any) -> dict[str, str]:
    """Classes, prototypes, refinement and epochs of a fitted `PrototypeClassifier`."""
    _, counts = np.unique(model.prototype_labels_, return_counts=True)
    each = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    steps = [sum(record.phase == phase for record in model.history_) for phase in ("k-means", "refine")]
    return {
        "classes": f"{len(model.classes_):,}",
        "prototypes": f"{counts.sum():,} ({each} a class)",
        "refinement": _refinement(model),
        "epochs": f"{steps[0]} of k-means, {steps[1]} of refinement" if steps[1] else f"{steps[0]} of k-means",
    }


def _refinement(model: Any) -> str:
    verdict = model.refinement_
    if verdict is None:
        return f"{model.refine}, as asked"
    return str(verdict).replace("\n", f"\n{'':<11}")

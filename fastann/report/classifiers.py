"""A classifier's folder as a page."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastann.records import RecordError
from fastann.report import html
from fastann.report.html import Cell, Column, Page, Section, Table

SHOWN = 200  # classes that the table shows, those of most weight
EPOCHS = {
    "rows": "rows",
    "objective": "objective",
    "shift": "mean shift",
    "active": "prototypes",
    "seconds": "time (s)",
}


def page(manifest: dict[str, Any], tensors: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> Page:
    """What the folder of a classifier holds: its classes, what refinement gained, and every epoch."""
    owner, weights, classes = tensors["owner"], tensors.get("weights"), arrays.get("classes")
    if (
        classes is None
        or weights is None
        or len(weights) != len(owner)
        or owner.min() < 0
        or owner.max() >= len(classes)
    ):
        raise RecordError("the classifier's prototypes and classes do not fit each other; fit again")
    history = [record for record in manifest.get("history", []) if isinstance(record, dict)]
    facts = html.facts({"columns": manifest.get("n_features"), "index": manifest.get("index")})
    facts += [pair for pair in html.facts(manifest.get("parameters"), code=True) if pair[0] != "index"]
    return Page(
        kind="Classifier",
        title=f"{len(classes):,} classes, {len(owner):,} prototypes",
        finding=_finding(manifest.get("refinement"), history),
        lead=["How well it classifies is measured on other rows: fastann classify evaluate MODEL DATA LABELS."],
        facts=facts + html.facts(manifest.get("versions")),
        command="",
        sections=[_classes(owner, weights, classes), _epochs(history)],
    )


def _finding(verdict: Any, history: list[dict[str, Any]]) -> str:
    """What training reached: the verdict on refinement where there is one, else what the last epoch did."""
    if isinstance(verdict, dict) and html.is_number(verdict.get("before")) and html.is_number(verdict.get("after")):
        told = f"from {html.number(verdict['before'])} to {html.number(verdict['after'])}"
        kept = "was kept" if verdict.get("kept") else "was not kept"
        return f"Refinement takes accuracy {told} on {html.number(verdict.get('rows'))} rows held out, and {kept}."
    if not history:
        return "No epoch is recorded."
    last = history[-1]
    return f"{len(history)} epochs or batches; the last one moved prototypes by {html.number(last.get('shift'))}."


def _classes(owner: np.ndarray, weights: np.ndarray, classes: np.ndarray) -> Section:
    count = np.bincount(owner, minlength=len(classes))
    weight = np.bincount(owner, weights, minlength=len(classes))
    order = np.argsort(-weight, kind="stable")[:SHOWN]
    rows = [
        [Cell(str(classes[i])), Cell(f"{count[i]:,}", sort=float(count[i])), Cell(html.number(float(weight[i])))]
        for i in order.tolist()
    ]
    caption = "Classes by the weight of their rows" + (f", the first {SHOWN}" if len(classes) > SHOWN else "")
    columns = [Column("class", numeric=False), Column("prototypes"), Column("weight")]
    return Section("Classes", tables=[Table(caption, columns, rows)])


def _epochs(history: list[dict[str, Any]]) -> Section:
    columns = [Column("epoch"), Column("phase", numeric=False), *map(Column, EPOCHS.values())]
    rows = [
        [Cell(str(i)), Cell(html.plain(record.get("phase"))), *(Cell(html.number(record.get(name))) for name in EPOCHS)]
        for i, record in enumerate(history, 1)
    ]
    return Section("Epochs", tables=[Table("Every epoch or batch", columns, rows)] if rows else [])

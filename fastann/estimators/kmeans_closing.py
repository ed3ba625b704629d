"""How a fit of `KMeans` ends: rows labelled, what labels and predictions miss measured, warnings."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastann import kernels
from fastann.cluster import plan
from fastann.cluster.closing import Clustering, Labelling, closer, labelled, means_of
from fastann.cluster.fit import Task, Trained
from fastann.cluster.outliers import Outliers
from fastann.cluster.passes.base import Pass
from fastann.cluster.space import Space
from fastann.cluster.trim import Trim
from fastann.estimators.base import warn
from fastann.estimators.kmeans_fitted import Directed
from fastann.estimators.kmeans_parameters import index_of
from fastann.index.base import AUTO, Index, Spec
from fastann.index.recall import Sampled
from fastann.index.spec import Cells, Flat

log = logging.getLogger(__name__)
# Share of a sample whose nearest centres are in the cells that `predict` searches in the automatic mode. Of rows that
# were not trained on it is 0.1% to 0.4% less.
PREDICTED = 0.995
LOW = 0.9  # a recall below is warned of
MEASURED = 1024  # of the rows audited, at least so many are searched where that alone tells what `predict` finds


def close(model: Any, task: Task, done: Trained, table: Directed, spec: Spec) -> Clustering:
    """Label every row as the criterion closes, measure how good labels and predictions are.

    Parameters
    ----------
    model : KMeans
    task : Task
    done : Trained
    table : Directed
        The rows to label.
    spec : Spec
        The index to predict with.
    """
    space, memory = task.space, task.memory
    if task.plan.criterion.closing.looks == 1:
        done.work.finish()
    centers = space.outward(done.work.settled)
    work = closer(done.work, table.source, table.weights, space.inward(centers), model.exact_labels, memory)
    audit = lru_cache(partial(Sampled, work, work.centroids, task.seed, model.limits.audited))
    rows = labelled(
        work,
        _closing_index(model, work, task.device, spec, centers),
        task.plan.criterion.closing,
        audit,
        margins=model.margins,
        memory=memory,
    )
    rows, outliers = left_out(model, rows, task.plan.trim, space)
    counts = kernels.tally(rows.needed("a fit")[0], task.k)
    means = means_of(work, rows, counts, centers, task.seed, np.inf if outliers is None else outliers.threshold)
    automatic = isinstance(model.index, str) and model.index == "auto"
    spec, recall = foreseen(
        spec, lambda: model._index_over(centers, spec, lambda: work.centroids), audit, tuned=automatic
    )
    if model.recall is not None and rows.interval[1] < model.recall:
        warn(
            f"{spec} reaches a recall of {rows.recall:.4f}, less than the {model.recall:g} asked "
            "for; use a richer index (more links, more cells searched) or a lower recall",
            ConvergenceWarning,
        )
    elif model.recall is None and rows.recall < LOW:
        _warn_of_low_recall(spec, rows.recall, automatic)
    used = np.count_nonzero(counts)
    if used < task.k and not work.distinct(task.k):
        warn(
            f"Number of distinct clusters ({used}) found smaller than n_clusters ({task.k}). Possibly due to duplicate "
            "points in X: it has fewer distinct rows than that; lower n_clusters or add data",
            ConvergenceWarning,
        )
    whole = table.all(rows, task.k, memory)
    found = Clustering(space, spec, means, whole, done.history, done.stop_reason, recall, outliers=outliers)
    log.info(
        "%d clusters of %d rows after %d iterations: inertia %.6g, recall %.4f, index %s. %s",
        *(task.k, found.rows.n, len(found.history), rows.inertia, rows.recall, spec, found.stopped(model.tol)),
    )
    return found


def _warn_of_low_recall(spec: Spec, recall: float, automatic: bool) -> None:
    """Say that more than a tenth of the rows did not get their nearest centre, and what to change."""
    advice = ["pass effort=4"] if automatic else [spec.richer] if spec.richer else []
    if spec.search_option is not None and not automatic:
        advice.append(f"have it found (index={str(spec.at(AUTO))!r}, recall=0.95)")
    advice.append("have every row searched exactly for its label (exact_labels=True)")
    warn(
        f"index {spec} has a recall below {LOW:g}: the labels are the nearest centres of {recall:.1%} of the rows "
        f"only; {', or '.join(advice)}",
        ConvergenceWarning,
    )


def left_out(model: Any, rows: Labelling, trim: Trim | None, space: Space) -> tuple[Labelling, Outliers | None]:
    """Which of the rows are outliers, where a model asks for that; their inertia is that of the others then."""
    marked = model.outlier_labels == -1
    if trim is None:
        asked = model.trim != 0 or model.outlier_threshold is not None
        return rows, Outliers.none(rows.inertia, marked) if asked else None
    _, distances = rows.needed("a fit that leaves rows out")
    outliers, inertia = Outliers.among(distances, rows.weights, trim, space, marked, model.limits.part)
    return replace(rows, inertia=inertia), outliers


def _closing_index(model: Any, work: Pass, device: Any, spec: Spec, centers: np.ndarray) -> Index:
    """What finds the final labels: the index that predicts; where rows remember, searched as often as in the fit."""
    centroids, asked = work.centroids, index_of(model)
    if not work.remembers and model.exact_labels:
        return Flat().build(centroids)
    if work.remembers and isinstance(spec, Cells) and isinstance(asked, str) and asked == "auto":
        trained = plan.searcher(asked, work.k, work.source.d, device, model.limits)
        if isinstance(trained, Cells):  # as many centroids
            spec = spec.at(math.ceil(trained.number("nprobe") / trained.nlist_for(work.k) * spec.nlist_for(work.k)))
    index: Index = model._index_over(centers, spec, lambda: centroids)
    return index


def foreseen(
    spec: Spec, build: Callable[[], Index], audit: Callable[[], Sampled], *, tuned: bool = False
) -> tuple[Spec, float]:
    """The index to predict with, and its recall on a sample of rows; 1 where it is exact.

    With `tuned` as many cells are searched as most rows need: labels of a fit are better than those of a single search,
    as rows remember what they found before, and `predict` is to agree with them.
    """
    if spec == Flat():
        return spec, 1.0
    index, sample = build(), audit()
    reach, option = index.reach(sample.x, sample.nearest), spec.search_option
    if reach is None or option is None:
        return spec, sample.part(max(1, len(sample.nearest) // MEASURED)).measure(index).value
    wanted = int(np.sort(reach)[math.ceil(PREDICTED * len(reach)) - 1])
    if tuned:
        spec = spec.at(wanted)
    return spec, float((reach <= spec.number(option)).mean())

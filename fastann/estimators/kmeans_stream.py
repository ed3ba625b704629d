"""A batch of a stream, taken in by a `KMeans` that was fitted before."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from fastann import checks
from fastann.cluster.clock import Clock
from fastann.cluster.closing import Clustering, Labelling, Means, labelled
from fastann.cluster.criterion import NEAREST
from fastann.cluster.stream import Online
from fastann.estimators.kmeans_closing import foreseen, left_out
from fastann.estimators.kmeans_fitted import Directed
from fastann.estimators.kmeans_parameters import check_directed, trim_of
from fastann.index import gpu
from fastann.index.recall import Sampled


def take_in(model: Any, X: Any, sample_weight: Any) -> Clustering:
    """What a fitted model's result becomes with a batch of rows, whose labels it then has.

    Parameters
    ----------
    model : KMeans
    X, sample_weight
        As in `KMeans.partial_fit`.
    """
    clock, before, device, space = Clock(), model.clustering_.means, model._device(), model._space
    with clock("read"):
        view = model._view(X)
    table = Directed.of(view, checks.sample_weight(sample_weight, view.n))
    check_directed(view.n, table.zeros)
    batch, weights, step = table.source, table.weights, before.steps + 1
    found: Clustering = model.clustering_
    trim = None
    if model.trim != "auto":
        trim = trim_of(model)
    elif found.outliers is not None and found.outliers.trim.share > 0:
        trim = found.outliers.trim
    means, rows, recall = replace(before, steps=step), Labelling.of_none(model.margins), model.predict_recall_
    if batch.n:
        mass = float(batch.n if weights is None else weights.sum())
        online, work = Online.of(model._centroids(), before.weights, before.lengths).after(
            batch,
            weights,
            lambda centroids: model.index_.build(centroids, seed=step, device=device),
            decay=before.seen / (before.seen + mass) if model.decay == "auto" else float(model.decay),
            space=space,
            rng=np.random.default_rng([before.seed, 2, step]),
            clock=clock,
            trim=trim,
        )
        with clock("close"):
            seen, centers = before.seen + mass, space.outward(online.centroids)
            means = Means(centers, online.seen.counts, online.lengths, step, before.seed, seen)
            work.centroids = space.inward(centers)
            audit = lru_cache(partial(Sampled, work, work.centroids, step, model.limits.audited))
            index = model._index_over(centers, model.index_, lambda: work.centroids)
            rows = labelled(work, index, NEAREST, audit, margins=model.margins)
            recall = foreseen(model.index_, lambda: index, audit)[1]
    rows, outliers = left_out(model, rows, trim if batch.n else None, space)
    rows = table.all(rows, len(means.centers))
    return replace(
        found,
        spec=model.index_,
        means=means,
        rows=rows,
        predict_recall=recall,
        seconds=clock.read(),
        device=gpu.name_of(device),
        outliers=outliers,
        known=found.tails,
    )

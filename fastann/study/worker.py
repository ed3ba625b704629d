"""What a run's process does: read the rows, warm up, time a fit or a search, measure what came of it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import numpy as np

from fastann import kernels, storage
from fastann.cluster import plan
from fastann.cluster.criterion import NEAREST
from fastann.cluster.passes.every import Every
from fastann.cluster.space import Space, fit_space, space_of
from fastann.data.source import Source, dense
from fastann.data.whole import float32_rows
from fastann.estimators.kmeans import KMeans
from fastann.index.own import FlatIndex
from fastann.index.recall import Recall, recall
from fastann.index.spec import Factory
from fastann.study import data, searches
from fastann.study.methods import PEERS, Method, Problem, method_of, part_of
from fastann.study.process import MEASURE, TIMED, Tell, forget_peak, peak, resident

SILHOUETTE_ROWS = 5000
REPEAT_UP_TO = 2.0  # seconds of a search up to which it is done three times
FEW = 4096  # rows and centroids that a search is warmed up with


def carry_out(order: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Do what an order says; `process.run` is given this function's name.

    Parameters
    ----------
    order : dict
        ``task`` (a key of `TASKS`), what `data.read` takes with ``n`` (rows, of a permutation where that is
        not all), ``method``, ``n_clusters``, ``seed``, ``metric``, ``max_iter``, ``tol``, ``sample``, ``threads``;
        ``silhouette`` of a fit; ``centroids`` and ``truth`` (paths) of the searches of these;
        ``queries`` (files, or None), ``m`` and ``truth`` of searches of rows.
    tell : callable
        Called with each phase as it begins.

    Returns
    -------
    dict
        ``values`` by name of the metric (what is not finite could not be computed, and is absent) and ``series``.
    """
    values, series = TASKS[order["task"]](order, tell)
    return {"values": {name: float(v) for name, v in values.items() if np.isfinite(v)}, "series": series}


def _fit(order: dict[str, Any], tell: Tell) -> tuple[dict[str, Any], dict[str, Any]]:
    """Time a fit, then measure its centres against all rows."""
    name, k, seed = order["method"], order["n_clusters"], order["seed"]
    method, unit = method_of(name, k), space_of(order["metric"]).unit
    if name not in PEERS:
        plan.choose_index(name, k).check(k)
    x = data.read(order)
    rows = data.in_memory(x)
    check_sparse(method, name, rows)
    space, view = fit_space(rows, order["metric"])
    seen = view if unit else rows  # what peers cluster, who know one metric; and what fits start from
    start = dense(seen.take(np.sort(np.random.default_rng([seed, 2]).choice(rows.n, k, replace=False))))
    asked = ("metric", "max_iter", "tol", "sample", "threads")
    problem = Problem(x if method.own else float32_rows(seen), start, seed, unit=unit, **{a: order[a] for a in asked})
    _warm(method, problem)
    forget_peak()
    before = resident(os.getpid())
    tell(TIMED)
    clock = time.perf_counter()
    fitted = method.fit(problem)
    seconds = time.perf_counter() - clock
    most = peak()
    tell(MEASURE)
    values = {"seconds": seconds, **fitted.values, "peak_mib": max(0, most - before) / 2**20}
    centroids = space.inward(_finite(fitted.centers))
    values |= _quality(view, centroids, space, order)
    if "recall" not in values:
        values |= _recall(recall(view, fitted.labels.astype(np.int32), centroids, seed))
    if fitted.index is not None:
        count = fitted.index.build(centroids).distances
        values |= {} if count is None else {"distances": count}
    return values, fitted.series


def check_sparse(method: Method, name: str, rows: Source) -> None:
    """Refuse sparse rows for a method that takes dense ones."""
    if rows.sparse and not method.sparse:
        takes = ["auto", *(peer for peer, of in PEERS.items() if of.sparse), "flat"]
        raise TypeError(f"{name} takes dense rows, and these are sparse; sparse ones are for {', '.join(takes)}")


def _warm(method: Method, p: Problem) -> None:
    """Load all that a method will use, on a small part of the problem."""
    with suppress(Exception):  # what fails here, but not on the whole problem, is no matter
        method.fit(part_of(p, own=method.own))


def _finite(centers: np.ndarray) -> np.ndarray:
    bad = np.count_nonzero(~np.isfinite(centers).all(axis=1))
    if bad:
        raise ValueError(f"{bad} of {len(centers)} centres are not finite; the method failed on this data")
    return centers


def _quality(view: Source, centroids: np.ndarray, space: Space, order: dict[str, Any]) -> dict[str, float]:
    """Measure centroids against all rows: exact nearest ones, distances summed in float64."""
    n, k = view.n, len(centroids)
    closed = Every.over(view, None, centroids, space).close(FlatIndex(centroids), NEAREST)
    sizes = np.bincount(closed.labels, minlength=k).astype(np.float64)
    values = {
        "inertia": closed.inertia / n,
        "empty": float((sizes == 0).sum()),
        "imbalance": k * float(sizes @ sizes) / n**2,
    }
    if order.get("silhouette"):
        values |= _silhouette(view, closed.labels, order["metric"])
    return values


def _silhouette(view: Source, labels: np.ndarray, metric: str) -> dict[str, float]:
    from sklearn.metrics import silhouette_score

    size = min(view.n, SILHOUETTE_ROWS)
    picks = np.sort(np.random.default_rng(0).choice(view.n, size, replace=False))
    if not 2 <= len(np.unique(labels[picks])) < size:  # it is not defined then
        return {}
    return {"silhouette": float(silhouette_score(view.take(picks), labels[picks], metric=metric))}


def _recall(measured: Recall) -> dict[str, float]:
    low, high = measured.interval
    return {"recall": measured.value, "recall_low": low, "recall_high": high}


# --------------------------------------------------------------------- one search of fixed centroids


def _prepare(order: dict[str, Any], tell: Tell) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the centroids of a short fit, and which of them is nearest to each row that will be searched."""
    x = data.read(order)
    km = KMeans(
        order["n_clusters"], metric=order["metric"], max_iter=10, n_jobs=order["threads"], random_state=order["seed"]
    ).fit(x)
    space, view = fit_space(data.in_memory(x), order["metric"])
    truth = FlatIndex(space.inward(km.cluster_centers_)).search(_searched(order, view), 1)[0][:, 0]
    storage.write_array(order["centroids"], km.cluster_centers_)
    storage.write_array(order["truth"], truth)
    return {}, {}


def _searched(order: dict[str, Any], view: Source) -> Any:
    """The rows that are searched, float32, an array or a CSR matrix: all, or a sample that is the same in every run."""
    size = order["sample"]
    if size is None or size >= view.n:
        return float32_rows(view)
    return view.take(np.sort(np.random.default_rng(1).choice(view.n, size, replace=False)))


def _assign(order: dict[str, Any], tell: Tell) -> tuple[dict[str, Any], dict[str, Any]]:
    """Time building an index over fixed centroids and searching rows in it, then compare with the truth."""
    name, k, seed = order["method"], order["n_clusters"], order["seed"]
    rows = data.in_memory(data.read(order))
    space, view = fit_space(rows, order["metric"])
    centroids, truth = space.inward(np.load(order["centroids"])), np.load(order["truth"])
    x = _searched(order, view)
    if name not in PEERS:
        plan.choose_index(name, k).check(k)
    method = method_of("flat" if name == "auto" and rows.sparse else name, k)
    check_sparse(method, name, rows)
    if not name.startswith(Factory.name):  # nothing to compile there, and some cannot train on fewer centroids
        method.build(centroids[:FEW], seed)[1](x[:FEW])
    forget_peak()
    before = resident(os.getpid())
    tell(TIMED)
    clock = time.perf_counter()
    index, find = method.build(centroids, seed)
    seconds_build = time.perf_counter() - clock
    find(x[:FEW])
    times: list[float] = []
    while not times or (times[0] < REPEAT_UP_TO and len(times) < 3):
        clock = time.perf_counter()
        ids = find(x)
        times.append(time.perf_counter() - clock)
    most = peak()
    tell(MEASURE)
    best = kernels.own_sqdist(x, centroids, truth)
    found = kernels.own_sqdist(x, centroids, ids.astype(np.int32))
    values = {
        "seconds": float(np.median(times)),
        "seconds_build": seconds_build,
        **_recall(Recall(int(np.count_nonzero(found <= best)), x.shape[0])),  # a centroid equally near is right too
        "inertia": float(found.mean()),
        "relative_inertia": _over(float(found.sum()), float(best.sum())),
        "peak_mib": max(0, most - before) / 2**20,
    }
    count = float(k) if index is None else index.distances
    return values | ({} if count is None else {"distances": count}), {}


def _over(value: float, base: float) -> float:
    return value / base - 1 if base > 0 else 0.0


TASKS = {
    "fit": _fit,
    "assign": _assign,
    "prepare": _prepare,
    "search": searches.search,
    "prepare_search": searches.prepare,
}

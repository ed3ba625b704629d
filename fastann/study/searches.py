"""What a run of a sweep of row searches does: build an index over the rows, time a search, compare with the truth."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import numpy as np

from fastann import records, storage
from fastann.cluster.space import fit_space
from fastann.data.open import reopen
from fastann.data.source import Source, Subset
from fastann.data.whole import stored_rows
from fastann.index.base import Spec
from fastann.index.spec import Factory, Flat
from fastann.search.exact import others, recall_at, sqdists
from fastann.search.queries import queries_of
from fastann.search.rows import RowIndex, chosen
from fastann.study import data
from fastann.study.process import MEASURE, TIMED, Tell, forget_peak, peak, resident

QUERIES = 1000  # rows that are searched for where there are no queries
REPEAT_UP_TO = 2.0  # seconds of a search up to which it is done three times
FEW = 4096  # rows that an index is warmed up with

Values = tuple[dict[str, Any], dict[str, Any]]


class _Problem:
    """Rows in memory, and queries: others, or a sample of the rows, of which none is a neighbour of itself."""

    def __init__(self, order: dict[str, Any]):
        self.order, self.rows = order, data.in_memory(data.read(order))
        self.space, self.view = fit_space(self.rows, order["metric"], zero_rows=True)
        lot = self.rows if order["queries"] is None else reopen(order["queries"])
        size = order["sample"] or (QUERIES if order["queries"] is None else lot.n)
        picks = np.sort(np.random.default_rng(1).choice(lot.n, min(size, lot.n), replace=False))
        self.own = picks if order["queries"] is None else None
        self.queries: Source = data.in_memory(stored_rows(lot, picks))

    def index(self, spec: Spec, seed: int, rows: Source | None = None) -> RowIndex:
        """The rows, or some of them, indexed."""
        view = self.view if rows is None else self.space.view(rows, zero_rows=True)
        found = RowIndex(rows or self.rows, self.space, view, spec.started(), seed=seed, n_jobs=self.order["threads"])
        return found if spec.open is None else found.tune()

    def search(self, index: RowIndex, m: int) -> np.ndarray:
        """The nearest rows of each query: int64 [q, m]."""
        found = index.search(self.queries, m + (self.own is not None))[1]
        return found if self.own is None else others(found, self.own)

    def sqdists(self, ids: np.ndarray) -> np.ndarray:
        """Squared distances of rows (int64 [q, m]) to the queries: float64 [q, m]."""
        view = queries_of(self.queries, self.rows.d, self.space, sparse=self.rows.sparse)
        return sqdists(self.view, view.take(np.arange(view.n)), ids)


def prepare(order: dict[str, Any], tell: Tell) -> Values:
    """Write the nearest rows of each query, by exact search."""
    problem = _Problem(order)
    storage.write_array(order["truth"], problem.search(problem.index(Flat(), 0), max(order["m"])))
    return {}, {}


def search(order: dict[str, Any], tell: Tell) -> Values:
    """Time building an index over the rows and searching the queries in it, then compare with the truth.

    Every m is a search of its own: one for more neighbours looks further, and finds the first of them better.
    """
    problem, name, seed = _Problem(order), order["method"], order["seed"]
    spec = chosen(name, problem.rows)
    if not name.startswith(Factory.name):  # nothing to compile there, and some cannot be trained on fewer rows
        with suppress(ValueError):  # of options that do not suit so few
            few = Subset(problem.rows, np.arange(min(FEW, problem.rows.n)))
            problem.index(spec.started(), seed, few).search(problem.queries, 1)
    forget_peak()
    before = resident(os.getpid())
    tell(TIMED)
    clock = time.perf_counter()
    index = problem.index(spec, seed)
    seconds_build = time.perf_counter() - clock
    main, times = records.main_m(order["m"]), list[float]()
    while not times or (times[0] < REPEAT_UP_TO and len(times) < 3):
        clock = time.perf_counter()
        ids = problem.search(index, main)
        times.append(time.perf_counter() - clock)
    most = peak()
    tell(MEASURE)
    seconds = float(np.median(times))
    values = {
        "seconds": seconds,
        "seconds_build": seconds_build,
        "throughput": len(ids) / seconds,
        "peak_mib": max(0, most - before) / 2**20,
    }
    best = problem.sqdists(np.load(order["truth"]))
    for m in order["m"]:
        recall = recall_at(problem.sqdists(ids if m == main else problem.search(index, m)), best, m)
        low, high = recall.interval
        values |= {f"recall_{m}": recall.value, f"recall_{m}_low": low, f"recall_{m}_high": high}
    return values, {}

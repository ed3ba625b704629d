"""Run the Lloyd loop from each start, stop it by the rules, keep the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastann.cluster import init
from fastann.cluster.adapt import Adaptive
from fastann.cluster.lloyd import Iteration, Search, State, lloyd, passes
from fastann.cluster.plan import Plan
from fastann.cluster.stop import CtrlC, Deadline, StopReason, converged
from fastann.cluster.sweep import Sweep
from fastann.cluster.update import Rows
from fastann.data.source import Source


@dataclass(frozen=True)
class Rules:
    """When to stop: iterations at most (on each sample), relative decrease of inertia at least, time."""

    max_iter: int
    tol: float
    deadline: Deadline


@dataclass
class Clustering:
    """What came of it: centroids (float32 [k, d]), the last pass with the state of its rows, the course of the run.

    `adapt` holds the search option that was found, where the index left one open.
    """

    centroids: np.ndarray
    work: Search | Sweep
    history: list[Iteration]
    stop_reason: StopReason
    adapt: Adaptive | None = None


def cluster(
    source: Source,
    weights: np.ndarray | None,
    k: int,
    plan: Plan,
    *,
    start: str | np.ndarray,
    n_init: int,
    rules: Rules,
    empty: str,
    metric: str,
    device: Any,
    seed: int,
    watchers: Sequence[Callable[[State], Any]] = (),
    verbose: bool = False,
) -> Clustering:
    """Cluster the rows of a source, already seen in its space, from `n_init` starts; the best is returned.

    Each start trains on the samples the plan names, one after the other, the last being all rows. Each of
    `watchers` is called with every state; one that returns True ends the fit. So does Ctrl-C, after the
    running iteration.
    """
    best: Clustering | None = None
    with CtrlC() as ctrl_c:
        for attempt in range(n_init):
            rng = np.random.default_rng([seed, 0, attempt])
            centroids: Any = start
            history: list[Iteration] = []
            with _bar(verbose, rules.max_iter, attempt if n_init > 1 else None) as bar:
                for level, size in enumerate(plan.levels):
                    sample, w = source, weights
                    if size < source.n:
                        sample, w = init.subsample(source, weights, size, rng)
                    if isinstance(centroids, str):
                        centroids = init.start(centroids, sample, w, k, rng)
                    work = passes(sample, Rows.new(sample.n, w), k, plan, metric)
                    adapt = None if plan.recall is None else Adaptive(plan.spec, plan.recall, sample, rng)
                    states = lloyd(
                        work,
                        centroids,
                        plan.spec,
                        metric=metric,
                        empty=empty,
                        device=device,
                        rng=rng,
                        adapt=adapt,
                        note=plan.reason,
                    )
                    part, centroids, reason = iterate(
                        states, rules, partial(plan.enough, level), ctrl_c, [bar, *watchers]
                    )
                    history += part
                    if reason not in (StopReason.CONVERGED, StopReason.MAX_ITER):
                        break
            if best is None or history[-1].inertia < best.history[-1].inertia:
                best = Clustering(centroids, work, history, reason, adapt)
            if reason not in (StopReason.CONVERGED, StopReason.MAX_ITER):
                break
    assert best is not None
    return best


def iterate(
    states: Iterator[State],
    rules: Rules,
    enough: Callable[[list[float]], bool],
    ctrl_c: CtrlC,
    watchers: Sequence[Callable[[State], Any]],
    *,
    ignore_empty: bool = False,
) -> tuple[list[Iteration], np.ndarray, StopReason]:
    """Iterate until a stopping rule holds; converged with empty clusters only if these are to be ignored."""
    history: list[Iteration] = []
    began = time.perf_counter()
    for state in states:
        previous = history[-1].inertia if history else None
        history.append(state.record)
        spent = time.perf_counter() - began
        asked = [bool(watch(state)) for watch in watchers]
        record = state.record
        done = converged(previous, record.inertia, record.moved, rules.tol) or enough([r.inertia for r in history])
        if done and (record.empty == 0 or ignore_empty) and not state.rose:
            return history, state.centroids, StopReason.CONVERGED
        if ctrl_c.pressed:
            return history, state.centroids, StopReason.INTERRUPTED
        if any(asked):
            return history, state.centroids, StopReason.CALLBACK
        if len(history) == rules.max_iter:
            return history, state.centroids, StopReason.MAX_ITER
        if not rules.deadline.allows(spent / len(history)):
            return history, state.centroids, StopReason.TIME_LIMIT
    raise AssertionError("the loop never ends by itself")  # pragma: no cover


class _bar:
    """A watcher that draws a progress bar, on a terminal only."""

    def __init__(self, verbose: bool, total: int, attempt: int | None):
        from tqdm import tqdm

        name = "k-means" if attempt is None else f"k-means, start {attempt + 1}"
        self.bar = tqdm(total=total, desc=name, unit="it", disable=None if verbose else True)

    def __enter__(self) -> _bar:
        return self

    def __call__(self, state: State) -> None:
        record = state.record
        self.bar.set_postfix_str(f"inertia {record.inertia:.6g}, moved {record.moved / record.rows:.1%}", refresh=False)
        self.bar.update()

    def __exit__(self, *exc: object) -> None:
        self.bar.close()

"""Run the Lloyd loop from each start, stop it by the rules, keep the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from fastann.cluster import start as init
from fastann.cluster.checkpoint import Checkpoints, Record
from fastann.cluster.lloyd import Iteration, Progress, Search, State, lloyd, passes
from fastann.cluster.memory import Memory
from fastann.cluster.passes.bounded import Sweep
from fastann.cluster.plan import Plan
from fastann.cluster.stop import CtrlC, Deadline, StopReason, converged
from fastann.data.source import Source
from fastann.index.parse import parse_index
from fastann.index.recall import Adaptive


@dataclass(frozen=True)
class Rules:
    """When to stop: iterations at most (on each sample), relative decrease of inertia at least, time."""

    max_iter: int
    tol: float
    deadline: Deadline


@dataclass(frozen=True)
class Task:
    """What is to be clustered and how: the rows, seen in their space, and what does not change on the way."""

    source: Source
    weights: np.ndarray | None
    k: int
    plan: Plan
    start: str | np.ndarray
    n_init: int
    metric: str
    empty: str
    device: Any
    seed: int
    memory: Memory


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


class Fit:
    """A fit under way: what it takes to go on from where it is, so that it can be written down and read again.

    Attributes
    ----------
    attempt, level : int
        The start that is iterated from, and the sample that is trained on; the last of the plan's is all rows.
    rng : Generator
    before : list of Iteration
        What was done in this attempt on smaller samples.
    progress : Progress
        Where the loop is on this level.
    sample, weights, adapt, work
        What this level iterates over, made by `_enter`.
    best : Clustering or None
        Of the attempts that are done.
    """

    def __init__(self, task: Task):
        self.task, self.attempt, self.level = task, 0, 0
        self.before: list[Iteration] = []
        self.best: Clustering | None = None

    def begin(self, attempt: int) -> None:
        """Begin with a new start."""
        self.work: Any = None  # before the next one takes memory
        self.attempt, self.level, self.before = attempt, 0, []
        self.rng = np.random.default_rng([self.task.seed, 0, attempt])
        self._enter()
        start = self.task.start
        if isinstance(start, str):
            start = init.start(start, self.sample, self.weights, self.task.k, self.rng, self.task.memory)
        self.progress = Progress(start)

    def grow(self, part: list[Iteration]) -> None:
        """Go on with the next sample, on which the centroids found so far are the start."""
        self.before += part
        self.level += 1
        self.work = None  # as above
        self._enter()
        self.progress = Progress(self.progress.centroids)

    def _enter(self) -> None:
        """Make everything that this level needs, but for what the iterations change."""
        task, size = self.task, self.task.plan.levels[self.level]
        self.entered = self.rng.bit_generator.state
        self.sample, self.weights = task.source, task.weights
        if size < task.source.n:
            self.sample, self.weights = init.subsample(task.source, task.weights, size, self.rng, task.memory)
        self.adapt = None
        if task.plan.recall is not None:
            self.adapt = Adaptive(task.plan.spec, task.plan.recall, self.sample, self.rng)
        self.work = self._pass(self.sample, self.weights)

    def _pass(self, source: Source, weights: np.ndarray | None) -> Search | Sweep:
        return passes(source, weights, self.task.k, self.task.plan, self.task.metric, self.task.memory)

    def states(self) -> Iterator[State]:
        """The iterations on this level, from where it is."""
        task = self.task
        return lloyd(
            self.work,
            self.progress,
            task.plan.spec,
            metric=task.metric,
            empty=task.empty,
            device=task.device,
            rng=self.rng,
            adapt=self.adapt,
            note=task.plan.reason,
        )

    def done(self, part: list[Iteration], reason: StopReason) -> None:
        """Take note of the attempt's outcome."""
        history, whole = self.before + part, self.level == len(self.task.plan.levels) - 1
        if self.best is None or (whole and history[-1].inertia < self.best.history[-1].inertia):
            self.best = Clustering(self.progress.centroids, self.work, history, reason, self.adapt)

    # ----------------------------------------------------------------- on disk

    def record(self, part: list[Iteration]) -> Record:
        """All of it, `part` being the iterations on this level, as plain values and arrays."""
        p, best = self.progress, self.best
        values: dict[str, Any] = {
            "attempt": self.attempt,
            "level": self.level,
            "iteration": p.iteration,
            "last": p.last,
            "rises": p.rises,
            "rose": p.rose,
            "built": None if p.built is None else p.built[1],
            "entered": self.entered,
            "rng": self.rng.bit_generator.state,
            "adapt": None if self.adapt is None else str(self.adapt.spec),
            "before": [asdict(record) for record in self.before],
            "part": [asdict(record) for record in part],
            "best": None,
        }
        arrays = {"centroids": p.centroids, **{f"work_{name}": a for name, a in self.work.state().items()}}
        if p.built is not None:
            arrays["built"] = p.built[0]
        if best is not None:
            values["best"] = {
                "history": [asdict(record) for record in best.history],
                "reason": str(best.stop_reason),
                "adapt": None if best.adapt is None else str(best.adapt.spec),
            }
            arrays |= {"best": best.centroids, **{f"best_{name}": a for name, a in best.work.state().items()}}
        return values, arrays

    def restore(self, record: Record) -> list[Iteration]:
        """Take up what `record` gave, of a fit of the same task; returns its `part`."""
        values, arrays = record
        self.attempt, self.level = values["attempt"], values["level"]
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = values["entered"]
        self._enter()
        self.rng.bit_generator.state = values["rng"]
        if self.adapt is not None:
            self.adapt.spec = parse_index(values["adapt"])
        self.work.restore(_named(arrays, "work_"))
        self.before = [Iteration(**record) for record in values["before"]]
        built = None if values["built"] is None else (np.array(arrays["built"]), values["built"])
        p = Progress(np.array(arrays["centroids"]), built=built)
        p.iteration, p.last, p.rises, p.rose = (values[name] for name in ("iteration", "last", "rises", "rose"))
        self.progress = p
        if (best := values["best"]) is not None:
            work = self._pass(self.task.source, self.task.weights)
            work.restore(_named(arrays, "best_"))
            adapt = self.adapt
            if adapt is not None:
                adapt = adapt.at(parse_index(best["adapt"]))
            history = [Iteration(**record) for record in best["history"]]
            self.best = Clustering(np.array(arrays["best"]), work, history, StopReason(best["reason"]), adapt)
        return [Iteration(**record) for record in values["part"]]


def cluster(
    task: Task,
    rules: Rules,
    *,
    checkpoints: Checkpoints | None = None,
    watchers: Sequence[Callable[[State], Any]] = (),
    verbose: bool = False,
) -> Clustering:
    """Cluster the rows from `n_init` starts; the best clustering is returned.

    Each start trains on the samples the plan names, one after the other, the last being all rows. Each of
    `watchers` is called with every state; one that returns True ends the fit. So does Ctrl-C, after the
    running iteration. With `checkpoints` it goes on from the last of these.
    """
    fit, part, ended = Fit(task), list[Iteration](), (StopReason.CONVERGED, StopReason.MAX_ITER)
    found = None if checkpoints is None else checkpoints.latest
    if found is not None:
        part = fit.restore(found)
    with CtrlC() as ctrl_c:
        for attempt in range(fit.attempt, task.n_init):
            with _bar(verbose, rules.max_iter, attempt if task.n_init > 1 else None) as bar:
                if found is None:
                    fit.begin(attempt)
                found = None
                while True:
                    part, reason = iterate(
                        fit.states(),
                        rules,
                        partial(task.plan.enough, fit.level),
                        ctrl_c,
                        [bar, *watchers],
                        history=part,
                        keep=None if checkpoints is None else lambda so_far: checkpoints.offer(fit.record, so_far),
                    )
                    if fit.level == len(task.plan.levels) - 1 or reason not in ended:
                        break
                    fit.grow(part)
                    part = []
            fit.done(part, reason)
            part = []
            if reason not in ended:
                break
    assert fit.best is not None
    return fit.best


def iterate(
    states: Iterator[State],
    rules: Rules,
    enough: Callable[[list[float]], bool],
    ctrl_c: CtrlC,
    watchers: Sequence[Callable[[State], Any]],
    *,
    ignore_empty: bool = False,
    history: Sequence[Iteration] = (),
    keep: Callable[[list[Iteration]], Any] | None = None,
) -> tuple[list[Iteration], StopReason]:
    """Iterate until a stopping rule holds; converged with empty clusters only if these are to be ignored.

    `history` holds the iterations that were done before. `keep` is called with all of them whenever it goes on.
    """
    done_before, history = len(history), list(history)
    began = time.perf_counter()
    for state in states:
        previous = history[-1].inertia if history else None
        history.append(state.record)
        spent = time.perf_counter() - began
        asked = [bool(watch(state)) for watch in watchers]
        record = state.record
        done = converged(previous, record.inertia, record.moved, rules.tol) or enough([r.inertia for r in history])
        if done and (record.empty == 0 or ignore_empty) and not state.rose:
            return history, StopReason.CONVERGED
        if ctrl_c.pressed:
            return history, StopReason.INTERRUPTED
        if any(asked):
            return history, StopReason.CALLBACK
        if len(history) >= rules.max_iter:
            return history, StopReason.MAX_ITER
        if not rules.deadline.allows(spent / (len(history) - done_before)):
            return history, StopReason.TIME_LIMIT
        if keep is not None:
            keep(history)
    raise AssertionError("the loop never ends by itself")  # pragma: no cover


def _named(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


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

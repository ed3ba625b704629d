"""Run the Lloyd loop from each start, on each sample, stop it by the rules, keep the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Self

import numpy as np

from fastann.cluster import start
from fastann.cluster.beginning import Beginning
from fastann.cluster.checkpoint import Checkpoints, Snapshot
from fastann.cluster.clock import Clock
from fastann.cluster.empty import EMPTY
from fastann.cluster.lloyd import Iteration, Progress, State, Upkeep, lloyd
from fastann.cluster.memory import Memory
from fastann.cluster.passes.base import Pass
from fastann.cluster.passes.every import Every
from fastann.cluster.plan import Plan
from fastann.cluster.progress import Bar
from fastann.cluster.space import Space
from fastann.cluster.stop import ENDED, CtrlC, Deadline, StopReason, converged
from fastann.data.source import Source
from fastann.index.base import Spec
from fastann.index.parse import parse_index
from fastann.index.recall import Adaptive

_SPARE = 0.5  # of what another iteration must gain, clusters that are empty may be worth


@dataclass(frozen=True)
class Rules:
    """When to stop: iterations at most (on samples and all rows together), relative decrease of inertia, time."""

    max_iter: int
    tol: float
    deadline: Deadline


@dataclass(frozen=True)
class Task:
    """What is to be clustered and how: the rows, seen in their space, and what does not change on the way.

    Attributes
    ----------
    source : Source
    weights : float64 [n] or None
    k : int
    space : Space
    plan : Plan
    start : str, float32 [k, d] or callable
        A method of `fastann.cluster.start`, or centroids, or what gives those of a start by its number.
    n_init : int
    empty : str
        A policy of `fastann.cluster.empty`.
    device : "cpu" or tuple of int
    seed : int
    memory : Memory
    told : bool
        Whether those who are told of iterations may keep the centroids; else the next iteration writes over them, which
        takes less memory.
    """

    source: Source
    weights: np.ndarray | None
    k: int
    space: Space
    plan: Plan
    start: str | np.ndarray | Callable[[int], np.ndarray]
    n_init: int
    empty: str
    device: Any
    seed: int
    memory: Memory
    told: bool = True


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes
    ----------
    work : Pass
        The last one, with its centroids and the state of its rows.
    history : list of Iteration
    stop_reason : StopReason
    spec : Spec or None
        The index with the search option that was found, where it left one open.
    """

    work: Pass
    history: list[Iteration]
    stop_reason: StopReason
    spec: Spec | None


class Fit:
    """A fit under way: what it takes to go on from where it is, so that it can be written down and read again.

    Attributes
    ----------
    attempt, level : int
        The start that is iterated from, and the sample that is trained on; the last of the plan's is all rows.
    rng : Generator
    seeds : int64 [k] or None
        Rows that this attempt started from, where it begins with samples: each of these has them.
    before, part : list of Iteration
        What was done in this attempt on smaller samples, and on this one.
    reason : StopReason
        Why the iterations on this sample stopped; whoever makes them sets it.
    progress, upkeep, work
        Where the loop is on this level, its index and its pass.
    best : Trained or None
        Of the attempts that are done.
    clock : Clock
        Of all attempts.
    """

    reason = StopReason.CONVERGED

    def __init__(self, task: Task, clock: Clock | None = None, *, recorded: bool = False):
        self.task, self.clock, self.recorded = task, clock or Clock(), recorded
        self.best: Trained | None = None
        self.work: Any = None
        self.seeds: np.ndarray | None = None

    @classmethod
    def begin(cls, task: Task, clock: Clock | None = None, *, recorded: bool = False) -> Self:
        """From the first start; `recorded` if it may go on from a checkpoint."""
        fit = cls(task, clock, recorded=recorded)
        fit._attempt(0)
        return fit

    @classmethod
    def resume(cls, task: Task, found: Snapshot | None, clock: Clock | None = None) -> Self | None:
        """From where a checkpoint of the same task was made; None if there is none."""
        if found is None:
            return None
        fit = cls(task, clock, recorded=True)
        fit._restore(found)
        return fit

    # ----------------------------------------------------------------- what is iterated

    def attempts(self) -> Iterator[int]:
        """Every start, from the present one on: its number."""
        while True:
            yield self.attempt
            self._done()
            if self.reason not in ENDED or self.attempt == self.task.n_init - 1:
                return
            self._attempt(self.attempt + 1)

    def stages(self) -> Iterator[Iterator[State]]:
        """Every sample of this attempt, from the present one on: the iterations on it."""
        task = self.task
        while True:
            yield lloyd(
                self.work,
                self.progress,
                self.upkeep,
                criterion=task.plan.criterion,
                refill=EMPTY[task.empty],
                rng=self.rng,
                note=task.plan.reason,
                clock=self.clock,
            )
            if self.whole or self.reason not in ENDED:
                return
            self._grow()

    @property
    def whole(self) -> bool:
        """Whether all rows are trained on."""
        return self.level == len(self.task.plan.levels) - 1

    def allowed(self, max_iter: int) -> int:
        """Iterations that may be done on this level: on a sample, half of those that are left."""
        left = max_iter - len(self.before)
        return left if self.whole else max(1, left // 2)

    def _attempt(self, attempt: int) -> None:
        """Begin with a new start."""
        task = self.task
        self.work = None  # before the next one takes memory
        self.attempt, self.level, self.before, self.seeds = attempt, 0, list[Iteration](), None
        self.rng = np.random.default_rng([task.seed, 0, attempt])
        if not isinstance(task.start, str):
            self._enter()
            with self.clock("start"):
                self.work.centroids = task.start(attempt) if callable(task.start) else task.start
        elif self.whole:
            self._enter()
            self.work.centroids, _ = self._begun(task.start, self.work)
        else:  # a start from a sample would miss what few rows tell
            centroids, self.seeds = self._begun(task.start, start.Whole(task.source, task.weights))
            self._enter()
            self.work.centroids = centroids

    def _begun(self, name: str, lot: start.Lot) -> tuple[np.ndarray, np.ndarray]:
        """Centroids to start from, float32 [k, d], and the rows that they came from."""
        task, trim = self.task, self.task.plan.trim
        if trim is not None:  # a pass gives rows that it leaves out no weight; a start needs the weights as given
            lot = start.Whole(task.source, task.weights)
        given = Beginning(lot, task.k, task.space, self.rng, task.memory, trim)
        return given.centroids(name, swaps=task.plan.swaps, clock=self.clock)

    def _grow(self) -> None:
        """Go on with the next sample, on which the centroids found so far are the start."""
        centroids = self.work.settled
        self.before = self.before + self.part
        self.level += 1
        self.work = None  # as above
        self._enter()
        self.work.centroids = centroids

    def _enter(self) -> None:
        """Make everything that this level needs, but for what the iterations change."""
        task, size = self.task, self.task.plan.levels[self.level]
        self.entered = self.rng.bit_generator.state
        sample, weights = task.source, task.weights
        if size < task.source.n:
            with self.clock("read"):
                sample, weights = start.subsample(task.source, task.weights, size, self.rng, task.memory, self.seeds)
        self.work = self._pass(sample, weights)
        adapt = None
        if task.plan.recall is not None:
            adapt = Adaptive(task.plan.spec, task.plan.recall, self.work, self.rng)
        self.part, self.progress = list[Iteration](), Progress()
        self.upkeep = Upkeep(task.plan.spec, task.device, adapt, self.recorded)

    def _pass(self, source: Source, weights: np.ndarray | None) -> Pass:
        work = self.task.plan.work(source, weights, self.task.k, self.task.space, self.task.memory)
        work.told = self.task.told
        return work

    def _done(self) -> None:
        """Take note of the attempt's outcome."""
        history = self.before + self.part
        if self.best is None or (self.whole and history[-1].inertia < self.best.history[-1].inertia):
            adapt = self.upkeep.adapt
            self.best = Trained(self.work, history, self.reason, None if adapt is None else adapt.spec)

    # ----------------------------------------------------------------- on disk

    def record(self) -> Snapshot:
        """All of it, as plain values and arrays."""
        p, adapt, built, best = self.progress, self.upkeep.adapt, self.upkeep.built, self.best
        values: dict[str, Any] = {
            "attempt": self.attempt,
            "level": self.level,
            "iteration": p.iteration,
            "last": p.last if self.part else None,  # infinite before
            "rises": p.rises,
            "rose": p.rose,
            "built": None if built is None else built[1],
            "entered": self.entered,
            "seconds": self.clock.read(),
            "rng": self.rng.bit_generator.state,
            "adapt": None if adapt is None else str(adapt.spec),
            "before": [asdict(record) for record in self.before],
            "part": [asdict(record) for record in self.part],
            "best": None,
        }
        arrays = {"centroids": self.work.centroids}
        if self.part:  # before the first iteration rows have nothing to remember
            arrays |= {f"work_{name}": a for name, a in self.work.state().items()}
        if built is not None:
            arrays["built"] = built[0]
        if self.seeds is not None:
            arrays["seeds"] = self.seeds
        if best is not None:
            values["best"] = {
                "history": [asdict(record) for record in best.history],
                "reason": str(best.stop_reason),
                "adapt": None if best.spec is None else str(best.spec),
            }
            arrays |= {"best": best.work.centroids, **{f"best_{name}": a for name, a in best.work.state().items()}}
        return values, arrays

    def _restore(self, record: Snapshot) -> None:
        """Take up what `record` gave, of a fit of the same task."""
        values, arrays = record
        self.clock.count(values["seconds"])
        self.attempt, self.level = values["attempt"], values["level"]
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = values["entered"]
        self.seeds = np.array(arrays["seeds"]) if "seeds" in arrays else None
        self._enter()
        self.rng.bit_generator.state = values["rng"]
        if self.upkeep.adapt is not None:
            self.upkeep.adapt.spec = parse_index(values["adapt"])
        if values["built"] is not None:
            self.upkeep.built, self.upkeep.follows = (np.array(arrays["built"]), values["built"]), True
        if remembered := _named(arrays, "work_"):
            self.work.restore(remembered)
        self.work.centroids = np.array(arrays["centroids"])
        self.before, self.part = ([Iteration(**one) for one in values[name]] for name in ("before", "part"))
        if self.part:
            self.progress = Progress(*(values[name] for name in ("iteration", "last", "rises", "rose")))
        if (best := values["best"]) is not None:
            work = self._pass(self.task.source, self.task.weights)
            work.restore(_named(arrays, "best_"))
            work.centroids = np.array(arrays["best"])
            history = [Iteration(**one) for one in best["history"]]
            spec = None if best["adapt"] is None else parse_index(best["adapt"])
            self.best = Trained(work, history, StopReason(best["reason"]), spec)


def cluster(
    task: Task,
    rules: Rules,
    *,
    checkpoints: Checkpoints | None = None,
    watchers: Sequence[Callable[[State], Any]] = (),
    bar: Bar | None = None,
    clock: Clock | None = None,
) -> Trained:
    """Cluster the rows from `n_init` starts; the best clustering is returned.

    Each start trains on the samples the plan names, one after the other, the last being all rows. Each of
    `watchers` is called with every state; one that returns True ends the fit. So does Ctrl-C, after the
    running iteration. With `checkpoints` it goes on from the last of these. `bar` shows the iterations, `clock` gets
    the seconds.
    """
    # Each sample takes one iteration at least, and all rows one.
    task = replace(task, plan=replace(task.plan, levels=task.plan.levels[-rules.max_iter :]))
    bar = Bar(False, "k-means") if bar is None else bar
    watchers = [partial(_show, bar), *watchers]
    clock = clock or Clock()
    found, recorded = None if checkpoints is None else checkpoints.latest, checkpoints is not None
    fit = Fit.resume(task, found, clock) or Fit.begin(task, clock, recorded=recorded)
    keep = None if checkpoints is None else partial(checkpoints.offer, fit.record)
    with CtrlC() as ctrl_c:
        for attempt in fit.attempts():
            if task.n_init > 1:
                bar.begin(f"k-means, start {attempt + 1}")
            for states in fit.stages():
                if keep is not None and not fit.part:
                    keep()  # a start of many clusters takes as long as iterations do
                now = replace(rules, max_iter=fit.allowed(rules.max_iter))
                enough = partial(task.plan.enough, fit.level)
                # One of many clusters that gets rows again gains about what it costs: a share of 1 / k.
                spare = int(_SPARE * task.plan.least(fit.level) * task.k)
                fit.reason = iterate(states, now, enough, ctrl_c, watchers, fit.part, spare=spare, keep=keep)
    assert fit.best is not None
    return fit.best


def untrained(task: Task) -> Trained:
    """The centroids that the task starts from, given as an array or by a function, as they are."""
    assert not isinstance(task.start, str)
    centroids = task.start(0) if callable(task.start) else task.start
    work = Every.over(task.source, task.weights, centroids, task.space, task.memory)
    spec, target = task.plan.spec, task.plan.recall
    if target is None:
        return Trained(work, [], StopReason.GIVEN, None)
    adapt = Adaptive(spec, target, work, np.random.default_rng([task.seed, 0, 0]))
    adapt(spec.started().build(centroids, seed=0, device=task.device), centroids)
    return Trained(work, [], StopReason.GIVEN, adapt.spec)


def iterate(
    states: Iterator[State],
    rules: Rules,
    enough: Callable[[list[float]], bool],
    ctrl_c: CtrlC,
    watchers: Sequence[Callable[[State], Any]],
    history: list[Iteration],
    *,
    spare: float = 0,
    keep: Callable[[], Any] | None = None,
) -> StopReason:
    """Iterate until a stopping rule holds; converged with more than `spare` empty clusters only if these stay so.

    `history` has the iterations that were done before, and gets those done here. `keep` is called whenever it goes
    on.
    """
    done_before, began = len(history), time.perf_counter()
    for state in states:
        previous = history[-1].inertia if history else None
        history.append(state.record)
        spent = time.perf_counter() - began
        asked = [bool(watch(state)) for watch in watchers]
        record = state.record
        done = converged(previous, record.inertia, record.moved, rules.tol) or enough([r.inertia for r in history])
        filled = record.empty <= spare or record.inertia == 0  # with 0, there is nothing to fill them for
        if done and (filled or _idle(history, rules.tol)) and not state.rose:
            return StopReason.CONVERGED
        if ctrl_c.pressed:
            return StopReason.INTERRUPTED
        if any(asked):
            return StopReason.CALLBACK
        if len(history) >= rules.max_iter:
            return StopReason.MAX_ITER
        if not rules.deadline.allows(spent / (len(history) - done_before)):
            return StopReason.TIME_LIMIT
        if keep is not None:
            keep()
    raise AssertionError("the loop never ends by itself")  # pragma: no cover


def _idle(history: list[Iteration], tol: float) -> bool:
    """Whether three iterations in turn gained nothing, with clusters that no row was found for."""
    last = history[-4:]
    gained = any(a.inertia - b.inertia > tol * a.inertia for a, b in pairwise(last))
    return len(last) == 4 and not gained and all(record.empty for record in last)


def _named(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def _show(bar: Bar, state: State) -> None:
    record = state.record
    bar.step(note=f"inertia {record.inertia:.6g}, moved {record.moved / record.rows:.1%}")

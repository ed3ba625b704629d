"""K-means within every class: from labelled rows to prototypes, merged and pruned as asked."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from fastann.classify.prototypes import Prototypes, Thinning, prune, shrink, sqnorms_of
from fastann.classify.search import PrototypeSearch
from fastann.classify.start import start
from fastann.cluster.criterion import NEAREST
from fastann.cluster.empty import EMPTY
from fastann.cluster.fit import Rules, iterate
from fastann.cluster.lloyd import Progress, State, Upkeep, lloyd
from fastann.cluster.passes.groups import Shared, Sharing, Within
from fastann.cluster.passes.rows import Rows
from fastann.cluster.progress import Bar
from fastann.cluster.space import Space
from fastann.cluster.stop import CtrlC, Deadline
from fastann.data.source import Source, Subset

SIZES = (1, 2, 4, 8)  # numbers of prototypes per class among which "auto" chooses
GAIN = 0.05  # share by which twice the prototypes must lower the squared distances of rows not trained on
SIZING_EPOCHS = 5  # of k-means at most, for each of these numbers


@dataclass(frozen=True)
class Epoch:
    """Record of one epoch or batch.

    Attributes
    ----------
    phase : {"k-means", "refine", "stream"}
    rows : int
        Rows visited.
    objective : float
        Weighted sum of squared distances to the prototypes; for "refine" the mean cross-entropy.
    shift : float
        Mean L2 distance by which prototypes moved.
    merged : int
        Prototypes merged away after it.
    active : int
        Prototypes after it.
    seconds : float
    """

    phase: str
    rows: int
    objective: float
    shift: float
    merged: int
    active: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Recipe:
    """How prototypes are trained: everything but the data.

    Attributes
    ----------
    space : Space
    init : {"k-means++", "random"}
        Where prototypes start.
    sharing : Sharing or None
        How a row is shared among prototypes; None gives it to the nearest of its class.
    thinning : Thinning
    shrinkage : float or None
        See `shrink`, of which it is the strength.
    max_iter : int
        Epochs of k-means at most.
    tol : float
        Share of the sum of squared distances below which a decrease ends the epochs.
    candidates : int
        Nearest prototypes of any class that refinement looks at, per row.
    dtype : {"float32", "float16", "bfloat16"}
        Of rows that a stream keeps.
    spec : PrototypeSearch
        How the nearest prototypes of all classes are found in training.
    device : str or tuple of int
    """

    space: Space
    init: str
    sharing: Sharing | None
    thinning: Thinning
    shrinkage: float | None
    max_iter: int
    tol: float
    candidates: int
    dtype: str
    spec: PrototypeSearch
    device: Any


@dataclass
class LabelledRows:
    """Labelled rows.

    Attributes
    ----------
    source : Source
        In the space that distances are computed in.
    labels : int32 [n]
        Class of each, by number.
    weights : float64 [n] or None
    classes : int
        How many there are, of which some may have no rows.
    """

    source: Source
    labels: np.ndarray
    weights: np.ndarray | None
    classes: int

    def __getitem__(self, picks: np.ndarray) -> LabelledRows:
        weights = None if self.weights is None else self.weights[picks]
        return LabelledRows(Subset(self.source, picks), self.labels[picks], weights, self.classes)

    def counts(self) -> np.ndarray:
        """Rows of positive weight of each class: int64 [classes]."""
        labels = self.labels if self.weights is None else self.labels[self.weights > 0]
        return np.bincount(labels, minlength=self.classes)

    def unit(self) -> np.ndarray | None:
        """Mean weight of these rows, class by class, float64 [classes]; None without weights."""
        if self.weights is None:
            return None
        whole, counts = np.bincount(self.labels, self.weights, minlength=self.classes), self.counts()
        return np.where(counts > 0, whole / np.maximum(counts, 1), 1.0)


@dataclass
class Course:
    """The epochs so far: their records, which a progress bar shows.

    Attributes
    ----------
    bar : Bar or None
    history : list of Epoch
    before : float32 [K, d], CSR matrix or None
        Prototypes before the epoch that runs.
    clock : float
        When it began, by `time.perf_counter`.
    """

    bar: Bar | None = None
    history: list[Epoch] = field(default_factory=list)
    before: Any = None
    clock: float = field(default_factory=time.perf_counter)

    def begin(self, vectors: Any) -> None:
        """Note where prototypes are as an epoch begins, and the time."""
        self.before, self.clock = vectors, time.perf_counter()

    def __call__(self, state: State) -> None:
        self.note("k-means", state.record.rows, state.record.inertia, state.centroids)

    def note(self, phase: str, rows: int, objective: float, vectors: Any) -> None:
        """Record an epoch that led to `vectors`."""
        now = time.perf_counter()
        shift = mean_shift(self.before, vectors)
        self.history.append(Epoch(phase, rows, objective, shift, 0, vectors.shape[0], now - self.clock))
        if self.bar is not None:
            self.bar.step(note=f"{phase}, shift {shift:.2e}, {vectors.shape[0]:,} prototypes")
        self.begin(vectors)

    def thinned(self, merged: int, active: int) -> None:
        """Put into the last record how many prototypes were merged away after it, and how many are left."""
        self.history[-1] = replace(self.history[-1], merged=merged, active=active)


def mean_shift(before: Any, after: Any) -> float:
    """Mean L2 distance between matching rows."""
    return float(np.sqrt(sqnorms_of(after - before)).mean()) if before.shape[0] else 0.0


def train(
    recipe: Recipe, data: LabelledRows, sizes: np.ndarray, rng: np.random.Generator, course: Course
) -> tuple[Prototypes, np.ndarray]:
    """K-means within every class from fresh starts, then thinning; both once more if that left fewer prototypes.

    Returns
    -------
    prototypes : Prototypes
    pulled : float64 [K]
        Share by which each was pulled to the mean of its class in the end.
    """
    vectors, got = start(data.source, data.labels, data.weights, sizes, recipe.init, rng)
    owner = np.repeat(np.arange(len(got), dtype=np.int32), got)
    p = Prototypes(vectors, owner, np.ones(len(owner)), np.zeros(len(owner)))
    for _ in range(2):
        p = settle(recipe, data, p, rng, course)
        before = len(p)
        p, merged = recipe.thinning(p, recipe.space, rng)
        course.thinned(merged, len(p))
        if len(p) == before:
            break
    return shrink(p, recipe.shrinkage, recipe.space, data.unit())


def settle(recipe: Recipe, data: LabelledRows, p: Prototypes, rng: np.random.Generator, course: Course) -> Prototypes:
    """Iterate k-means within classes from given prototypes until `max_iter` or `tol` says stop."""
    work = within(recipe.space, data, p, recipe.sharing)
    states = lloyd(
        work,
        Progress(),
        Upkeep(None if recipe.sharing is None else recipe.spec, recipe.device),
        criterion=NEAREST,
        refill=EMPTY["keep"],
        rng=rng,
    )
    course.begin(p.vectors)
    rules = Rules(recipe.max_iter, recipe.tol, Deadline(None))
    # `CtrlC` is not entered as a context, so it catches nothing: an interrupt ends the whole classifier's fit, of which
    # this is one step, and the estimator stays as it was.
    iterate(states, rules, lambda inertias: False, CtrlC(), [course], [], spare=np.inf)
    return prune(weighed(work, p.owner), 0.0)


def within(space: Space, data: LabelledRows, p: Prototypes, sharing: Sharing | None = None) -> Within:
    """The pass that assigns labelled rows to the prototypes of their classes, or shares them among those near."""
    rows, first = Rows.new(data.source.n, data.weights), p.first(data.classes)
    if sharing is None:
        work = Within(data.source, rows, data.labels, first, space)
    else:
        work = Shared(data.source, rows, data.labels, first, space, sharing)
    work.centroids = p.vectors
    return work


def weighed(work: Within, owner: np.ndarray) -> Prototypes:
    """Prototypes with the weight and spread of the rows that a pass assigned to them."""
    rows, weights = work.rows, work.sums.counts.astype(np.float64)
    held = np.where(weights > 0, weights, 1)
    if work.space.unit:  # the mean squared distance of unit vectors to their mean is 1 - |mean|^2
        spread = np.maximum(0, 1 - sqnorms_of(work.sums.sums) / held**2)
    else:
        some = rows.labels >= 0
        far = rows.sqdist if rows.weights is None else rows.sqdist * rows.weights
        spread = np.bincount(rows.labels[some], far[some], minlength=len(owner)) / held
    return Prototypes(work.centroids, owner, weights, spread)


def reweigh(data: LabelledRows, p: Prototypes, space: Space) -> Prototypes:
    """The same prototypes with the weights of the rows of their class nearest to them."""
    work = within(space, data, p)
    work.assign(None, 0, NEAREST)
    return weighed(work, p.owner)


def choose_sizes(recipe: Recipe, data: LabelledRows, rng: np.random.Generator) -> np.ndarray:
    """Number of prototypes of each class, from its spread and size: int64 [classes].

    A class gets twice the prototypes as long as these, trained on one half of its rows, lower the squared distances of
    the other half by `GAIN`. So a class of few rows, or of a single mode, gets few.
    """
    half = rng.permutation(data.source.n) % 2 == 0
    fit, rest = data[np.flatnonzero(half)], data[np.flatnonzero(~half)]
    counts = fit.counts()
    chosen, before, going = np.ones(data.classes, np.int64), None, np.ones(data.classes, bool)
    plain = replace(
        recipe, sharing=None, thinning=Thinning(), shrinkage=0.0, max_iter=min(recipe.max_iter, SIZING_EPOCHS)
    )
    for size in SIZES:
        sizes = np.minimum(np.where(going, size, 1), np.maximum(1, counts))
        p, _ = train(plain, fit, sizes, rng, Course())
        work = within(recipe.space, rest, p)
        work.assign(None, 0, NEAREST)
        rows = work.rows
        far = rows.sqdist if rows.weights is None else rows.sqdist * rows.weights
        spread = np.bincount(rest.labels, far, minlength=data.classes)
        if before is not None:
            going &= (spread < (1 - GAIN) * before) & (counts >= 2 * size)
            chosen[going] = size
        before = spread
        if not going.any():
            break
    return chosen

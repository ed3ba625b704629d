"""From labelled rows to prototypes: k-means within classes, thinning, refinement where it helps."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from fastann.classify.prototypes import Prototypes, Thinning, prune, shrink, sqnorms_of
from fastann.classify.refine import Descent, calibrate
from fastann.classify.search import PrototypeSearch
from fastann.classify.start import start
from fastann.cluster.criterion import NEAREST
from fastann.cluster.empty import EMPTY
from fastann.cluster.fit import Rules, iterate
from fastann.cluster.lloyd import Progress, State, Upkeep, lloyd
from fastann.cluster.passes.groups import Shared, Sharing, Within, first_of, neighbours
from fastann.cluster.passes.rows import Rows
from fastann.cluster.space import Space
from fastann.cluster.stop import CtrlC, Deadline
from fastann.data.source import Source, Subset

HELD_OUT = 10  # one row in so many is held out to tell whether refinement helps
FEWEST_HELD_OUT = 50  # fewer cannot tell
TRIAL_ROWS = 100_000  # rows, of whole classes, that such a trial is made with
EPOCHS = 5  # of refinement
SIZES = (1, 2, 4, 8)  # prototypes a class among which "auto" chooses
GAIN = 0.05  # by how much twice the prototypes must lower the squared distances of rows not trained on


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
    """How prototypes are trained: everything but the data."""

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
class Table:
    """Labelled rows: a view in the space of the engine, class numbers (int32 [n]), weights (float64 [n] or None)."""

    source: Source
    labels: np.ndarray
    weights: np.ndarray | None
    classes: int

    def __getitem__(self, picks: np.ndarray) -> Table:
        weights = None if self.weights is None else self.weights[picks]
        return Table(Subset(self.source, picks), self.labels[picks], weights, self.classes)


@dataclass
class Course:
    """Watches the epochs go by: keeps their records, and shows them on a progress bar."""

    bar: Any = None
    history: list[Epoch] = field(default_factory=list)
    before: Any = None
    clock: float = field(default_factory=time.perf_counter)

    def begin(self, vectors: Any) -> None:
        """Note where prototypes stand, and the time."""
        self.before, self.clock = vectors, time.perf_counter()

    def __call__(self, state: State) -> None:
        self.note("k-means", state.record.rows, state.record.inertia, state.centroids)

    def note(self, phase: str, rows: int, objective: float, vectors: Any) -> None:
        """Record an epoch that led to `vectors`."""
        now = time.perf_counter()
        shift = mean_shift(self.before, vectors)
        self.history.append(Epoch(phase, rows, objective, shift, 0, vectors.shape[0], now - self.clock))
        if self.bar is not None:
            self.bar.set_postfix_str(f"{phase}, shift {shift:.2e}, {vectors.shape[0]:,} prototypes", refresh=False)
            self.bar.update()
        self.begin(vectors)

    def thinned(self, merged: int, active: int) -> None:
        """Add to the last record what was merged after it."""
        self.history[-1] = replace(self.history[-1], merged=merged, active=active)


def mean_shift(before: Any, after: Any) -> float:
    """Mean L2 distance between matching rows."""
    return float(np.sqrt(sqnorms_of(after - before)).mean()) if before.shape[0] else 0.0


def train(recipe: Recipe, data: Table, sizes: np.ndarray, rng: np.random.Generator, course: Course) -> Prototypes:
    """K-means within every class from fresh starts, then thinning; once more where prototypes merged."""
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
    return shrink(p, recipe.shrinkage, recipe.space)


def settle(recipe: Recipe, data: Table, p: Prototypes, rng: np.random.Generator, course: Course) -> Prototypes:
    """Iterate from given prototypes until the rules say stop."""
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
    # Not entered: Ctrl-C ends the whole fit, of which this is a part, and leaves the estimator as it was.
    iterate(states, rules, lambda inertias: False, CtrlC(), [course], [], ignore_empty=True)
    return prune(weighed(work, p.owner), 0.0)


def within(space: Space, data: Table, p: Prototypes, sharing: Sharing | None = None) -> Within:
    """The pass of labelled rows over the prototypes of their classes."""
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
    if work.space.unit:  # of unit vectors: 1 - |mean|^2
        spread = np.maximum(0, 1 - sqnorms_of(work.sums.sums) / held**2)
    else:
        some = rows.labels >= 0
        far = rows.sqdist if rows.weights is None else rows.sqdist * rows.weights
        spread = np.bincount(rows.labels[some], far[some], minlength=len(owner)) / held
    return Prototypes(work.centroids, owner, weights, spread)


def reweigh(data: Table, p: Prototypes, space: Space) -> Prototypes:
    """The same prototypes with the weights of the rows of their class nearest to them."""
    work = within(space, data, p)
    work.assign(None, 0, NEAREST)
    return weighed(work, p.owner)


def choose_sizes(recipe: Recipe, data: Table, rng: np.random.Generator) -> np.ndarray:
    """Number of prototypes of each class, from its spread and size: int64 [classes].

    Twice the prototypes are taken as long as, trained on one half of the class's rows, they lower the squared
    distances of the other half by `GAIN`: few rows, or a single mode, do not carry many prototypes.
    """
    half = rng.permutation(data.source.n) % 2 == 0
    fit, rest = data[np.flatnonzero(half)], data[np.flatnonzero(~half)]
    counts = np.bincount(fit.labels, minlength=data.classes)
    chosen, before, going = np.ones(data.classes, np.int64), None, np.ones(data.classes, bool)
    plain = replace(recipe, sharing=None, thinning=Thinning(), shrinkage=0.0, max_iter=min(recipe.max_iter, 5))
    for size in SIZES:
        sizes = np.minimum(np.where(going, size, 1), np.maximum(1, counts))
        p = train(plain, fit, sizes, rng, Course())
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


# --------------------------------------------------------------------------- refinement


@dataclass(frozen=True)
class Verdict:
    """Whether refinement helped: accuracy on rows held out, without and with it.

    Attributes
    ----------
    rows : int
        Rows held out; 0 if there were too few to tell.
    before, after : float or None
        Accuracy, weighted.
    kept : bool
    """

    rows: int
    before: float | None
    after: float | None
    kept: bool


def held_out(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows to hold out, about one in ten: bool [n]; every class keeps at least one row to learn from."""
    n = len(labels)
    order = rng.permutation(n)
    order = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    place = np.arange(n) - np.repeat(first_of(sizes)[:-1], sizes)
    # A class of c rows gives c / 10 of them: whole ones, and one more by chance for the fraction.
    quota = np.floor(sizes / HELD_OUT + rng.random(len(sizes)))
    out = np.zeros(n, bool)
    out[order] = place < np.repeat(np.minimum(quota, sizes - 1), sizes)
    return out


def fit_prototypes(
    recipe: Recipe,
    data: Table,
    sizes: np.ndarray,
    refine: str,
    rng: np.random.Generator,
    course: Course,
) -> tuple[Prototypes, float, Verdict | None]:
    """Train, and refine as asked: "none", "softmax", or "auto" where it helps on rows held out.

    Returns
    -------
    prototypes : Prototypes
    scale : float
        Of the softmax that turns cosines, or minus squared distances, into probabilities.
    verdict : Verdict or None
        For "auto".
    """
    scale, verdict = None, None
    if refine == "auto":
        scale, verdict = trial(recipe, data, sizes, rng)
    p = train(recipe, data, sizes, rng, course)
    if refine == "softmax" or (verdict is not None and verdict.kept):
        descent = descend(recipe, data, p, rng, course)
        p = reweigh(data, replace(p, vectors=descent.vectors), recipe.space)
        scale = descent.scale if scale is None else scale
    if scale is None:
        scale = judge(recipe, data[rows_of(data, rng)], p)[1]
    return p, scale, verdict


def trial(recipe: Recipe, data: Table, sizes: np.ndarray, rng: np.random.Generator) -> tuple[float | None, Verdict]:
    """Whether refinement classifies rows held out better, and the scale that suits the better prototypes."""
    data = data[rows_of(data, rng)]
    out = held_out(data.labels, rng)
    if out.sum() < FEWEST_HELD_OUT:
        return None, Verdict(0, None, None, False)
    rest, tested = data[np.flatnonzero(~out)], data[np.flatnonzero(out)]
    p = train(recipe, rest, sizes, rng, Course())
    before, scale = judge(recipe, tested, p)
    descent = descend(recipe, rest, p, rng, Course())
    after, refined_scale = judge(recipe, tested, replace(p, vectors=descent.vectors))
    kept = after > before
    return refined_scale if kept else scale, Verdict(int(out.sum()), before, after, kept)


def rows_of(data: Table, rng: np.random.Generator) -> np.ndarray:
    """About `TRIAL_ROWS` rows, sorted: those of some classes, whole, and of all classes if these are few and large."""
    n = data.source.n
    if n <= TRIAL_ROWS:
        return np.arange(n)
    counts = np.bincount(data.labels, minlength=data.classes)
    order = rng.permutation(data.classes)
    some = max(np.searchsorted(np.cumsum(counts[order]), TRIAL_ROWS) + 1, min(data.classes, 100))
    chosen = np.zeros(data.classes, bool)
    chosen[order[:some]] = True
    rows = np.flatnonzero(chosen[data.labels])
    return rows if len(rows) <= 2 * TRIAL_ROWS else np.sort(rng.choice(rows, TRIAL_ROWS, replace=False))


def judge(recipe: Recipe, data: Table, p: Prototypes) -> tuple[float, float]:
    """Weighted accuracy of prototypes on some rows, and the scale that suits their scores."""
    index = recipe.spec.build(p.vectors, seed=0, device=recipe.device)
    first, near, dist, begin = p.first(data.classes), [], [], 0
    for _, block in data.source.chunks():
        labels = data.labels[begin : begin + block.shape[0]]
        ids, sqdist = neighbours(index, block, labels, p.vectors, first, recipe.candidates)
        near.append(ids)
        dist.append(sqdist)
        begin += block.shape[0]
    ids, sqdist = np.concatenate(near), np.concatenate(dist)
    weights = np.ones(len(ids)) if data.weights is None else data.weights
    best = ids[np.arange(len(ids)), sqdist.argmin(axis=1)]
    hits = float(weights @ (p.owner[best] == data.labels)) / max(float(weights.sum()), np.finfo(float).tiny)
    score = np.where(ids >= 0, -sqdist.astype(np.float64) / recipe.space.per_score, -np.inf)
    right = (p.owner[ids] == data.labels[:, None]) & (ids >= 0)
    return hits, calibrate(score, right, weights)


def descend(recipe: Recipe, data: Table, p: Prototypes, rng: np.random.Generator, course: Course) -> Descent:
    """Refine prototypes by gradient descent."""
    descent = Descent(
        p,
        data.classes,
        euclidean=not recipe.space.unit,
        candidates=recipe.candidates,
        spec=recipe.spec,
        device=recipe.device,
        rng=rng,
    )
    course.begin(descent.vectors.copy())
    descent.epochs(
        data.source,
        data.labels,
        data.weights,
        EPOCHS,
        watch=lambda loss: course.note("refine", data.source.n, loss, descent.vectors.copy()),
    )
    return descent

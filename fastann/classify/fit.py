"""A fit of the classifier: training, and refinement where a trial on rows held out says that it helps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fastann.classify.prototypes import Prototypes
from fastann.classify.refine import Descent, calibrate
from fastann.classify.training import Course, LabelledRows, Recipe, reweigh, train
from fastann.cluster.passes.groups import first_of, neighbours

HELD_OUT = 10  # one row in so many is held out to tell whether refinement helps
FEWEST_HELD_OUT = 50  # with fewer rows held out nothing is tried
TRIAL_ROWS = 100_000  # rows, of whole classes, that the trial is made with
TRIAL_CLASSES = 100  # classes of which it has rows, at least
EPOCHS = 5  # of refinement


@dataclass(frozen=True)
class Verdict:
    """Whether refinement helped: accuracy on rows held out, without it and with it.

    Attributes
    ----------
    rows : int
        Rows held out; 0 if there were too few to tell.
    before, after : float or None
        Weighted accuracy; None if there were too few rows.
    kept : bool
        Whether the prototypes were refined.
    """

    rows: int
    before: float | None
    after: float | None
    kept: bool


def fit_prototypes(
    recipe: Recipe,
    data: LabelledRows,
    sizes: np.ndarray,
    refine: str,
    rng: np.random.Generator,
    course: Course,
) -> tuple[Prototypes, float, Verdict | None]:
    """Train, then refine as asked: "none" never, "softmax" always, "auto" if it helps on rows held out.

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


def trial(
    recipe: Recipe, data: LabelledRows, sizes: np.ndarray, rng: np.random.Generator
) -> tuple[float | None, Verdict]:
    """Whether refinement classifies rows held out better; and the scale for whichever prototypes did better.

    None if there were too few rows to tell.
    """
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


def rows_of(data: LabelledRows, rng: np.random.Generator) -> np.ndarray:
    """The rows that a trial is made with, sorted: all rows of some classes, about `TRIAL_ROWS` in all.

    There are at least `TRIAL_CLASSES` classes, or all. Should they hold more than twice `TRIAL_ROWS` rows, that many
    are drawn from them.
    """
    n = data.source.n
    if n <= TRIAL_ROWS:
        return np.arange(n)
    counts = np.bincount(data.labels, minlength=data.classes)
    order = rng.permutation(data.classes)
    some = max(np.searchsorted(np.cumsum(counts[order]), TRIAL_ROWS) + 1, min(data.classes, TRIAL_CLASSES))
    chosen = np.zeros(data.classes, bool)
    chosen[order[:some]] = True
    rows = np.flatnonzero(chosen[data.labels])
    return rows if len(rows) <= 2 * TRIAL_ROWS else np.sort(rng.choice(rows, TRIAL_ROWS, replace=False))


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


def judge(recipe: Recipe, data: LabelledRows, p: Prototypes) -> tuple[float, float]:
    """Weighted accuracy of prototypes on some rows, and the scale that makes the labels of these rows likeliest."""
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


def descend(recipe: Recipe, data: LabelledRows, p: Prototypes, rng: np.random.Generator, course: Course) -> Descent:
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

"""A fit of the classifier: training, and refinement where a trial on rows held out says that it helps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastann.classify.calibration import UNKNOWN, Calibration, Judged, judge, together
from fastann.classify.prototypes import Prototypes
from fastann.classify.refine import Descent
from fastann.classify.start import drawn
from fastann.classify.training import Course, LabelledRows, Recipe, reweigh, train
from fastann.cluster.passes.groups import first_of, neighbours
from fastann.data.source import Subset

HELD_OUT = 10  # one row in so many is held out to tell whether refinement helps
FEWEST_HELD_OUT = 50  # with fewer rows held out, or less evidence where some have most of the weight, nothing is tried
TRIAL_ROWS = 100_000  # rows, of whole classes, that the trial is made with
TRIAL_CLASSES = 100  # classes of which it has rows, at least
FOLDS = 5  # where one row in ten would be too few to fit the scale of refined prototypes to
EPOCHS = 5  # of refinement
GIVEN_UP, PER_GAIN = 0.01, 1 / 3  # balanced accuracy that refinement may cost, or this share of its gain in accuracy
NAMED = 5  # classes that lost recall which a verdict names, at most


@dataclass(frozen=True)
class Fall:
    """A class that refinement finds fewer rows of.

    Attributes
    ----------
    label : object
        Of the class.
    rows : int
        Rows of it that were held out.
    before, after : float
        Weighted recall on these.
    """

    label: Any
    rows: int
    before: float
    after: float

    @property
    def plain(self) -> bool:
        """Whether it is much, and more than chance makes of so many rows, even for one class of many."""
        lost, noise = self.before - self.after, self.before * (1 - self.before) + self.after * (1 - self.after)
        return lost >= 0.1 and self.rows >= HELD_OUT and lost > 4 * (noise / self.rows) ** 0.5


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
    balanced_before, balanced_after : float or None
        Mean of the weighted recalls of the classes.
    fell : tuple of Fall
        Classes that lost the most recall with refinement, at most five, most first.
    """

    rows: int
    before: float | None
    after: float | None
    kept: bool
    balanced_before: float | None = None
    balanced_after: float | None = None
    fell: tuple[Fall, ...] = ()

    def __str__(self) -> str:
        """What it is in words, with the class that lost the most recall."""
        if not self.rows:
            return "none: too few rows to hold some out"
        told = [
            f"{'kept' if self.kept else 'not kept'}: accuracy {self.before:.4f} -> {self.after:.4f}, balanced "
            f"{self.balanced_before:.4f} -> {self.balanced_after:.4f}, on {self.rows:,} rows held out"
        ]
        told += [f"recall of {f.label}: {f.before:.4f} -> {f.after:.4f} ({f.rows:,} rows)" for f in self.fell[:1]]
        return "\n".join(told)

    @classmethod
    def of(cls, data: LabelledRows, before: np.ndarray, after: np.ndarray) -> Verdict:
        """From which rows are found without and with refinement: bool [n] each.

        It is kept if it gains accuracy, and not at the cost of small classes, of which chance may have spared some: a
        standard error is added to what it costs. Where classes are of one size that is 0.
        """
        weights = np.ones(len(before)) if data.weights is None else data.weights
        whole = float(weights.sum())
        rows = np.bincount(data.labels, minlength=data.classes)
        weight = np.bincount(data.labels, weights, minlength=data.classes)
        held = weight > 0
        each = weights / np.where(held, weight, 1)[data.labels] / max(1, held.sum())  # a row's part in the mean recall
        one, two = (
            np.divide(
                np.bincount(data.labels, weights * found, minlength=data.classes), weight, where=held, out=weight * 0
            )
            for found in (before, after)
        )
        change = after.astype(float) - before
        gain, error = float(weights @ change) / whole, float(np.sqrt(change**2 @ (each - weights / whole) ** 2))
        kept = gain > 0 and error - float(each @ change) <= min(gain, max(GIVEN_UP, PER_GAIN * gain))
        worst = [c for c in np.argsort(two - one, kind="stable")[:NAMED] if two[c] < one[c]]
        fell = tuple(Fall(int(c), int(rows[c]), float(one[c]), float(two[c])) for c in worst)
        first, second = (float(weights @ found) / whole for found in (before, after))
        return cls(len(before), first, second, kept, float(one[held].mean()), float(two[held].mean()), fell)

    def named(self, classes: np.ndarray) -> Verdict:
        """The same with the labels of the classes in place of their numbers."""
        return replace(self, fell=tuple(replace(fall, label=_plain(classes[fall.label])) for fall in self.fell))


def fit_prototypes(
    recipe: Recipe,
    data: LabelledRows,
    sizes: np.ndarray,
    refine: str,
    rng: np.random.Generator,
    course: Course,
) -> tuple[Prototypes, Calibration, Verdict | None]:
    """Train, then refine as asked: "none" never, "softmax" always, "auto" if it helps on rows held out.

    Returns
    -------
    prototypes : Prototypes
    calibration : Calibration
        Of probabilities, by rows held out, or as if each had been left out.
    verdict : Verdict or None
        Of a trial on rows held out, which "softmax" also makes if there are rows enough.
    """
    judged, verdict, aside = None, None, rng.spawn(1)[0]
    if refine == "auto":
        judged, verdict = trial(recipe, data, sizes, rng)
    elif refine == "softmax":
        judged, verdict = trial(recipe, data, sizes, aside, always=True)
        judged = crossed(recipe, data, sizes, aside) if judged is None else judged
    p, pulled = train(recipe, data, sizes, rng, course)
    if judged is None:
        judged = judge(recipe, data, p, aside, pulled)
    if refine == "softmax" or (verdict is not None and verdict.kept):
        p = reweigh(data, replace(p, vectors=descend(recipe, data, p, rng, course).vectors), recipe.space)
    return p, UNKNOWN.after(judged), verdict


def trial(
    recipe: Recipe, data: LabelledRows, sizes: np.ndarray, rng: np.random.Generator, *, always: bool = False
) -> tuple[Judged | None, Verdict]:
    """Whether refinement classifies rows held out better; and these as judged by whichever prototypes did better.

    With `always` by the refined ones. None if there were too few rows to tell.
    """
    data = some_of(data, rng)
    out = held_out(data.labels, rng)
    weights = np.ones(len(out)) if data.weights is None else data.weights
    # Rows of these weights tell as much as so many of equal weight (Kish, 1965).
    if weights[out].sum() ** 2 < FEWEST_HELD_OUT * (weights[out] ** 2).sum() or not out.any():
        return None, Verdict(0, None, None, False)
    rest, tested = data[np.flatnonzero(~out)], data[np.flatnonzero(out)]
    p, _ = train(recipe, rest, sizes, rng, Course())
    refined = replace(p, vectors=descend(recipe, rest, p, rng, Course()).vectors)
    verdict = Verdict.of(tested, found(recipe, tested, p), found(recipe, tested, refined))
    verdict = replace(verdict, kept=verdict.kept or always)
    return judge(recipe, tested, refined if verdict.kept else p, rng.spawn(1)[0]), verdict


def crossed(recipe: Recipe, data: LabelledRows, sizes: np.ndarray, rng: np.random.Generator) -> Judged | None:
    """Rows as judged by refined prototypes of the others, fold by fold; None if no class can spare a row."""
    fold = (places(data.labels, rng) + rng.integers(FOLDS, size=data.classes)[data.labels]) % FOLDS
    fold[(data.counts() < 2)[data.labels]] = FOLDS  # in none
    parts = []
    for f in range(FOLDS):
        rest, tested = data[np.flatnonzero(fold != f)], data[np.flatnonzero(fold == f)]
        if not tested.counts().any():
            continue
        p, _ = train(recipe, rest, sizes, rng, Course())
        p = replace(p, vectors=descend(recipe, rest, p, rng, Course()).vectors)
        parts.append(judge(recipe, tested, p, rng.spawn(1)[0]))
    return together(parts) if parts else None


def some_of(data: LabelledRows, rng: np.random.Generator) -> LabelledRows:
    """The rows that a trial is made with: all rows of positive weight of some classes, about `TRIAL_ROWS` in all.

    There are at least `TRIAL_CLASSES` classes, or all. Should they hold more than twice `TRIAL_ROWS` rows, that many
    are drawn from them in proportion to their weights.
    """
    counts = data.counts()
    chosen = counts > 0
    if counts.sum() > TRIAL_ROWS:
        order = rng.permutation(data.classes)
        order = order[chosen[order]]
        some = max(np.searchsorted(np.cumsum(counts[order]), TRIAL_ROWS) + 1, min(len(order), TRIAL_CLASSES))
        chosen = np.zeros(data.classes, bool)
        chosen[order[:some]] = True
    elif data.weights is None or (data.weights > 0).all():
        return data[np.arange(data.source.n)]
    weights = chosen[data.labels] * (1.0 if data.weights is None else data.weights)
    size = TRIAL_ROWS if np.count_nonzero(weights) > 2 * TRIAL_ROWS else data.source.n
    rows, weights = drawn(data.source.n, weights, size, rng)
    return LabelledRows(
        Subset(data.source, rows), data.labels[rows], None if data.weights is None else weights, data.classes
    )


def places(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Place of each row among those of its class in a random order: int64 [n]."""
    n = len(labels)
    order = rng.permutation(n)
    order = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    place = np.empty(n, np.int64)
    place[order] = np.arange(n) - np.repeat(first_of(sizes)[:-1], sizes)
    return place


def held_out(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows to hold out, about one in ten: bool [n]; every class keeps at least one row to learn from."""
    place, sizes = places(labels, rng), np.bincount(labels)
    # A class of c rows gives c / 10 of them: whole ones, and one more by chance for the fraction.
    quota = np.floor(sizes / HELD_OUT + rng.random(len(sizes)))
    return place < np.minimum(quota, sizes - 1)[labels]


def found(recipe: Recipe, data: LabelledRows, p: Prototypes) -> np.ndarray:
    """Which of some rows, that prototypes were not made of, are given their class by these: bool [n]."""
    index = recipe.spec.build(p.vectors, seed=0, device=recipe.device)
    first, ids = p.first(data.classes), np.empty(data.source.n, np.int32)
    for start, block in data.source.chunks():
        part = slice(start, start + block.shape[0])
        near, sqdist = neighbours(index, block, data.labels[part], p.vectors, first, 1)  # of its class, and of all
        ids[part] = near[np.arange(len(near)), sqdist.argmin(axis=1)]
    return np.asarray(p.owner[ids] == data.labels)


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


def _plain(label: Any) -> Any:
    """A label as JSON can hold it."""
    value = label.item() if isinstance(label, np.generic) else label
    return value if isinstance(value, str | int | float) else str(value)

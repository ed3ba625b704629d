"""How sure a prediction is: the scale of the softmax over classes, by rows that the prototypes were not made of.

Rows that they were made of are judged as if they had been left out, which takes no second training: without a row, a
prototype that is a mean lies farther from it by a known factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist

from fastann.classify.half import Half
from fastann.classify.prototypes import Prototypes, sqnorms_of
from fastann.classify.start import drawn
from fastann.classify.training import LabelledRows, Recipe
from fastann.cluster.passes.groups import first_of
from fastann.data.source import Source

JUDGED, LEAST_JUDGED = 2048, 64  # rows that the scale is fitted to: at most, and at least
WORK = 2**27  # coordinates that judging may compare, above those of the least rows
AT_ONCE = 2**17  # coordinates of prototypes that rows are compared with at a time, which caches hold
BLOCK = 2**22  # distances between rows and prototypes at a time
NEAREST = 256  # classes nearest to a row whose scores are kept; the others are taken to be alike
MEMORY = 2000.0  # rows of a stream after which what was known of the scale counts for 1 / e; but while there are few,
YOUNG, PART = 50.0, 0.5  # so many and this part of them, as prototypes become better
ALONE = 1e-9  # share of a prototype that other rows must have for it to be there without a row
WIDTH = np.log(100)  # how far beyond the scales that distances suggest the scale is looked for


@dataclass(frozen=True)
class Judged:
    """Scores of classes for some rows.

    Attributes
    ----------
    score : float64 [n, m]
        Of the row's own class, then of others; -inf where there is none.
    times : float64 [m]
        Classes that each column stands for.
    weights : float64 [n]
    """

    score: np.ndarray
    times: np.ndarray
    weights: np.ndarray


def together(parts: list[Judged]) -> Judged:
    """Rows that were judged by several sets of prototypes of the same classes."""
    widest = max(parts, key=lambda part: len(part.times))
    scores = [
        np.pad(part.score, ((0, 0), (0, len(widest.times) - len(part.times))), constant_values=-np.inf)
        for part in parts
    ]
    return Judged(np.concatenate(scores), widest.times, np.concatenate([part.weights for part in parts]))


@dataclass(frozen=True)
class Calibration:
    """What is known of the scale of the softmax that turns scores of classes into probabilities.

    Attributes
    ----------
    scale : float
        Cosines, or minus squared distances, are multiplied with it.
    information : float
        Fisher's, about the logarithm of the scale; 0 where no row told of it.
    weight, squares : float
        Sum of the weights of the rows that it is known from, and of their squares.
    rows : float
        How many rows told of it.
    """

    scale: float = 1.0
    information: float = 0.0
    weight: float = 0.0
    squares: float = 0.0
    rows: float = 0.0

    def after(self, judged: Judged) -> Calibration:
        """What is known after some more rows, in proportion to which what was known before is forgotten.

        The labels are to be likeliest (temperature scaling; Guo et al., 2017), as if half a row more were taken for
        the rival of its class (after Platt, 1999): a few rows that are all right do not make certain. What is known
        already counts as a normal distribution of the logarithm of the scale.
        """
        score, times, weights = judged.score, judged.times, judged.weights
        found = np.isfinite(score)
        some = np.flatnonzero(found[:, 0] & (found[:, 1:].any(axis=1)) & (weights > 0))
        best = score[some].max(axis=1, keepdims=True)
        held = found[some]
        behind = np.where(held, best - np.where(held, score[some], 0), 0)
        if not behind.any():
            return self if self.information else Calibration(_unit(score))
        w, share = weights[some], times * held
        forget = float(np.exp(-len(some) / min(MEMORY, YOUNG + PART * self.rows)))
        weight, squares = forget * self.weight + float(w.sum()), forget * self.squares + float(w @ w)
        known, centre = forget * self.information, np.log(self.scale)
        doubt = 0.5 / (weight**2 / squares + 1)
        rival = np.where(held[:, 1:], behind[:, 1:], np.inf).min(axis=1)
        target = (1 - doubt) * behind[:, 0] + doubt * rival

        def loss(log_scale: float) -> float:
            scale = np.exp(log_scale)
            total = (share * np.exp(-scale * behind)).sum(axis=1)
            return float(w @ (np.log(total) + scale * target)) + known / 2 * (log_scale - centre) ** 2

        bounds = _bounds(behind, share)
        if known:
            bounds = min(bounds[0], centre), max(bounds[1], centre)
        log_scale = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x
        scale = float(np.exp(log_scale))
        chance = share * np.exp(-scale * behind)
        chance /= chance.sum(axis=1, keepdims=True)
        mean = (chance * behind).sum(axis=1)
        variance = (chance * behind**2).sum(axis=1) - mean**2
        return Calibration(
            scale, known + scale**2 * float(w @ np.maximum(variance, 0)), weight, squares, self.rows + len(some)
        )


UNKNOWN = Calibration()  # before any row was judged


def _bounds(behind: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    """Logarithms of scales between which the best is looked for, from how far classes are behind the nearest.

    Some may be much nearer to each other than most.
    """
    mean = float((share * behind).sum() / share.sum())
    rivals = np.partition(np.where(share > 0, behind, np.inf), 1, axis=1)[:, 1]
    rivals = rivals[(rivals > 0) & np.isfinite(rivals)]
    near = min(mean, float(np.median(rivals))) if len(rivals) else mean
    return -np.log(mean) - WIDTH, -np.log(near) + WIDTH


def _unit(score: np.ndarray) -> float:
    """Scale that takes the mean distance for 1, where no row tells which classes are mistaken for each other."""
    far = -score[np.isfinite(score)]
    return 1 / float(far.mean()) if far.any() else 1.0


def judge(
    recipe: Recipe,
    data: LabelledRows,
    p: Prototypes,
    rng: np.random.Generator,
    pulled: np.ndarray | None = None,
    most: int | None = None,
) -> Judged:
    """Scores of classes for some rows, drawn in proportion to their weights.

    Parameters
    ----------
    recipe : Recipe
    data : LabelledRows
    p : Prototypes
    rng : numpy.random.Generator
    pulled : float64 [K] or None
        None for rows that the prototypes were not made of. Else these are what `train` gave, and rows are judged as if
        they had been left out: shares by which prototypes were pulled to the mean of their class.
    most : int or None
        Rows at most; None goes by the work that they are.
    """
    x, k = data.source, len(p)
    most = int(np.clip(WORK // (k * width_of(x)), LEAST_JUDGED, JUDGED)) if most is None else most
    rows, weights = drawn(x.n, data.weights, most, rng)
    present = np.unique(p.owner)
    column = np.full(data.classes, -1)
    column[present] = np.arange(len(present))
    first, scores = p.first(data.classes)[present], []
    for begin in range(0, len(rows), max(1, BLOCK // k)):
        some = rows[begin : begin + max(1, BLOCK // k)]
        labels, sqdist = data.labels[some], differences(x.take(some), p.vectors)
        if pulled is not None:
            held = np.ones(len(some)) if data.weights is None else data.weights[some]
            leave_out(sqdist, labels, held, p, pulled, recipe)
        scores.append(_leading(np.minimum.reduceat(sqdist, first, axis=1) / -recipe.space.per_score, column[labels]))
    times = np.ones(2 if not scores else scores[0].shape[1])
    times[-1] = max(1, len(present) - 1 - NEAREST)
    return Judged(np.concatenate([np.empty((0, len(times))), *scores]), times, weights)


def width_of(x: Source) -> int:
    """Coordinates that a distance takes the time of."""
    return 128 if x.sparse else max(128, x.d)


def _leading(score: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Scores of the own class of each row, -inf for column -1; of others, the best `NEAREST`, and the mean of the rest.

    Parameters
    ----------
    score : float64 [n, classes]
    own : int64 [n]

    Returns
    -------
    float64 [n, 1 + min(classes, NEAREST + 1)]
    """
    rows = np.flatnonzero(own >= 0)
    first = np.full(len(own), -np.inf)
    first[rows] = score[rows, own[rows]]
    score[rows, own[rows]] = -np.inf
    count = score.shape[1] - 1
    if count > NEAREST:
        score = -np.partition(-score, NEAREST, axis=1)
        rest = score[:, NEAREST:]
        found = np.isfinite(rest)
        mean = np.where(found, rest, 0).sum(axis=1) / np.maximum(found.sum(axis=1), 1)
        score = np.column_stack([score[:, :NEAREST], np.where(found.any(axis=1), mean, -np.inf)])
    return np.column_stack([first, score])


def differences(x: Any, vectors: Any) -> np.ndarray:
    """Squared L2 distances of rows to all of some vectors, as dense or sparse as these: float64 [n, k].

    Of dense ones by differences, and without a BLAS, whose threads would take the cores from the loops around it.
    """
    if sparse.issparse(x):
        return Distances(vectors).to(x)
    out, step = np.empty((len(x), len(vectors))), max(1, AT_ONCE // vectors.shape[1])
    for begin in range(0, len(vectors), step):
        part = slice(begin, begin + step)
        out[:, part] = cdist(x, vectors[part], "sqeuclidean")
    return out


class Distances:
    """Squared L2 distances of many rows to all of some vectors, by products in float64.

    Parameters
    ----------
    vectors : float32 [k, d], or a CSR matrix
    """

    def __init__(self, vectors: Any):
        self.vectors = vectors if sparse.issparse(vectors) else vectors.astype(np.float64)
        self.squares = sqnorms_of(self.vectors)

    def to(self, x: Any) -> np.ndarray:
        """To the rows `x`, as dense or sparse as the vectors: float64 [n, k]."""
        if sparse.issparse(x):
            out = (x.astype(np.float64) @ self.vectors.astype(np.float64).T).toarray()
        else:
            out = x.astype(np.float64) @ self.vectors.T
        out *= -2
        out += sqnorms_of(x)[:, None]
        out += self.squares
        return np.maximum(out, 0, out=out)


def distances_to(vectors: Any) -> Callable[[Any], np.ndarray]:
    """What gives squared L2 distances of rows to all of some vectors: of a `Half`, with some of them wide at a time."""
    if not isinstance(vectors, Half):
        return Distances(vectors).to
    return lambda x: np.hstack([Distances(vectors[part]).to(x) for part in vectors.parts()])


def leave_out(
    sqdist: np.ndarray, labels: np.ndarray, weights: np.ndarray, p: Prototypes, pulled: np.ndarray, recipe: Recipe
) -> None:
    """Change squared distances to prototypes to what they are to those made without the row itself, in place.

    With the share a that a row has in a mean, this lies farther from it by 1 / (1 - a): that is exact as long as the
    rows of a prototype stay the same. One that has no other rows is infinitely far.

    Parameters
    ----------
    sqdist : float64 [n, K]
    labels : int32 [n]
    weights : float64 [n]
    p : Prototypes
    pulled : float64 [K]
        Shares by which they were pulled to the mean of their class.
    recipe : Recipe
    """
    first = p.first(int(labels.max()) + 1)
    sizes = np.diff(first)[labels]
    starts = first_of(sizes)
    row = np.repeat(np.arange(len(labels)), sizes)
    j = np.arange(len(row)) - (starts[:-1] - first[labels])[row]  # all prototypes of the row's class
    nearest = np.lexsort((sqdist[row, j], row))[starts[:-1][sizes > 0]]
    own = np.full((len(labels), 1), -1)
    own[sizes > 0, 0] = j[nearest]
    ids, held = own, weights[:, None] * (own >= 0)
    if recipe.sharing is not None:
        most = min(recipe.sharing.nearest, len(p))
        near = np.argpartition(sqdist, most - 1, axis=1)[:, :most]
        ids = np.hstack([own, np.where(near == own, -1, near)])
        similarity = recipe.space.similarity(np.take_along_axis(sqdist, ids, axis=1))
        held = recipe.sharing.shares(similarity, p.owner[ids] == labels[:, None], ids >= 0) * weights[:, None]
    mine = (ids >= 0) & (p.owner[ids] == labels[:, None])
    whole = np.bincount(p.owner, p.weights, minlength=len(first) - 1)
    mean = np.where(mine, held, 0).sum(axis=1) / np.maximum(whole, np.finfo(float).tiny)[labels]
    part = np.where(ids[row] == j[:, None], held[row], 0).sum(axis=1)
    _farther(
        sqdist, row, j, (1 - pulled[j]) * part / np.where(part > 0, p.weights[j], 1) + pulled[j] * mean[row], p, recipe
    )
    row, at = np.nonzero((ids >= 0) & ~mine & (held > 0))
    j = ids[row, at]
    _farther(sqdist, row, j, (1 - pulled[j]) * held[row, at] / p.weights[j], p, recipe)


def _farther(
    sqdist: np.ndarray, i: np.ndarray, j: np.ndarray, share: np.ndarray, p: Prototypes, recipe: Recipe
) -> None:
    """Take rows `i`, of which prototypes `j` consist by these shares, out of them, in place."""
    some = share > 0
    i, j, share = i[some], j[some], np.minimum(share[some], 1)
    near = sqdist[i, j]
    with np.errstate(divide="ignore", invalid="ignore"):
        if recipe.space.unit:
            length = np.sqrt(np.maximum(0, 1 - p.spread[j]))  # of the mean, whose direction the prototype is
            along = length * (1 - near / 2)
            norm = np.sqrt(np.maximum(0, length**2 - 2 * share * along + share**2))
            far = 2 - 2 * np.clip((along - share) / norm, -1, 1)
        else:
            far = near / (1 - share) ** 2
    sqdist[i, j] = np.where((1 - share > ALONE) & ~np.isnan(far), far, np.inf)

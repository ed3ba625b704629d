"""Refinement: stochastic gradient descent that also moves prototypes away from rows of other classes.

The loss is the cross-entropy of a softmax over the prototypes nearest to a row, where a class is as likely as its
prototypes together: the soft form of learning vector quantisation (Seo and Obermayer, 2003). Labels are smoothed over
the prototypes that the row looks at (Szegedy et al., 2016). Steps are those of Adam (Kingma and Ba, 2015), at a rate
that falls to 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.classify.prototypes import Prototypes, sqnorms_of
from fastann.classify.search import PrototypeSearch
from fastann.cluster.passes.groups import neighbours
from fastann.data.csr import entries_per_row
from fastann.data.source import Source

SMOOTHING = 0.15  # share of a row's label that goes to all prototypes it looks at
RATE = 0.05  # first step of a coordinate, as a share of the root mean square of the prototypes' coordinates
SHARPNESS = 14.0  # the scale that descent starts from is this over the mean squared distance of rows to prototypes
LISTS_LAST = 2  # epochs after which the prototypes near each row are looked up anew
BUDGET = 2**14  # values of sparse prototypes that a row is compared with when those near it are looked up
STEPS = 64  # batches per epoch of small data, if they hold LEAST rows each
LEAST, MOST = 32, 256  # rows of a batch; beyond 4 * STEPS batches of MOST rows, or with many prototypes, it has more
DENSER = 64  # every step goes over all stored values of sparse prototypes: a batch stores at least 1 / DENSER of them
LEAST_GRADIENT = 1e-4  # share of a row's pull on a prototype below which gradients no longer count in full


class Descent:
    """Gradient descent on a copy of the prototypes' vectors, and on the scale of the softmax.

    Parameters
    ----------
    prototypes : Prototypes
    classes : int
    euclidean : bool
        Scores are minus squared distances; otherwise they are cosines, and vectors keep unit norm.
    candidates : int
        Nearest prototypes of any class that a row looks at, besides the nearest of its own.
    spec : PrototypeSearch
        How these are found.
    device : str or tuple of int
    rng : numpy.random.Generator

    Attributes
    ----------
    vectors : float32 [K, d], or a float32 CSR matrix
    scale : float
        0 until the first prototypes are looked up, whose distances it starts from.
    mean, square : float32, one for each value that `vectors` stores
        Adam's running means of every coordinate's gradient and of its square.
    taken : int64 [K]
        Steps that each prototype has taken.
    slopes : float64 [2]
        Adam's running means for the logarithm of the scale.
    spread : float
        Root mean square of the coordinates, which a step is in proportion to.
    """

    def __init__(
        self,
        prototypes: Prototypes,
        classes: int,
        *,
        euclidean: bool,
        candidates: int,
        spec: PrototypeSearch,
        device: Any,
        rng: np.random.Generator,
    ):
        self.vectors = prototypes.vectors.copy()
        self.owner, self.first = prototypes.owner, prototypes.first(classes)
        self.euclidean, self.candidates = euclidean, candidates
        self.spec, self.device, self.rng = spec, device, rng
        self.scale = 0.0
        values = self.vectors.data if sparse.issparse(self.vectors) else self.vectors
        self.mean, self.square = np.zeros(values.size, np.float32), np.zeros(values.size, np.float32)
        self.taken = np.zeros(len(prototypes), np.int64)
        self.slopes = np.zeros(2)
        self.spread = self._spread()

    def epochs(
        self,
        source: Source,
        labels: np.ndarray,
        weights: np.ndarray | None,
        count: int,
        watch: Callable[[float], None] = lambda loss: None,
    ) -> None:
        """Go `count` times over the rows of a source; `watch` is told the mean loss of each epoch."""
        n = source.n
        size = max(int(np.clip(n // STEPS, LEAST, MOST)), n // (4 * STEPS), min(n // STEPS, len(self.owner) // 8))
        if sparse.issparse(self.vectors):
            size = max(size, min(n // 8, self.vectors.nnz // (DENSER * entries_per_row(source))))
        steps, step = count * -(-n // size), 0
        lists = np.empty((n, 0), np.int32)  # of the prototypes near each row, which change little in LISTS_LAST epochs
        for epoch in range(count):
            if epoch % LISTS_LAST == 0:
                lists = self._lists(source, labels, weights)
            order = self._order(n, weights)
            total = 0.0
            for start in range(0, len(order), size):
                rows, times = np.unique(order[start : start + size], return_counts=True)
                x, w = source.take(rows), times / times.sum()
                loss = self._step(x, labels[rows], w, lists[rows], RATE * (1 - step / steps))
                total, step = total + loss * times.sum(), step + 1
            watch(total / len(order))

    def _order(self, n: int, weights: np.ndarray | None) -> np.ndarray:
        """The rows of an epoch: each once, or as often as its weight is of the mean, a fraction being left to chance.

        So every batch has of each kind of rows what the weights say, however few rows have most of the weight.
        """
        if weights is None or weights.min() == weights.max():
            return self.rng.permutation(n)
        upto = np.cumsum(weights)
        times = np.diff(np.floor(upto * (n / upto[-1]) + self.rng.random()).astype(np.int64), prepend=0)
        rows = np.repeat(np.arange(n), times)
        return self.rng.permutation(rows)

    def _lists(self, source: Source, labels: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Prototypes that each row looks at: the nearest of its class and those nearest of all, int32 [n, m]."""
        index = replace(self.spec, budget=BUDGET).build(
            self.vectors, seed=int(self.rng.integers(2**31)), device=self.device
        )
        lists = np.empty((source.n, 1 + min(self.candidates, len(self.owner))), np.int32)
        own = near = mass = 0.0
        for start, block in source.chunks():
            part = slice(start, start + block.shape[0])
            lists[part], sqdist = neighbours(index, block, labels[part], self.vectors, self.first, self.candidates)
            w = np.ones(len(sqdist)) if weights is None else weights[part]
            found = np.isfinite(sqdist)
            far = np.where(found, sqdist, 0).astype(np.float64)
            own, mass = own + float(w @ far[:, 0]), mass + float(w.sum())
            near += float((w @ far).sum()) * float(w.sum()) / max(float((w @ found).sum()), np.finfo(float).tiny)
        if not self.scale:
            self.scale = SHARPNESS * mass / max(own, 0.1 * near, 1e-12 * mass) / (2 if self.euclidean else 1)
        return lists

    def _step(self, x: Any, labels: np.ndarray, weights: np.ndarray, ids: np.ndarray, rate: float) -> float:
        """Take one step for a batch of rows, of which row i looks at prototypes ``ids[i]``; returns its loss."""
        first, places = kernels.pairs_by_prototype(ids, len(self.owner))
        score = kernels.pair_scores(x, self.vectors, first, places, ids.shape[1], self.euclidean)
        slope, loss = kernels.coefficients(ids, self.owner, labels, weights, self.scale, SMOOTHING, score)
        kernels.descend(
            x,
            self.vectors,
            first,
            places,
            slope,
            self.euclidean,
            self.scale,
            rate * self.spread,
            LEAST_GRADIENT * self.scale * self.spread,
            self.mean,
            self.square,
            self.taken,
        )
        self._sharpen(float(loss[:, 1].sum()), rate)
        return float(loss[:, 0].sum())

    def _sharpen(self, slope: float, rate: float) -> None:
        """Adam's step on the logarithm of the scale."""
        self.slopes = np.array([0.9, 0.99]) * self.slopes + np.array([0.1, 0.01]) * [slope, slope * slope]
        t = int(self.taken.max())
        one, two = self.slopes / (1 - np.array([0.9, 0.99]) ** max(1, t))
        self.scale *= float(np.exp(-0.4 * rate * one / (np.sqrt(two) + 1e-8)))

    def _spread(self) -> float:
        """Root mean square of the prototypes' coordinates that are not zero, about their mean for distances."""
        v = self.vectors
        squares, entries = float(sqnorms_of(v).sum()), max(1, v.nnz if sparse.issparse(v) else np.count_nonzero(v))
        if self.euclidean:
            mean = np.asarray(v.mean(axis=0, dtype=np.float64)).ravel()
            squares -= v.shape[0] * float(mean @ mean)
        return max(squares / entries, 1e-24) ** 0.5

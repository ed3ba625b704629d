"""Prototypes from a stream of batches: running means, and classes that are met on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.classify.calibration import LEAST_JUDGED, UNKNOWN, Calibration, judge, width_of
from fastann.classify.half import Half, wide
from fastann.classify.prototypes import Prototypes, normed, sqnorms_of, with_rows
from fastann.classify.training import Course, Epoch, LabelledRows, Recipe, choose_sizes, train
from fastann.cluster.passes.groups import add, neighbours, stack
from fastann.cluster.update import Sums
from fastann.data.csr import CSRSource
from fastann.data.source import ArraySource

BLOCK = 1024  # rows that are assigned before prototypes move: larger batches are cut into blocks of so many
SETTLED = 8  # rows per prototype from which on the prototypes of a class are running means
SETTLED_AUTO = 64  # rows of a class from which on they are where the number of prototypes is chosen, too
PATIENCE = 4.0  # see `prune`
PER_JUDGE = 2**14  # coordinates of prototypes that judging may go over for each row of the stream


@dataclass
class Stream:
    """What is kept between batches.

    A class that has seen few rows keeps them; its prototypes are made afresh, by k-means, at every batch that
    brings more, until there are `SETTLED` rows per prototype. From then on its prototypes are running means.

    Attributes
    ----------
    prototypes : Prototypes or None
        Of all classes seen.
    waiting : dict of int to list of (rows, weights)
        Rows of classes that have seen few, by class.
    block : int
        Rows that are assigned before prototypes move.
    calibration : Calibration
        Of probabilities, by rows judged as if they had been left out.
    unjudged : int
        Rows since some were judged last.
    """

    prototypes: Prototypes | None = None
    waiting: dict[int, list[tuple[Any, np.ndarray]]] = field(default_factory=dict)
    block: int = BLOCK
    calibration: Calibration = UNKNOWN
    unjudged: int = 0
    # Of the batch that is being taken in: prototypes, which of them moved, and these as they were before.
    _undo: list[tuple[Prototypes, np.ndarray, Prototypes]] = field(default_factory=list, repr=False)
    _remade: float = field(default=0.0, repr=False)  # how far those moved in sum that were made afresh

    def renumbered(self, places: np.ndarray) -> Stream:
        """The same stream with class c numbered ``places[c]``; its own arrays are left as they are."""
        p = self.prototypes
        if p is not None:
            owner = places[p.owner].astype(np.int32)
            p = replace(p, owner=owner)[np.argsort(owner, kind="stable")]
        return replace(self, prototypes=p, waiting={int(places[c]): list(rows) for c, rows in self.waiting.items()})

    def update(self, recipe: Recipe, data: LabelledRows, sizes: np.ndarray | None, seed: int) -> Epoch:
        """Take in a batch, whole or not at all.

        Parameters
        ----------
        recipe : Recipe
        data : LabelledRows
            In the space of the prototypes.
        sizes : int64 [classes] or None
            Prototypes wanted of each class; None chooses.
        seed : int
            Of the stream; every batch draws from it anew.
        """
        began, merged, objective = time.perf_counter(), 0, 0.0
        with self._all_or_nothing():
            if self.prototypes is not None:
                self.prototypes = replace(self.prototypes, vectors=wide(self.prototypes.vectors))
            before, self._remade = 0 if self.prototypes is None else len(self.prototypes), 0.0
            for start, x in data.source.chunks(self.block):
                part = slice(start, start + x.shape[0])
                w = np.ones(x.shape[0]) if data.weights is None else data.weights[part]
                used = np.flatnonzero(w > 0)
                block = _in_memory(x[used], data.labels[part][used], w[used], data.classes)
                cost, gone = self._block(recipe, block, sizes, seed)
                objective += cost
                merged += gone
            shift = (self._moved() + self._remade) / max(1, before)
        active = 0 if self.prototypes is None else len(self.prototypes)
        seconds = time.perf_counter() - began
        return Epoch("stream", data.source.n, objective, shift, merged, active, seconds)

    def _moved(self) -> float:
        """How far all prototypes moved as running means in the batch that is being taken in, in sum."""
        total = 0.0
        seen: dict[int, np.ndarray] = {}
        for p, touched, before in self._undo:
            known = seen.setdefault(id(p), np.zeros(len(p), bool))
            new = np.flatnonzero(~known[touched])  # those that moved before have been looked at: from there to now
            known[touched] = True
            far = p.vectors[touched[new]] - before.vectors[new]
            total += float(np.sqrt(sqnorms_of(far)).sum())
        return total

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Undo everything if a batch fails or is interrupted half-way."""
        prototypes, waiting = self.prototypes, {c: list(rows) for c, rows in self.waiting.items()}
        known = self.calibration, self.unjudged
        try:
            yield
        except BaseException:
            for p, touched, before in reversed(self._undo):
                p.vectors = with_rows(p.vectors, touched, before.vectors)
                p.weights[touched], p.spread[touched] = before.weights, before.spread
            self.prototypes, self.waiting = prototypes, waiting
            self.calibration, self.unjudged = known
            raise
        finally:
            self._undo.clear()

    def _block(self, recipe: Recipe, block: LabelledRows, sizes: np.ndarray | None, seed: int) -> tuple[float, int]:
        """Take in a block: those of settled classes move their prototypes, others wait with the rows of their class.

        Its rows are judged too, each as if it had been left out.

        Returns
        -------
        cost : float
            Weighted sum of squared distances of rows to the prototypes.
        merged : int
        """
        n = block.source.n
        if not n:
            return 0.0, 0
        cost, gone = 0.0, 0
        settled = np.zeros(block.classes, bool)
        if self.prototypes is not None:
            settled[self.prototypes.owner] = True
        settled[list(self.waiting)] = False
        old, pulled = settled[block.labels], None
        if old.any():
            cost = self._run(recipe, block[np.flatnonzero(old)])
        if not old.all():
            pulled = self._wait(recipe, block[np.flatnonzero(~old)], sizes, seed)
        self._judge(recipe, block, pulled, np.random.default_rng([seed, 5]))
        if self.prototypes is not None:
            rng = np.random.default_rng([seed, 3])
            self.prototypes, gone = recipe.thinning(self.prototypes, recipe.space, rng, PATIENCE)
        return cost, gone

    def _judge(self, recipe: Recipe, block: LabelledRows, pulled: np.ndarray | None, rng: np.random.Generator) -> None:
        """Judge rows just learned: all, or some now and then where there are very many prototypes."""
        p = self.prototypes
        assert p is not None
        self.unjudged += block.source.n
        most = self.unjudged * PER_JUDGE // (len(p) * width_of(block.source))
        if most < min(self.unjudged, LEAST_JUDGED) and self.calibration.information:
            return
        most = max(most, LEAST_JUDGED)
        judged = judge(recipe, block, p, rng, np.zeros(len(p)) if pulled is None else pulled, most)
        self.calibration, self.unjudged = self.calibration.after(judged), 0

    def _run(self, recipe: Recipe, block: LabelledRows) -> float:
        """Move prototypes to the running means; returns the sum of squared distances.

        Vectors, weights and spread of the prototypes change in place, which spares a copy per block; `_undo` has what
        they were.
        """
        p, x, y, w = self.prototypes, *_arrays(block)
        assert p is not None
        space, classes = recipe.space, block.classes
        if recipe.sharing is None:
            ids, sqdist = (a[:, None] for a in kernels.nearest_in_group(x, y, p.vectors, p.first(classes)))
            shares = w[:, None]
        else:
            index = recipe.spec.build(p.vectors, seed=0, device=recipe.device)
            ids, sqdist = neighbours(index, x, y, p.vectors, p.first(classes), recipe.sharing.nearest)
            own = p.owner[ids] == y[:, None]
            shares = recipe.sharing.shares(space.similarity(sqdist), own, ids >= 0) * w[:, None]
        shares = np.where(ids >= 0, shares, 0)
        cost = float((shares * np.where(shares > 0, sqdist, 0)).sum())
        touched, place = np.unique(np.where(shares > 0, ids, -1), return_inverse=True)
        place = place.reshape(ids.shape).astype(np.int32) - (touched[0] < 0)
        touched = touched[touched >= 0]
        before = p.vectors[touched]
        sums = Sums.zero(before, weighted=True)
        for column in range(ids.shape[1]):
            add(sums, x, np.ascontiguousarray(shares[:, column]), np.ascontiguousarray(place[:, column]))
        self._undo.append((p, touched, p[touched]))
        weights, total = p.weights[touched], p.weights[touched] + sums.counts
        mean = sparse.diags(1 / total) @ (sparse.diags(weights) @ p[touched].means(space) + sums.sums)
        if space.unit:
            p.spread[touched] = np.maximum(0, 1 - sqnorms_of(mean))
        else:
            far = np.bincount(place.ravel() + 1, (shares * np.where(shares > 0, sqdist, 0)).ravel())[1:]
            p.spread[touched] = (weights * p.spread[touched] + far) / total
        after = normed(mean, space)
        p.weights[touched] = total
        p.vectors = with_rows(p.vectors, touched, after)
        return cost

    def _wait(self, recipe: Recipe, block: LabelledRows, sizes: np.ndarray | None, seed: int) -> np.ndarray:
        """Keep the rows of classes that have seen few, and make the prototypes of these classes afresh.

        Returns
        -------
        float64 [K]
            Share by which each prototype was pulled to the mean of its class just now.
        """
        x, y, w = _arrays(block)
        young, classes = np.unique(y), block.classes
        order = np.argsort(y, kind="stable")
        for c, rows in zip(young, np.split(order, np.searchsorted(y[order], young[1:])), strict=True):
            kept = x[rows] if recipe.dtype == "float32" else Half.of(x[rows], recipe.dtype)
            self.waiting.setdefault(int(c), []).append((kept, w[rows]))
        blocks = [(c, rows, weights) for c in young for rows, weights in self.waiting[int(c)]]
        table = stack([wide(rows) for _, rows, _ in blocks])
        owner = np.repeat(np.array([c for c, _, _ in blocks], np.int32), [len(v) for _, _, v in blocks])
        data = _in_memory(table, owner, np.concatenate([v for _, _, v in blocks]), classes)
        rng = np.random.default_rng([seed, 2])
        wanted = choose_sizes(recipe, data, rng) if sizes is None else sizes
        here = np.where(np.isin(np.arange(classes), young), wanted, 0)
        fresh, pulled = train(recipe, data, here, rng, Course())
        if self.prototypes is not None:
            p = self.prototypes
            is_young = np.isin(p.owner, young)
            others, again = np.flatnonzero(~is_young), np.flatnonzero(is_young)
            if np.array_equal(p.owner[again], fresh.owner):
                self._remade += float(np.sqrt(sqnorms_of(fresh.vectors - p.vectors[again])).sum())
            both, pulled = [p[others], fresh], np.concatenate([np.zeros(len(others)), pulled])
            order = np.argsort(np.concatenate([q.owner for q in both]), kind="stable")
            fresh = Prototypes(
                stack([q.vectors for q in both]),
                np.concatenate([q.owner for q in both]),
                np.concatenate([q.weights for q in both]),
                np.concatenate([q.spread for q in both]),
            )[order]
            pulled = pulled[order]
        self.prototypes = fresh
        counts = np.bincount(owner, minlength=classes)
        for c in young:
            if counts[c] >= (SETTLED_AUTO if sizes is None else SETTLED * sizes[c]):
                del self.waiting[int(c)]
        return pulled


def _in_memory(x: Any, y: np.ndarray, w: np.ndarray, classes: int) -> LabelledRows:
    source = CSRSource(x) if sparse.issparse(x) else ArraySource(np.ascontiguousarray(x, np.float32))
    return LabelledRows(source, y, w, classes)


def _arrays(block: LabelledRows) -> tuple[Any, np.ndarray, np.ndarray]:
    """Rows of a block, their labels and weights."""
    assert block.weights is not None
    return block.source.take(np.arange(block.source.n)), block.labels, block.weights

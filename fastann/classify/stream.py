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
from fastann.classify.prototypes import Prototypes, normed, round_to, sqnorms_of, with_rows
from fastann.classify.training import Course, Epoch, Recipe, Table, choose_sizes, mean_shift, train
from fastann.cluster.passes.groups import add, neighbours, stack
from fastann.cluster.update import Sums
from fastann.data.csr import CSRSource
from fastann.data.source import ArraySource, Source

BLOCK = 1024  # rows that meet the same prototypes: what a larger batch is cut into
PER_SEED = 8  # rows a class waits for, per prototype, before it has prototypes for good
AUTO_ROWS = 64  # the same where the number of prototypes is still to be chosen
PATIENCE = 4.0  # see `prune`
SERIAL = 2**18  # values of a block below which one thread does it


@dataclass
class Stream:
    """What is kept between batches.

    A class that has seen few rows keeps them; its prototypes are made afresh, by k-means, at every batch that
    brings more, until there are `PER_SEED` a prototype. From then on its prototypes are running means.

    Attributes
    ----------
    prototypes : Prototypes or None
        Of all classes seen.
    waiting : dict of int to list of (rows, weights)
        Rows of classes whose prototypes are not for good yet.
    """

    prototypes: Prototypes | None = None
    waiting: dict[int, list[tuple[Any, np.ndarray]]] = field(default_factory=dict)
    _undo: list[tuple[Prototypes, np.ndarray, Prototypes]] = field(default_factory=list, repr=False)

    def renumbered(self, places: np.ndarray) -> Stream:
        """The same with the number ``places[c]`` for class c."""
        p = self.prototypes
        if p is not None:
            owner = places[p.owner].astype(np.int32)
            p = replace(p, owner=owner)[np.argsort(owner, kind="stable")]
        return Stream(p, {int(places[c]): list(rows) for c, rows in self.waiting.items()})

    def update(
        self,
        recipe: Recipe,
        source: Source,
        labels: np.ndarray,
        weights: np.ndarray | None,
        sizes: np.ndarray | None,
        classes: int,
        seed: int,
    ) -> Epoch:
        """Take in a batch: view of its rows, class numbers, weights; prototypes wanted a class (None: chosen)."""
        began, merged, objective, shifts = time.perf_counter(), 0, 0.0, [0.0]
        with self._all_or_nothing():
            for start, x in source.chunks(BLOCK):
                part = slice(start, start + x.shape[0])
                w = np.ones(x.shape[0]) if weights is None else weights[part]
                used = np.flatnonzero(w > 0)
                with kernels.threads_for(x, SERIAL):
                    shift, cost, gone = self._block(recipe, x[used], labels[part][used], w[used], sizes, classes, seed)
                shifts += shift
                objective += cost
                merged += gone
        active = 0 if self.prototypes is None else len(self.prototypes)
        seconds = time.perf_counter() - began
        return Epoch("stream", source.n, objective, float(np.mean(shifts)), merged, active, seconds)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Undo everything if a batch fails or is interrupted half-way."""
        prototypes, waiting = self.prototypes, {c: list(rows) for c, rows in self.waiting.items()}
        try:
            yield
        except BaseException:
            for p, touched, before in reversed(self._undo):
                p.vectors = with_rows(p.vectors, touched, before.vectors)
                p.weights[touched], p.spread[touched] = before.weights, before.spread
            self.prototypes, self.waiting = prototypes, waiting
            raise
        finally:
            self._undo.clear()

    def _block(
        self,
        recipe: Recipe,
        x: Any,
        y: np.ndarray,
        w: np.ndarray,
        sizes: np.ndarray | None,
        classes: int,
        seed: int,
    ) -> tuple[list[float], float, int]:
        """Take in rows that meet the same prototypes: returns shifts, sum of squared distances, prototypes merged."""
        if not len(y):
            return [], 0.0, 0
        shifts, cost, gone = [], 0.0, 0
        settled = np.zeros(classes, bool)
        if self.prototypes is not None:
            settled[self.prototypes.owner] = True
        settled[list(self.waiting)] = False
        old, new = np.flatnonzero(settled[y]), np.flatnonzero(~settled[y])
        if len(old):
            shift, cost = self._run(recipe, x[old], y[old], w[old], classes)
            shifts.append(shift)
        if len(new):
            self._wait(recipe, x[new], y[new], w[new], sizes, classes, seed)
        if self.prototypes is not None:
            rng = np.random.default_rng([seed, 3])
            self.prototypes, gone = recipe.thinning(self.prototypes, recipe.space, rng, PATIENCE)
        return shifts, cost, gone

    def _run(self, recipe: Recipe, x: Any, y: np.ndarray, w: np.ndarray, classes: int) -> tuple[float, float]:
        """Running means: returns how far prototypes moved, on average, and the sum of squared distances."""
        p = self.prototypes
        assert p is not None
        space = recipe.space
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
        return mean_shift(before, after), cost

    def _wait(
        self,
        recipe: Recipe,
        x: Any,
        y: np.ndarray,
        w: np.ndarray,
        sizes: np.ndarray | None,
        classes: int,
        seed: int,
    ) -> None:
        """Keep rows of young classes, and make the prototypes of these classes afresh."""
        young = np.unique(y)
        for c in young:
            rows = np.flatnonzero(y == c)
            self.waiting.setdefault(int(c), []).append((_kept(x[rows], recipe.dtype), w[rows]))
        blocks = [(c, rows, weights) for c in young for rows, weights in self.waiting[int(c)]]
        table = stack([rows for _, rows, _ in blocks])
        owner = np.repeat(np.array([c for c, _, _ in blocks], np.int32), [len(v) for _, _, v in blocks])
        source = CSRSource(table) if sparse.issparse(table) else ArraySource(np.ascontiguousarray(table, np.float32))
        data = Table(source, owner, np.concatenate([v for _, _, v in blocks]), classes)
        rng = np.random.default_rng([seed, 2])
        wanted = choose_sizes(recipe, data, rng) if sizes is None else sizes
        here = np.where(np.isin(np.arange(classes), young), wanted, 0)
        fresh = train(recipe, data, here, rng, Course())
        if self.prototypes is not None:
            p = self.prototypes
            others = np.flatnonzero(~np.isin(p.owner, young))
            both = [p[others], fresh]
            order = np.argsort(np.concatenate([q.owner for q in both]), kind="stable")
            fresh = Prototypes(
                stack([q.vectors for q in both]),
                np.concatenate([q.owner for q in both]),
                np.concatenate([q.weights for q in both]),
                np.concatenate([q.spread for q in both]),
            )[order]
        self.prototypes = fresh
        counts = np.bincount(owner, minlength=classes)
        for c in young:
            if counts[c] >= (AUTO_ROWS if sizes is None else PER_SEED * sizes[c]):
                del self.waiting[int(c)]


def _kept(x: Any, dtype: str) -> Any:
    """Rows to keep, in the stored dtype: dense float16 takes half the memory, other values are only rounded."""
    if sparse.issparse(x):
        return sparse.csr_matrix((round_to(x.data, dtype), x.indices, x.indptr), x.shape)
    return x.astype(np.float16) if dtype == "float16" else round_to(x, dtype)

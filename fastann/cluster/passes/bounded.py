"""The pass that remembers: candidates and bounds per row, so that only rows that may move are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastann import kernels
from fastann.cluster.criterion import NEAREST, Criterion, choosing_mass
from fastann.cluster.memory import Memory
from fastann.cluster.passes.base import Closed, Pass
from fastann.cluster.passes.every import measured
from fastann.cluster.passes.past import Moved, Past
from fastann.cluster.passes.rows import Rows
from fastann.cluster.space import Space
from fastann.cluster.update import Sums, Tally
from fastann.data.source import Source
from fastann.index.repair import repair_lists

_SEARCH = 2**15  # rows searched at once: their lists of results are small beside what is remembered


@dataclass
class Candidates:
    """What is remembered of each row beside its label: 40 bytes.

    Attributes
    ----------
    ids : int32 [n, 8]
        Centroids that were nearest at the last search, -1 where there are fewer.
    second, beyond : float32 [n]
        Lower bounds on the distance to the nearest candidate other than the row's own centroid, and to the
        nearest centroid that is no candidate.
    """

    ids: np.ndarray
    second: np.ndarray
    beyond: np.ndarray

    @classmethod
    def new(cls, n: int, memory: Memory) -> Candidates:
        """Nothing known yet: every row wants a search."""
        return cls(memory.full((n, 8), np.int32, -1), memory.full(n, np.float32, 0), memory.full(n, np.float32, np.inf))

    def __getitem__(self, part: slice) -> Candidates:
        return Candidates(self.ids[part], self.second[part], self.beyond[part])


@dataclass(frozen=True)
class _Visit:
    """What one visit of a batch goes by.

    Attributes
    ----------
    index : Index
    rule : int
        Of the criterion, for compiled loops.
    mass : float64 [k]
        Weight of each cluster, or length of its sum for the cosine.
    drift : float32 [k]
        How far each centroid moved since the batch was visited.
    """

    index: Any
    rule: int
    mass: np.ndarray
    drift: np.ndarray


class Bounded(Pass):
    """Assigns rows batch by batch, looking only at those that may move; sums follow from the rows that did.

    Parameters
    ----------
    source, rows, k, space
        See `Pass`.
    batches : int
        Contiguous parts of the rows; a batch at a time is visited once all rows have a label.
    candidates : int
        At most 8.
    caution : float
        See `Regime`. Infinity makes every visit a search.
    lead : float
        By how many of its moves a centroid lies ahead of the mean of its rows.
    memory : Memory, optional
        Where to keep what is remembered.
    """

    remembers = True

    def __init__(
        self,
        source: Source,
        rows: Rows,
        k: int,
        space: Space,
        *,
        batches: int,
        candidates: int,
        caution: float,
        lead: float = 0.0,
        memory: Memory | None = None,
    ):
        super().__init__(source, rows, k, space)
        self.count, self.caution, self.lead = candidates, caution, lead
        self.candidates = Candidates.new(source.n, memory or Memory())
        self.sums = Sums(np.zeros((k, source.d)), np.zeros(k, np.int64 if rows.weights is None else np.float64))
        self.total = 0.0  # weighted sum of squared norms, set by the first visit
        self.explained = np.zeros(k)  # what each mean takes off it: see `kernels.means`
        self.sizes = np.zeros(k, np.int64)  # rows of each cluster, whatever they weigh
        cuts = np.linspace(0, source.n, min(batches, source.n) + 1).astype(int).tolist()
        self.parts = [slice(a, b) for a, b in pairwise(cuts)]
        self.past = Past()
        self.seen: list[int] = []  # updates that each batch saw last
        self.batch = 0  # visited last
        self.touched = np.ones(k, bool)  # clusters to compute again in the next update
        self.means: np.ndarray | None = None  # what centroids lie ahead of, once there is something to go by
        self.led = np.zeros(k, bool)  # those that do; the others are at their means
        self.placed = np.zeros(k, bool)  # those that were moved elsewhere since the last update, and lead nothing
        self.reached = np.inf  # inertia after the update before

    @property
    def batches(self) -> int:
        """How many times `assign` is called per iteration: once, until every row has a label."""
        return len(self.parts) if self.seen else 1

    def assign(self, index: Any, batch: int, criterion: Criterion) -> Tally:
        """Visit a batch of rows; the sums stay those of *all* rows."""
        first = not self.seen
        drift = np.zeros(self.k, np.float32) if first else self.past.drift(self.centroids, self.seen[batch])
        rule = (NEAREST if first else criterion).rule(self.space)
        assert rule is not None, "the plan chooses passes that know the criterion"
        mass = self.explained if self.space.unit else self.sums.counts.astype(np.float64)
        visit, tally = _Visit(index, rule, choosing_mass(mass), drift), Tally()
        for start, block in self.source.chunks(part=slice(0, self.n) if first else self.parts[batch]):
            part = slice(start, start + block.shape[0])
            tally += (self._first if first else self._again)(visit, block, self.rows[part], self.candidates[part])
        if first:
            self.seen = [self.past.number] * len(self.parts)
        self.seen[batch], self.batch = self.past.number, batch
        self.past.forget(min(self.seen))
        return tally

    def _first(self, visit: _Visit, block: Any, rows: Rows, candidates: Candidates) -> Tally:
        """Search every row."""
        n = block.shape[0]
        sqnorm = kernels.sqnorms(block)
        self.total += float((sqnorm if rows.weights is None else sqnorm * rows.weights).sum())
        del sqnorm
        # Rough will do at first: the next visit compares every row with its candidates.
        rough = bool(np.isfinite(self.caution))
        repaired = self._search(visit, block, np.arange(n, dtype=np.int32), rows, candidates, rough=rough, first=True)
        self.sums.add(block, rows.weights, rows.labels)
        self.sizes += np.bincount(rows.labels, minlength=self.k)
        return Tally(moved=n, repaired=repaired, searched=n)

    def _again(self, visit: _Visit, block: Any, rows: Rows, candidates: Candidates) -> Tally:
        """Look at the rows whose bounds fail, search those that may be nearer to what is no candidate."""
        before, ranks = rows.labels.copy(), visit.index.ranks
        # Rows of one cluster together, and clusters that share candidates one after the other: these stay in cache.
        _, order = kernels.group(before if ranks is None else ranks[before], self.k)
        status = kernels.look(
            block, order, self.centroids, rows.weights, visit.rule, visit.mass, visit.drift, self.caution,
            rows.labels, rows.sqdist, candidates.ids, candidates.second, candidates.beyond,
        )  # fmt: skip
        wanting = order[status == kernels.WANTING]
        looked = int(np.count_nonzero(status))
        self._search(visit, block, wanting, rows, candidates)
        self._looked(block, rows, order, status)
        moved = np.flatnonzero(rows.labels != before).astype(np.int32)
        self.touched[rows.labels[moved]] = self.touched[before[moved]] = True
        sums, counts = self.sums.sums, self.sums.counts
        kernels.add_rows(block, rows.weights, rows.labels[moved], sums, counts, moved)
        kernels.add_rows(block, rows.weights, before[moved], sums, counts, moved, sign=-1)
        self.sizes += np.bincount(rows.labels[moved], minlength=self.k) - np.bincount(before[moved], minlength=self.k)
        return Tally(moved=len(moved), looked=looked, searched=len(wanting))

    def _looked(self, block: Any, rows: Rows, order: np.ndarray, status: np.ndarray) -> None:
        """Take note of what became of the rows of a block, in such an order; where it is `SKIP`, bounds held."""

    def _search(
        self,
        visit: _Visit,
        block: Any,
        wanting: np.ndarray,
        rows: Rows,
        candidates: Candidates,
        *,
        rough: bool = False,
        first: bool = False,
    ) -> int:
        """Find candidates anew for some rows of a block, and assign these; returns how many lists were repaired."""
        index, repaired = visit.index, 0
        for start in range(0, len(wanting), _SEARCH):
            some = wanting[start : start + _SEARCH]
            ids, dist = index.listed(block, some, self.count, candidates.beyond[some], rough=rough)
            if first and not index.exact:
                repaired += repair_lists(block, some, self.centroids, ids, dist)
            kernels.merge(
                block, some, self.centroids, rows.weights, visit.rule, visit.mass, self.count, ids, dist,
                rows.labels, rows.sqdist, candidates.ids, candidates.second, candidates.beyond,
            )  # fmt: skip
            del ids, dist  # before the next ones are made
        return repaired

    def update(self) -> tuple[Any, float]:
        """Means of the sums over all rows, of the clusters that gained or lost a row; or what lies ahead of these."""
        emptied = self.sizes == 0  # taking all rows of a cluster away leaves rounding errors
        self.sums.sums[emptied], self.sums.counts[emptied] = 0, 0
        self.changed = self.touched | self.led  # one that led, and does not move again, comes back to its mean
        # Made anew by the first update, as a start is somebody's, and once an iteration where somebody is told of it.
        fresh, before, led = self.batch == 0 and (self.told or self.means is None), self.settled, None
        if self.means is not None:
            led = np.empty_like(before) if before is self.centroids else self.centroids
        ids, untouched = np.flatnonzero(self.changed), fresh and led is not self.centroids
        self.past.keep(ids, self.centroids if untouched and len(ids) == self.k else self.centroids[ids])
        means, _ = kernels.means(
            self.sums.sums,
            self.sums.counts,
            before,
            cosine=self.space.unit,
            changed=self.touched,
            explained=self.explained,
            lead=self.lead,
            led=led,
            out=None if fresh else before,
            back=self.led if led is self.centroids else None,
        )
        self.past.number += 1
        gain = float(self.explained.sum())
        inertia = 2 * (self.total - gain) if self.space.unit else self.total - gain
        if inertia > self.reached * (1 + 1e-9):  # too far ahead
            self.lead, led = 0.0, None
        self.reached = inertia
        self.means = means if self.lead > 0 else None
        if led is None:
            self.centroids, self.led = means, np.zeros_like(self.touched)
        else:
            led[self.placed] = means[self.placed]
            self.centroids, self.led = led, self.touched & ~self.placed
        self.touched, self.placed = np.zeros_like(self.touched), np.zeros_like(self.placed)
        return self.centroids, inertia

    def place(self, moved: np.ndarray, places: np.ndarray) -> None:
        self.past.keep(moved, self.centroids[moved], done=True)
        super().place(moved, places)
        self.changed[moved] = self.touched[moved] = self.placed[moved] = True
        self.led[moved] = False
        if self.means is not None:
            self.means[moved] = places

    def take_over(self, centroids: Any) -> None:
        ids = np.flatnonzero(self.led)
        self.past.keep(ids, self.centroids[ids])
        super().take_over(centroids)

    @property
    def settled(self) -> Any:
        return self.centroids if self.means is None else self.means

    def close(self, index: Any, criterion: Criterion) -> Closed:
        """Label every row as far as candidates and bounds tell; after that only distances are wanted."""
        for batch in range(len(self.parts)):
            self.assign(index, batch, criterion)
        inertia = sum(measured(block, part, self.centroids) for block, part in self.blocks())
        return Closed(self.rows.labels, self.rows.sqdist, inertia, self.candidates.ids)

    def state(self) -> dict[str, np.ndarray]:
        none, moves = np.empty((0, *self.sums.sums.shape), np.float32), self.past.moves
        return {
            **self._arrays(),
            "total": np.array([self.total]),
            "seen": np.array([self.past.number, *self.seen]),
            "moves": np.array([[move.number, len(move.ids)] for move in moves], np.int64).reshape(-1, 2),
            "moved": np.concatenate([np.empty(0, np.int32), *(move.ids for move in moves)]),
            "moved_from": np.concatenate([none.reshape(0, self.d), *(move.rows for move in moves)]),
            "means": none if self.means is None else self.means[None],
            "lead": np.array([self.lead, self.reached]),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        for name, array in self._arrays().items():
            array[...] = state[name]
        self.total, (number, *self.seen) = float(state["total"][0]), state["seen"].tolist()
        self.past, end = Past(number), 0
        for at, count in state["moves"].tolist():
            part = slice(end, end := end + count)
            self.past.moves.append(Moved(at, np.array(state["moved"][part]), np.array(state["moved_from"][part])))
        self.means = np.array(state["means"][0]) if len(state["means"]) else None
        self.lead, self.reached = state["lead"].tolist()

    def _arrays(self) -> dict[str, np.ndarray]:
        c = self.candidates
        return super().state() | {
            "ids": c.ids,
            "second": c.second,
            "beyond": c.beyond,
            "sums": self.sums.sums,
            "counts": self.sums.counts,
            "explained": self.explained,
            "members": self.sizes,
            "changed": self.changed,
            "touched": self.touched,
            "led": self.led,
            "placed": self.placed,
        }

"""Passes that remember: candidates and bounds per row, sums from moved rows only, a size-aware rule."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fastann import kernels
from fastann.cluster.memory import Memory
from fastann.cluster.update import Partial, Rows
from fastann.data.source import Source
from fastann.index.base import Index
from fastann.index.repair import repair_lists

_SEARCH = 2**15  # rows searched at once: their lists of results are small beside what is remembered


@dataclass
class Candidates:
    """What a sweep remembers of each row beside its label: 40 bytes.

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


class Sweep:
    """Assigns rows batch by batch, looking only at those that may move.

    Parameters
    ----------
    source, rows
        The rows and their state, which is updated in place.
    k : int
    metric : {"euclidean", "cosine"}
    batches : int
        Contiguous parts of the rows; a batch at a time is visited once all rows have a label.
    candidates : int
        At most 8.
    caution : float
        See `Plan`. Infinity makes every visit a search.
    size_aware : bool
        Whether `assign` may be asked for Hartigan's rule.
    memory : Memory, optional
        Where to keep what is remembered.
    """

    def __init__(
        self,
        source: Source,
        rows: Rows,
        k: int,
        *,
        metric: str,
        batches: int,
        candidates: int,
        caution: float,
        size_aware: bool,
        memory: Memory | None = None,
    ):
        self.source, self.rows, self.cosine = source, rows, metric == "cosine"
        self.count, self.caution, self.size_aware = candidates, caution, size_aware
        self.candidates = Candidates.new(source.n, memory or Memory())
        self.partial = Partial.zero(k, source.d, weighted=rows.weights is not None)
        self.total = 0.0  # weighted sum of squared norms, set by the first visit
        self.explained = np.zeros(k)
        self.members = np.zeros(k, np.int64)  # rows of each cluster, whatever they weigh
        cuts = np.linspace(0, source.n, min(batches, source.n) + 1).astype(int).tolist()
        self.parts = [slice(a, b) for a, b in pairwise(cuts)]
        self.seen: list[np.ndarray] = []  # the centroids each batch saw last
        self.changed = np.ones(k, bool)  # centroids that moved in the last update
        self.unseen = np.zeros((len(self.parts), k), bool)  # those that moved since each batch was visited
        self.touched = np.ones(k, bool)  # clusters to compute again in the next update

    @property
    def batches(self) -> int:
        """How many times `assign` is called per iteration: once, until every row has a label."""
        return len(self.parts) if self.seen else 1

    def assign(self, centroids: np.ndarray, batch: int, index: Index, *, size_aware: bool) -> Partial:
        """Visit a batch of rows; returns the sums over *all* rows, and the counts of this visit."""
        first = not self.seen
        part = slice(0, self.source.n) if first else self.parts[batch]
        rule = kernels.LLOYD
        if size_aware and not first:
            rule = kernels.SIZE_AWARE_COSINE if self.cosine else kernels.SIZE_AWARE
        self.unseen |= self.changed
        drift = np.zeros(len(centroids), np.float32)
        if not first:
            drift = kernels.drift(centroids, self.seen[batch], self.unseen[batch])
        mass = self.explained if self.cosine else self.partial.counts.astype(np.float64)
        out = self.partial
        out.moved = out.repaired = out.looked = out.searched = 0
        for start, block in self.source.chunks(part=part):
            self._visit(block, slice(start, start + block.shape[0]), centroids, index, rule, mass, drift)
        if first:
            self.seen = [centroids] * len(self.parts)
            self.unseen[:] = False
        else:
            self.seen[batch] = centroids
            self.unseen[batch] = False
        return out

    def _visit(
        self,
        block: np.ndarray,
        part: slice,
        centroids: np.ndarray,
        index: Index,
        rule: int,
        mass: np.ndarray,
        drift: np.ndarray,
    ) -> None:
        rows, candidates, out = self.rows[part], self.candidates[part], self.partial
        k = len(centroids)
        before = rows.labels.copy()
        first = bool(before[0] < 0)
        if first:
            sqnorm = kernels.sqnorms(block)
            self.total += float(sqnorm.sum() if rows.weights is None else sqnorm @ rows.weights)
            del sqnorm
            wanting = np.arange(block.shape[0], dtype=np.int32)
        else:
            _, order = kernels.group(before, k)  # rows of one cluster together: its candidates stay in cache
            status = np.empty(block.shape[0], np.uint8)
            kernels.look(
                block, order, centroids, rows.weights, rule, mass, drift, self.caution, rows, candidates, status
            )
            wanting = order[status == kernels.WANTING]
            out.looked += int(np.count_nonzero(status))
        # Rough will do at first: the next visit compares every row with its candidates.
        rough = first and np.isfinite(self.caution)
        for start in range(0, len(wanting), _SEARCH):
            some = wanting[start : start + _SEARCH]
            ids, dist = index.listed(block, some, self.count, candidates.beyond[some], rough=rough)
            if first and not index.exact:
                out.repaired += repair_lists(block, some, centroids, ids, dist)
            kernels.merge(block, some, centroids, rows.weights, rule, mass, self.count, ids, dist, rows, candidates)
            del ids, dist  # before the next ones are made
        out.searched += len(wanting)
        if first:
            kernels.add_rows(block, rows.weights, rows.labels, out.sums, out.counts)
            self.members += np.bincount(rows.labels, minlength=k)
            out.moved += block.shape[0]
            return
        moved = np.flatnonzero(rows.labels != before).astype(np.int32)
        self.touched[rows.labels[moved]] = self.touched[before[moved]] = True
        kernels.add_rows(block, rows.weights, rows.labels[moved], out.sums, out.counts, moved)
        kernels.add_rows(block, rows.weights, before[moved], out.sums, out.counts, moved, sign=-1)
        self.members += np.bincount(rows.labels[moved], minlength=k) - np.bincount(before[moved], minlength=k)
        out.moved += len(moved)

    def recenter(self, centroids: np.ndarray) -> np.ndarray:
        """Means of the sums over all rows; the inertia of the present labels about them is set on the way."""
        out = self.partial
        left = self.members == 0  # taking all rows of a cluster away leaves rounding errors
        out.sums[left], out.counts[left] = 0, 0
        means, _ = kernels.means(
            out.sums, out.counts, centroids, cosine=self.cosine, changed=self.touched, explained=self.explained
        )
        self.changed, self.touched = self.touched, np.zeros_like(self.touched)
        gain = float(self.explained.sum())
        out.inertia = 2 * (self.total - gain) if self.cosine else self.total - gain
        return means

    def refilled(self) -> None:
        """Take note that centroids were moved away from their means: all are to be computed again."""
        self.changed, self.touched = np.ones_like(self.changed), np.ones_like(self.touched)

    def state(self) -> dict[str, np.ndarray]:
        """What it remembers from one iteration to the next; some as it is, not copied."""
        seen = np.stack(self.seen) if self.seen else np.empty((0, *self.partial.sums.shape), np.float32)
        return {**self._arrays(), "total": np.array([self.total]), "seen": seen}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up what `state` gave."""
        for name, array in self._arrays().items():
            array[...] = state[name]
        self.total, self.seen = float(state["total"][0]), [np.array(centroids) for centroids in state["seen"]]

    def _arrays(self) -> dict[str, np.ndarray]:
        c, rows, out = self.candidates, self.rows, self.partial
        return {
            "labels": rows.labels,
            "sqdist": rows.sqdist,
            "ids": c.ids,
            "second": c.second,
            "beyond": c.beyond,
            "sums": out.sums,
            "counts": out.counts,
            "explained": self.explained,
            "members": self.members,
            "changed": self.changed,
            "unseen": self.unseen,
            "touched": self.touched,
        }

    def close(self, centroids: np.ndarray, index: Index) -> None:
        """Give every row the label of its nearest centroid, as far as candidates and bounds tell."""
        for batch in range(len(self.parts)):
            self.assign(centroids, batch, index, size_aware=False)

"""Which rows are kept: comparisons cluster by cluster, in rounds, until every row is kept or dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastann.data.source import Source
from fastann.kernels import CLEAR, DROPPED, KEPT, UNDECIDED, UNSEEN, decide, first_near, ready, unit

Block = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows as they are [b, d], of unit norm [b, d], and their norms [b]


class Decisions:
    """What is known of each row so far.

    Parameters
    ----------
    rank : int32 [n]
        Lower ranks come first; only the ranks of rows that are their own `original` are read.
    original : int32 [n]
        The lowest row with the same values; rows that are not their own are dropped at once.
    zero : bool [n]
        Rows without a direction, which only equal rows are duplicates of: they are kept at once.

    Attributes
    ----------
    status : int8 [n]
        `UNDECIDED`, `KEPT` or `DROPPED`.
    duplicate_of : int32 [n]
        The row that each was dropped for; itself until then.
    similarity : float32 [n]
        Their cosine.
    waits : int32 [n]
        Tasks that have yet to find that nothing is in the row's way.
    """

    def __init__(self, rank: np.ndarray, original: np.ndarray, zero: np.ndarray):
        n = len(original)
        self.rank, self.original = rank, original
        self.status = np.full(n, UNDECIDED, np.int8)
        self.duplicate_of = np.arange(n, dtype=np.int32)
        self.similarity = np.ones(n, np.float32)
        self.waits = np.zeros(n, np.int32)
        single = original == np.arange(n)
        self.status[single & zero] = KEPT
        self.status[~single] = DROPPED

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The decisions as the kernels take and change them: status, duplicate_of, similarity."""
        return self.status, self.duplicate_of, self.similarity

    def outcome(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Kept and dropped rows, what these are duplicates of, and how similar; equal rows share a fate."""
        dropped = np.flatnonzero(self.status == DROPPED)
        first = self.original[dropped]
        of, similarity = self.duplicate_of[first], self.similarity[first]
        return np.flatnonzero(self.status == KEPT), dropped, of.astype(np.int64), similarity


class Task:
    """Rows to compare with those of some others (`columns`) that have a better rank; both are in order of rank.

    Attributes
    ----------
    found : int32 [rows]
        The place in `columns` of the row that is in each row's way, or `UNSEEN` or `CLEAR`.
    cosine : float32 [rows]
        Its cosine with the row.
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray):
        self.rows, self.columns = rows, columns
        self.found, self.cosine = np.full(len(rows), UNSEEN, np.int32), np.zeros(len(rows), np.float32)


def tasks_of(
    rows: np.ndarray, labels: np.ndarray, guests: np.ndarray, hosts: np.ndarray, rank: np.ndarray, k: int
) -> Iterator[Task]:
    """Cut the comparisons into tasks: for each cluster its rows and guests against its rows, its rows against guests.

    Parameters
    ----------
    rows : int32 [m]
        All that are compared.
    labels : int32 [n]
        The cluster of each.
    guests, hosts : int32 [g]
        Rows near a border, and the cluster beyond it.
    rank : int32 [n]
    k : int
        Number of clusters.
    """

    def by_cluster(some: np.ndarray, cluster: np.ndarray) -> list[np.ndarray]:
        order = np.lexsort((rank[some], cluster))
        return np.split(some[order], np.cumsum(np.bincount(cluster, minlength=k))[:-1])

    for own, others in zip(by_cluster(rows, labels[rows]), by_cluster(guests, hosts), strict=True):
        both = np.concatenate([own, others])
        yield Task(both[np.argsort(rank[both])], own)
        if len(others):
            yield Task(own, others)


@dataclass(frozen=True, eq=False)
class Chooser:
    """Decides which rows are kept.

    Attributes
    ----------
    source : Source
        Dense rows.
    decisions : Decisions
    least : float
        Cosine from which two rows are near-duplicates.
    block_rows : int
        Rows read and compared at once.
    """

    source: Source
    decisions: Decisions
    least: float
    block_rows: int

    def choose(self, tasks: list[Task]) -> None:
        """Decide every row of the tasks.

        A round decides at least the undecided row of the best rank, so this ends; in practice nearly all in the first.
        """
        for task in tasks:
            self.decisions.waits[task.rows] += 1
        while tasks:
            for task in tasks:
                self._carry_out(task)
            tasks = [task for task in tasks if (self.decisions.status[task.rows] == UNDECIDED).any()]

    def _carry_out(self, task: Task) -> None:
        """Compare the rows of a task until each is decided, has nothing in its way, or waits for other tasks."""
        rows, columns, known = task.rows, task.columns, self.decisions
        while len(places := ready(rows, columns, task.found, task.cosine, *known.arrays)):
            for start in range(0, len(places), self.block_rows):
                part = places[start : start + self.block_rows]
                near = self._first_near(task, part)
                decide(rows, columns, part, *near, task.found, task.cosine, known.waits, *known.arrays)

    def _first_near(self, task: Task, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For some rows of a task the first column in their way, after the one that was until it was dropped.

        Returns
        -------
        near : int32 [places]
            Places in the task's columns, or `CLEAR`.
        cosine : float32 [places]
        """
        rows, rank = task.rows[places], self.decisions.rank
        low = task.found[places] + np.int32(1)
        high = np.searchsorted(rank[task.columns], rank[rows]).astype(np.int32)
        first, last = int(low.min()), int(high[-1])
        columns = first + np.flatnonzero(self.decisions.status[task.columns[first:last]] != DROPPED).astype(np.int32)
        near, cosine = np.full(len(rows), CLEAR, np.int32), np.zeros(len(rows), np.float32)
        if not len(columns):
            return near, cosine
        x = self._read(rows)
        for start in range(0, len(columns), self.block_rows):
            part = columns[start : start + self.block_rows]
            left = np.flatnonzero((near == CLEAR) & (low <= part[-1]) & (high > part[0]))
            if not len(left):
                continue
            others = task.columns[part]
            here = np.minimum(np.searchsorted(rank[rows], rank[others]), len(rows) - 1)
            # In a cluster's own task the columns are often among the rows, which are read already.
            y = _picked(x, here) if (rows[here] == others).all() else self._read(others)
            z = x if len(left) == len(rows) else _picked(x, left)
            near[left], cosine[left] = first_near(z, low[left], high[left], y, part, self.least)
        return near, cosine

    def _read(self, rows: np.ndarray) -> Block:
        x = self.source.take(rows)
        return x, *unit(x)


def _picked(block: Block, places: np.ndarray) -> Block:
    x, direction, norm = block
    return x[places], direction[places], norm[places]

"""Nearest rows through clusters: an inverted file whose lists are the clusters of a fit, and whose rows stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fastann import checks, kernels
from fastann.data.source import Source, Subset, Without
from fastann.index import repair
from fastann.index.base import AUTO, Index
from fastann.index.recall import least
from fastann.search.exact import Found, SearchRecall, Truth, first, nearest

_PROBE = 8  # clusters searched where nothing is said, if there are so many
CANDIDATES = 2**22  # neighbours held at once of all probed clusters


def usual_probe(k: int) -> int:
    """Clusters, of `k`, that are searched where nothing is said."""
    return min(_PROBE, k)


@dataclass(frozen=True, eq=False)
class Lists:
    """Rows by cluster, searched exactly within the clusters whose centres are nearest to a query.

    Attributes
    ----------
    rows : Source
        In the space of the fit.
    centroids : float32 [k, d]
    index : Index
        Over these.
    offsets : int64 [k + 1]
    members : int32 or int64 [n]
        Rows of cluster j: ``members[offsets[j]:offsets[j + 1]]``, ascending.
    gone : int64 array
        Rows without a direction, which are in no list.
    seed : int
        Of samples of queries.
    """

    rows: Source
    centroids: np.ndarray
    index: Index
    offsets: np.ndarray
    members: np.ndarray
    gone: np.ndarray
    seed: int

    @classmethod
    def of(
        cls, rows: Source, labels: np.ndarray, centroids: np.ndarray, index: Index, gone: np.ndarray, *, seed: int
    ) -> Self:
        """From the cluster of each row (int32 [n]); the others are as of the class."""
        k = len(centroids)
        if len(gone):
            labels = labels.copy()
            labels[gone] = k
        offsets, members = kernels.group(labels, k + 1)
        return cls(rows, centroids, index, offsets[: k + 1], members[: offsets[k]], gone, seed)

    @property
    def n(self) -> int:
        """Rows that can be found."""
        return len(self.members)

    def search(self, queries: Any, m: int, probe: int) -> Found:
        """The `m` (at most n) nearest rows of the `probe` (at most k) nearest clusters of each query, nearest first.

        Where these have fewer rows, twice as many clusters are searched, and so on.
        """
        count = queries.shape[0]
        ids, sqdist = np.empty((count, m), np.int64), np.empty((count, m), np.float32)
        step = max(1, CANDIDATES // (m * probe))
        for start in range(0, count, step):
            part = slice(start, start + step)
            ids[part], sqdist[part] = self._search(queries[part], m, probe)
        short = np.flatnonzero(ids[:, -1] < 0)
        if len(short):
            ids[short], sqdist[short] = self.search(queries[short], m, min(2 * probe, len(self.centroids)))
        return ids, sqdist

    def _search(self, queries: Any, m: int, probe: int) -> Found:
        count = queries.shape[0]
        cells = repair.search(self.index, queries, probe, self.centroids)[0].ravel()
        order = np.argsort(cells, kind="stable")
        used, starts = np.unique(cells[order], return_index=True)
        ids, sqdist = np.full((count, probe, m), -1, np.int64), np.full((count, probe, m), np.inf, np.float32)
        for cell, pairs in zip(used, np.split(order, starts[1:]), strict=True):
            own = self.members[self.offsets[cell] : self.offsets[cell + 1]]
            most = min(m, len(own))
            if most:
                who, place = np.divmod(pairs, probe)
                near, far = nearest(Subset(self.rows, own), queries[who], most)
                ids[who, place, :most], sqdist[who, place, :most] = own[near], far
        return first(ids.reshape(count, -1), sqdist.reshape(count, -1), m)

    def probe_for(self, truth: Truth, target: float) -> int:
        """The fewest clusters to probe so that recall, with its whole interval, reaches a target on some queries."""

        def passes(probe: int) -> bool:
            return self.measure(truth, probe).reaches(target)

        return least(passes, 8, len(self.centroids))

    def truth(self, queries: Source, m: int) -> Truth:
        """A sample of queries whose nearest rows are known."""
        return Truth.of(Without(self.rows, self.gone) if len(self.gone) else self.rows, queries, m, self.seed)

    def measure(self, truth: Truth, probe: int) -> SearchRecall:
        """Recall of a search of so many clusters, on some queries."""

        def found(x: Any, m: int) -> np.ndarray:
            ids = self.search(x, m, probe)[0]
            return ids - np.searchsorted(self.gone, ids) if len(self.gone) else ids  # as the truth numbers rows

        return truth.measure(found)

    def check(self, m: Any, probe: Any, recall: Any) -> None:
        """Refuse what cannot be searched for."""
        if checks.integer(m, "m", 1) > self.n:
            raise ValueError(f"m={m} rows are asked for, and there are {self.n:,}; lower m or add rows")
        if probe != AUTO:
            checks.integer(probe, "probe", 1)
            if probe > len(self.centroids):
                raise ValueError(f"probe={probe} exceeds the {len(self.centroids)} clusters; search at most as many")
        if recall is None:
            return
        if probe != AUTO:
            raise ValueError(
                f"recall={recall!r} is what probe='auto' must reach, got probe={probe!r}; pass one of them"
            )
        if checks.real(recall, "recall", 0.0, above=True) >= 1:
            raise ValueError(f"recall must be below 1, got {recall!r}; probe={len(self.centroids)} is exact")

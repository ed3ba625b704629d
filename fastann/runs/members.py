"""Who is in which cluster: members, nearest first, and the table of clusters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastann import kernels
from fastann.cluster.outliers import runs_of
from fastann.storage import tables

REPRESENTATIVES = 10  # kept of each cluster
SORTED_AT_ONCE = 2**20  # rows of several clusters; a cluster of more rows is sorted alone


@dataclass(frozen=True, eq=False)
class Members:
    """The rows of every cluster, and how far they are from its centre. Weights do not enter.

    Attributes
    ----------
    offsets : int64 [k + 1]
    rows : int32 [n], or int64 [n] from 2^31 rows on
        Of cluster j: ``rows[offsets[j]:offsets[j + 1]]``, nearest first, those as near by number.
    radius : float64 [k]
        Root of the mean squared distance, as in BIRCH (Zhang, Ramakrishnan and Livny, 1996).
    mean, most : float64 [k]
        Mean and largest distance. Of empty clusters these three are 0.
    """

    offsets: np.ndarray
    rows: np.ndarray
    radius: np.ndarray
    mean: np.ndarray
    most: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, distances: np.ndarray, k: int, at_once: int = SORTED_AT_ONCE) -> Members:
        """Group the rows of labels (int32 [n]) by cluster, and sort them by distance (float32 [n]).

        Takes 4 bytes a row, and about 30 for each of the `at_once` rows that are sorted together, or of the largest
        cluster if that is larger. Labels and distances may be mapped from files.
        """
        offsets, rows = kernels.group(labels, k)
        total, square, most = np.zeros(k), np.zeros(k), np.zeros(k)
        for first, last in runs_of(offsets, at_once):
            part = rows[offsets[first] : offsets[last]]  # in row order within each cluster
            counts = np.diff(offsets[first : last + 1])
            own, far = np.repeat(np.arange(last - first), counts), distances[part]
            order = np.lexsort((far, own))
            part[:], far = part[order], far[order].astype(np.float64)
            total[first:last] = np.bincount(own, far, last - first)
            square[first:last] = np.bincount(own, far * far, last - first)
            ends = np.cumsum(counts)[counts > 0] - 1
            most[first:last][counts > 0] = far[ends]
        count = np.maximum(np.diff(offsets), 1)
        return cls(offsets, rows, np.sqrt(square / count), total / count, most)

    def first(self, m: int = REPRESENTATIVES) -> np.ndarray:
        """The m rows nearest to each centre, nearest first, [k, m]; -1 where a cluster has fewer."""
        places = self.offsets[:-1, None] + np.arange(m)
        there = places < self.offsets[1:, None]
        return np.where(there, self.rows[np.where(there, places, 0)], -1).astype(self.rows.dtype)

    def write(self, path: Path, ids: np.ndarray | None = None) -> None:
        """Write the table of clusters as CSV; a representative is the number of a row, or its id where it has one."""
        size = np.diff(self.offsets)
        nearest = self.first(1)[:, 0]
        names = (nearest if ids is None else ids[nearest]).tolist()

        def column(values: list[Any]) -> list[Any]:
            return [value if count else "" for value, count in zip(values, size.tolist(), strict=True)]

        columns = {"cluster": range(len(size)), "size": size}
        far = {"radius": self.radius, "mean_distance": self.mean, "max_distance": self.most}
        columns |= {name: column([f"{value:.9g}" for value in values.tolist()]) for name, values in far.items()}
        with path.open("wb") as file:
            tables.write_csv(file, columns | {"representative": column(names)})

"""Which of the centroids near to it a row goes to, and what the labels are that a fit ends with.

A criterion is an object, handed to a pass with every assignment. A new one says what a row costs in a cluster; passes
that go over every row need nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from fastann import kernels
from fastann.cluster.space import Space


class Criterion(ABC):
    """What it costs a row to be in a cluster; it goes where that is least.

    Attributes
    ----------
    name : str
        As the records of iterations say it; "" for the plain one.
    looks : int
        How many of the centroids nearest to a row are compared.
    begins : int
        First iteration that goes by it; before, rows go to the nearest centroid.
    guarded : bool
        Whether rows that move at once can raise the inertia, so that the loop does without it after it rose.
    """

    name: ClassVar[str] = ""
    looks: ClassVar[int] = 1
    begins: ClassVar[int] = 1
    guarded: ClassVar[bool] = False

    @property
    def closing(self) -> Criterion:
        """The criterion of the final labels: itself, unless it is only a way to better centroids."""
        return self

    def rule(self, space: Space) -> int | None:
        """Number of the compiled rule that passes with candidates go by; None where there is none."""
        return None

    @abstractmethod
    def cost(
        self, sqdist: np.ndarray, mass: np.ndarray, weights: np.ndarray, own: np.ndarray, space: Space
    ) -> np.ndarray:
        """What each row costs in each of the clusters near to it.

        Parameters
        ----------
        sqdist : float32 [n, m]
            Squared L2 distances; infinite where there is no centroid.
        mass : float64 [n, m]
            Weight of each cluster, or the length of its sum where rows have unit norm.
        weights : float64 [n, 1]
            Of the rows.
        own : bool [n, m]
            Which cluster the row is in.

        Returns
        -------
        float64 [n, m]
            Lower is better; comparable within a row.
        """


class Nearest(Criterion):
    """The nearest centroid (Lloyd, 1982)."""

    def rule(self, space: Space) -> int:
        return kernels.LLOYD

    def cost(
        self, sqdist: np.ndarray, mass: np.ndarray, weights: np.ndarray, own: np.ndarray, space: Space
    ) -> np.ndarray:
        return sqdist.astype(np.float64)


class SizeAware(Criterion):
    """Hartigan's criterion (Hartigan, 1975): what a row's coming or going does to the two means is counted.

    It needs clusters that have found their sizes, so it begins with the third iteration, and ends below the optimum
    of the nearest-centre rule. The final labels are the nearest centres all the same.
    """

    name = "size-aware"
    looks = 8
    begins = 3
    guarded = True

    @property
    def closing(self) -> Criterion:
        return NEAREST

    def rule(self, space: Space) -> int:
        return kernels.SIZE_AWARE_COSINE if space.unit else kernels.SIZE_AWARE

    def cost(
        self, sqdist: np.ndarray, mass: np.ndarray, weights: np.ndarray, own: np.ndarray, space: Space
    ) -> np.ndarray:
        """W d^2 / (W + w), or W d^2 / (W - w) in its own cluster; a row alone in its cluster stays.

        Between unit vectors exactly: minus the growth of the length R of the cluster's sum, sqrt(R^2 + 2 R w s + w^2)
        - R, where s is the cosine; R - sqrt(R^2 - 2 R w s + w^2) in its own cluster.
        """
        there = np.isfinite(sqdist)
        far = np.where(there, sqdist, 0).astype(np.float64)
        alone = own & (mass <= weights)
        if space.unit:
            step = weights * (weights + np.where(own, -2.0, 2.0) * mass * (1 - far / 2))
            grown = step / np.maximum(np.sqrt(np.maximum(0, mass * mass + step)) + mass, np.finfo(float).tiny)
            cost = np.where(own, grown, -grown)
        else:
            cost = far * mass / np.where(own, np.where(alone, 1, mass - weights), mass + weights)
        return np.where(alone, -np.inf, np.where(there, cost, np.inf))


def choosing_mass(mass: np.ndarray) -> np.ndarray:
    """What clusters weigh where rows choose, float64 [k]: an empty one as much as the others on the average.

    By its weight of zero it would cost nothing, and every row that has it among its candidates would join it at once.
    """
    held = mass > 0
    return mass if held.all() or not held.any() else np.where(held, mass, mass[held].mean())


NEAREST = Nearest()
SIZE_AWARE = SizeAware()

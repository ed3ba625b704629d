"""What a model says of rows: their clusters, which of its fit belong to none, and which new ones do not."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from fastann import checks
from fastann.cluster.closing import Clustering
from fastann.cluster.outliers import LEVELS, Tails


def tails_of(found: Clustering) -> Tails:
    """The distances of each cluster's rows, in a few numbers.

    Raises
    ------
    ValueError
        If there is nothing that tells them.
    """
    if found.tails is None:
        raise ValueError(
            "this model does not know how far from its centre the rows of a cluster are: it was made of centres alone, "
            "saved without labels by an older version, or has no cluster of two rows; fit it to rows"
        )
    return found.tails


def rejected(found: Clustering, distances: np.ndarray, labels: np.ndarray, reject: Any) -> np.ndarray:
    """Labels (int32 [n]) with -1 for rows that a fit would call outliers, or that lie beyond a quantile.

    Parameters
    ----------
    found : Clustering
    distances : float32 [n]
        In the metric.
    labels : int32 [n]
    reject : float or None
        The share of a cluster's rows that is to be kept; None goes by the fit.
    """
    if reject is None:
        marked = found.outliers is not None and found.outliers.marked
        return np.where(distances <= found.threshold, labels, np.int32(-1)) if marked else labels
    level = checks.real(reject, "reject", LEVELS[0])
    if level > LEVELS[-1]:
        raise ValueError(
            f"reject must be between {LEVELS[0]:g} and {LEVELS[-1]:g}, got {reject}; it is the share of rows like "
            "those fitted on that is kept, so that 0.99 gives -1 to 1% of them"
        )
    return np.where(distances <= tails_of(found).within(level)[labels], labels, np.int32(-1))


class Novelty:
    """What `KMeans` says of outliers; see there."""

    clustering_: Clustering

    @property
    def inlier_mask_(self) -> np.ndarray:
        found = self._with_rows("inlier_mask_")
        return np.asarray(found.rows.needed("inlier_mask_")[1] <= found.threshold)

    @property
    def outlier_scores_(self) -> np.ndarray:
        found = self._with_rows("outlier_scores_")
        labels, distances = found.rows.needed("outlier_scores_")
        return tails_of(found).scores(distances, labels)

    @property
    def inertia_all_(self) -> float:
        found = self._with_rows("inertia_all_")
        return found.rows.inertia if found.outliers is None else found.outliers.inertia_all

    @property
    def threshold_(self) -> float:
        return self._with_rows("threshold_").threshold

    @property
    def trim_(self) -> float:
        outliers = self._with_rows("trim_").outliers
        return 0.0 if outliers is None else outliers.share

    def _with_rows(self, name: str) -> Clustering:
        found: Clustering = self._fitted(name)  # type: ignore[attr-defined]
        return found

    def predict(self, X: Any, reject: float | None = None) -> np.ndarray:
        """Nearest centre of each row, through the index: int32 [n_samples].

        `predict_recall_` says of how many rows it finds the nearest one. A zero row has no direction, and under the
        cosine metric a cosine of 0 to every centre: it gets the first, as in a fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), torch tensor, or path
            Whatever `fit` takes.
        reject : float or None, default=None
            Give -1 to rows farther from their centre than this share of the rows that belong to it: of rows of the law
            fitted on, 0.99 rejects 1%. From 0.5 to 0.999. It goes by distances of the rows of each cluster in the fit,
            those that were left out excepted, corrected for a centre's being near to the rows that it is the mean of;
            clusters of fewer than 1,000 rows (for 0.99) go by the distances in all, relative to their own scale. After
            a stream it goes by its first batch. None rejects none, unless `outlier_labels` is -1: then rows beyond
            `threshold_` get -1, as in the fit.
        """
        found: Clustering | None = self.__dict__.get("clustering_")
        if reject is None and (found is None or found.outliers is None or not found.outliers.marked):
            nearest: np.ndarray = self._search(X, 1)[1][:, 0]  # type: ignore[attr-defined]
            return nearest
        return self.judged(X, reject)[0]

    def _measured(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Distance of each row to its nearest centre (float32 [n]), as a fit measures it, and that centre (int32)."""
        sqdist, ids = self._search(X, 1, exactly=True)  # type: ignore[attr-defined]
        return self.clustering_.space.distance(sqdist[:, 0]), ids[:, 0]

    def judged(
        self, X: Any, reject: float | None = None, *, scores: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """What `predict` says of the rows of `X`, by `reject`, in one search with all that it goes by.

        Also their `scores`, minus `score_samples`, if these are asked for.

        Returns
        -------
        labels : int32 ndarray of shape (n_samples,)
        distances : float32 ndarray of shape (n_samples,)
            To the nearest centre.
        scores : float32 ndarray of shape (n_samples,) or None
            Distances over the scale of the cluster, if asked for.
        """
        check_is_fitted(self)
        distances, ids = self._measured(X)
        found = self.clustering_
        labels = rejected(found, distances, ids, reject)
        return labels, distances, tails_of(found).scores(distances, ids) if scores else None

    def score_samples(self, X: Any) -> np.ndarray:
        """Minus the distance of rows, `X`, to their nearest centre over the scale of that cluster: float32 [n_samples].

        Greater is more usual, and -1 is what most rows fitted on have. The scale is the root of the mean squared
        distance of the cluster's rows that were not left out (under the cosine metric, their mean distance), as seen
        from the mean of the others; clusters of few rows take a part of it from all.
        """
        check_is_fitted(self)
        distances, ids = self._measured(X)
        return -tails_of(self.clustering_).scores(distances, ids)

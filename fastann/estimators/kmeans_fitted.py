"""What a model of centres answers: nearest centres, distances, scores."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from fastann import checks
from fastann.cluster.checkpoint import remove
from fastann.cluster.closing import Clustering
from fastann.cluster.criterion import NEAREST
from fastann.cluster.passes.every import Every
from fastann.cluster.space import Space
from fastann.data.csr import Densified
from fastann.data.source import Source
from fastann.estimators.base import Model
from fastann.index.base import Index, Spec
from fastann.index.repair import search
from fastann.index.spec import Flat
from fastann.runs import clustering as runs


class Centers(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, Model):
    """A model that is its centres and the index that finds the nearest of them.

    scikit-learn makes `set_output` work for the class in which `transform` stands, so its mixins are bases here.

    Attributes
    ----------
    cluster_centers_ : float32 or float64 ndarray of shape (n_clusters, n_features)
    index_ : spec
    """

    _read = staticmethod(runs.read)
    cluster_centers_: np.ndarray
    index_: Spec
    clustering_: Clustering
    checkpoint: Any
    _space: Space

    def predict(self, X: Any) -> np.ndarray:
        """Nearest centre of each row, through the index: int32 [n_samples]."""
        return self._search(X, 1)[1][:, 0]

    def kneighbors(self, X: Any, n_neighbors: int = 5, return_distance: bool = True) -> Any:
        """Find the nearest centres of each row, nearest first, through the index.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), torch tensor, or path
        n_neighbors : int, default=5
            At most n_clusters.
        return_distance : bool, default=True

        Returns
        -------
        distances : float32 ndarray of shape (n_samples, n_neighbors)
            Euclidean, or 1 - cosine. Only if `return_distance`.
        ids : int32 ndarray of shape (n_samples, n_neighbors)
        """
        check_is_fitted(self)
        checks.integer(n_neighbors, "n_neighbors", 1, len(self.cluster_centers_))
        sqdist, ids = self._search(X, n_neighbors)
        return (self._space.distance(sqdist), ids) if return_distance else ids

    def transform(self, X: Any) -> np.ndarray:
        """Distance of each row to every centre: float32 [n_samples, n_clusters]; Euclidean, or 1 - cosine."""
        from sklearn.metrics.pairwise import euclidean_distances

        check_is_fitted(self)
        with self._threads():
            view = self._view(X)
            centroids = self._centroids()
            out = np.empty((view.n, len(centroids)), np.float32)
            for start, block in view.chunks():  # float32 in, float64 inside: no cancellation
                sqdist = euclidean_distances(block, centroids, squared=True)
                out[start : start + block.shape[0]] = self._space.distance(sqdist)
        return out

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the inertia of `X` under the fitted centres (greater is better)."""
        check_is_fitted(self)
        with self._threads():
            view = self._view(X)
            weights = checks.sample_weight(sample_weight, view.n)
            work = Every.over(view, weights, self._centroids(), self._space)
            return -work.close(self._index(), NEAREST).inertia

    def set_search(self, **options: int) -> Self:
        """Change search options of the fitted index, such as ``nprobe`` or ``ef_search``; returns self."""
        check_is_fitted(self)
        self.index_ = self.index_.searching(**options)
        return self

    @property
    def ids_(self) -> np.ndarray | None:
        """Names of the rows, where the data has them. Names may be set here too: runs and exports then have them."""
        return self.clustering_.rows.ids

    @ids_.setter
    def ids_(self, ids: np.ndarray | None) -> None:
        self.clustering_ = self.clustering_.with_ids(ids)

    def _publish(self, found: Clustering) -> None:
        rows, means, self._space = found.rows, found.means, found.space
        self.clustering_, self.cluster_centers_, self._n_features_out = found, means.centers, len(means.centers)
        self.labels_, self.distances_, self.inertia_ = rows.labels, rows.distances, rows.inertia
        for name, array in (("second_labels_", rows.second), ("margins_", rows.margins)):
            self.__dict__.pop(name, None)
            if array is not None:
                setattr(self, name, array)
        self.assignment_recall_, self.assignment_recall_interval_ = rows.recall, rows.interval
        self.weights_, self.n_steps_, self.index_ = means.weights, means.steps, found.spec
        self.history_, self.n_iter_, self.stop_reason_ = found.history, len(found.history), found.stop_reason

    # ----------------------------------------------------------------- saving

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write a run directory, whole or not at all; its files are described in `fastann.runs.clustering`.

        `force` replaces an existing run. A start given as an array or callable, and a callback, are not
        saved; the manifest says so. Checkpoints of the fit are removed.

        Raises
        ------
        FileExistsError
            If `path` exists and may not be replaced.
        """
        check_is_fitted(self)
        found = self.clustering_.with_index(self.index_)
        runs.write(path, found, runs.About.of(self), checkpoint=self.checkpoint, force=force)
        if self.checkpoint is not None:
            remove(self.checkpoint)

    def _view(self, X: Any) -> Source:
        """Rows to use the fitted model on, in its space; sparse ones dense, by chunks, where its index needs that."""
        view = self._space.view(self._source(X))
        return Densified(view) if view.sparse and self.index_ != Flat() else view

    def _centroids(self) -> np.ndarray:
        return self._space.inward(self.cluster_centers_)

    def _index(self, centroids: np.ndarray | None = None) -> Index:
        """The index over the published centres, built once while the model lives; `centroids` if they are known."""
        spec, device = self.index_, self._device()
        index: Index = self._built_once(
            (*spec.built_with, device),
            self.cluster_centers_,
            lambda: spec.build(self._centroids() if centroids is None else centroids, seed=0, device=device),
        )
        return index.retuned(spec)

    def _search(self, X: Any, m: int) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        with self._threads():
            view = self._view(X)
            centroids = self._centroids()
            index = self._index(centroids)
            ids = np.empty((view.n, m), np.int32)
            sqdist = np.empty((view.n, m), np.float32)
            for first, block in view.chunks():
                part = slice(first, first + block.shape[0])
                ids[part], sqdist[part], _ = search(index, block, m, centroids)
        return sqdist, ids

"""What a model of centres answers: nearest centres, distances, scores."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from fastann import checks, kernels
from fastann.cluster import plan
from fastann.cluster.checkpoint import remove
from fastann.cluster.closing import WITHOUT, Clustering, Labelling
from fastann.cluster.criterion import NEAREST
from fastann.cluster.memory import Memory
from fastann.cluster.passes.every import Every
from fastann.cluster.progress import Bar
from fastann.cluster.space import Space, space_of
from fastann.data.csr import Densified
from fastann.data.open import as_source, can_reopen, reopen
from fastann.data.source import Source, Without, dense
from fastann.estimators.base import Model
from fastann.estimators.foreign import KMEANS
from fastann.estimators.kmeans_novelty import Novelty
from fastann.estimators.summary import of_centers
from fastann.index.base import AUTO, Index, Spec
from fastann.index.repair import search
from fastann.index.spec import Flat
from fastann.runs import clustering as runs
from fastann.search.clusters import Lists, usual_probe
from fastann.search.exact import SearchRecall
from fastann.search.queries import ORTHOGONAL, as_kind, zeros_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Directed:
    """Rows to cluster: under the cosine metric without those that are zero, which have no direction.

    Attributes
    ----------
    whole : Source
        All rows, seen in the space they are clustered in.
    zeros : int64 array
        Which of them have no direction.
    source : Source
        The others.
    weights : float64 array or None
        Of these.
    """

    whole: Source
    zeros: np.ndarray
    source: Source
    weights: np.ndarray | None

    @classmethod
    def of(cls, view: Source, weights: np.ndarray | None = None) -> Self:
        """Of all rows of a view, with their weights (float64 [n])."""
        zeros = zeros_of(view)
        if not len(zeros):
            return cls(view, zeros, view, weights)
        return cls(view, zeros, Without(view, zeros), None if weights is None else np.delete(weights, zeros))

    def all(self, rows: Labelling, k: int, memory: Memory | None = None) -> Labelling:
        """Labels of all rows, from those of the rows that have a direction."""
        return rows.among(self.whole, self.zeros, k, memory or Memory()) if len(self.zeros) else rows


class Centers(Novelty, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, Model):
    """A model that is its centres and the index that finds the nearest of them.

    scikit-learn makes `set_output` work for the class in which `transform` stands, so its mixins are bases here.

    Attributes
    ----------
    cluster_centers_ : float32 or float64 ndarray of shape (n_clusters, n_features)
    index_ : spec
    """

    _read, _words = staticmethod(runs.read), KMEANS
    index_: Spec
    clustering_: Clustering
    checkpoint: Any
    verbose: bool

    @classmethod
    def from_centers(cls, centers: Any, *, index: Any = "flat", **parameters: Any) -> Self:
        """Make a model of centres that are there already: of another library, or from a file.

        It is as if it had been fitted to the centres themselves: `labels_` are theirs, and in `partial_fit`, which
        goes on from them, each weighs one row. `fit` begins anew.

        Parameters
        ----------
        centers : array-like of shape (n_clusters, n_features), or whatever else `fit` takes as rows
            Finite. Under the cosine metric of any norm but 0; they are scaled to unit norm.
        index : str or spec, default="flat"
            Exact unless another is given.
        **parameters
            As of the class, such as ``metric="cosine"``; without `n_clusters` and `init`.

        Returns
        -------
        estimator

        Raises
        ------
        ValueError, TypeError
            If `centers` are no table of finite numbers, or a parameter makes no sense.
        """
        source = as_source(centers, "centers")
        rows = dense(source.native(slice(0, source.n)))
        checks.centers(rows, source.n, source.d, "centers", origin=rows.mean(axis=0, dtype=np.float64))
        space_of(parameters.get("metric", "euclidean")).inward(rows)
        if plan.choose_index(index, source.n).open is not None:
            raise ValueError(f"index={str(index)!r} is tuned on rows, and there are centres only; give a number")
        model: Any = cls(source.n, index=index, **parameters)
        asked = {name: getattr(model, name) for name in ("init", "n_init", "max_iter")}
        model.set_params(init=rows, n_init=1, max_iter=0).fit(rows)
        model.clustering_ = replace(model.clustering_, predict_recall=np.nan)  # centres are no sample of rows
        model.set_params(**asked)
        return cast(Self, model)

    @property
    def cluster_centers_(self) -> np.ndarray:
        return self._fitted("cluster_centers_").centers

    @cluster_centers_.setter
    def cluster_centers_(self, centers: Any) -> None:
        found = self._fitted("cluster_centers_")
        k, d = found.centers.shape
        checked = checks.centers(centers, k, d, "cluster_centers_", origin=found.space.mean)
        centers = np.array(checked)  # a copy, which nobody else writes to
        if centers.dtype not in (np.float32, np.float64):
            centers = centers.astype(np.float64)
        found.space.inward(centers)
        self.clustering_ = found.with_centers(centers)

    @property
    def predict_recall_(self) -> float:
        found = self._fitted("predict_recall_")
        return 1.0 if self.index_ == Flat() else found.with_index(self.index_).predict_recall

    @property
    def _n_features_out(self) -> int:
        return len(self._fitted("_n_features_out").centers)

    @property
    def _space(self) -> Space:
        return self._fitted("_space").space

    def _fitted(self, name: str) -> Clustering:
        """The result, of which attribute `name` is asked for."""
        found: Clustering | None = self.__dict__.get("clustering_")
        if found is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}: it is not fitted yet")
        return found

    def kneighbors(self, X: Any, n_neighbors: int = 5, return_distance: bool = True) -> Any:
        """Find the nearest centres of each row, nearest first, through the index.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), torch tensor, or path
            Rows, as in `fit`.
        n_neighbors : int, default=5
            At most n_clusters.
        return_distance : bool, default=True
            Whether to return distances too, before the ids.

        Returns
        -------
        distances : float32 ndarray of shape (n_samples, n_neighbors)
            Euclidean, or 1 - cosine. Only if `return_distance`.
        ids : int32 ndarray of shape (n_samples, n_neighbors)
        """
        check_is_fitted(self)
        checks.integer(n_neighbors, "n_neighbors", 1, len(self.cluster_centers_))
        sqdist, ids = self._search(X, n_neighbors, exactly=n_neighbors == 1)  # of several they are exact already
        return (self._space.distance(sqdist), ids) if return_distance else ids

    def search(
        self,
        queries: Any,
        m: int = 10,
        *,
        probe: int | str | None = None,
        rows: Any = None,
        recall: float | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the `m` nearest rows of each query through the clusters, nearest first.

        The clusters are the lists of an inverted file (Sivic and Zisserman, 2003), whose rows stay where they are: all
        rows of the `probe` clusters whose centres are nearest to a query are compared with it. Where these have fewer
        than `m` rows, more clusters are searched. `search_recall` says how many of the true neighbours are found.

        Parameters
        ----------
        queries : whatever `predict` takes
            Of as many columns as the centres: shape (n_queries, n_features).
        m : int, default=10
            Rows to find for each query; at most as many as there are rows.
        probe : int, "auto" or None, default=None
            Clusters searched for a query; all of them is exact search. None is 8, or all where there are fewer; "auto":
            as few as reach `recall`.
        rows : whatever `fit` takes, optional
            The rows to search. Those fitted on keep their labels; others go to their nearest centres, as in `predict`.
            What is found out about them serves later calls with the same object, so do not change it in place. When
            not given, the files that the model was fitted on are opened again, if they did not change since.
        recall : float or None, default=None
            With ``probe="auto"``: the recall@m to reach on a sample of the queries, with its 95% interval. None is
            0.99.

        Returns
        -------
        distances : float32 ndarray of shape (n_queries, m)
            Euclidean, or 1 - cosine. A zero query is as far from every row under the cosine metric, and zero rows are
            never found.
        ids : int64 ndarray of shape (n_queries, m)
            Row numbers.

        Raises
        ------
        ValueError, TypeError
            If an argument makes no sense, or the rows were in memory and are not given.
        FileNotFoundError
            If a file that the model was fitted on is gone.
        """
        lists, view, probe = self._to_search(queries, m, probe, rows, recall)
        if probe == AUTO:
            probe = self.probe_for(queries, m, recall=recall, rows=rows)
        assert not isinstance(probe, str)
        with self._threads():
            sqdist, ids = np.empty((view.n, m), np.float32), np.empty((view.n, m), np.int64)
            with Bar(self.verbose, "search", view.n, "row") as bar:
                for first, block in view.chunks():
                    part = slice(first, first + block.shape[0])
                    ids[part], sqdist[part] = lists.search(block, m, probe)
                    bar.step(block.shape[0])
            zeros = zeros_of(view)
            ids[zeros], sqdist[zeros] = np.sort(lists.members)[:m] if len(zeros) else 0, ORTHOGONAL
        return self._space.distance(sqdist), ids

    def search_recall(self, queries: Any, m: int = 10, *, probe: int | None = None, rows: Any = None) -> SearchRecall:
        """Measure recall@m of `search` against exact search, on a sample of 200 to 1,000 of the queries.

        Parameters
        ----------
        queries, m, probe, rows
            As of `search`.

        Returns
        -------
        SearchRecall
            Its ``value``, its 95% ``interval``, and of how many ``queries``.
        """
        probe = None if probe is None else checks.integer(probe, "probe", 1)
        lists, view, probe = self._to_search(queries, m, probe, rows, None)
        with self._threads():
            return lists.measure(lists.truth(view, m), probe)

    def probe_for(self, queries: Any, m: int = 10, *, recall: float | None = None, rows: Any = None) -> int:
        """The `probe` that ``"auto"`` stands for in `search`: as few clusters as reach `recall` on these queries.

        Parameters
        ----------
        queries : whatever `predict` takes
            What is to be searched for; recall is measured on a sample of it.
        m : int, default=10
            Rows to find for each query.
        recall : float or None, default=None
            The recall@m to reach with its 95% interval; None is 0.99.
        rows : whatever `fit` takes, optional
            The rows to search, as of `search`.
        """
        lists, view, _ = self._to_search(queries, m, AUTO, rows, recall)
        with self._threads():
            return lists.probe_for(lists.truth(view, m), plan.RECALL if recall is None else recall)

    def _to_search(self, queries: Any, m: Any, probe: Any, rows: Any, recall: Any) -> tuple[Lists, Source, Any]:
        """Rows by cluster, queries, and the clusters to search, all checked."""
        check_is_fitted(self)
        found = self.clustering_
        key, over = (found, self.index_), found if rows is None else rows
        with self._threads():
            lists: Lists = self._built_once(key, over, lambda: self._listed(rows), "search")
            probe = usual_probe(len(lists.centroids)) if probe is None else probe
            lists.check(m, probe, recall)
            return lists, as_kind(self._view(queries, "queries"), lists.rows.sparse), probe

    def _listed(self, rows: Any) -> Lists:
        """The rows of every cluster: of those the model was fitted on, or of others."""
        found = self.clustering_
        if rows is None and found.means.steps > 1:
            raise ValueError(
                f"the model learned from a stream of {found.means.steps} batches, of which it knows the last one only; "
                "pass the rows to search: rows=..."
            )
        if rows is None and not can_reopen(found.rows.data):
            raise ValueError(
                "the model was fitted on rows in memory, and has their labels alone; pass the rows to search: rows=X"
            )
        given = reopen(found.rows.data) if rows is None else rows
        view, labels = self._view(given, "rows"), found.rows.labels
        if labels is None or not found.has(view):
            labels = self._search(given, 1)[1][:, 0]
        return Lists.of(view, labels, self._centroids(), self._index(), zeros_of(view), seed=found.means.seed)

    def transform(self, X: Any) -> np.ndarray:
        """Distance of each row of `X` to every centre: float32 [n_samples, n_clusters]; Euclidean, or 1 - cosine."""
        from sklearn.metrics.pairwise import euclidean_distances

        check_is_fitted(self)
        with self._threads():
            view = self._view(X)
            centroids = self._centroids()
            out = np.empty((view.n, len(centroids)), np.float32)
            with Bar(self.verbose, "transform", view.n, "row") as bar:
                for start, block in view.chunks():  # float32 in, float64 inside: no cancellation
                    sqdist = euclidean_distances(block, centroids, squared=True)
                    out[start : start + block.shape[0]] = self._space.distance(sqdist)
                    bar.step(block.shape[0])
            out[zeros_of(view)] = self._space.distance(np.array(ORTHOGONAL))
        return out

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the inertia of `X` (with `sample_weight`) under the fitted centres: greater is better. `y`: ignored."""
        check_is_fitted(self)
        with self._threads():
            view = self._view(X)
            table = Directed.of(view, checks.sample_weight(sample_weight, view.n))
            work = Every.over(table.source, table.weights, self._centroids(), self._space)
            return -work.close(self._index(), NEAREST).inertia

    def set_search(self, **options: int) -> Self:
        """Change search `options` of the fitted index, such as ``nprobe`` or ``ef_search``; returns self."""
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
        rows, means, self.clustering_ = found.rows, found.means, found
        self.inertia_ = rows.inertia
        own = {"labels_": found.labels, "distances_": rows.distances}
        for name, array in (own | {"second_labels_": rows.second, "margins_": rows.margins}).items():
            self.__dict__.pop(name, None)
            if array is not None:
                setattr(self, name, array)
        self.assignment_recall_, self.assignment_recall_interval_ = rows.recall, rows.interval
        self.weights_, self.n_steps_, self.index_ = means.weights, means.steps, found.spec
        self.history_, self.n_iter_, self.stop_reason_ = found.history, len(found.history), found.stop_reason
        self.fit_seconds_, self.seconds_, self.device_ = found.fit_seconds, dict(found.seconds), found.device

    def _facts(self) -> dict[str, str]:
        return of_centers(self)

    def _absence(self, name: str) -> str | None:
        if name in ("labels_", "distances_", "margins_", "second_labels_") and "clustering_" in vars(self):
            if self.clustering_.rows.labels is None:
                return f"{WITHOUT}, so it has no {name}; predict and kneighbors find them of any rows"
            return f"it was fitted without margins, so it has no {name}; fit with KMeans(margins=True)"
        return super()._absence(name)

    # ----------------------------------------------------------------- saving

    def save(self, path: str | os.PathLike[str], *, labels: bool = True, force: bool = False) -> None:
        """Write a run directory, whole or not at all; its files are described in `fastann.runs.clustering`.

        A start given as an array or callable, and a callback, are not saved; the manifest says so. Checkpoints of the
        fit are removed.

        Parameters
        ----------
        path : path
            Folder to write.
        labels : bool, default=True
            Whether to write what is known of each row too: its label, distance and the like, 12 to 20 bytes. Without,
            the run is a model to predict with, and `partial_fit` goes on from it.
        force : bool, default=False
            Replace an existing run.

        Raises
        ------
        FileExistsError
            If `path` exists and may not be replaced.
        """
        check_is_fitted(self)
        if not isinstance(labels, bool | np.bool_):
            raise TypeError(f"labels must be True or False, got {labels!r}; ids and labels of rows are the fit's own")
        found = self.clustering_.with_index(self.index_)
        runs.write(path, found, runs.About.of(self), checkpoint=self.checkpoint, labels=bool(labels), force=force)
        log.info("run written to %s", path)
        if self.checkpoint is not None:
            remove(self.checkpoint)

    def _view(self, X: Any, name: str = "X") -> Source:
        """Rows to use the fitted model on, in its space; sparse ones dense, by chunks, where its index needs that."""
        view = self._space.view(self._source(X, name), zero_rows=True, name=name)
        return Densified(view) if view.sparse and self.index_ != Flat() else view

    def _centroids(self) -> np.ndarray:
        return self._space.inward(self.cluster_centers_)

    def _index(self, centroids: np.ndarray | None = None) -> Index:
        """The index over the published centres, built once while the model lives; `centroids` if they are known."""
        known = self._centroids if centroids is None else lambda: centroids
        return self._index_over(self.cluster_centers_, self.index_, known)

    def _index_over(self, centers: np.ndarray, spec: Spec, centroids: Callable[[], np.ndarray]) -> Index:
        """The same over centres that are published, or about to be."""
        device = self._device()
        index: Index = self._built_once(
            (*spec.built_with, device), centers, lambda: spec.build(centroids(), seed=0, device=device)
        )
        return index.retuned(spec)

    def _search(self, X: Any, m: int, *, exactly: bool = False) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        with self._threads():
            view = self._view(X)
            centroids = self._centroids()
            index = self._index(centroids)
            ids = np.empty((view.n, m), np.int32)
            sqdist = np.empty((view.n, m), np.float32)
            with Bar(self.verbose, "predict", view.n, "row") as bar:
                for first, block in view.chunks():
                    part = slice(first, first + block.shape[0])
                    ids[part], sqdist[part], _ = search(index, block, m, centroids)
                    if exactly:
                        sqdist[part, 0] = kernels.own_sqdist(block, centroids, np.ascontiguousarray(ids[part, 0]))
                    bar.step(block.shape[0])
            zeros = zeros_of(view)
            ids[zeros], sqdist[zeros] = np.arange(m), ORTHOGONAL
        return sqdist, ids

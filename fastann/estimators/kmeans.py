"""The estimator: validate once, run the loop, publish attributes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from fastann import checks, kernels
from fastann.cluster import checkpoint, plan
from fastann.cluster import start as init
from fastann.cluster.checkpoint import Checkpoints, plain
from fastann.cluster.fit import Rules, Task, cluster
from fastann.cluster.lloyd import Search, State
from fastann.cluster.memory import Memory, plan_memory
from fastann.cluster.passes.bounded import Sweep
from fastann.cluster.passes.every import label, recall, runners_up, search, wilson
from fastann.cluster.space import METRICS, Space, fit_space
from fastann.cluster.stop import Deadline
from fastann.cluster.stream import Online
from fastann.cluster.update import EMPTY, Rows
from fastann.data import open as files
from fastann.data.csr import Densified, entries_per_row
from fastann.data.identity import identity
from fastann.data.source import ArraySource, Source, has_distinct_rows
from fastann.estimators.callbacks import Callbacks, CallbackSupport, with_callbacks
from fastann.index import gpu
from fastann.index.own import CellsIndex, Index
from fastann.index.spec import Cells, FaissIndex, Flat, Spec, faiss, faiss_threads
from fastann.runs import clustering as saved

# Indexes built for predict. Beside the estimators, not on them: FAISS objects cannot be pickled or copied.
_built: WeakKeyDictionary[Any, tuple[tuple, np.ndarray, Index]] = WeakKeyDictionary()


# Parameters that decide what a fit does next; with others of these it cannot go on from a checkpoint.
DECISIVE = (
    "n_clusters", "index", "recall", "metric", "init", "n_init", "candidates", "size_aware", "effort", "sample",
    "empty", "random_state",
)  # fmt: skip
BATCH_PLUS_PLUS = 1024  # clusters up to which a stream starts with k-means++


class KMeans(CallbackSupport, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """K-means whose every iteration finds the nearest centroids through a pluggable index.

    Lloyd's algorithm (Lloyd, 1982), spherical for ``metric="cosine"`` (Dhillon and Modha, 2001). Distances
    are computed in float32, sums in float64. With ``index="flat"`` the assignment is exact: equal to a
    float64 computation on the float32 rows, ties going to the lowest cluster.

    Parameters
    ----------
    n_clusters : int, default=8
    index : str or spec, default="auto"
        How the nearest centroid is found: `Flat`, `IVF`, `HNSW` or `Factory`, or a string such as
        ``"ivf:nlist=64,nprobe=8"``. ``"auto"`` is exact on small problems; on others it
        remembers candidates, searches only where it must, and starts on samples where there are many rows a
        cluster.
    recall : float or None, default=None
        For an index whose search option is "auto", such as ``IVF(nprobe="auto")``: the recall@1 it must reach, with
        its whole 95% interval, on a sample of rows. Found anew whenever the index is built, as centroids move.
        None is 0.99; with any other index it must be None.
    metric : {"euclidean", "cosine"}, default="euclidean"
        ``"cosine"`` clusters the directions of the rows; centres have unit norm and inertia is the sum of
        squared distances between unit vectors, 2 (1 - cosine).
    init : str, array of shape (n_clusters, n_features) or callable, default="auto"
        ``"random"`` rows; ``"k-means++"``, greedy, on a sample of at least 128 rows a cluster and 32,768 in
        all; ``"k-means||"`` over all rows; ``"auto"``, k-means++ up to 256 clusters and random above. A
        callable is called as ``init(X, n_clusters, random_state)``.
    n_init : int, default=1
        Starts tried; the one of lowest inertia is kept.
    max_iter : int, default=25
    tol : float, default=1e-4
        Stop when an iteration decreases the inertia by no more than this share of it. With 0, stop when no
        row moves.
    candidates : int or None, default=None
        Centroids remembered per row, 2 to 8. Iterations then compare rows with these, and search the index only
        for rows whose bounds fail. None: 8 in the automatic mode, none elsewhere.
    size_aware : bool or "auto", default="auto"
        Whether rows move by Hartigan's criterion (Hartigan, 1975), which counts what a row's coming or going
        does to the two means and ends at a lower inertia than the nearest-centre rule. "auto": in the automatic
        mode only. The final labels are the nearest centres all the same.
    exact_labels : bool, default=False
        Find the final labels by exact search of every row, whatever the index.
    margins : bool, default=False
        Find each row's second nearest centre too: `second_labels_` and `margins_`.
    effort : float, default=1.0
        Of the automatic mode: 2 searches twice as cautiously and goes on until iterations gain half as much.
    sample : int, float or None, default=None
        Train on this many rows, or this fraction, drawn with `random_state`; all rows are labelled.
    empty : {"split", "farthest", "keep"}, default="split"
        What happens to a cluster without rows: it takes half of a cluster drawn by inertia, moves to the
        row farthest from its centroid (scikit-learn's way), or stays.
    decay : float or "auto", default="auto"
        In `partial_fit`, what the rows seen so far keep of their weight at every batch, in (0, 1]: 1 makes centres
        running means, with less they follow a drift. "auto" gives a row weight in proportion to its place in the
        stream (polynomial-decay averaging; Shamir and Zhang, 2013), as early rows went to worse centres.
    time_limit : float or None, default=None
        Seconds for all iterations; stops before one that would end later. One iteration is always done.
    max_memory : int, str or None, default=None
        Memory that the fit may take beside rows that are in memory already, in bytes or as "2GiB". What it remembers of
        each row (48 bytes in the automatic mode, else 8) goes to files where it would exceed this. None: half of
        what is free.
    temp_folder : path or None, default=None
        Where these files lie, which have no names and vanish with the process; a folder on a disk, as one that is in
        memory itself (often ``/tmp``) spares none. None: beside the checkpoints if there are any, else where
        `tempfile` puts its own.
    checkpoint : path or None, default=None
        Folder to write the state of the fit to. A fit that was killed goes on from there when it is called again with
        the same data and parameters, and ends in the centres it would have ended in, to the bit with the same number
        of threads. `save` removes what is there; one fit at a time may have the folder.
    checkpoint_seconds : float, default=300.0
        Time between two checkpoints at least; 0 writes one after every iteration.
    callback : callable or None, default=None
        Called with a `State` (``record``, ``centroids``) after every iteration; returning True stops the
        fit. scikit-learn's own callbacks (``set_callbacks``, scikit-learn >= 1.9) work too.
    verbose : bool, default=False
        Show a progress bar on a terminal.
    device : str or list, default="cpu"
        ``"cuda"``, ``"cuda:1"`` or several of them: GPUs that search the index.
    n_jobs : int or None, default=None
        Threads for everything; None is all cores.
    random_state : int, RandomState or None, default=None
        Seed of all randomness. The same seed and number of threads give the same bits.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        float32; float64 if the data was centred because it lies far from the origin.
    labels_ : int32 ndarray of shape (n_samples,)
        The nearest centre of each row that the index finds.
    distances_ : float32 ndarray of shape (n_samples,)
        Distance of each row to its centre: Euclidean, or 1 - cosine.
    second_labels_ : int32 ndarray of shape (n_samples,)
        The second nearest centre, of those the index finds or the row remembers; -1 if there is one centre only.
        Only with `margins`.
    margins_ : float32 ndarray of shape (n_samples,)
        How much farther that one is, in the units of `distances_`: near 0 for rows between two clusters, infinite if
        there is one centre only. Only with `margins`.
    ids_ : ndarray of shape (n_samples,) or None
        Names of the rows, where the data has them (see `fastann.open_source`).
    inertia_ : float
        Weighted sum of squared distances of all rows to the centres of their labels, in float64.
    assignment_recall_ : float
        Share of labels that are the true nearest centre; measured against exact search on a random
        sample of rows, 1.0 by construction for an exact index.
    assignment_recall_interval_ : tuple of float
        Its 95% interval (Wilson, 1927).
    weights_ : float64 ndarray of shape (n_clusters,)
        Weight of the rows that each centre has seen: of all rows after `fit`; in a stream, as far as `decay` remembers.
    n_steps_ : int
        Batches seen.
    n_iter_ : int
    history_ : list of Iteration
        A record per iteration of the best start: inertia, moved rows, empty clusters, repaired rows,
        seconds by phase.
    stop_reason_ : StopReason
        A string with a ``sentence``.
    index_ : spec
        The index used; `set_search` changes its search options.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has named columns.

    Raises
    ------
    ValueError, TypeError
        For data or parameters that make no sense; the message says what was given, what was needed and
        what to do.
    ImportError
        If FAISS is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from fastann import KMeans
    >>> x = np.random.default_rng(0).standard_normal((10_000, 64), dtype="f")
    >>> km = KMeans(n_clusters=100, random_state=0).fit(x)
    >>> km.predict(x[:3]).shape
    (3,)
    """

    weights_: np.ndarray
    n_steps_: int
    _lengths: np.ndarray  # of the means, as shares of the centres': below 1 for cosine
    _stream_seed: int
    _seen: float  # weight of all rows seen

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        index: Any = "auto",
        recall: float | None = None,
        metric: str = "euclidean",
        init: Any = "auto",
        n_init: int = 1,
        max_iter: int = 25,
        tol: float = 1e-4,
        candidates: int | None = None,
        size_aware: bool | str = "auto",
        exact_labels: bool = False,
        margins: bool = False,
        effort: float = 1.0,
        sample: int | float | None = None,
        empty: str = "split",
        decay: float | str = "auto",
        time_limit: float | None = None,
        max_memory: int | str | None = None,
        temp_folder: str | os.PathLike | None = None,
        checkpoint: str | os.PathLike | None = None,
        checkpoint_seconds: float = 300.0,
        callback: Callable[[State], Any] | None = None,
        verbose: bool = False,
        device: Any = "cpu",
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.n_clusters = n_clusters
        self.index = index
        self.recall = recall
        self.metric = metric
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.candidates = candidates
        self.size_aware = size_aware
        self.exact_labels = exact_labels
        self.margins = margins
        self.effort = effort
        self.sample = sample
        self.empty = empty
        self.decay = decay
        self.time_limit = time_limit
        self.max_memory = max_memory
        self.temp_folder = temp_folder
        self.checkpoint = checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self.callback = callback
        self.verbose = verbose
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    # ----------------------------------------------------------------- fitting

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Cluster the rows of `X`.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (n_samples, n_features), torch tensor, or path of a file
            Any float or integer dtype; read in chunks, never cast whole. A float32 C-ordered array or
            memmap is never copied.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self
        """
        return self._fit_or_restore(X, y, sample_weight)

    def _fit_or_restore(self, X: Any, y: Any, sample_weight: Any, *, first_batch: bool = False) -> Self:
        before = dict(self.__dict__)
        try:
            self._fit(X, y, sample_weight, first_batch=first_batch)
        except BaseException:  # a failed fit leaves the estimator as it was
            # ... save what scikit-learn's callback protocol keeps on it to tear callbacks down
            running = {n: v for n, v in self.__dict__.items() if n.startswith(("_callback_", "_skl_"))}
            self.__dict__.clear()
            self.__dict__.update(before | running)
            raise
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, first_batch: bool) -> None:
        deadline = Deadline(self._check_parameters())
        source = self._source(X, reset=True)
        weights = checks.sample_weight(sample_weight, source.n)
        k, size, device = self._check_data(source)
        limit = checks.nbytes(self.max_memory, "max_memory")
        memory = plan_memory(source, k, limit, self.temp_folder or self.checkpoint)
        seed = checks.seed(self.random_state)
        checkpoints = self._checkpoints(source, weights, seed)
        if checkpoints is not None:
            seed = checkpoints.seed
            deadline.spend(checkpoints.spent)
        with self._threads():
            space, view = fit_space(source, self.metric)
            given = self._given_centers(X, k, source.d, space, seed)
            # A batch is small, and what it starts with lasts.
            start = "k-means++" if first_batch and self.init == "auto" and k <= BATCH_PLUS_PLUS else self.init
            train, train_weights = view, weights
            if size is not None and size < source.n:
                train, train_weights = init.subsample(view, weights, size, np.random.default_rng([seed, 1]), memory)
            with Callbacks(self, X, y, sample_weight, space) as callbacks:
                task = Task(
                    train,
                    train_weights,
                    k,
                    plan.choose(
                        self.index,
                        train.n,
                        entries_per_row(train),
                        k,
                        sparse=train.sparse,
                        candidates=self.candidates,
                        size_aware=self.size_aware,
                        effort=self.effort,
                        recall=self.recall,
                    ),
                    start=start if given is None else given,
                    n_init=self.n_init,
                    empty=self.empty,
                    metric=self.metric,
                    device=device,
                    seed=seed,
                    memory=memory,
                )
                done = cluster(
                    task,
                    Rules(self.max_iter, self.tol, deadline),
                    checkpoints=checkpoints,
                    watchers=[callbacks] if self.callback is None else [callbacks, self.callback],
                    verbose=self.verbose,
                )
            self.cluster_centers_ = space.outward(done.centroids)
            self._space, self._n_features_out = space, k
            index = Flat() if source.sparse else plan.choose_index(self.index, k)
            self.index_ = index if done.adapt is None else done.adapt.spec
            self.history_, self.n_iter_, self.stop_reason_ = done.history, len(done.history), done.stop_reason
            self._close(view, weights, done.work, seed, memory)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take in a batch of a stream, so that centres are means of all rows seen (of which `decay` may forget).

        The first batch, of at least n_clusters rows, is clustered as `fit` does; the larger it is, the better the
        start. Every later one is assigned, moves the centres to the running means, and is assigned once more to the
        moved centres (mini-batch k-means; Sculley, 2010). Centres with less than a hundredth of the mean weight
        move to rows of the batch drawn by their squared distances. After `fit` or `load` it goes on from there.
        `labels_`, `distances_` and `inertia_` are the batch's.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; later batches may have a single row.

        Returns
        -------
        self
        """
        if not hasattr(self, "cluster_centers_"):
            return self._fit_or_restore(X, None, sample_weight, first_batch=True)
        self._check_parameters()
        with self._threads():
            view = self._view(X)
            weights = checks.sample_weight(sample_weight, view.n)
            device, step = self._device(), self.n_steps_ + 1
            mass = float(view.n if weights is None else weights.sum())
            online, rows = Online.of(self._centroids(), self.weights_, self._lengths).after(
                view,
                weights,
                lambda centroids: self.index_.build(centroids, seed=step, device=device),
                decay=self._seen / (self._seen + mass) if self.decay == "auto" else float(self.decay),
                metric=self.metric,
                rng=np.random.default_rng([self._stream_seed, 2, step]),
            )
            self.cluster_centers_ = self._space.outward(online.centroids)
            self.n_steps_ = step
            self._label(view, rows, self._index(), step)
            self.weights_, self._lengths, self._seen = online.seen.counts, online.lengths, self._seen + mass
        return self

    def _close(self, view: Source, weights: np.ndarray | None, work: Search | Sweep, seed: int, memory: Memory) -> None:
        """Label every row with the nearest published centre, and measure how good the labels are."""
        centroids = self._centroids()
        rows = work.rows if work.source is view else Rows.new(view.n, weights, memory)
        lists = None  # of candidates
        if isinstance(work, Sweep) and work.source is view and not self.exact_labels:
            # After this the labels are there; only their distances are wanted.
            index = self._searcher(len(centroids)).build(centroids, device=self._device())
            work.close(centroids, index)
            lists = work.candidates.ids
        else:
            index = Flat().build(centroids) if self.exact_labels else self._index()
        self._label(view, rows, index, seed, lists, memory)
        counts = kernels.tally(rows.labels, len(centroids))
        self.weights_ = counts if weights is None else kernels.tally(rows.labels, len(centroids), None, weights)
        self.n_steps_, self._stream_seed, self._seen = 1, seed, float(self.weights_.sum())
        self._lengths = np.ones(len(centroids))
        if self.metric == "cosine":  # the mean cosine is the length of the mean
            along = self.weights_ - kernels.tally(rows.labels, len(centroids), self.distances_, weights)
            self._lengths = np.divide(along, self.weights_, out=self._lengths, where=self.weights_ > 0)
        if self.recall is not None and self.assignment_recall_interval_[1] < self.recall:
            warnings.warn(
                f"{self.index_} reaches a recall of {self.assignment_recall_:.4f}, less than the {self.recall:g} asked "
                "for; use a richer index (more links, more cells searched) or a lower recall",
                ConvergenceWarning,
                stacklevel=5,
            )
        used = np.count_nonzero(counts)
        if used < len(centroids) and not has_distinct_rows(view, len(centroids)):
            warnings.warn(
                f"Number of distinct clusters ({used}) found smaller than n_clusters ({len(centroids)}): X has fewer "
                "distinct rows than that; lower n_clusters or add data",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _label(
        self,
        view: Source,
        rows: Rows,
        index: Index,
        seed: int,
        lists: np.ndarray | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Publish the labels of some rows and how good they are.

        The index makes the labels, unless `lists` of candidates (int32 [n, 8]) tell that the rows have them already.
        """
        centroids = self._centroids()
        self.ids_, self._data = view.ids(), view.fingerprint()
        self.inertia_ = label(view, rows, index if lists is None else None, centroids)
        self.labels_ = rows.labels
        self.distances_ = self._space.distance(rows.sqdist, out=rows.sqdist)
        self.__dict__.pop("second_labels_", None)
        self.__dict__.pop("margins_", None)
        if self.margins:
            memory = memory or Memory()
            self.second_labels_, self.margins_ = memory.empty(view.n, np.int32), memory.empty(view.n, np.float32)
            for part, second, sqdist in runners_up(view, rows, lists, index, centroids):
                self.second_labels_[part] = second
                self.margins_[part] = self._space.distance(sqdist) - self.distances_[part]
        self.assignment_recall_, self.assignment_recall_interval_ = 1.0, (1.0, 1.0)
        if lists is not None or not index.exact:
            hits, trials = recall(view, rows.labels, centroids, seed)
            self.assignment_recall_ = hits / trials
            self.assignment_recall_interval_ = wilson(hits, trials)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Cluster the rows of `X` and return `labels_`, int32 [n_samples]."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Cluster the rows of `X` and return their distances to every centre, float32 [n_samples, k]."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    # ----------------------------------------------------------------- using a fitted model

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
            rows = Rows.new(view.n, checks.sample_weight(sample_weight, view.n))
            return -label(view, rows, self._index(), self._centroids())

    def set_search(self, **options: int) -> Self:
        """Change search options of the fitted index, such as ``nprobe`` or ``ef_search``; returns self."""
        check_is_fitted(self)
        self.index_ = self.index_.searching(**options)
        return self

    # ----------------------------------------------------------------- saving

    def save(self, path: str | os.PathLike, *, force: bool = False) -> None:
        """Write a run directory, whole or not at all; its files are described in `fastann.runs.clustering`.

        `force` replaces an existing run. A start given as an array or callable, and a callback, are not
        saved; the manifest says so. Checkpoints of the fit are removed.

        Raises
        ------
        FileExistsError
            If `path` exists and may not be replaced.
        """
        check_is_fitted(self)
        saved.save(self, path, force=force)
        if self.checkpoint is not None:
            checkpoint.remove(self.checkpoint)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a run directory; checks version, shapes, dtypes and checksums, and never unpickles.

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        fastann.storage.RunError
            If a file is missing or altered, or does not fit the others.
        """
        return saved.load(cls, path)

    # ----------------------------------------------------------------- inside

    def _check_parameters(self) -> float | None:
        """Check the parameters that do not depend on the data; return the time limit."""
        checks.integer(self.n_init, "n_init", 1)
        checks.integer(self.max_iter, "max_iter", 1)
        checks.real(self.tol, "tol", 0.0)
        if self.decay != "auto" and checks.real(self.decay, "decay", 0.0, above=True) > 1:
            raise ValueError(f"decay must be in (0, 1], got {self.decay}; 1 forgets nothing")
        checks.real(self.effort, "effort", 0.0, above=True)
        if self.recall is not None:
            checks.real(self.recall, "recall", 0.0, above=True)
            if self.recall >= 1 or plan.choose_index(self.index, 1).open is None:
                raise ValueError(
                    f"recall={self.recall!r} is what an index whose search option is 'auto' must reach, below 1, as in "
                    f"KMeans(index=IVF(nprobe='auto'), recall=0.99); got index={str(self.index)!r}"
                )
        if self.candidates is not None:
            checks.integer(self.candidates, "candidates", 2, 8)
        if not isinstance(self.size_aware, bool | np.bool_) and self.size_aware != "auto":
            raise ValueError(f"size_aware must be True, False or 'auto', got {self.size_aware!r}")
        for name in ("exact_labels", "margins"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        checks.choice(self.metric, "metric", METRICS)
        checks.choice(self.empty, "empty", EMPTY)
        if isinstance(self.init, str):
            checks.choice(self.init, "init", ("auto", *init.INITS))
        checks.real(self.checkpoint_seconds, "checkpoint_seconds", 0.0)
        checks.place(self.checkpoint, "checkpoint")
        if checks.place(self.temp_folder, "temp_folder") is not None and not os.path.isdir(str(self.temp_folder)):
            raise FileNotFoundError(f"temp_folder={str(self.temp_folder)!r} is no folder; make it or choose another")
        if self.callback is not None and not callable(self.callback):
            raise TypeError(f"callback must be callable or None, got {self.callback!r}")
        return None if self.time_limit is None else checks.real(self.time_limit, "time_limit", 0.0, above=True)

    def _check_data(self, source: Source) -> tuple[int, int | None, Any]:
        """Check the parameters that depend on the data or the machine: clusters, rows to train on, devices."""
        if source.sparse and self.index != "auto" and plan.choose_index(self.index, 1) != Flat():
            raise ValueError(f"sparse rows are searched by index='flat' or 'auto', got {str(self.index)!r}")
        k = checks.n_clusters(self.n_clusters, source.n)
        device = gpu.parse_device(self.device)
        gpu.require(faiss(), device)
        plan.choose_index(self.index, k)
        return k, checks.sample(self.sample, source.n, k), device

    def _checkpoints(self, source: Source, weights: np.ndarray | None, seed: int) -> Checkpoints | None:
        if self.checkpoint is None:
            return None
        parameters = {name: plain(getattr(self, name)) for name in DECISIVE}
        task = {"data": identity(source, weights), "parameters": parameters, "seed": seed}
        return Checkpoints(self.checkpoint, self.checkpoint_seconds, task)

    def _source(self, X: Any, *, reset: bool = False) -> Source:
        source = files.as_source(X)
        if reset:
            self.__dict__.pop("feature_names_in_", None)
            self.n_features_in_ = source.d
        if not (isinstance(X, Source) or files.is_elsewhere(X)):
            checks.features(source.d, self.n_features_in_, type(self).__name__)
            validate_data(self, X, reset=reset, skip_check_array=True)  # feature names
        checks.features(source.d, self.n_features_in_, type(self).__name__)
        return source

    def _view(self, X: Any) -> Source:
        """Rows to use the fitted model on, in its space; sparse ones dense, by chunks, where its index needs that."""
        view = self._space.view(self._source(X))
        return Densified(view) if view.sparse and self.index_ != Flat() else view

    def _given_centers(self, X: Any, k: int, d: int, space: Space, seed: int) -> np.ndarray | None:
        if isinstance(self.init, str):
            return None
        if self.n_init > 1:
            raise ValueError(f"n_init={self.n_init} starts need a random init; pass n_init=1 with given centres")
        centers = self.init
        if callable(centers):
            source = files.as_source(X, sparse=False)
            data = source.array if isinstance(source, ArraySource) else X
            centers = centers(data, k, np.random.RandomState(seed))
        return space.inward(checks.centers(centers, k, d))

    @contextmanager
    def _threads(self) -> Iterator[None]:
        count = checks.jobs(self.n_jobs)
        with kernels.limit_threads(count), faiss_threads(count):
            yield

    def _device(self) -> Any:
        return gpu.parse_device(self.device)

    def _centroids(self) -> np.ndarray:
        return self._space.inward(self.cluster_centers_)

    def _searcher(self, k: int) -> Spec:
        """What searches for the closing labels: as during the fit."""
        if self.index_ == Flat():
            return self.index_
        return plan.searcher(self.index, k) if plan.choose_index(self.index, k).open is None else self.index_

    def _index(self) -> Index:
        """The index over the published centres, built once while the model lives."""
        spec, device = self.index_, self._device()
        key = (*spec.built_with, device)
        cached = _built.get(self)
        if cached is not None and cached[0] == key and cached[1] is self.cluster_centers_:
            index = cached[2]
            if isinstance(index, CellsIndex):
                assert isinstance(spec, Cells)
                return index.retuned(spec.number("nprobe"))
            return index.retuned(spec) if isinstance(index, FaissIndex) else index
        index = spec.build(self._centroids(), seed=0, device=device)
        _built[self] = (key, self.cluster_centers_, index)
        return index

    def _search(self, X: Any, m: int) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        with self._threads():
            view = self._view(X)
            index, centroids = self._index(), self._centroids()
            ids = np.empty((view.n, m), np.int32)
            sqdist = np.empty((view.n, m), np.float32)
            for start, block in view.chunks():
                part = slice(start, start + block.shape[0])
                ids[part], sqdist[part], _ = search(index, block, m, centroids)
        return sqdist, ids

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

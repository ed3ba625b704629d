"""The estimator: checks once, has the rows clustered, publishes what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from fastann import checks
from fastann.cluster import plan, start, tail
from fastann.cluster.clock import Clock
from fastann.cluster.fit import Rules, Task, cluster, untrained
from fastann.cluster.lloyd import State
from fastann.cluster.memory import plan_memory
from fastann.cluster.progress import Bar
from fastann.cluster.space import fit_space
from fastann.cluster.stop import Deadline
from fastann.cluster.trim import Trim
from fastann.data.csr import entries_per_row
from fastann.data.source import Source
from fastann.estimators.callbacks import Callbacks, CallbackSupport, with_callbacks
from fastann.estimators.foreign import explains
from fastann.estimators.kmeans_closing import close
from fastann.estimators.kmeans_fitted import Centers, Directed
from fastann.estimators.kmeans_parameters import (
    check_directed,
    check_kmeans,
    check_kmeans_data,
    checkpoints_of,
    given_start,
    index_of,
    starts,
    takes_sparse,
    trim_of,
)
from fastann.estimators.kmeans_stream import take_in
from fastann.index import gpu
from fastann.index.spec import Flat
from fastann.runs import clustering as runs


class KMeans(CallbackSupport, Centers):
    """K-means whose every iteration finds the nearest centroids through a pluggable index.

    Lloyd's algorithm (Lloyd, 1982), spherical for ``metric="cosine"`` (Dhillon and Modha, 2001). Distances
    are computed in float32, sums in float64. With ``index="flat"`` the assignment is exact: equal to a
    float64 computation on the float32 rows, ties going to the lowest cluster.

    Parameters
    ----------
    n_clusters : int, default=8
        Clusters to find; at most as many as there are rows.
    index : str or spec, default="auto"
        How the nearest centroid is found: `Flat`, `IVF`, `HNSW`, `Cells`, `LSH`, `KDTree`, `BallTree` or `Factory`, or
        a string such as ``"ivf:nlist=64,nprobe=8"``; a recall below 0.9 warns. ``"auto"`` is exact on small problems;
        on others it remembers candidates, searches only where it must, and starts on samples where there are many rows
        a cluster.
    recall : float or None, default=None
        For an index whose search option is "auto", such as ``IVF(nprobe="auto")``: the recall@1 it must reach, with
        its whole 95% interval, on a sample of rows. Found anew whenever the index is built, as centroids move.
        None is 0.99; with any other index it must be None.
    metric : {"euclidean", "cosine"}, default="euclidean"
        ``"cosine"`` clusters the directions of the rows; centres have unit norm and inertia is the sum of
        squared distances between unit vectors, 2 (1 - cosine).
    init : str, array of shape (n_clusters, n_features) or callable, default="auto"
        ``"random"`` rows; ``"k-means++"``, greedy, on a sample (32,768 rows at most, but 8 a cluster), which
        one look at all rows draws, those far from all others more often; above 256 clusters a row drawn is compared
        with the rows near to it only. ``"k-means||"`` over all rows; ``"afk-mc2"`` by Markov chains, after one look at
        all rows (Bachem et al., 2016); ``"auto"`` is ``"k-means++"``. A callable is called as ``init(X, n_clusters,
        random_state)``, once for each start.
    n_init : int or "auto", default=1
        Starts tried; the one of lowest inertia is kept. "auto" is what it is in scikit-learn: 10 for ``"random"`` and
        a callable, else 1.
    max_iter : int, default=25
        Iterations at most, on samples and on all rows together. 0 only labels the rows, by the centres given as `init`.
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
    swaps : bool or "auto", default="auto"
        Whether the start is improved on a sample of the rows, before the iterations: centres that hardly matter go
        where splitting a cluster gains most, and clusters too many come and go, as long as that lowers the inertia.
        "auto": in `fit`, where both `index` and `init` are "auto", up to 512 clusters of up to 4 million values in all.
        An array as `init` stays as it is.
    exact_labels : bool, default=False
        Find the final labels by exact search of every row, whatever the index.
    trim : float or "auto", default=0.0
        Share of the rows' weight left out of the means in every iteration: those farthest from their centres (trimmed
        k-means; Cuesta-Albertos et al., 1997; k-means--; Chawla and Gionis, 2013), by an exact threshold over all rows.
        Starts give outliers no centre. "auto" finds the share on a sample, up to 0.3 and 0 below 0.003: of rows whose
        distance's cubic root, near to normal (Wilson and Hilferty, 1931), is 3.3 deviations beyond its cluster's mean.
    outlier_threshold : float or None, default=None
        In place of a share: leave out rows beyond so many times, 1 or more, the mean distance of all rows.
    outlier_labels : {"nearest", -1}, default="nearest"
        What `labels_` and `predict` say of them.
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
        Time between two checkpoints at least; 0 writes one after every start and iteration.
    callback : callable or None, default=None
        Called with a `State` (``record``, ``centroids``) after every iteration; returning True stops the
        fit. scikit-learn's own callbacks (``set_callbacks``, scikit-learn >= 1.9) work too.
    verbose : bool, default=False
        Show how far it is, on standard error: a progress bar on a terminal and in a notebook, elsewhere a line every
        ten seconds.
    algorithm : {"lloyd", "elkan"} or None, default=None
        scikit-learn's names for exact iterations, whose results are the same: with either, ``index="auto"`` is
        ``"flat"``. None leaves it to `index`.
    copy_x : bool, default=True
        As in scikit-learn, where False lets a fit change `X`. Here `X` is never changed, and not copied for that.
    device : str or list, default="cpu"
        ``"cuda"``, ``"cuda:1"`` or several of them, or ``"cuda:all"``: GPUs that search the index. ``"auto"``: the
        first GPU if FAISS sees one, else the CPU; `device_` says which.
    shard : bool, default=False
        Whether several GPUs split the centroids between them and each searches all rows, where otherwise each has all
        centroids and searches a part of the rows. For centroids that do not fit on one card.
    n_jobs : int or None, default=None
        Threads for everything; None is all cores.
    random_state : int, RandomState or None, default=None
        Seed of all randomness. The same seed gives the same bits, on any number of threads.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        float32; float64 if the data was centred because it lies far from the origin. Not to be written to; other
        centres, as many, may be assigned.
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
        Weighted sum of squared distances of all rows that are not left out to the nearest centres found, in float64.
    inertia_all_ : float, of all rows
    inlier_mask_ : bool ndarray of shape (n_samples,)
        Rows not left out, whose distance is at most `threshold_`, infinite without trimming.
    outlier_scores_ : float32 ndarray of shape (n_samples,)
        `distances_` over the scale of the row's cluster: see `score_samples`.
    trim_ : float, the share of the rows' weight that is left out
    assignment_recall_ : float
        Share of labels that are the true nearest centre; measured against exact search on a random
        sample of rows, 1.0 by construction for an exact index.
    assignment_recall_interval_ : tuple of float
        Its 95% interval (Wilson, 1927).
    predict_recall_ : float
        Share of rows for which `predict` finds the nearest centre; measured on a sample of those fitted to, 1.0 for an
        exact index. The automatic mode searches as far as 99% of the sample need. NaN where `set_search` or other
        centres came after.
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
    fit_seconds_ : float
        Wall-clock time of the last `fit` or `partial_fit`, with all before a checkpoint that it went on from.
    seconds_ : dict of str to float
        The same by phase, adding up to it: read, start, swaps, build, assign, update, close, other.
    device_ : str
        What searched: ``"cpu"``, or GPUs such as ``"cuda:0,cuda:1"``.
    index_ : spec
        The index used; `set_search` changes its search options.
    clustering_ : Clustering
        All of the result in one frozen object.
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

    limits: ClassVar[plan.Limits] = plan.LIMITS  # sizes at which the plan changes

    @explains()
    def __init__(
        self,
        n_clusters: int = 8,
        *,
        index: Any = "auto",
        recall: float | None = None,
        metric: str = "euclidean",
        init: Any = "auto",
        n_init: int | str = 1,
        max_iter: int = 25,
        tol: float = 1e-4,
        candidates: int | None = None,
        size_aware: bool | str = "auto",
        swaps: bool | str = "auto",
        exact_labels: bool = False,
        trim: float | str = 0.0,
        outlier_threshold: float | None = None,
        outlier_labels: str | int = "nearest",
        margins: bool = False,
        effort: float = 1.0,
        sample: int | float | None = None,
        empty: str = "split",
        decay: float | str = "auto",
        time_limit: float | None = None,
        max_memory: int | str | None = None,
        temp_folder: str | os.PathLike[str] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_seconds: float = 300.0,
        callback: Callable[[State], Any] | None = None,
        verbose: bool = False,
        algorithm: str | None = None,
        copy_x: bool = True,
        device: Any = "cpu",
        shard: bool = False,
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
        self.swaps = swaps
        self.exact_labels = exact_labels
        self.trim = trim
        self.outlier_threshold = outlier_threshold
        self.outlier_labels = outlier_labels
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
        self.algorithm = algorithm
        self.copy_x = copy_x
        self.device = device
        self.shard = shard
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
            What each row counts, 0 or more; None is 1 for every row.

        Returns
        -------
        self
        """
        with self._unchanged_on_error():
            self._fit(X, y, sample_weight)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, batch: bool = False) -> None:
        clock, deadline = Clock(), Deadline(check_kmeans(self))
        with clock("read"):
            source = self._source(X, reset=True)
        weights = checks.sample_weight(sample_weight, source.n)
        k, size, device = check_kmeans_data(self, source)
        limit = checks.nbytes(self.max_memory, "max_memory")
        memory = plan_memory(source, k, limit, self.temp_folder or self.checkpoint, self.limits.part)
        seed = checks.seed(self.random_state)
        checkpoints = checkpoints_of(self, source, weights, seed)
        if checkpoints is not None:
            seed = checkpoints.seed
            deadline.spend(checkpoints.spent)
        with self._threads(), Bar(self.verbose, "k-means", self.max_iter) as bar:
            with clock("read"):
                space, view = fit_space(source, self.metric, zero_rows=True)
            table = Directed.of(view, weights)
            check_directed(table.whole.n, table.zeros, table.weights, k)
            train, train_weights = table.source, table.weights
            if size is not None and size < train.n:
                rng = np.random.default_rng([seed, 1])
                with clock("read"):
                    train, train_weights = start.subsample(train, train_weights, size, rng, memory)
            lot = start.Whole(train, train_weights)
            with clock("start"):
                trim = trim_of(self, lambda: tail.share(lot, k, space, np.random.default_rng([seed, 3]), memory))
            task = Task(
                train,
                train_weights,
                k,
                space,
                self._plan(train, k, device, batch, trim),
                start=given_start(self, X, source, k, space, seed),
                n_init=starts(self),
                empty=self.empty,
                device=device,
                seed=seed,
                memory=memory,
            )
            spec = Flat() if source.sparse else plan.choose_index(index_of(self), k, device, self.limits)
            most = self.max_iter * task.n_init * len(task.plan.levels)
            with Callbacks(self, X, y, sample_weight, space, spec.started(), most) as callbacks:
                if self.max_iter == 0:
                    done = untrained(task)
                else:
                    done = cluster(
                        replace(task, told=self.callback is not None or callbacks.root is not None),
                        Rules(self.max_iter, self.tol, deadline),
                        checkpoints=checkpoints,
                        watchers=[callbacks] if self.callback is None else [callbacks, self.callback],
                        bar=bar,
                        clock=clock,
                    )
                with clock("close"):
                    found = close(self, task, done, table, spec if done.spec is None else done.spec)
                self._publish(replace(found, seconds=clock.read(), device=gpu.name_of(device)))

    @with_callbacks
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take in a batch of a stream, so that centres are means of all rows seen (of which `decay` may forget).

        The first batch, of at least n_clusters rows, is clustered as `fit` does; the larger it is, the better the
        start. Every later one is assigned, moves the centres to the running means, and is assigned once more to the
        moved centres (mini-batch k-means; Sculley, 2010). Centres with less than a hundredth of the mean weight
        move to rows of the batch drawn by their squared distances. After `fit` or `load` it goes on from there.
        `labels_`, `distances_` and `inertia_` are the batch's; with `trim` its far rows are left out.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; later batches may have a single row.

        Returns
        -------
        self
        """
        with self._unchanged_on_error():
            if hasattr(self, "cluster_centers_"):
                check_kmeans(self)
                before = self.clustering_.means
                told = f"batch {before.steps + 1:,}, after rows of a weight of {before.seen:,.0f}"
                bar = Bar(self.verbose, "partial_fit", note=told, owner=self)
                with self._threads(), bar, Callbacks(self, X, y, sample_weight, self._space, self.index_, 0):
                    self._publish(take_in(self, X, sample_weight))
            else:
                self._fit(X, y, sample_weight, batch=True)
        return self

    def begin_run(
        self, source: Source, path: str | os.PathLike[str], *, labels: bool = True, force: bool = False
    ) -> None:
        """Make the run directory `path` of a fit to rows in files (`source`) that is yet to be made, checking both.

        Checkpoints of the fit go there, so that it can go on after a crash; `save` to the same path completes it, with
        `labels` or without, which is noted there for whoever goes on. `force` replaces an existing run.
        """
        check_kmeans(self)
        check_kmeans_data(self, source)
        self.checkpoint = runs.begin(path, runs.About.of(self), source, force=force, labels=labels)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Cluster the rows of `X` (`y`, `sample_weight` as in `fit`) and return `labels_`, int32 [n_samples]."""
        labels: np.ndarray = self.fit(X, sample_weight=sample_weight).labels_
        return labels

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Cluster the rows of `X` (`y`, `sample_weight` as in `fit`), return `transform(X)`: float32 [n_samples, k]."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def _plan(self, train: Source, k: int, device: Any, batch: bool = False, trim: Trim | None = None) -> plan.Plan:
        # A start that was asked for stays as it is; one that fits a batch too well is no better for what follows.
        named = not isinstance(self.init, str) or self.init != "auto"
        swaps = False if self.swaps == "auto" and (named or batch) else self.swaps
        wishes = plan.Wishes(index_of(self), self.candidates, self.size_aware, swaps, self.effort, self.recall, trim)
        d = entries_per_row(train)
        return plan.choose(
            wishes, train.n, d, k, sparse=train.sparse, columns=train.d, device=device, limits=self.limits
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = takes_sparse(self)
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

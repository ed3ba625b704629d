"""The estimator: checks once, has prototypes trained, predicts through an index over them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils.validation import check_is_fitted, validate_data

from fastann import checks, kernels
from fastann.classify.prototypes import Prototypes, Thinning, round_to
from fastann.classify.search import PrototypeSearch
from fastann.classify.stream import Stream
from fastann.classify.training import Course, Recipe, Table, choose_sizes, fit_prototypes
from fastann.cluster import plan
from fastann.cluster.passes.groups import Sharing
from fastann.cluster.space import METRICS, Space, fit_space
from fastann.data import open as files
from fastann.data.csr import Densified, Sparsified
from fastann.data.source import Source, UnitNorm
from fastann.index import gpu
from fastann.index.base import Index, Spec
from fastann.index.faiss import faiss, faiss_threads
from fastann.index.recall import Adaptive
from fastann.index.repair import search
from fastann.index.spec import Flat
from fastann.runs import prototypes as saved

REFINE = ("auto", "none", "softmax")
SCORES = ("linear", "softmax")
DTYPES = ("float32", "float16", "bfloat16")
REMEMBERED = 1000  # records of batches kept in `history_`: a stream has no end
GROWTH = 1.25  # a stream's search option is found anew when there are so many times the prototypes
AUDITED = 2**14  # rows it is found on: the interval about a recall of 0.99 is 0.3% wide
ENOUGH = 1000  # rows it takes to find it
SCORES_AT_ONCE = 2**24  # similarities computed at a time

# Searchers built for predict, beside the estimators: FAISS objects cannot be pickled or copied.
_built: WeakKeyDictionary[Any, tuple[Any, Index, Any]] = WeakKeyDictionary()


class PrototypeClassifier(ClassifierMixin, BaseEstimator):
    """Nearest-prototype classifier with several prototypes per class.

    A class that has several modes gets several prototypes: k-means within each class (as in learning vector
    quantisation; Kohonen, 1995), refined by gradient descent where that helps on rows held out. Prediction finds the
    nearest prototype through an index, so that it stays fast with tens of thousands of classes. Dense and sparse rows
    are treated alike, in memory or as a stream.

    Parameters
    ----------
    n_prototypes : int, dict, list or "auto", default=3
        Prototypes per class: one number for all, a dict by class label, a list in the order of `classes_`, or chosen
        per class from its spread and size. A class of fewer distinct rows gets as many as it has rows.
    metric : {"cosine", "euclidean"}, default="cosine"
    init : {"k-means++", "random"}, default="k-means++"
        Where prototypes start, within their class.
    assignment : {"hard", "soft"}, default="hard"
        In training, a row goes to the nearest prototype of its own class, or is shared among the `candidates`
        prototypes nearest to it, of any class, by their scores.
    scores : {"linear", "softmax"}, default="linear"
        Of soft assignment: shares proportional to the similarity where positive, or a softmax of it. Similarity is
        the cosine, or 1 / (1 + squared distance). A row without a positive score goes to the nearest prototype of its
        class.
    temperature : float, default=0.1
        Of the softmax of soft assignment.
    wrong_class_penalty : float, default=1.0
        Taken off the similarity to prototypes of other classes, in soft assignment.
    candidates : int, default=8
        Nearest prototypes that soft assignment and refinement look at, besides the nearest of the row's class.
    shrinkage : float or "auto", default="auto"
        Prototypes are pulled towards the mean of their class as by so many rows that lie there, since the mean of a
        few rows is noisy. "auto" goes, class by class, by the spread within prototypes and between them.
    merge_threshold : float or None, default=None
        Merge prototypes of a class that are nearer to each other than this distance (Euclidean, or 1 - cosine).
    relative_merge : float or None, default=None
        The same as a fraction of the mean distance between prototypes. At most one of the two.
    percentile_threshold : float or None, default=None
        In (0, 1]: merge only pairs, and truncate only coordinates, also below this quantile.
    min_weight : float, default=0.0
        Prototypes that stand for less weight are dropped; every class keeps its heaviest.
    truncation_threshold : float, default=0.0
        Coordinates of prototypes smaller than this become zero, which keeps those of sparse rows sparse.
    refine : {"auto", "none", "softmax"}, default="auto"
        Whether prototypes are moved by gradient descent on the cross-entropy of a softmax over the nearest
        prototypes of all classes, so that they also leave rows of other classes. "auto" does so if it
        classifies a tenth of the rows, held out meanwhile, better; these then join in. Not in `partial_fit`.
    max_iter : int, default=10
        Epochs of k-means at most.
    tol : float, default=1e-4
        Stop when an epoch decreases the sum of squared distances by no more than this share.
    index : str or spec, default="auto"
        How the nearest prototype is found; see `KMeans`. "auto" is exact up to 4,096 prototypes, and searches cells of
        them beyond. Sparse prototypes are searched exactly, through inverted lists, whatever it says.
    recall : float, default=0.99
        Where the index leaves its search option open, as "auto" does beyond 4,096 prototypes: the share of rows whose
        nearest prototype it must find, with its whole 95% interval, on a sample of the rows of training.
    dtype : {"float32", "float16", "bfloat16"}, default="float32"
        Of stored prototypes, and of rows that a stream keeps. NumPy has no bfloat16, and SciPy no sparse float16:
        there values are rounded to the type and held in float32. Sums are float64.
    reject_below : float or None, default=None
        Rows whose largest similarity is smaller are given `reject_label`.
    reject_label : object, default=None
        None: -1 where labels are numbers, "rejected" where they are strings.
    verbose : bool, default=False
        Show a progress bar on a terminal.
    device : str or list, default="cpu"
        GPUs that search dense prototypes, as in `KMeans`.
    n_jobs : int or None, default=None
        Threads; None is all cores.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted.
    prototypes_ : ndarray or CSR matrix of shape (K, n_features)
        CSR where the rows of training were; sorted by class. Of unit norm for the cosine metric.
    prototype_labels_ : ndarray of shape (K,)
    prototype_weights_ : float64 ndarray of shape (K,)
        Weight of the rows of its class that are nearest to it.
    scale_ : float
        What `predict_proba` multiplies cosines, or minus squared distances, with.
    refinement_ : Verdict or None
        With ``refine="auto"``: rows held out, accuracy on them before and after, and whether it was kept.
    history_ : list of Epoch
        A record per epoch, or per batch of a stream (the last 1,000): phase, rows, objective, shift, merged, active,
        seconds.
    n_iter_ : int
        Epochs of k-means, of which `fit` also counts those that follow a merge.
    index_ : spec
        The index that finds the nearest prototype, with what was found for its search option.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has named columns.

    Examples
    --------
    >>> import numpy as np
    >>> from fastann import PrototypeClassifier
    >>> x = np.array([[0, 1], [0, 2], [1, 0], [2, 0], [-1, 0], [-2, 0]], dtype="f")
    >>> y = ["up", "up", "sideways", "sideways", "sideways", "sideways"]
    >>> PrototypeClassifier(random_state=0).fit(x, y).predict([[3, 0.1], [-3, 0.1], [0.1, 3]])
    array(['sideways', 'sideways', 'up'], dtype='<U8')
    """

    def __init__(
        self,
        n_prototypes: Any = 3,
        *,
        metric: str = "cosine",
        init: str = "k-means++",
        assignment: str = "hard",
        scores: str = "linear",
        temperature: float = 0.1,
        wrong_class_penalty: float = 1.0,
        candidates: int = 8,
        shrinkage: float | str = "auto",
        merge_threshold: float | None = None,
        relative_merge: float | None = None,
        percentile_threshold: float | None = None,
        min_weight: float = 0.0,
        truncation_threshold: float = 0.0,
        refine: str = "auto",
        max_iter: int = 10,
        tol: float = 1e-4,
        index: Any = "auto",
        recall: float = 0.99,
        dtype: str = "float32",
        reject_below: float | None = None,
        reject_label: Any = None,
        verbose: bool = False,
        device: Any = "cpu",
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.n_prototypes = n_prototypes
        self.metric = metric
        self.init = init
        self.assignment = assignment
        self.scores = scores
        self.temperature = temperature
        self.wrong_class_penalty = wrong_class_penalty
        self.candidates = candidates
        self.shrinkage = shrinkage
        self.merge_threshold = merge_threshold
        self.relative_merge = relative_merge
        self.percentile_threshold = percentile_threshold
        self.min_weight = min_weight
        self.truncation_threshold = truncation_threshold
        self.refine = refine
        self.max_iter = max_iter
        self.tol = tol
        self.index = index
        self.recall = recall
        self.dtype = dtype
        self.reject_below = reject_below
        self.reject_label = reject_label
        self.verbose = verbose
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    # ----------------------------------------------------------------- fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn prototypes of the classes.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (n_samples, n_features), torch tensor, Source or path
            Any float or integer dtype; read in chunks. Sparse rows are never made dense. Zero rows, which
            have no direction, are left out under the cosine metric, with a warning.
        y : array-like of shape (n_samples,)
            Class labels: integers, strings, or whatever scikit-learn takes for classes.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For data, labels or parameters that make no sense; the message says what was given, what was
            needed and what to do.
        """
        with self._unchanged_on_error(), self._threads():
            self._check_parameters()
            source = self._table(X, reset=True)
            labels = checks.class_labels(y, source.n)
            weights = checks.sample_weight(sample_weight, source.n)
            classes, codes = np.unique(labels, return_inverse=True)
            held = classes if weights is None else np.unique(labels[weights > 0])
            if len(held) < 2:
                rows = "y has" if len(classes) < 2 else "the rows of positive weight have"
                raise ValueError(
                    f"a classifier needs at least 2 classes, {rows} one class: {held.tolist()[0]!r}; add rows of others"
                )
            seed = checks.seed(self.random_state)
            space, view = fit_space(source, self.metric, zero_rows=True)
            weights = without_zero_rows(view, weights)
            recipe, rng = self._recipe(space), np.random.default_rng(seed)
            data = Table(view, codes.astype(np.int32), weights, len(classes))
            sizes = self._sizes(classes)
            if sizes is None:
                sizes = choose_sizes(recipe, data, rng)
            with self._bar() as bar:
                course = Course(bar)
                p, scale, verdict = fit_prototypes(recipe, data, sizes, self.refine, rng, course)
            self.classes_, self.scale_, self.refinement_ = classes, scale, verdict
            self.history_, self._space, self._seed_drawn = course.history, space, seed
            self._stream = Stream(p)
            self._choose_search(view, rng)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Take in a batch of a stream; classes not seen before are learned on the fly.

        A class keeps its first rows, 8 for every prototype, and clusters them afresh as they come. From then on its
        prototypes are running means: every row moves the nearest one of its class towards itself by 1 / weight
        (MacQueen, 1967), with batches cut into blocks of 1,024 rows. So the result depends little on how
        the stream is cut: accuracy and mean squared distance to within a few percent.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; a single row will do.
        classes : array-like, default=None
            Classes to expect. None: those of the labels seen so far.

        Returns
        -------
        self
        """
        with self._unchanged_on_error(), self._threads():
            self._check_parameters()
            first = not hasattr(self, "_stream")
            source = self._table(X, reset=first)
            labels = checks.class_labels(y, source.n)
            weights = checks.sample_weight(sample_weight, source.n)
            if first:
                self._space, view = fit_space(source, self.metric, zero_rows=True)
                self._stream, self._seed_drawn = Stream(), checks.seed(self.random_state)
                self.history_, self.scale_, self.refinement_ = [], 1 / self.temperature, None
                self.classes_ = np.empty(0, labels.dtype)
            else:
                view = self._space.view(self._in_kind(source), zero_rows=True)
            weights = without_zero_rows(view, weights)
            known, self.classes_ = self.classes_, self._with_new(labels, classes)
            codes = np.searchsorted(self.classes_, labels).astype(np.int32)
            sizes = self._sizes(self.classes_)
            if 0 < len(known) < len(self.classes_):
                self._stream = self._stream.renumbered(np.searchsorted(self.classes_, known))
            recipe = self._recipe(self._space)
            record = self._stream.update(recipe, view, codes, weights, sizes, len(self.classes_), self._seed_drawn)
            self.history_ = [*self.history_[1 - REMEMBERED :], record]
            self._choose_search(view, np.random.default_rng([self._seed_drawn, 4]))
        return self

    def _with_new(self, labels: np.ndarray, classes: Any) -> np.ndarray:
        """Classes known so far, those a caller expects, and those of new labels, sorted."""
        known = self.classes_
        expected = known if classes is None else np.unique(np.asarray(classes))
        for others in (known, expected):
            if len(others) and _is_text(others) != _is_text(labels):
                raise ValueError(
                    f"labels of {labels.dtype} do not go with classes of {others.dtype}; use one kind of label"
                )
        new = np.setdiff1d(labels if classes is None else np.concatenate([expected, labels]), known)
        return np.union1d(known, new) if len(new) else known

    # ----------------------------------------------------------------- using a fitted model

    def predict(self, X: Any) -> np.ndarray:
        """Class of the nearest prototype of each row, found through the index.

        A zero row has no direction, and under the cosine metric a similarity of 0 to all prototypes: it gets the
        class of the first, or the label of rejected rows.
        """
        sqdist, ids = self._search(X, 1)
        codes = self._prototypes.owner[ids[:, 0]]
        if self.reject_below is None:
            return self.classes_[codes]
        checks.real(self.reject_below, "reject_below", -1.0)
        label = self._reject_label()
        out = self.classes_[codes].astype(np.result_type(self.classes_.dtype, np.asarray(label).dtype))
        out[self._space.similarity(sqdist[:, 0]) < self.reject_below] = label
        return out

    def kneighbors(self, X: Any, n_neighbors: int = 5, return_distance: bool = True) -> Any:
        """Find the nearest prototypes of each row, nearest first, through the index.

        Parameters
        ----------
        X : as in `fit`
        n_neighbors : int, default=5
            At most as many as there are prototypes.
        return_distance : bool, default=True

        Returns
        -------
        distances : float32 ndarray of shape (n_samples, n_neighbors)
            Euclidean, or 1 - cosine. Only if `return_distance`.
        ids : int32 ndarray of shape (n_samples, n_neighbors)
            Places in `prototypes_`; ``prototype_labels_[ids]`` are their classes.
        """
        check_is_fitted(self)
        checks.integer(n_neighbors, "n_neighbors", 1, len(self._prototypes))
        sqdist, ids = self._search(X, n_neighbors)
        return (self._space.distance(sqdist), ids) if return_distance else ids

    def decision_function(self, X: Any) -> np.ndarray:
        """Similarity of each row to the nearest prototype of each class.

        Returns
        -------
        float64 ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            The cosine, or 1 / (1 + squared distance). For two classes the cosine to the second less that to
            the first, or the squared distance to the first less that to the second: the log-odds of
            `predict_proba` divided by `scale_`. A class without prototypes has -1.
        """
        sqdist = self._class_sqdist(X)
        known = np.isfinite(sqdist)
        if len(self.classes_) == 2:
            far = sqdist / self._space.per_score
            far = np.where(known, far, 2 if self._space.unit else np.inf)
            return far[:, 0] - far[:, 1]
        return np.where(known, self._space.similarity(sqdist), -1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class: the softmax of `scale_` times the cosine, or minus the squared distance.

        Returns
        -------
        float64 ndarray of shape (n_samples, n_classes)
            For tens of thousands of classes prefer `kneighbors`.
        """
        score = self._class_sqdist(X) * (-self.scale_ / self._space.per_score)
        e = np.exp(score - score.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def _class_sqdist(self, X: Any) -> np.ndarray:
        """Squared L2 distance of each row to the nearest prototype of each class: float64 [n, classes]."""
        check_is_fitted(self)
        with self._threads():
            view, p = self._view(X), self._prototypes
            present = np.unique(p.owner)
            first = p.first(len(self.classes_))[present]
            out = np.full((view.n, len(self.classes_)), np.inf)
            for start, block in view.chunks(max(1, SCORES_AT_ONCE // len(p))):
                sqdist = np.maximum(euclidean_distances(block, p.vectors, squared=True), 0, dtype=np.float64)
                sqdist[self._directionless(block)] = 2
                out[start : start + block.shape[0], present] = np.minimum.reduceat(sqdist, first, axis=1)
        return out

    # ----------------------------------------------------------------- what was learned

    @property
    def _prototypes(self) -> Prototypes:
        """Prototypes as stored: with values of `dtype`."""
        p = self._stream.prototypes
        if p is None:
            raise ValueError("no row of positive weight was seen yet; pass some to partial_fit")
        if self.dtype == "float32":
            return p
        dense = not sparse.issparse(p.vectors)
        values = round_to(p.vectors if dense else p.vectors.data, self.dtype)
        vectors = values if dense else sparse.csr_matrix((values, p.vectors.indices, p.vectors.indptr), p.vectors.shape)
        return replace(p, vectors=vectors)

    @property
    def n_iter_(self) -> int:
        return sum(record.phase == "k-means" for record in self.history_)

    @property
    def prototypes_(self) -> Any:
        p = self._prototypes
        outward = p.vectors.copy() if sparse.issparse(p.vectors) else self._space.outward(p.vectors)
        return outward.astype(np.float16) if self.dtype == "float16" and not sparse.issparse(outward) else outward

    @property
    def prototype_labels_(self) -> np.ndarray:
        return self.classes_[self._prototypes.owner]

    @property
    def prototype_weights_(self) -> np.ndarray:
        return self._prototypes.weights.copy()

    # ----------------------------------------------------------------- saving

    def save(self, path: str | os.PathLike, *, force: bool = False) -> None:
        """Write the model to a folder (JSON and safetensors), whole or not at all.

        Raises
        ------
        FileExistsError
            If `path` exists and may not be replaced.
        """
        check_is_fitted(self)
        saved.save(self, path, force=force)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a folder that `save` wrote, after checking it; `partial_fit` goes on from it.

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        fastann.storage.RunError
            If a file is missing or altered, or does not fit the others.
        """
        return saved.load(cls, path)

    # ----------------------------------------------------------------- inside

    def _check_parameters(self) -> None:
        checks.choice(self.metric, "metric", METRICS)
        checks.choice(self.init, "init", ("k-means++", "random"))
        checks.choice(self.assignment, "assignment", ("hard", "soft"))
        checks.choice(self.scores, "scores", SCORES)
        checks.choice(self.refine, "refine", REFINE)
        checks.choice(self.dtype, "dtype", DTYPES)
        checks.real(self.temperature, "temperature", 0.0, above=True)
        checks.real(self.wrong_class_penalty, "wrong_class_penalty", 0.0)
        checks.integer(self.candidates, "candidates", 1)
        for name in ("merge_threshold", "relative_merge", "percentile_threshold"):
            if getattr(self, name) is not None:
                checks.real(getattr(self, name), name, 0.0)
        if self.percentile_threshold is not None and not 0 < self.percentile_threshold <= 1:
            raise ValueError(f"percentile_threshold must be in (0, 1], got {self.percentile_threshold}")
        if self.merge_threshold is not None and self.relative_merge is not None:
            raise ValueError("merge_threshold and relative_merge are two ways to say the same; give one of them")
        if self.shrinkage != "auto":
            checks.real(self.shrinkage, "shrinkage", 0.0)
        checks.real(self.min_weight, "min_weight", 0.0)
        checks.real(self.truncation_threshold, "truncation_threshold", 0.0)
        checks.integer(self.max_iter, "max_iter", 1)
        checks.real(self.tol, "tol", 0.0)
        if self.reject_below is not None:
            checks.real(self.reject_below, "reject_below", -1.0)
        plan.choose_index(self.index, 1)
        checks.real(self.recall, "recall", 0.0, above=True)
        if self.recall >= 1:
            raise ValueError(f"recall must be below 1, got {self.recall}; for exact search pass index='flat'")
        gpu.require(faiss(), gpu.parse_device(self.device))

    def _sizes(self, classes: np.ndarray) -> np.ndarray | None:
        """Prototypes wanted of each class, or None where they are to be chosen."""
        wanted, k = self.n_prototypes, len(classes)
        if isinstance(wanted, str):
            checks.choice(wanted, "n_prototypes", ("auto",))
            return None
        if isinstance(wanted, Mapping):
            plain = [c.item() if isinstance(c, np.generic) else c for c in classes]
            missing = [c for c in plain if c not in wanted]
            if missing:
                raise ValueError(
                    f"n_prototypes has no entry for class {missing[0]!r} ({len(missing)} classes lack one); give "
                    "one for every class, or a single number"
                )
            wanted = [wanted[c] for c in plain]
        if isinstance(wanted, (list, tuple, np.ndarray)):
            if len(wanted) != k:
                raise ValueError(
                    f"n_prototypes lists {len(wanted)} numbers for {k} classes; one per class is needed, in order of "
                    "the sorted labels (a stream takes a dict, or all classes with its first batch)"
                )
            return np.array([checks.integer(v, "n_prototypes", 1) for v in wanted], np.int64)
        return np.full(k, checks.integer(wanted, "n_prototypes", 1), np.int64)

    def _recipe(self, space: Space) -> Recipe:
        sharing = None
        if self.assignment == "soft":
            sharing = Sharing(self.candidates, self.scores, self.temperature, self.wrong_class_penalty)
        return Recipe(
            space=space,
            init=self.init,
            sharing=sharing,
            thinning=Thinning(
                self.merge_threshold,
                self.relative_merge,
                self.percentile_threshold,
                self.min_weight,
                self.truncation_threshold,
            ),
            shrinkage=None if self.shrinkage == "auto" else float(self.shrinkage),
            max_iter=self.max_iter,
            tol=self.tol,
            candidates=self.candidates,
            dtype=self.dtype,
            spec=PrototypeSearch(self.index),
            device=gpu.parse_device(self.device),
        )

    def _table(self, X: Any, *, reset: bool = False) -> Source:
        source = files.as_source(X)
        if reset:
            self.__dict__.pop("feature_names_in_", None)
            self.n_features_in_ = source.d
        if not (isinstance(X, Source) or files.is_elsewhere(X)):
            checks.features(source.d, self.n_features_in_, type(self).__name__)
            validate_data(self, X, reset=reset, skip_check_array=True)  # feature names
        checks.features(source.d, self.n_features_in_, type(self).__name__)
        return source

    def _in_kind(self, source: Source) -> Source:
        """Rows as dense or sparse as the prototypes are."""
        p = self._stream.prototypes
        if p is None or sparse.issparse(p.vectors) == source.sparse:
            return source
        return Densified(source) if source.sparse else Sparsified(source)

    def _view(self, X: Any) -> Source:
        return self._space.view(self._in_kind(self._table(X)), zero_rows=True)

    def _search(self, X: Any, m: int) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        with self._threads():
            view, (index, vectors) = self._view(X), self._index()
            ids, sqdist = np.empty((view.n, m), np.int32), np.empty((view.n, m), np.float32)
            for start, block in view.chunks():
                part = slice(start, start + block.shape[0])
                ids[part], sqdist[part], _ = search(index, block, m, vectors)
                zero = start + self._directionless(block)
                ids[zero], sqdist[zero] = np.arange(m), 2
        return sqdist, ids

    def _directionless(self, block: Any) -> np.ndarray:
        """Rows of a block that are zero, whose cosine to every prototype is taken for 0."""
        if not self._space.unit:
            return np.empty(0, np.int64)
        return np.flatnonzero(kernels.sqnorms(block) == 0 if sparse.issparse(block) else ~block.any(axis=1))

    def _choose_search(self, view: Source, rng: np.random.Generator) -> None:
        """Settle `index_`: find the search option it leaves open, on rows that were trained on."""
        p, device = self._stream.prototypes, gpu.parse_device(self.device)
        if p is None or sparse.issparse(p.vectors):
            self.index_: Spec = Flat()
            return
        spec = PrototypeSearch(self.index).spec(len(p), device)
        if spec.open is None:
            self.index_ = spec
            return
        known = getattr(self, "index_", None)
        tuned = type(known) is type(spec) and len(p) <= GROWTH * getattr(self, "_searched", 0)
        if tuned or (view.n < ENOUGH and type(known) is type(spec)):
            return
        self.index_, self._searched = spec.started(), len(p)
        if view.n >= ENOUGH:
            adapt = Adaptive(spec, self.recall, view, rng, AUDITED)
            adapt(self.index_.build(p.vectors, seed=0, device=device), p.vectors)
            self.index_ = adapt.spec

    def _index(self) -> tuple[Index, Any]:
        """The index over the prototypes, and these; built once while they stay the same."""
        key = (id(self._stream.prototypes), self.history_[-1], self.dtype, str(self.index_), str(self.device))
        if self in _built and _built[self][0] == key:
            return _built[self][1:]
        vectors = self._prototypes.vectors
        index = PrototypeSearch(self.index_).build(vectors, seed=0, device=gpu.parse_device(self.device))
        _built[self] = (key, index, vectors)
        return index, vectors

    def _reject_label(self) -> Any:
        if self.reject_label is not None:
            return self.reject_label
        return "rejected" if self.classes_.dtype.kind in "USO" else -1

    @contextmanager
    def _threads(self) -> Iterator[None]:
        count = checks.jobs(self.n_jobs)
        with kernels.limit_threads(count), faiss_threads(count):
            yield

    @contextmanager
    def _bar(self) -> Iterator[Any]:
        from tqdm import tqdm

        with tqdm(desc="prototypes", unit="epoch", disable=None if self.verbose else True) as bar:
            yield bar

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Leave the estimator as it was if a fit fails."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_stream")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _is_text(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "US" or (labels.dtype.kind == "O" and all(isinstance(v, str) for v in labels))


def without_zero_rows(view: Source, weights: np.ndarray | None) -> np.ndarray | None:
    """Weights that leave out rows without a direction, with a warning; such rows are empty documents, mostly."""
    zeros = view.zeros if isinstance(view, UnitNorm) else np.empty(0, np.int64)
    if not len(zeros):
        return weights
    warnings.warn(
        f"{len(zeros)} of {view.n} rows are zero, row {zeros[0]} first: they have no direction, which "
        "metric='cosine' needs, and are left out",
        UserWarning,
        stacklevel=4,
    )
    weights = np.ones(view.n) if weights is None else weights.copy()
    weights[zeros] = 0
    return weights

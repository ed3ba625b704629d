"""The classifier: checks once, has prototypes trained, publishes what came of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score

from fastann import checks
from fastann.classify.fit import Verdict, fit_prototypes
from fastann.classify.model import Batch, Classification, stored
from fastann.classify.search import PrototypeSearch, choose_search
from fastann.classify.stream import Stream
from fastann.classify.training import Course, LabelledRows, choose_sizes
from fastann.cluster.progress import Bar
from fastann.cluster.space import fit_space
from fastann.data.source import Source, UnitNorm
from fastann.estimators.base import warn
from fastann.estimators.classifier_fitted import Prototyped
from fastann.estimators.classifier_parameters import (
    check_classes,
    check_classifier,
    listed_by,
    recipe_of,
    refuse_balanced,
    sizes_of,
    weighted,
    with_new,
)
from fastann.estimators.foreign import explains
from fastann.index.base import Spec
from fastann.index.spec import Flat

REMEMBERED = 1000  # batches whose records `history_` keeps: a stream has no end


class PrototypeClassifier(ClassifierMixin, Prototyped):
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
    default_prototypes : int, default=3
        Of each class that a dict or list does not name, of those too that turn up later in a stream. A list names the
        classes known when it is first used: the first ones, if it is shorter.
    metric : {"cosine", "euclidean"}, default="cosine"
        How rows and prototypes are compared.
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
    relative_merge : float, bool or None, default=None
        True: `merge_threshold` is a share of the spread of each class, which is the distance (Euclidean: the root mean
        square) of its rows from their mean, so that it does not depend on the unit of X. A number is instead of
        `merge_threshold`, and a share of the mean distance between the prototypes of all classes.
    percentile_threshold : float or None, default=None
        In (0, 1]: merge only pairs, and truncate only coordinates, also below this quantile.
    min_weight : float, default=0.0
        Prototypes that stand for less weight are dropped; every class keeps its heaviest.
    truncation_threshold : float, default=0.0
        Coordinates of prototypes smaller than this become zero, which keeps those of sparse rows sparse.
    refine : {"auto", "none", "softmax"}, default="auto"
        Whether prototypes are moved by gradient descent on the cross-entropy of a softmax over the nearest
        prototypes of all classes, so that they also leave rows of other classes. "auto" does so if it
        classifies a tenth of the rows, held out meanwhile, better, and not at the cost of small classes (see
        `refinement_`); these then join in. Not in `partial_fit`.
    class_weight : dict, "balanced" or None, default=None
        Multiplies the weights of the rows of each class: a dict by class label, 1 for labels that it lacks, or such
        that all classes weigh the same. It says what refinement, its trial and probabilities go by, and what soft
        assignment does; the nearest prototype itself knows no weights. `partial_fit` takes no "balanced".
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
        In which prototypes are kept, searched and saved, and rows kept that a stream has to keep: half precision takes
        half the memory, and distances are summed in float32 or more all the same. Prototypes of a stream are float32
        until it is saved, as running means in half precision would stop moving. An index other than "auto", "flat" and
        "cells" has a float32 copy of its own. NumPy has no bfloat16, and SciPy no sparse float16: there `prototypes_`
        gives the values as float32.
    reject_below : float or None, default=None
        Rows whose largest similarity is smaller are given `reject_label`.
    reject_label : object, default=None
        None: -1 where labels are numbers, "rejected" where they are strings.
    output : {"numpy", "torch"}, default="numpy"
        What `predict`, `kneighbors`, probabilities and scores of classes are: arrays, or tensors of torch on the device
        of X, where X is one. Labels are then integers, as tensors hold no strings.
    verbose : bool, default=False
        Show how far it is, on standard error: a progress bar on a terminal and in a notebook, elsewhere a line every
        ten seconds.
    device : str or list, default="cpu"
        GPUs that search dense prototypes, as in `KMeans`.
    n_jobs : int or None, default=None
        Threads; None is all cores.
    random_state : int, RandomState or None, default=None
        Seed of all randomness.

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
        What `predict_proba` multiplies cosines, or minus squared distances, with: found on rows held out, or on rows of
        training and of batches, each judged as if its prototypes had been made without it.
    refinement_ : Verdict or None
        With ``refine="auto"``: rows held out, accuracy and balanced accuracy on them before and after, whether it was
        kept, and the classes that lost recall by it. It is kept if accuracy rises, and balanced accuracy, the mean
        recall of the classes, surely falls by no more than a third of that, or
        0.01.
    history_ : list of Epoch
        A record per epoch, or per batch of a stream (the last 1,000): phase, rows, objective, shift, merged, active,
        seconds.
    n_iter_ : int
        Epochs of k-means, of which `fit` also counts those that follow a merge.
    last_batch_ : Batch or None
        What the last `partial_fit` changed: rows, objective, shift (mean L2 distance by which prototypes moved),
        merged, active (prototypes after it), new_classes. None after `fit`.
    index_ : spec
        The index that finds the nearest prototype, with what was found for its search option.
    classification_ : Classification
        All of the result in one frozen object.
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

    @explains()
    def __init__(
        self,
        n_prototypes: Any = 3,
        *,
        default_prototypes: int = 3,
        metric: str = "cosine",
        init: str = "k-means++",
        assignment: str = "hard",
        scores: str = "linear",
        temperature: float = 0.1,
        wrong_class_penalty: float = 1.0,
        candidates: int = 8,
        shrinkage: float | str = "auto",
        merge_threshold: float | None = None,
        relative_merge: float | bool | None = None,
        percentile_threshold: float | None = None,
        min_weight: float = 0.0,
        truncation_threshold: float = 0.0,
        refine: str = "auto",
        class_weight: Any = None,
        max_iter: int = 10,
        tol: float = 1e-4,
        index: Any = "auto",
        recall: float = 0.99,
        dtype: str = "float32",
        reject_below: float | None = None,
        reject_label: Any = None,
        output: str = "numpy",
        verbose: bool = False,
        device: Any = "cpu",
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.n_prototypes = n_prototypes
        self.default_prototypes = default_prototypes
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
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.tol = tol
        self.index = index
        self.recall = recall
        self.dtype = dtype
        self.reject_below = reject_below
        self.reject_label = reject_label
        self.output = output
        self.verbose = verbose
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    # ----------------------------------------------------------------- fitting

    @explains("fit")
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn prototypes of the classes.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (n_samples, n_features), torch tensor, Source or path
            Any float or integer dtype, bfloat16 too, and tensors of sparse layouts; read in chunks. Sparse rows are
            never made dense. Zero rows, which have no direction, are left out under the cosine metric, with a warning.
        y : array-like of shape (n_samples,)
            Class labels: integers, strings, or whatever scikit-learn takes for classes.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts, 0 or more; None is 1 for every row.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For data, labels or parameters that make no sense; the message says what was given, what was
            needed and what to do.
        """
        with self._unchanged_on_error(), self._threads(), Bar(self.verbose, "prototypes", unit="epoch") as bar:
            check_classifier(self)
            source = self._source(X, reset=True)
            labels = checks.class_labels(y, source.n)
            weights = checks.sample_weight(sample_weight, source.n)
            classes, codes = np.unique(labels, return_inverse=True)
            check_classes(classes, labels, weights)
            seed = checks.seed(self.random_state)
            space, view = fit_space(source, self.metric, zero_rows=True)
            check_classes(classes, labels, weights, zeros_of(view))
            weights = without_zero_rows(view, weights)
            weights = weighted(self.class_weight, classes, codes, weights, whole=True)
            recipe, rng = recipe_of(self, space), np.random.default_rng(seed)
            data = LabelledRows(view, codes.astype(np.int32), weights, len(classes))
            listed = listed_by(self, classes)
            sizes = sizes_of(self, classes, listed, whole=True)
            if sizes is None:
                sizes = choose_sizes(recipe, data, rng)
            course = Course(bar)
            prototypes, calibration, verdict = fit_prototypes(recipe, data, sizes, self.refine, rng, course)
            verdict = None if verdict is None else verdict.named(classes)
            say_what_fell(verdict)
            verdict = verdict if self.refine == "auto" else None
            stream = Stream(prototypes, calibration=calibration)
            spec, searched = self._choose_search(stream, data, rng, (Flat(), 0))
            scale, history = calibration.scale, course.history
            stream.prototypes = replace(prototypes, vectors=stored(prototypes.vectors, self.dtype))
            self._publish(
                Classification(
                    space, classes, stream, scale, spec, history, seed, verdict, searched, self.dtype, listed
                )
            )
        return self

    @explains("partial_fit")
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
        told = f"after {len(self.classes_):,} classes" if hasattr(self, "classes_") else "the first batch"
        with (
            self._unchanged_on_error(),
            self._threads(),
            Bar(self.verbose, "partial_fit", note=told, owner=self),
        ):
            check_classifier(self)
            refuse_balanced(self.class_weight)
            first = not hasattr(self, "classification_")
            source = self._source(X, reset=first)
            labels = checks.class_labels(y, source.n)
            weights = checks.sample_weight(sample_weight, source.n)
            if first:
                space, view = fit_space(source, self.metric, zero_rows=True)
                seed, none = checks.seed(self.random_state), np.empty(0, labels.dtype)
                before = Classification(space, none, Stream(), 1.0, Flat(), [], seed)
            else:
                before = self._found()
                view = self._view_of(source)
            weights = without_zero_rows(view, weights)
            known, stream = before.classes, before.stream
            now = with_new(known, labels, classes)
            codes = np.searchsorted(now, labels).astype(np.int32)
            weights = weighted(self.class_weight, now, codes, weights)
            listed = listed_by(self, now, before.listed)
            sizes = sizes_of(self, now, listed)
            if 0 < len(known) < len(now):
                stream = stream.renumbered(np.searchsorted(now, known))
            data = LabelledRows(view, codes, weights, len(now))
            record = stream.update(recipe_of(self, before.space), data, sizes, before.seed)
            history = [*before.history[1 - REMEMBERED :], record]
            rng = np.random.default_rng([before.seed, 4])
            spec, searched = self._choose_search(stream, data, rng, (before.spec, before.searched))
            last = Batch.of(record, np.setdiff1d(now, known))
            after = replace(before, classes=now, stream=stream, scale=stream.calibration.scale, history=history)
            self._publish(replace(after, spec=spec, searched=searched, listed=listed, last=last))
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on some rows, whatever `output` says.

        Parameters
        ----------
        X : whatever `predict` takes
            The rows.
        y : array-like of shape (n_samples,)
            Their true classes.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            What each row counts; None is 1 each.
        """
        return float(accuracy_score(checks.on_host(y), self._labels(X), sample_weight=checks.on_host(sample_weight)))

    def _choose_search(
        self, stream: Stream, data: LabelledRows, rng: np.random.Generator, known: tuple[Spec, int]
    ) -> tuple[Spec, int]:
        """The index that predicts, from the `known` one of earlier batches; and what `Classification.searched` says."""
        search, device = PrototypeSearch(self.index), self._device()
        view, weights = data.source, data.weights
        return choose_search(
            search, stream.prototypes, view, weights, rng, recall=self.recall, device=device, known=known
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def without_zero_rows(view: Source, weights: np.ndarray | None) -> np.ndarray | None:
    """Weights that leave out rows without a direction, with a warning; most such rows are empty documents."""
    zeros = zeros_of(view)
    if not len(zeros):
        return weights
    warn(
        f"{len(zeros)} of {view.n} rows are zero, row {zeros[0]} first: they have no direction, which "
        "metric='cosine' needs, and are left out",
        UserWarning,
    )
    weights = np.ones(view.n) if weights is None else weights.copy()
    weights[zeros] = 0
    return weights


def zeros_of(view: Source) -> np.ndarray:
    """Rows without a direction, where they need one."""
    return view.zeros if isinstance(view, UnitNorm) else np.empty(0, np.int64)


def say_what_fell(verdict: Verdict | None) -> None:
    """Warn of classes that a refinement which was made finds far fewer rows of."""
    fell = [fall for fall in verdict.fell if fall.plain] if verdict is not None and verdict.kept else []
    if not fell or verdict is None:
        return
    lost = "; ".join(f"of class {f.label!r} from {f.before:.2f} to {f.after:.2f} ({f.rows} rows)" for f in fell)
    warn(
        f"refinement lowers recall on rows held out: {lost}; accuracy goes from {verdict.before:.3f} to "
        f"{verdict.after:.3f}. Where these classes matter, pass class_weight='balanced' or refine='none'",
        UserWarning,
    )

"""What a fitted classifier answers: classes, nearest prototypes, scores, probabilities."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from fastann import checks, kernels
from fastann.classify.calibration import distances_to
from fastann.classify.fit import Verdict
from fastann.classify.half import is_sparse, wide
from fastann.classify.model import Batch, Classification
from fastann.classify.prototypes import Prototypes
from fastann.classify.search import PrototypeSearch
from fastann.classify.training import Epoch
from fastann.cluster.progress import Bar
from fastann.data import tensors
from fastann.data.csr import Densified, Sparsified
from fastann.data.source import Source
from fastann.estimators.base import Model
from fastann.estimators.classifier_parameters import OUTPUTS
from fastann.estimators.foreign import CLASSIFIER, explains
from fastann.estimators.summary import of_classes
from fastann.index.base import Index, Spec
from fastann.index.repair import search
from fastann.runs import prototypes as runs

log = logging.getLogger(__name__)
SCORES_AT_ONCE = 2**24  # distances between rows and prototypes that are computed at a time


class Prototyped(Model):
    """A model that is its prototypes, their classes, and the index that finds the nearest of them.

    Attributes
    ----------
    classification_ : Classification
    classes_ : ndarray of shape (n_classes,)
    scale_ : float
    index_ : spec
    """

    _read, _words = staticmethod(runs.read), CLASSIFIER
    classification_: Classification
    classes_: np.ndarray
    scale_: float
    refinement_: Verdict | None
    history_: list[Epoch]
    index_: Spec
    last_batch_: Batch | None
    dtype: str
    output: str
    verbose: bool
    reject_below: float | None
    reject_label: Any

    @explains("predict")
    def predict(self, X: Any) -> Any:
        """Class of the nearest prototype of each row of `X`, found through the index.

        A zero row has no direction, and under the cosine metric a similarity of 0 to all prototypes: it gets the
        class of the first, or the label of rejected rows.
        """
        return self._answer(self._labels(X), X)

    def _answer(self, a: np.ndarray, X: Any) -> Any:
        """An answer as `output` wants it."""
        return tensors.tensor_of(a, X) if checks.choice(self.output, "output", OUTPUTS) == "torch" else a

    def _labels(self, X: Any) -> np.ndarray:
        sqdist, ids = self._search(X, 1)
        codes = self._index()[1].owner[ids[:, 0]]
        if self.reject_below is None:
            return np.asarray(self.classes_[codes])
        checks.real(self.reject_below, "reject_below", -1.0)
        label = self._reject_label()
        out: np.ndarray = self.classes_[codes].astype(np.result_type(self.classes_.dtype, np.asarray(label).dtype))
        out[self.classification_.space.similarity(sqdist[:, 0]) < self.reject_below] = label
        return out

    def kneighbors(self, X: Any, n_neighbors: int = 5, return_distance: bool = True) -> Any:
        """Find the nearest prototypes of each row, nearest first, through the index.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (n_samples, n_features), torch tensor, or path
            Rows, as in `fit`.
        n_neighbors : int, default=5
            At most as many as there are prototypes.
        return_distance : bool, default=True
            Whether to return distances too, before the ids.

        Returns
        -------
        distances : float32 ndarray of shape (n_samples, n_neighbors)
            Euclidean, or 1 - cosine. Only if `return_distance`.
        ids : int32 ndarray of shape (n_samples, n_neighbors)
            Places in `prototypes_`; ``prototype_labels_[ids]`` are their classes.
        """
        check_is_fitted(self)
        checks.integer(n_neighbors, "n_neighbors", 1, len(self._found().prototypes))
        sqdist, ids = self._search(X, n_neighbors)
        near = self._answer(ids, X)
        return (self._answer(self.classification_.space.distance(sqdist), X), near) if return_distance else near

    def decision_function(self, X: Any) -> Any:
        """Similarity of each row of `X` to the nearest prototype of each class.

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
            far = sqdist / self.classification_.space.per_score
            far = np.where(known, far, 2 if self.classification_.space.unit else np.inf)
            return self._answer(far[:, 0] - far[:, 1], X)
        return self._answer(np.where(known, self.classification_.space.similarity(sqdist), -1), X)

    @explains("predict_proba")
    def predict_proba(self, X: Any) -> Any:
        """Probability of each class for rows `X`: the softmax of `scale_` times cosines, or minus squared distances.

        Returns
        -------
        float64 ndarray of shape (n_samples, n_classes)
            For tens of thousands of classes prefer `kneighbors`.
        """
        return self._answer(np.exp(self._log_proba(X)), X)

    def predict_log_proba(self, X: Any) -> Any:
        """Natural logarithm of the probability of each class for rows `X`; finite where `predict_proba` rounds to 0.

        Returns
        -------
        float64 ndarray of shape (n_samples, n_classes)
            -inf only for a class without prototypes, as of one that a stream announced and no row had yet.
        """
        return self._answer(self._log_proba(X), X)

    def _log_proba(self, X: Any) -> np.ndarray:
        score = self._class_sqdist(X) * (-self.scale_ / self.classification_.space.per_score)
        score -= score.max(axis=1, keepdims=True)
        return np.asarray(score - np.log(np.exp(score).sum(axis=1, keepdims=True)))

    def _class_sqdist(self, X: Any) -> np.ndarray:
        """Squared L2 distance of each row to the nearest prototype of each class: float64 [n, classes]."""
        check_is_fitted(self)
        with self._threads():
            view, p = self._view(X), self._found().prototypes
            present = np.unique(p.owner)
            first = p.first(len(self.classes_))[present]
            out, table = np.full((view.n, len(self.classes_)), np.inf), distances_to(p.vectors)
            with Bar(self.verbose, "scores", view.n, "row") as bar:
                for start, block in view.chunks(max(1, SCORES_AT_ONCE // len(p))):
                    sqdist = table(block)
                    sqdist[self._directionless(block)] = 2
                    out[start : start + block.shape[0], present] = np.minimum.reduceat(sqdist, first, axis=1)
                    bar.step(block.shape[0])
        return out

    # ----------------------------------------------------------------- what was learned

    @property
    def n_iter_(self) -> int:
        return sum(record.phase == "k-means" for record in self.history_)

    @property
    def prototypes_(self) -> Any:
        found = self._found()
        vectors = found.prototypes.vectors
        if is_sparse(vectors):
            return wide(vectors).copy()
        outward = found.space.outward(wide(vectors))
        return outward.astype(np.float16) if found.dtype == "float16" else outward

    @property
    def prototype_labels_(self) -> np.ndarray:
        return np.asarray(self.classes_[self._found().prototypes.owner])

    @property
    def prototype_weights_(self) -> np.ndarray:
        return self._found().prototypes.weights.copy()

    def _publish(self, found: Classification) -> None:
        self.classification_, self.classes_, self.scale_ = found, found.classes, found.scale
        self.refinement_, self.history_, self.index_ = found.verdict, found.history, found.spec
        self.last_batch_ = found.last
        log.info(
            "%d classes, %d prototypes, index %s",
            len(found.classes),
            0 if (p := found.stream.prototypes) is None else len(p),
            found.spec,
        )

    def _facts(self) -> dict[str, str]:
        return of_classes(self)

    def _found(self) -> Classification:
        """The result with what a user may have set on the estimator since it was published."""
        return replace(
            self.classification_,
            classes=self.classes_,
            scale=self.scale_,
            verdict=self.refinement_,
            history=self.history_,
            spec=self.index_,
            dtype=self.dtype,
        )

    # ----------------------------------------------------------------- saving

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model to a folder, whole or not at all; its files are described in `fastann.runs.prototypes`.

        Parameters
        ----------
        path : path
            Folder to write.
        force : bool, default=False
            Replace an existing model.

        Raises
        ------
        FileExistsError
            If `path` exists and may not be replaced.
        """
        check_is_fitted(self)
        runs.write(path, self._found(), runs.About.of(self), force=force)

    # ----------------------------------------------------------------- inside

    def _view(self, X: Any) -> Source:
        return self._view_of(self._source(X))

    def _view_of(self, source: Source) -> Source:
        """Rows in the space of the prototypes, as dense or sparse as these are."""
        p = self.classification_.stream.prototypes
        if p is not None and is_sparse(p.vectors) != source.sparse:
            source = Densified(source) if source.sparse else Sparsified(source)
        return self.classification_.space.view(source, zero_rows=True)

    def _search(self, X: Any, m: int) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        with self._threads():
            view, (index, _) = self._view(X), self._index()
            ids, sqdist = np.empty((view.n, m), np.int32), np.empty((view.n, m), np.float32)
            with Bar(self.verbose, "predict", view.n, "row") as bar:
                for start, block in view.chunks():
                    part = slice(start, start + block.shape[0])
                    ids[part], sqdist[part], _ = search(index, block, m, index.centroids, measured=True)
                    zero = start + self._directionless(block)
                    ids[zero], sqdist[zero] = np.arange(m), 2
                    bar.step(block.shape[0])
        return sqdist, ids

    def _directionless(self, block: Any) -> np.ndarray:
        """Rows of a block that are zero, whose cosine to every prototype is taken for 0."""
        if not self.classification_.space.unit:
            return np.empty(0, np.int64)
        return np.flatnonzero(kernels.sqnorms(block) == 0 if sparse.issparse(block) else ~block.any(axis=1))

    def _index(self) -> tuple[Index, Prototypes]:
        """The index over the prototypes, and these as stored; built once while they stay the same."""
        found, device = self._found(), self._device()

        def build() -> tuple[Index, Prototypes]:
            p = found.prototypes
            return PrototypeSearch(found.spec).build(p.vectors, seed=0, device=device), p

        built: tuple[Index, Prototypes] = self._built_once(
            (found.dtype, str(found.spec), device), self.classification_, build
        )
        return built

    def _reject_label(self) -> Any:
        if self.reject_label is not None:
            return self.reject_label
        return "rejected" if self.classes_.dtype.kind in "USO" else -1

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classification_")

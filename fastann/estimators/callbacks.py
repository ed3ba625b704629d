"""scikit-learn's callback protocol (1.9 and later), or nothing where it is older."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

import numpy as np

from fastann.cluster.closing import Clustering, Labelling, Means
from fastann.cluster.lloyd import State
from fastann.cluster.space import Space
from fastann.cluster.stop import StopReason
from fastann.index.base import Spec

if TYPE_CHECKING:
    P = ParamSpec("P")
    R = TypeVar("R")

    class CallbackSupport:
        """Mixin with ``set_callbacks``."""

    def with_callbacks(method: Callable[P, R]) -> Callable[P, R]:
        """Tear callbacks down when `method` returns."""
        return method

else:
    try:
        from sklearn.callback import CallbackSupportMixin as CallbackSupport
        from sklearn.callback import with_callbacks
    except ImportError:  # scikit-learn < 1.9

        class CallbackSupport:
            """Nothing to support."""

        def with_callbacks(method):
            """Return `method` as it is."""
            return method


log = logging.getLogger(__name__)


class Callbacks:
    """Tells the log and scikit-learn's callbacks of a fit, or of a batch, and of each iteration of it.

    `spec` is the index that a model made from the running iteration predicts with, and `most` how many iterations
    there may be: of all starts, and on all samples.
    Calling it with a `State` reports the iteration; the answer is whether a callback asks to stop.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any, space: Space, spec: Spec, most: int):
        self.estimator, self.space, self.spec, self.most = estimator, space, spec, most
        self.root: Any = None
        self.data = {"X": X, "y": y, "metadata": {"sample_weight": sample_weight}}

    def __enter__(self) -> Self:
        if getattr(self.estimator, "_skl_callbacks", None):
            self.root = self.estimator._init_callback_context(max_subtasks=self.most)
            self.root.call_on_fit_task_begin(estimator=self.estimator, **self.data)
        return self

    def __call__(self, state: State) -> bool:
        record = state.record
        log.debug(
            "iteration %d: inertia %.6g, %d of %d rows moved, %.3f s, %s",
            *(record.iteration, record.inertia, record.moved, record.rows, sum(record.seconds.values()), record.plan),
        )
        if self.root is None:
            return False
        task = self.root.subcontext(task_name="iteration")
        task.call_on_fit_task_begin(estimator=self.estimator, **self.data)

        def fitted() -> dict[str, Any]:
            """Attributes of a model that can predict; made where a callback asks for one."""
            centers, ones = self.space.outward(state.centroids), np.ones(len(state.centroids))
            means = Means(centers, ones, ones, 1, 0, float(len(ones)))
            found = Clustering(
                self.space, self.spec, means, Labelling.of_none(), [state.record], StopReason.CALLBACK, np.nan
            )
            return {"clustering_": found, "index_": found.spec, "n_iter_": state.record.iteration}

        return bool(task.call_on_fit_task_end(estimator=self.estimator, **self.data, reconstruction_attributes=fitted))

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if self.root is not None and kind is None:  # a fit that failed has not come to its end
            self.root.call_on_fit_task_end(estimator=self.estimator, **self.data, reconstruction_attributes={})

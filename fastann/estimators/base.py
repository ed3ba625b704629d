"""What the estimators share: tables with names of columns, threads, fits that fail, indexes that are built once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from fastann import checks, kernels
from fastann.data import open as files
from fastann.data.open import as_source
from fastann.data.source import ArraySource, Source
from fastann.estimators import summary as summaries
from fastann.estimators.foreign import Word
from fastann.index import gpu
from fastann.index.faiss import faiss, faiss_threads

OURS = ("fastann.", "sklearn.", "contextlib")  # modules whose lines a warning does not point to

# Indexes built to predict and search with, by what they are for. Beside the estimators, not on them: FAISS objects
# cannot be pickled or copied.
_built: WeakKeyDictionary[Any, dict[str, tuple[Any, Any, Any]]] = WeakKeyDictionary()


def warn(message: str, category: type[Warning]) -> None:
    """Warn of something at the line of the program that called into this package, or into scikit-learn before it."""
    level, frame = 1, sys._getframe()
    while (outer := frame.f_back) is not None and frame.f_globals.get("__name__", "").startswith(OURS):
        level, frame = level + 1, outer
    warnings.warn(message, category, stacklevel=level)


class Model(BaseEstimator):
    """An estimator over tables of rows, in memory or elsewhere.

    Those that derive from it publish a frozen result (`_publish`) that `_read` reads back from what was saved.
    """

    device: Any
    n_jobs: int | None
    n_features_in_: int
    feature_names_in_: np.ndarray
    _read: ClassVar[Callable[..., tuple[Any, Any, list[str]]]]
    _words: ClassVar[Mapping[str, Word]]  # of other packages

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; checks version, shapes, dtypes and checksums, and never unpickles.

        `partial_fit` goes on from it.

        Parameters
        ----------
        path : path
            Folder that `save` or the command line wrote.

        Returns
        -------
        estimator

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        fastann.RunError
            If a file is missing or altered, or does not fit the others.
        """
        model: Self
        model, found, names = cls._read(path, cls)
        model._publish(found)
        model.n_features_in_ = found.n_features
        if names:
            model.feature_names_in_ = np.array(names, dtype=object)
        return model

    def summary(self) -> str:
        """Lines that say what was fitted and how good it is, as the command line prints them.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        """
        check_is_fitted(self)
        return summaries.text(self._facts())

    def _facts(self) -> dict[str, str]:
        """What a fitted model says of itself, by name."""
        raise TypeError(f"{type(self).__name__} says nothing of itself")

    def _html_repr(self) -> str:  # of scikit-learn, for notebooks
        return summaries.html(self, self._facts() if "index_" in vars(self) else {})

    def _publish(self, found: Any) -> None:
        """Set what a result says as attributes."""
        raise TypeError(f"{type(self).__name__} publishes no result")

    # ----------------------------------------------------------------- what is called otherwise, or not there

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the estimator.

        Parameters
        ----------
        **params : any
            Values by the names of parameters.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a name that it does not have.
        """
        own = self._get_param_names()  # a class that derives from this one may have a parameter of such a name
        for name in sorted(params.keys() & self._words.keys() - set(own)):
            if self._words[name].kind == "parameter":
                raise ValueError(self._words[name].refusal(type(self).__name__, "parameter", name))
        super().set_params(**params)
        return self

    def __getattr__(self, name: str) -> Any:
        """Say why something is not there, or what it is called here; only what is missing comes to this."""
        told = None if name.startswith("_") else self._absence(name)
        if told is None:
            return object.__getattribute__(self, name)  # says what is wrong, of a property too
        raise AttributeError(told, name=name, obj=self)

    def _absence(self, name: str) -> str | None:
        """Why there is no such attribute, where more can be said than that."""
        of, word, fitted = type(self).__name__, self._words.get(name), "index_" in vars(self)
        if word is not None and word.kind != "argument":
            return word.refusal(of, "method" if word.kind == "method" else "attribute", name)
        missing = f"{of!r} object has no attribute {name!r}"
        if name.endswith("_") and not fitted:
            return f"{missing}: it is not fitted yet"
        if name == "feature_names_in_":
            return f"{missing}, as columns had no names in the rows it was fitted to; a data frame has names"
        if f"{name}_" in vars(self) or hasattr(type(self), f"{name}_"):
            return f"{missing}; what a fit finds ends in an underscore: {name}_"
        return None

    # ----------------------------------------------------------------- what fits and fitted models share

    def _source(self, X: Any, name: str = "X", *, reset: bool = False) -> Source:
        """The rows of `X`, whose columns are checked against those fitted on; or, with `reset`, remembered.

        `name` is what the user calls them.
        """
        source = as_source(X, name)
        if reset:
            self.__dict__.pop("feature_names_in_", None)
            self.n_features_in_ = source.d
        if not (isinstance(X, Source) or files.is_elsewhere(X)):
            if not (named := _has_names(X, source.d)):
                checks.features(source.d, self.n_features_in_, type(self).__name__, name)
            # Columns that a frame lacks are named before any are counted. A column of vectors has no names for theirs.
            table = source.array if isinstance(source, ArraySource) and not named else X
            validate_data(self, table, reset=reset, skip_check_array=True)
        checks.features(source.d, self.n_features_in_, type(self).__name__, name)
        return source

    def _device(self) -> str | tuple[int, ...]:
        return gpu.parse_device(self.device, faiss, shard=getattr(self, "shard", False))

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """Have everything use at most `n_jobs` threads."""
        count = checks.jobs(self.n_jobs)
        with kernels.limit_threads(count), faiss_threads(count):
            yield

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Leave the estimator as it was if a fit fails or is interrupted.

        Save what scikit-learn's callback protocol keeps on it, which it needs to tear callbacks down.
        """
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            running = {n: v for n, v in self.__dict__.items() if n.startswith(("_callback_", "_skl_"))}
            self.__dict__.clear()
            self.__dict__.update(before | running)
            raise

    def _built_once(self, key: tuple[Any, ...], over: Any, build: Callable[[], Any], use: str = "predict") -> Any:
        """What `build` gives over an object, for a use: made anew when that is another one, or the key differs."""
        mine = _built.setdefault(self, {})
        known = mine.get(use)
        if known is None or known[0] != key or known[1] is not over:
            mine[use] = known = (key, over, build())
        return known[2]


def _has_names(X: Any, d: int) -> bool:
    """Whether `X` is a frame or table with a name for each of its `d` columns."""
    names = getattr(X, "column_names", getattr(X, "columns", None))  # Arrow's columns are no names
    return names is not None and len(names) == d and any(isinstance(name, str) for name in names)

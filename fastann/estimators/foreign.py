"""Words of other packages that this one calls otherwise: errors that say what to write here.

The pages docs/coming-from.md and docs/coming-from-fastkmeansclassifier.md have them as tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast


@dataclass(frozen=True)
class Word:
    """What has a name elsewhere, and what it is called here.

    Attributes
    ----------
    package : str
        Who has it.
    kind : {"parameter", "argument", "method", "attribute"}
        What it is there; an argument is one of methods, where here it is a parameter of the constructor.
    here : str
        What it is called here, and how that is written.
    """

    package: str
    kind: str
    here: str

    def refusal(self, of: str, what: str, name: str) -> str:
        """Say that a class or method has no such parameter, argument, method or attribute, and how it is called."""
        return f"{of} has no {what} {name!r}, as {self.package} has; here it is {self.here}"


def _words(package: str, kind: str, here: Mapping[str, str]) -> dict[str, Word]:
    return {name: Word(package, kind, text) for name, text in here.items()}


CLASSIFIER = {
    **_words(
        "FastKMeansClassifier",
        "parameter",
        {
            "k_init": "n_prototypes: PrototypeClassifier(n_prototypes=3), or 'auto' for numbers chosen class by class",
            "k_list": "n_prototypes too: a dict by class, n_prototypes={'spam': 5}, or a list in the order of the "
            "sorted classes; the other classes take default_prototypes",
            "init_method": "init: PrototypeClassifier(init='k-means++'), with hyphens, or 'random'",
            "soft": "assignment: PrototypeClassifier(assignment='soft')",
            "lambda_penalty": "wrong_class_penalty: PrototypeClassifier(assignment='soft', wrong_class_penalty=1.0)",
            "n_threads": "n_jobs: PrototypeClassifier(n_jobs=4); None is all cores",
            "batch_size": "nothing, as rows are read in chunks whose size changes no result: leave it out, or cut a "
            "stream into batches as you like and give each to partial_fit(X, y)",
        },
    ),
    **_words("FastKMeansClassifier", "method", {"fit_batch": "partial_fit: model.partial_fit(X, y)"}),
    **_words(
        "FastKMeansClassifier",
        "argument",
        {"verbose": "a parameter of the constructor: PrototypeClassifier(verbose=True)"},
    ),
}
KMEANS = {
    **_words(
        "faiss.Kmeans",
        "parameter",
        {
            "d": "the number of columns of the rows: leave it out; n_features_in_ says it after a fit",
            "k": "n_clusters: KMeans(n_clusters=100)",
            "niter": "max_iter: KMeans(max_iter=25)",
            "nredo": "n_init: KMeans(n_init=5)",
            "seed": "random_state: KMeans(random_state=0)",
            "spherical": "metric: KMeans(metric='cosine')",
            "gpu": "device: KMeans(device='cuda')",
            "max_points_per_centroid": "sample: KMeans(100, sample=256 * 100) for 256 rows a cluster; without it all "
            "rows are used",
        },
    ),
    **_words(
        "faiss.Kmeans",
        "method",
        {"train": "fit: km.fit(x)", "assign": "predict: km.predict(x), or km.kneighbors(x, 1) with distances"},
    ),
    **_words(
        "faiss.Kmeans",
        "attribute",
        {
            "centroids": "cluster_centers_",
            "obj": "inertia_ at the end, and [r.inertia for r in km.history_] by iteration",
            "iteration_stats": "history_",
        },
    ),
    **_words(
        "MiniBatchKMeans",
        "parameter",
        {
            "batch_size": "nothing, as fit reads rows in chunks whose size changes no result: leave it out, or give "
            "each batch of a stream to partial_fit(X)"
        },
    ),
}

_Call = TypeVar("_Call", bound=Callable[..., Any])


def explains(method: str | None = None) -> Callable[[_Call], _Call]:
    """Decorate a method, or the constructor (None): it says what is called otherwise here, by the class's `_words`."""
    what, kinds = ("argument", ("parameter", "argument")) if method else ("parameter", ("parameter",))

    def decorate(call: _Call) -> _Call:
        first = [*signature(call).parameters][1]

        @wraps(call)
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            of, words = type(self).__name__ + (f".{method}" if method else ""), self._words
            for name in sorted(kwargs.keys() & words.keys()):
                if words[name].kind in kinds:
                    raise TypeError(words[name].refusal(of, what, name))
            if not method and len(args) > 1:
                faiss = f"; faiss.Kmeans(d, k) is {of}(k) here, as rows say how many columns they have"
                raise TypeError(
                    f"{of} takes {first} by position and all other parameters by name, got {len(args)} values without "
                    f"a name{faiss if 'd' in words else ''}"
                )
            return call(self, *args, **kwargs)

        return cast(_Call, wrapped)

    return decorate

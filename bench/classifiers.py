"""Classifiers to compare: this package and its peers, by name. One is an entry of `METHODS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin

from bench.harness import NotInstalled, Skip
from bench.measures import available

BATCH = 256  # rows, where a table is given as a stream


class KMeansPerClass(ClassifierMixin, BaseEstimator):
    """The plain baseline: scikit-learn's k-means within each class, rows and centres of unit norm; the nearest."""

    def __init__(self, n_prototypes: int = 3, random_state: int = 0):
        self.n_prototypes = n_prototypes
        self.random_state = random_state

    def fit(self, x: Any, y: np.ndarray) -> KMeansPerClass:
        from sklearn.cluster import KMeans
        from sklearn.preprocessing import normalize

        x, centres, owner = normalize(x), [], []
        for c in np.unique(y):
            rows = x[np.flatnonzero(y == c)]
            k = min(self.n_prototypes, rows.shape[0])
            centres.append(KMeans(k, random_state=self.random_state).fit(rows).cluster_centers_)
            owner += [c] * k
        self.prototypes_, self.owner_ = normalize(np.vstack(centres)), np.array(owner)
        return self

    def predict(self, x: Any) -> np.ndarray:
        return self.owner_[np.asarray(x @ self.prototypes_.T).argmax(axis=1)]


class ClassMeans(ClassifierMixin, BaseEstimator):
    """The mean of each class by a product of sparse matrices: what NearestCentroid would be without dense ones."""

    def fit(self, x: Any, y: np.ndarray) -> ClassMeans:
        from sklearn.preprocessing import normalize

        self.classes_, codes = np.unique(y, return_inverse=True)
        member = sparse.csr_matrix((np.ones(len(y), np.float32), (codes, np.arange(len(y)))))
        self.prototypes_ = normalize(member @ normalize(x))
        return self

    def predict(self, x: Any) -> np.ndarray:
        out, across = np.empty(x.shape[0], np.int64), sparse.csr_matrix(self.prototypes_.T)
        for i in range(0, x.shape[0], 1024):
            out[i : i + 1024] = (x[i : i + 1024] @ across).toarray().argmax(axis=1)
        return self.classes_[out]


class Streamed(ClassifierMixin, BaseEstimator):
    """An estimator that is given its rows in batches."""

    def __init__(self, model: Any):
        self.model = model

    def fit(self, x: Any, y: np.ndarray) -> Streamed:
        for i in range(0, len(y), BATCH):
            self.model.partial_fit(x[i : i + BATCH], y[i : i + BATCH])
        return self

    def predict(self, x: Any) -> np.ndarray:
        return self.model.predict(x)


def prototype_classifier(seed: int, **options: Any) -> Any:
    from fastann import PrototypeClassifier

    return PrototypeClassifier(random_state=seed, **options)


def logistic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10, max_iter=1000, random_state=seed)


def linear_svc(seed: int) -> Any:
    from sklearn.svm import LinearSVC

    return LinearSVC(random_state=seed)


def nearest_centroid(seed: int) -> Any:
    from sklearn.neighbors import NearestCentroid

    return NearestCentroid()


def nearest_neighbours(seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(5, metric="cosine")


def lvq(name: str, other: str, seed: int) -> Any:
    """Learning vector quantisation by sklvq, or else by sklearn-lvq."""
    try:
        import sklvq
    except ImportError:
        try:
            import sklearn_lvq
        except ImportError:
            raise NotInstalled("neither sklvq nor sklearn-lvq can be imported") from None
        return getattr(sklearn_lvq, other)(prototypes_per_class=1, random_state=seed)
    return getattr(sklvq, name)(random_state=seed)


@dataclass(frozen=True)
class Method:
    """What a report calls it, from a seed to an estimator, and whether it is compared on every table."""

    shown: str
    make: Callable[[int], Any]
    everywhere: bool = True


METHODS = {
    "fastann": Method("**fastann**", prototype_classifier),
    "fastann-unrefined": Method('fastann, refine="none"', lambda seed: prototype_classifier(seed, refine="none")),
    "fastann-1": Method("fastann, n_prototypes=1", lambda seed: prototype_classifier(seed, n_prototypes=1)),
    "fastann-auto": Method(
        'fastann, n_prototypes="auto"', lambda seed: prototype_classifier(seed, n_prototypes="auto")
    ),
    "fastann-soft": Method(
        'fastann, assignment="soft", scores="softmax", refine="none"',
        lambda seed: prototype_classifier(seed, assignment="soft", scores="softmax", refine="none"),
    ),
    "fastann-stream": Method("fastann, partial_fit", lambda seed: Streamed(prototype_classifier(seed))),
    "nearest-centroid": Method("sklearn NearestCentroid", nearest_centroid),
    "class-means": Method("class means by SciPy's sparse product", lambda seed: ClassMeans(), everywhere=False),
    "kmeans-3": Method("sklearn KMeans(3) within each class", lambda seed: KMeansPerClass(3, seed)),
    "knn-5": Method("sklearn KNeighborsClassifier(5), cosine", nearest_neighbours),
    "logistic": Method("sklearn LogisticRegression(C=10)", logistic),
    "linear-svc": Method("sklearn LinearSVC", linear_svc),
    "glvq": Method("GLVQ", lambda seed: lvq("GLVQ", "GlvqModel", seed)),
    "gmlvq": Method("GMLVQ", lambda seed: lvq("GMLVQ", "GmlvqModel", seed)),
}
LIMITS = {"linear-svc": 300.0, "glvq": 600.0, "gmlvq": 600.0}  # seconds: what takes longer is no peer here


def refuse(method: str, x: Any) -> None:
    """Skip what cannot work, or would not fit in memory, before it takes the machine with it."""
    if not sparse.issparse(x):
        return
    if "lvq" in method:
        raise Skip("takes dense rows only")
    need = 3 * 8 * x.shape[0] * x.shape[1]  # NearestCentroid.fit computes float64 X - centroids[y], and squares it
    if method == "nearest-centroid" and need > 0.6 * available():
        raise Skip(f"would make the rows dense: about {need / 1e9:.0f} GB, of {available() / 1e9:.0f} GB free")


def numbers(model: Any) -> int:
    """How many numbers a fitted model stores; of sparse matrices the values."""

    def size(a: Any) -> int:
        return int(a.nnz) if sparse.issparse(a) else int(np.size(a))

    model = getattr(model, "model", model)
    names = ("prototypes_", "w_", "centroids_", "coef_", "intercept_", "omega_", "_fit_X")
    return sum(size(getattr(model, name)) for name in names if hasattr(model, name))


def inside(model: Any) -> dict[str, Any]:
    """What else a model tells about itself."""
    model = getattr(model, "model", model)
    out: dict[str, Any] = {}
    if hasattr(model, "prototypes_"):
        out["prototypes"] = int(model.prototypes_.shape[0])
    if hasattr(model, "history_"):
        verdict = model.refinement_
        out |= {"epochs": len(model.history_), "index": str(model.index_)}
        out["refinement"] = None if verdict is None else asdict(verdict)
    return out

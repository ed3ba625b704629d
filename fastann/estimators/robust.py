"""Outliers found before clustering: scikit-learn's robust scaling and elliptic envelope, then k-means on the others."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import RobustScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from fastann import checks
from fastann.estimators.base import warn
from fastann.estimators.kmeans import KMeans

_ROWS_A_COLUMN = 5  # rows for each column from which a robust covariance is told


class EnvelopeKMeans(ClusterMixin, BaseEstimator):
    """K-means on the rows within an elliptic envelope: a robust mean and covariance (Rousseeuw and Van Driessen, 1999).

    Parameters
    ----------
    kmeans : KMeans or None, default=None
        What clusters the rows within; None is ``KMeans()``. Its own `trim` may leave out more.
    contamination : float, default=0.05
        Share of the rows that the envelope leaves out, above 0 and at most 0.5.
    components : int or None, default=None
        Leading principal components in which the envelope is sought. None: all columns, as they are, if there are five
        rows for each; else one component for every five rows, of which a warning tells, as the covariance of more
        columns is singular or close to that.
    outlier_labels : {"nearest", -1}, default="nearest"
        What `labels_` and `predict` say of rows outside.
    random_state : int, RandomState or None, default=None
        Of the envelope, and of the components.

    Attributes
    ----------
    labels_ : int32 ndarray of shape (n_samples,)
    inlier_mask_ : bool ndarray of shape (n_samples,)
        Rows within the envelope, and not left out by `kmeans`.
    kmeans_ : KMeans
        Fitted to the rows within.
    n_components_ : int
        Columns or components that the envelope was sought in.
    n_features_in_ : int
    """

    def __init__(
        self,
        kmeans: KMeans | None = None,
        *,
        contamination: float = 0.05,
        components: int | None = None,
        outlier_labels: str | int = "nearest",
        random_state: Any = None,
    ):
        self.kmeans = kmeans
        self.contamination = contamination
        self.components = components
        self.outlier_labels = outlier_labels
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the envelope of the rows of `X` (n_samples, n_features), and cluster those within."""
        share = checks.real(self.contamination, "contamination", 0.0, above=True)
        if share > 0.5:
            raise ValueError(f"contamination must be at most 0.5, got {share}; it is the share of rows left out")
        if isinstance(self.outlier_labels, bool) or self.outlier_labels not in ("nearest", -1):
            raise ValueError(f"outlier_labels must be 'nearest' or -1, got {self.outlier_labels!r}")
        x = validate_data(self, X, ensure_min_samples=2)
        n, d = x.shape
        m = self._count(n, d)
        seed = checks.seed(self.random_state)
        self.components_ = PCA(m, random_state=seed).fit(x) if m < d else None
        self.envelope_ = EllipticEnvelope(contamination=share, random_state=seed).fit(self._seen(x))
        self.n_components_ = m
        inside = self._inside(x)
        self.kmeans_ = clone(KMeans() if self.kmeans is None else self.kmeans).fit(x[inside])
        self.inlier_mask_ = inside.copy()
        self.inlier_mask_[inside] = self.kmeans_.inlier_mask_
        self.labels_ = self._labels(x, self.inlier_mask_)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Nearest centre of each row, or with ``outlier_labels=-1`` that of rows outside: int32 [n_samples]."""
        check_is_fitted(self)
        x = validate_data(self, X, reset=False)
        return self._labels(x, self._inside(x))

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Cluster the rows of `X` and return `labels_`."""
        return self.fit(X).labels_

    def _count(self, n: int, d: int) -> int:
        """Columns or components that the envelope is sought in."""
        most = max(1, n // _ROWS_A_COLUMN)
        if self.components is not None:
            return checks.integer(self.components, "components", 1, min(n, d))
        if d > most:
            warn(
                f"{n} rows are too few for a covariance of {d} columns, which is singular or close to that: the "
                f"envelope is sought in the {most} leading principal components; pass components for another number",
                UserWarning,
            )
        return min(d, most)

    def _seen(self, x: np.ndarray) -> np.ndarray:
        return x if self.components_ is None else np.asarray(self.components_.transform(x))

    def _inside(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.envelope_.predict(self._seen(x)) == 1)

    def _labels(self, x: np.ndarray, inside: np.ndarray) -> np.ndarray:
        labels = self.kmeans_.predict(x)
        return np.where(inside, labels, np.int32(-1)) if self.outlier_labels == -1 else labels


class RobustPipeline(Pipeline):
    """A pipeline whose last step knows inliers; what that says is said here too."""

    @property
    def labels_(self) -> np.ndarray:
        """Cluster of each row fitted on: int32 [n_samples]."""
        return np.asarray(self[-1].labels_)

    @property
    def inlier_mask_(self) -> np.ndarray:
        """Which of these rows were not left out: bool [n_samples]."""
        return np.asarray(self[-1].inlier_mask_)

    @property
    def cluster_centers_(self) -> np.ndarray:
        """Centres in the coordinates of the rows: [n_clusters, n_features]."""
        last = self[-1]
        return np.asarray(self["scale"].inverse_transform(getattr(last, "kmeans_", last).cluster_centers_))


def robust_pipeline(
    n_clusters: int = 8,
    *,
    contamination: float | str = 0.05,
    envelope: bool = False,
    components: int | None = None,
    outlier_labels: str | int = "nearest",
    random_state: Any = None,
    **parameters: Any,
) -> RobustPipeline:
    """Scale columns robustly, leave outliers out and cluster the other rows: a scikit-learn pipeline.

    Parameters
    ----------
    n_clusters : int, default=8
        Clusters to find.
    contamination : float or "auto", default=0.05
        Share of the rows that is left out: by trimmed k-means, or by the envelope. "auto", which finds the share, is
        for trimmed k-means.
    envelope : bool, default=False
        Whether outliers are the rows outside an elliptic envelope (scikit-learn's `EllipticEnvelope`), which is found
        before there are clusters and takes all rows for one of these; else trimmed k-means leaves rows out while it
        clusters. The first is the usual recipe; the second finds planted outliers better, and in a fraction of the
        time.
    components : int or None, default=None
        For the envelope; see `fastann.estimators.robust.EnvelopeKMeans`.
    outlier_labels : {"nearest", -1}, default="nearest"
        What `labels_` and `predict` say of outliers.
    random_state : int, RandomState or None, default=None
        Of the start, and of the envelope.
    **parameters
        Of `KMeans`.

    Returns
    -------
    pipeline : sklearn.pipeline.Pipeline
        Steps "scale" (`RobustScaler`) and "cluster"; after `fit` it has `labels_`, `inlier_mask_` and
        `cluster_centers_`, the last in the coordinates of the rows.

    Raises
    ------
    ValueError, TypeError
        If the parameters contradict each other. What rows make no sense is said by `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastann import robust_pipeline
    >>> rng = np.random.default_rng(0)
    >>> x = np.concatenate([rng.standard_normal((950, 8)), 9 * rng.standard_normal((50, 8))])
    >>> int((~robust_pipeline(2, random_state=0).fit(x).inlier_mask_[950:]).sum()) > 45
    True
    """
    if not isinstance(envelope, bool | np.bool_):
        raise TypeError(f"envelope must be True or False, got {envelope!r}")
    if not envelope:
        if components is not None:
            raise ValueError(f"components={components!r} are for an envelope; pass envelope=True, or leave it out")
        if "trim" in parameters or parameters.get("outlier_threshold") is not None:
            contamination = parameters.pop("trim", 0.0)
        last: Any = KMeans(
            n_clusters, trim=contamination, outlier_labels=outlier_labels, random_state=random_state, **parameters
        )
    else:
        if isinstance(contamination, str):
            raise ValueError(f"an envelope needs a share of the rows, got contamination={contamination!r}")
        last = EnvelopeKMeans(
            KMeans(n_clusters, random_state=random_state, **parameters),
            contamination=contamination,
            components=components,
            outlier_labels=outlier_labels,
            random_state=random_state,
        )
    return RobustPipeline([("scale", RobustScaler()), ("cluster", last)])

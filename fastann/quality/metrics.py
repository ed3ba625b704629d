"""How good a clustering is: measures of rows, labels and centres, each with the rows and the doubt it rests on.

All functions work in the space of the metric and on clusters that have rows; `Clusters.spread_out` gives the others
their place in a table. Nothing here holds a table of rows by clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from fastann import kernels
from fastann.cluster.space import Space
from fastann.data.csr import Densified
from fastann.data.source import Source, Subset, dense
from fastann.index.own import FlatIndex
from fastann.index.spec import Flat
from fastann.search.queries import ORTHOGONAL, zeros_of

FEW_ROWS = 10  # sampled rows a cluster below which measures of a sample say little about the whole
_CHUNK_MIB = 64  # of distances held at once, beside their sums by cluster
_PARTS, _T = 10, 2.2621571628  # parts of a jackknife, and the 97.5% quantile of Student's t with nine degrees


@dataclass(frozen=True)
class Limits:
    """Sizes from which on a measure is left out, or taken on fewer rows.

    Attributes
    ----------
    pairs : int
        Clusters whose distances to each other scikit-learn's Davies-Bouldin may hold at once: 4,096 take 128 MiB.
    ami_pairs, ami_steps : int
        Clusters x classes, and rows x the fewer of both, up to which the adjusted mutual information takes seconds.
    refit_rows : int
        Rows that fits for stability are repeated on, where 50 a cluster are not more.
    map_rows, map_centroids : int
        Rows, and centroids of the largest clusters, that a map shows.
    dense_bytes, dense_rows : int
        Memory that a sample of sparse rows may take as float64, unless these are fewer rows.
    """

    pairs: int = 4096
    ami_pairs: int = 1_000_000
    ami_steps: int = 200_000_000
    refit_rows: int = 100_000
    map_rows: int = 2000
    map_centroids: int = 500
    dense_bytes: int = 2**30
    dense_rows: int = 500


LIMITS = Limits()


@dataclass
class Findings:
    """What was measured.

    Attributes
    ----------
    values : dict of str to float
        By the names of `fastann.records.METRICS`. A measure that could not be taken is absent.
    intervals : dict of str to (float, float)
        95% intervals of those taken on a sample.
    samples : dict of str to int
        Rows that measures rest on, where these are not all.
    notes : list of str
        Sentences: what is absent and why, what to beware of.
    """

    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def put(self, name: str, value: Any, interval: tuple[float, float] | None = None, rows: int | None = None) -> None:
        """Take down a measure; `rows` when it rests on some of the rows only."""
        self.values[name] = float(value)
        if interval is not None:
            self.intervals[name] = (float(interval[0]), float(interval[1]))
        if rows is not None:
            self.samples[name] = rows


@dataclass(frozen=True)
class Clusters:
    """Rows and their clusters, in the space of the metric; clusters without rows are left out.

    Attributes
    ----------
    view : Source
        Dense or sparse.
    space : Space
    labels : int32 [n]
        Places in `used`.
    centroids : float32 [u, d]
    used : int64 [u]
        Numbers of the clusters that have rows.
    sizes : int64 [u]
    k : int
        Clusters, with or without rows.
    """

    view: Source
    space: Space
    labels: np.ndarray
    centroids: np.ndarray
    used: np.ndarray
    sizes: np.ndarray
    k: int

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Some rows, dense: float32 [len(rows), d]."""
        return dense(self.view.take(rows))

    def spread_out(self, column: np.ndarray, empty: Any) -> np.ndarray:
        """A column or table over `used` as one over all k clusters, with `empty` for those without rows."""
        out = np.full((self.k, *column.shape[1:]), empty, column.dtype)
        out[self.used] = column
        return out


def draw(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Ascending indices of a sample of rows; all of them where there are no more."""
    return np.arange(n) if n <= size else np.sort(rng.choice(n, size, replace=False))


def affordable(c: Clusters, size: int, out: Findings, limits: Limits = LIMITS) -> int:
    """Rows of a sample of so many that can be made dense, where they are sparse; a note says so if these are fewer."""
    most = max(limits.dense_rows, limits.dense_bytes // (8 * c.view.d))
    if not c.view.sparse or min(size, c.view.n) <= most:
        return size
    out.notes.append(
        f"Sparse rows of {c.view.d:,} columns take {8 * c.view.d / 2**20:.1f} MiB each once they are dense, so samples "
        f"are of {most:,} rows."
    )
    return most


# --------------------------------------------------------------------------- all rows


def row_distances(c: Clusters) -> tuple[np.ndarray, np.ndarray]:
    """Squared L2 distances of every row to its own and to the nearest other centre, float64 [n]; infinite for none.

    Rows without a direction are as far from every centre, as `KMeans.distances_` has it.
    """
    own, other = np.empty(c.view.n), np.full(c.view.n, np.inf)
    index = FlatIndex(c.centroids)
    for start, block in c.view.chunks():
        part = slice(start, start + block.shape[0])
        labels = c.labels[part]
        own[part] = kernels.own_sqdist(block, c.centroids, labels)
        if len(c.centroids) > 1:
            ids, _ = index.search(block, 2)
            second = np.where(ids[:, 0] == labels, ids[:, 1], ids[:, 0])
            other[part] = kernels.own_sqdist(block, c.centroids, second)
    zeros = zeros_of(c.view)
    own[zeros] = ORTHOGONAL
    other[zeros] = np.where(np.isfinite(other[zeros]), ORTHOGONAL, np.inf)
    return own, other


def measure_rows(c: Clusters, own: np.ndarray, other: np.ndarray, out: Findings) -> None:
    """Inertia, mean distance, balance and the simplified silhouette (Hruschka et al., 2004), of all rows.

    As in the silhouette, a row alone in its cluster counts 0.
    """
    a = c.space.distance(own)
    shares = c.sizes / c.view.n
    out.put("inertia", own.mean())
    out.put("intra", a.mean())
    out.put("empty", c.k - len(c.used))
    out.put("imbalance", c.k * (shares @ shares))
    if len(c.used) < 2:
        out.notes.append(
            "All rows are in one cluster, so there is no simplified silhouette and no distance between centres."
        )
        return
    b = c.space.distance(other)
    larger = np.maximum(a, b)
    score = np.divide(b - a, larger, out=np.zeros(len(a)), where=larger > 0)
    score[c.sizes[c.labels] == 1] = 0
    out.put("simplified_silhouette", score.mean())


def describe(c: Clusters, own: np.ndarray, members: int, out: Findings) -> dict[str, np.ndarray]:
    """Describe each of the k clusters; adds the mean distance between centres to `out`.

    Returns
    -------
    dict of arrays over the k clusters
        ``cluster`` and ``size``; ``mean_distance`` and ``radius`` (the largest) of its rows to the centre, NaN for
        none; ``nearest`` other cluster, -1 for none, and ``nearest_distance`` of the two centres;
        ``representatives`` and ``outliers``, int64 [k, members]: the rows nearest to and farthest from the centre,
        the lower row first where equal, -1 where there are no more.
    """
    distance = c.space.distance(own)
    u = len(c.used)
    nearest, apart = np.full(u, -1), np.full(u, np.nan)
    if u > 1:
        ids, _ = FlatIndex(c.centroids).search(c.centroids, 2)
        other = np.where(ids[:, 0] == np.arange(u), ids[:, 1], ids[:, 0])
        apart = c.space.distance(kernels.own_sqdist(c.centroids, c.centroids, other))
        nearest = c.used[other]
        out.put("inter", apart.mean())
    outliers = _first_members(c, -distance, members)
    return {
        "cluster": np.arange(c.k),
        "size": c.spread_out(c.sizes, 0),
        "mean_distance": c.spread_out(np.bincount(c.labels, distance) / c.sizes, np.nan),
        "radius": c.spread_out(distance[outliers[:, 0]], np.nan),
        "nearest": c.spread_out(nearest, -1),
        "nearest_distance": c.spread_out(apart, np.nan),
        "representatives": c.spread_out(_first_members(c, distance, members), -1),
        "outliers": c.spread_out(outliers, -1),
    }


def _first_members(c: Clusters, key: np.ndarray, members: int) -> np.ndarray:
    """Rows of least `key` in each cluster, int64 [u, members], -1 where there are no more."""
    order = np.lexsort((key, c.labels))
    ends = np.cumsum(c.sizes)
    places = (ends - c.sizes)[:, None] + np.arange(members)
    return np.where(places < ends[:, None], order[np.minimum(places, len(order) - 1)], -1)


# --------------------------------------------------------------------------- a sample of rows


def measure_sample(
    c: Clusters, picks: np.ndarray, out: Findings, rng: np.random.Generator, limits: Limits = LIMITS
) -> None:
    """Silhouette, Davies-Bouldin and Calinski-Harabasz of the rows at `picks`, as scikit-learn computes them."""
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

    m, n = len(picks), c.view.n
    labels = np.unique(c.labels[picks], return_inverse=True)[1].astype(np.int64)
    seen = int(labels.max()) + 1
    if not 1 < seen < m:
        out.notes.append(
            f"The {m:,} rows sampled are in {seen:,} cluster{'s' * (seen > 1)}: silhouette, Davies-Bouldin and "
            "Calinski-Harabasz need at least two, and fewer than rows."
        )
        return
    x = c.take(picks).astype(np.float64)  # the two latter sum in the dtype they are given
    part = None if m == n else _parts(labels, rng, out)

    def put(name: str, value: float, without: np.ndarray | None) -> None:
        out.put(name, value, None if without is None else _interval(value, without, m, n), None if m == n else m)

    value, without = silhouette(x, labels, part, c.space.metric)
    put("silhouette", value, without)
    if seen <= limits.pairs:
        put("davies_bouldin", davies_bouldin_score(x, labels), _leave_out(davies_bouldin_score, part, x, labels))
    else:
        out.notes.append(
            f"Davies-Bouldin compares all pairs of clusters; of the {seen:,} in the sample there are too many (more "
            f"than {limits.pairs:,}), so it was left out."
        )

    def of_m_rows(x: np.ndarray, labels: np.ndarray) -> float:  # beyond 1, by chance, the index grows with the rows
        return float(1 + (calinski_harabasz_score(x, labels) - 1) * m / len(x))

    put("calinski_harabasz", calinski_harabasz_score(x, labels), _leave_out(of_m_rows, part, x, labels))
    if m < n:
        out.notes.append("Calinski-Harabasz grows with the rows it rests on: compare it between samples of one size.")
        used = len(c.used)
        if m < FEW_ROWS * used:
            out.notes.append(
                f"The sample has {m / used:.1f} rows a cluster, so few that silhouette, Davies-Bouldin and "
                f"Calinski-Harabasz are far from those of all rows; sample={min(n, FEW_ROWS * used)} would tell more."
            )


def silhouette(
    x: np.ndarray, labels: np.ndarray, part: np.ndarray | None, metric: str
) -> tuple[float, np.ndarray | None]:
    """Mean silhouette (Rousseeuw, 1987), and those without each part, from one look at the distances.

    Parameters
    ----------
    x : float64 [m, d]
    labels : int64 [m]
        From 0, none missing.
    part : int [m] or None
        The part of each row: the second thing returned is float64 [parts], or None.
    metric : str
    """
    from sklearn.metrics import pairwise_distances_chunked

    m = len(x)
    parts = 0 if part is None else _PARTS
    part = np.zeros(m, np.int64) if part is None else part
    order = np.lexsort((part, labels))  # so that rows of one cluster and part lie together
    x, labels, part = x[order], labels[order], part[order]
    first = np.flatnonzero(np.diff(labels * _PARTS + part, prepend=-1))
    cluster, group = labels[first], part[first]
    counts = np.diff(first, append=m)
    starts = np.flatnonzero(np.diff(cluster, prepend=-1))
    sizes = np.add.reduceat(counts, starts)

    def scores(distances: np.ndarray, start: int) -> np.ndarray:
        by_group = np.add.reduceat(distances, first, axis=1)
        sums = np.add.reduceat(by_group, starts, axis=1)
        own = labels[start : start + len(distances)]
        out = np.empty((len(own), 1 + parts))
        out[:, 0] = _silhouettes(sums, sizes, own)
        for g in range(parts):
            gone = group == g
            left_sums, left_sizes = sums.copy(), sizes.copy()
            left_sums[:, cluster[gone]] -= by_group[:, gone]
            left_sizes[cluster[gone]] -= counts[gone]
            out[:, 1 + g] = _silhouettes(left_sums, left_sizes, own)
        return out

    values = np.concatenate(
        list(pairwise_distances_chunked(x, metric=metric, reduce_func=scores, working_memory=_CHUNK_MIB))
    )
    without = np.array([values[part != g, 1 + g].mean() for g in range(parts)])
    return float(values[:, 0].mean()), without if parts else None


def _silhouettes(sums: np.ndarray, sizes: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Silhouettes of rows from sums of their distances to the rows of each cluster; 0 for a row alone in its own."""
    rows = np.arange(len(own))
    with np.errstate(divide="ignore", invalid="ignore"):
        a = sums[rows, own] / (sizes[own] - 1)
        means = np.where(sizes > 0, sums / sizes, np.inf)
        means[rows, own] = np.inf
        b = means.min(axis=1)
        score = (b - a) / np.maximum(a, b)
    score[sizes[own] <= 1] = 0
    silhouettes: np.ndarray = np.nan_to_num(score)
    return silhouettes


def measure_agreement(
    c: Clusters,
    truth: np.ndarray,
    picks: np.ndarray,
    out: Findings,
    rng: np.random.Generator,
    limits: Limits = LIMITS,
) -> None:
    """Agreement with true classes (int [n], from 0), of all rows; the mutual information on a sample where it is slow.

    scikit-learn's expected mutual information takes time in the number of pairs of a cluster and a class, and of rows.
    """
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, v_measure_score
    from sklearn.metrics.cluster import contingency_matrix

    n, classes = c.view.n, int(truth.max()) + 1
    out.put("ari", adjusted_rand_score(truth, c.labels))
    out.put("v_measure", v_measure_score(truth, c.labels))
    out.put("purity", contingency_matrix(truth, c.labels, sparse=True).max(axis=0).sum() / n)
    u = len(c.used)
    slow = u * classes > limits.ami_pairs or n * min(u, classes) > limits.ami_steps
    if not slow or len(picks) == n:
        out.put("ami", adjusted_mutual_info_score(truth, c.labels))
        return
    some, labels = truth[picks], c.labels[picks]
    value = adjusted_mutual_info_score(some, labels)
    without = _leave_out(adjusted_mutual_info_score, rng.permutation(len(picks)) % _PARTS, some, labels)
    assert without is not None
    out.put("ami", value, _interval(value, without, len(picks), n), len(picks))
    out.notes.append(
        f"The adjusted mutual information of {u:,} clusters and {classes:,} classes is slow, so it is that of "
        f"{len(picks):,} sampled rows."
    )


def _parts(labels: np.ndarray, rng: np.random.Generator, out: Findings) -> np.ndarray | None:
    """Ten random parts of a sample, int [m]; None where one of them holds what the measures need."""
    part = rng.permutation(len(labels)) % _PARTS
    if all(1 < len(np.unique(labels[part != g])) < np.count_nonzero(part != g) for g in range(_PARTS)):
        return part
    out.notes.append("The sample is too small, or too much in one cluster, for intervals; pass a larger sample.")
    return None


def _leave_out(statistic: Callable[..., float], part: np.ndarray | None, *arrays: np.ndarray) -> np.ndarray | None:
    """A statistic of a sample without each of its parts."""
    if part is None:
        return None
    return np.array([statistic(*(a[part != g] for a in arrays)) for g in range(_PARTS)])


def _interval(value: float, without: np.ndarray, m: int, n: int) -> tuple[float, float]:
    """95% interval of what `n` rows would give, from a sample of `m` and the values without each of ten parts of it.

    A jackknife that leaves out groups (Kott, 2001). The interval reaches from the value to the jackknife's corrected
    one, for these measures are biased where a cluster has few rows, and as far beyond as chance does. In simulations
    it covers in 88% to 100% of draws (five settings, 7 to 50 sampled rows a cluster), where the normal interval of the
    rows' silhouettes does in 0% to 91%: it takes the rows that distances are measured to for given, though they are
    drawn too.
    """
    unseen = 1 - m / n
    corrected = value - (_PARTS - 1) * (without.mean() - value) * unseen
    half = _T * math.sqrt((_PARTS - 1) * without.var() * unseen)
    return min(value, corrected) - half, max(value, corrected) + half


# --------------------------------------------------------------------------- stability


def measure_stability(
    model: Any, source: Source, seeds: int, rng: np.random.Generator, out: Findings, limits: Limits = LIMITS
) -> None:
    """Mean adjusted Rand index between fits of other seeds, on all rows or a sample (von Luxburg, 2010)."""
    from sklearn.base import clone
    from sklearn.metrics import adjusted_rand_score

    if source.sparse and not (model.index == "auto" or model.index_ == Flat()):
        source = Densified(source)  # no other index takes sparse rows
    size = max(limits.refit_rows, 50 * len(model.cluster_centers_))
    rows = None
    if size < source.n:
        source, rows = Subset(source, np.sort(rng.choice(source.n, size, replace=False))), size
    drawn = rng.choice(2**31 - 1, seeds, replace=False)
    fits = [
        clone(model).set_params(random_state=int(seed), callback=None, verbose=False).fit_predict(source)
        for seed in drawn
    ]
    pairs = [adjusted_rand_score(a, b) for a, b in combinations(fits, 2)]
    out.put("stability", np.mean(pairs), rows=rows)
    out.notes.append(
        f"Stability is the mean over {len(pairs)} pair{'s' * (len(pairs) > 1)} of {seeds} fits, which agree between "
        f"{min(pairs):.3f} and {max(pairs):.3f}."
    )

"""The way in: checks of what was asked for, what is known of each row, and which rows are compared with which."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastann import checks, kernels
from fastann.cluster.closing import Clustering
from fastann.cluster.progress import Bar
from fastann.cluster.survey import survey
from fastann.data.csr import Densified
from fastann.data.open import as_source, reopen
from fastann.data.source import Source
from fastann.duplicates.choice import Chooser, Decisions, tasks_of
from fastann.duplicates.result import Duplicates
from fastann.index.spec import Flat
from fastann.kernels import borders, fingerprints, unit

LOW = 0.5  # thresholds below are more likely distances
KEEP = ("central", "outlying", "first")
BLOCK_ROWS = 4096  # at most two blocks, and their unit rows, are held
BLOCK_BYTES = 2**24  # of float32: wide rows come in smaller blocks
_TOLERANCE = 1e-12  # cosines this much below the threshold reach it: those of parallel rows are 1 to rounding


def dedup(
    model: Any,
    X: Any = None,
    *,
    threshold: float = 0.95,
    keep: str = "central",
    neighbours: int = 64,
    n_jobs: int | None = None,
) -> Duplicates:
    """Find near-duplicate rows through the clusters of a model, and choose one of each to keep.

    A row is dropped if, and only if, its cosine with a *kept* row reaches the threshold: every dropped row is a
    near-duplicate of the row it is reported with, not merely linked to it by a chain of others; and no two kept rows
    reach the threshold, save by what `Duplicates.unchecked` counts. Equal rows are duplicates at any threshold; zero
    rows, which have no direction, of each other only.

    Beside about 100 bytes a row, and 12 for each border that it is near to, memory holds a few blocks of at most 4,096
    rows or 32 MiB, however unequal the clusters. Every row is compared with every centre, exactly, whatever the index
    of the model.

    Parameters
    ----------
    model : KMeans
        Fitted; where it is `verbose`, a line says every ten seconds that this runs. Its centres, scaled to unit norm,
        decide what is compared with what, so fits of ``metric="cosine"`` suit best; rows are assigned anew to the most
        similar one.
    X : array-like or SciPy sparse matrix of shape (n_samples, n_features), torch tensor, or path of a file
        Any rows of as many columns as the model was fitted to. When not given, the files that it was fitted on are
        opened again, if they did not change since. Sparse rows are made dense a block at a time.
    threshold : float, default=0.95
        Cosine of two rows, whatever the metric of the model; above -1, at most 1. Compared in float64. SemDeDup's eps
        is a distance: the threshold is 1 - eps. Below 0.5 there is a warning.
    keep : {"central", "outlying", "first"}, default="central"
        Which rows come first: those most similar to their centre, those least similar to it (SemDeDup's rule), or those
        of the lowest numbers. Ties go to the lowest row.
    neighbours : int, default=64
        Clusters that a row is compared with beside its own, at most: those whose border it is nearest to. Few rows
        have that many (of 60,000 embeddings of words in 400 clusters, at 0.95, 568; with 8, 15,343). 0 stays inside
        clusters.
    n_jobs : int or None, default=None
        Threads; None is all cores. The result does not depend on them.

    Returns
    -------
    Duplicates

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense, and for files that changed; the message says what was given, what was needed
        and what to do.
    FileNotFoundError
        If a file that the model was fitted on is gone.
    """
    _check_model(model)
    threshold = checks.cosine(threshold, "threshold")
    checks.choice(keep, "keep", KEEP)
    checks.integer(neighbours, "neighbours", 0)
    source = _own_rows(model) if X is None else as_source(X)
    own = source.ids()
    if source.sparse:
        source = Densified(source)
    checks.features(source.d, model.cluster_centers_.shape[1], type(model).__name__)
    if threshold < LOW:
        eps = f", {1 - threshold:g} for an eps of {threshold:g}" if threshold > 0 else ""
        warnings.warn(
            f"a threshold of {threshold:g} is a cosine similarity that rows with little in common reach, so most may "
            f"be dropped; if it is meant as SemDeDup's eps, which is a distance, the threshold is 1 - eps{eps}",
            UserWarning,
            stacklevel=2,
        )
    told = Bar(model.verbose, "dedup", note=f"{source.n:,} rows", drawn=False)
    with kernels.limit_threads(checks.jobs(n_jobs)), told:
        return find(
            source,
            model.cluster_centers_,
            threshold=threshold,
            keep=keep,
            neighbours=neighbours,
            ids=_names(model, source) if own is None else own,
        )


def _own_rows(model: Any) -> Source:
    """The rows that a model was fitted to, from their files."""
    found: Clustering = model.clustering_
    if found.means.steps > 1:
        raise ValueError(
            f"the model learned from a stream of {found.means.steps} batches, of which it knows the last one only; "
            "pass the rows as X"
        )
    return reopen(found.rows.data)


def _names(model: Any, source: Source) -> np.ndarray | None:
    """The names that a model has of the rows it was fitted to, if these are the same."""
    found: Clustering = model.clustering_
    if found.rows.ids is None or not found.has(found.space.view(source, zero_rows=True)):
        return None
    return found.rows.ids


def find(
    source: Source,
    centers: np.ndarray,
    *,
    threshold: float,
    keep: str,
    neighbours: int,
    ids: np.ndarray | None = None,
    block_rows: int = BLOCK_ROWS,
    hashes: Callable[[np.ndarray], np.ndarray] = fingerprints,
) -> Duplicates:
    """Carry out `dedup`, whose arguments are checked already.

    Parameters
    ----------
    source : Source
        Dense rows.
    centers : float32 or float64 [k, d]
        Of any norm.
    threshold, keep, neighbours
        As for `dedup`.
    ids : ndarray [n] or None
        Names of the rows.
    block_rows : int
        Rows read and compared at once, at most; `BLOCK_BYTES` may ask for fewer.
    hashes : callable
        From rows (float32 [b, d]) to uint64 [b], the same for equal rows. Rows whose hashes collide are told apart.
    """
    clock = time.perf_counter()
    size = max(64, min(block_rows, BLOCK_BYTES // (4 * source.d)))
    survey(source)  # refuses NaN, and what float32 cannot hold
    centers = _unit_centers(centers)
    known = _look(source, centers, hashes)
    original = _originals(source, known.hashes, size)
    rows = np.flatnonzero((original == np.arange(source.n)) & ~known.zero).astype(np.int32)
    used, known.labels[rows] = np.unique(known.labels[rows], return_inverse=True)  # clusters with rows, from 0
    decisions = Decisions(_ranks(rows, known.sqdist, keep), original, known.zero)
    least = threshold - _TOLERANCE
    guests, hosts, unchecked = _guests(source, rows, known, centers[used], least, neighbours, size)
    chooser = Chooser(source, decisions, least, size)
    chooser.choose(list(tasks_of(rows, known.labels, guests, hosts, decisions.rank, len(used))))
    kept, dropped, of, similarity = decisions.outcome()
    return Duplicates(
        kept=kept,
        dropped=dropped,
        duplicate_of=of,
        similarity=similarity,
        groups=len(np.unique(of)),
        unchecked=unchecked,
        threshold=threshold,
        keep=keep,
        neighbours=neighbours,
        seconds=time.perf_counter() - clock,
        ids=ids,
    )


def _check_model(model: Any) -> None:
    from sklearn.utils.validation import check_is_fitted

    from fastann.estimators.kmeans import KMeans

    if not isinstance(model, KMeans):
        raise TypeError(
            f"model must be a fitted fastann.KMeans, got {type(model).__name__}; fit one to the rows, or read a run "
            "with KMeans.load"
        )
    check_is_fitted(model)


@dataclass(frozen=True, eq=False)
class _Known:
    """What one pass over the rows tells of each.

    Attributes
    ----------
    labels : int32 [n]
        Its most similar centre.
    sqdist : float64 [n]
        Squared L2 distance of the unit row to it.
    hashes : uint64 [n]
        The same for equal rows.
    zero : bool [n]
        Whether it is zero, and so has no direction.
    """

    labels: np.ndarray
    sqdist: np.ndarray
    hashes: np.ndarray
    zero: np.ndarray


def _unit_centers(centers: np.ndarray) -> np.ndarray:
    """Centres of unit norm, float32 [k, d]; those without a direction are left out, all but one."""
    c = centers.astype(np.float64)
    c /= np.maximum(np.abs(c).max(axis=1, keepdims=True), 1e-300)
    norm = np.linalg.norm(c, axis=1, keepdims=True)
    some = norm[:, 0] > 0
    if not some.any():
        return np.eye(1, c.shape[1], dtype=np.float32)
    directions: np.ndarray = c[some] / norm[some]
    return directions.astype(np.float32)


def _look(source: Source, centers: np.ndarray, hashes: Callable[[np.ndarray], np.ndarray]) -> _Known:
    """Pass over the rows once."""
    n = source.n
    known = _Known(np.empty(n, np.int32), np.empty(n), np.empty(n, np.uint64), np.empty(n, bool))
    index = Flat().build(centers)
    for start, block in source.chunks(source.rows_per_chunk()):
        part = slice(start, start + len(block))
        x, norm = unit(block)
        known.labels[part] = index.search(x, 1)[0][:, 0]
        known.sqdist[part] = kernels.own_sqdist(x, centers, known.labels[part])
        known.hashes[part], known.zero[part] = hashes(block), norm == 0
    return known


def _originals(source: Source, hashes: np.ndarray, size: int) -> np.ndarray:
    """The lowest row with the same values, of each row: int32 [n]. Rows whose hashes collide are told apart."""
    _, lowest, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    original = lowest[inverse].astype(np.int32)
    copies = np.flatnonzero(original != np.arange(source.n))
    for start in range(0, len(copies), size):
        part = copies[start : start + size]
        differ = part[(source.take(part) != source.take(original[part])).any(axis=1)]
        original[differ] = differ
    return original


def _ranks(rows: np.ndarray, sqdist: np.ndarray, keep: str) -> np.ndarray:
    """The place of each of some rows in the order that `keep` asks for: int32 [n], anything for the other rows."""
    order = np.arange(len(rows))
    if keep != "first":
        order = np.argsort((sqdist if keep == "central" else -sqdist)[rows], kind="stable")
    rank = np.empty(len(sqdist), np.int32)
    rank[rows[order]] = np.arange(len(rows))
    return rank


def _guests(
    source: Source, rows: np.ndarray, known: _Known, centers: np.ndarray, least: float, neighbours: int, size: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows near to borders (int32 [g]), the cluster beyond each (int32 [g]), and how many are near to too many."""
    if len(centers) < 2:
        return np.empty(0, np.int32), np.empty(0, np.int32), 0
    m = min(neighbours, len(centers) - 1)
    half = ((1 - least) / 2) ** 0.5
    by_cluster = rows[np.argsort(known.labels[rows], kind="stable")]
    guests, hosts, unchecked = [], [], 0
    for start in range(0, len(rows), size):
        some = by_cluster[start : start + size]
        x, _ = unit(source.take(some))
        own = (1 - known.sqdist[some] / 2).astype(np.float32)
        ids, count = borders(x, known.labels[some], own, centers, half, m)
        near = ids >= 0
        guests.append(np.repeat(some, near.sum(axis=1)))
        hosts.append(ids[near])
        unchecked += int(np.count_nonzero(count > m))
    return np.concatenate(guests), np.concatenate(hosts), unchecked

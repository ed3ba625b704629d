"""Near-duplicate rows, found inside clusters and across their borders, and dropped but for one of each.

After SemDeDup (Abbas et al., 2023), which compares the rows of each cluster, so that duplicates on two sides of a
border both stay. Here a row is also compared with the rows of every cluster whose border it is near to.

Let x and y be unit rows with a cosine of at least t, so at most r = sqrt(2 - 2 t) apart, and let x be nearest to
centre i, y to centre j. They lie on two sides of the plane of points as far from i as from j, and their distances
to it add up to at most r: one of them is within r / 2 of it. So every such pair is found by comparing each cluster's
rows with each other and with the *guests* of the cluster: the rows of others within r / 2 of the border with it.

Which rows are kept does not depend on the order of comparisons. Rows have a rank (`keep`), and a row is kept unless a
*kept* row of a better rank reaches the threshold with it: the lexicographically first maximal independent set. Every
row looks for the first row in its way: if that is kept it is dropped, if that is dropped it looks on, and else it
waits (Blelloch, Fineman and Shun, 2012). No pair is stored, and dropped rows are compared no more, so that a cluster of
copies takes time in proportion to its rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks, kernels, storage
from fastann.cluster.survey import survey
from fastann.data.csr import Densified
from fastann.data.open import as_source, reopen
from fastann.data.source import Source
from fastann.index.spec import Flat
from fastann.kernels import (
    CLEAR,
    DROPPED,
    KEPT,
    UNDECIDED,
    UNSEEN,
    borders,
    decide,
    fingerprints,
    first_near,
    ready,
    unit,
)
from fastann.storage import tables

KEEP = ("central", "outlying", "first")
RECORD = "dedup.json"
_TABLES = {".csv": "csv", ".parquet": "parquet"}
_TOLERANCE = 1e-12  # cosines this much below the threshold reach it: those of parallel rows are 1 to rounding
_BLOCK_BYTES = 2**24  # float32 bytes of a block of rows; at most two blocks, and their unit rows, are held
_BLOCK_ROWS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Duplicates:
    """Which rows to keep, and which row each of the others is a near-duplicate of.

    Attributes
    ----------
    kept : int64 [n - m]
        Rows to keep, ascending.
    dropped : int64 [m]
        The others, ascending.
    duplicate_of : int64 [m]
        For each dropped row a kept row that reaches the threshold with it.
    similarity : float32 [m]
        Their cosine.
    groups : int
        Kept rows that at least one row was dropped for.
    unchecked : int
        Rows that are near to the borders of more than `neighbours` clusters, and so were not compared with some of
        these; equal rows count once. Where it is 0 no two kept rows reach the threshold.
    threshold, keep, neighbours, seconds
        As asked for, and the time it took.
    ids : array of n integers or strings, or None
        Names of the rows, where the data or the model has them.
    """

    kept: np.ndarray = field(repr=False)
    dropped: np.ndarray = field(repr=False)
    duplicate_of: np.ndarray = field(repr=False)
    similarity: np.ndarray = field(repr=False)
    groups: int
    unchecked: int
    threshold: float
    keep: str
    neighbours: int
    seconds: float
    ids: np.ndarray | None = field(default=None, repr=False)

    @property
    def rows(self) -> int:
        """Number of rows, kept and dropped."""
        return len(self.kept) + len(self.dropped)

    @property
    def sentence(self) -> str:
        """What was found, and how sure it is that nothing was missed."""
        m = len(self.dropped)
        if m:
            found = (
                f"{m:,} of {self.rows:,} rows ({m / self.rows:.2%}) reach a cosine of {self.threshold:g} with one of "
                f"{self.groups:,} kept rows"
            )
        else:
            found = f"no two of {self.rows:,} rows were found to reach a cosine of {self.threshold:g}"
        return f"{found}; {self.certainty}"

    @property
    def certainty(self) -> str:
        """What `unchecked` means, in words."""
        if not self.unchecked:
            return "exact: every pair that may reach it was compared, across clusters too"
        return (
            f"exact inside clusters, but {self.unchecked:,} rows are near to more than {self.neighbours} borders and "
            "may have duplicates beyond these; raise neighbours or threshold"
        )

    def table(self, ids: Any = None) -> dict[str, np.ndarray]:
        """One entry per row, in row order: row, kept, duplicate_of (itself if kept), similarity; and ids.

        These are the rows' own (`ids`) when not given.
        """
        kept, of = np.zeros(self.rows, bool), np.arange(self.rows)
        similarity = np.ones(self.rows, np.float32)
        kept[self.kept] = True
        of[self.dropped], similarity[self.dropped] = self.duplicate_of, self.similarity
        columns = {"row": np.arange(self.rows), "kept": kept, "duplicate_of": of, "similarity": similarity}
        names = self._names(ids)
        if names is not None:
            columns = {"row": columns.pop("row"), "id": names, **columns, "duplicate_of_id": names[of]}
        return columns

    def _names(self, ids: Any) -> np.ndarray | None:
        return self.ids if ids is None else checks.given_ids(ids, self.rows)

    def save(self, path: str | os.PathLike, ids: Any = None, *, force: bool = False) -> Path:
        """Write a folder, or one file if `path` ends in .csv or .parquet (which needs pyarrow).

        A folder holds ``kept.npy``, ``dropped.npy``, ``duplicate_of.npy``, ``similarity.npy`` and ``dedup.json``; a
        file the columns of `table`. Each is written whole or not at all.

        Parameters
        ----------
        path : path
        ids : sequence of n integers or strings, optional
            Names of the rows, their own when not given: written too, to ``kept_ids.npy``, ``dropped_ids.npy`` and
            ``duplicate_of_ids.npy``.
        force : bool
            Replace an existing file, or a folder that this wrote.

        Raises
        ------
        FileExistsError
            If `path` exists and may not be replaced.
        ImportError
            If a .parquet file is asked for and pyarrow is not installed.
        """
        target = Path(path)
        check_target(target, force=force)
        if target.suffix in _TABLES:
            tables.write(target, self.table(ids), _TABLES[target.suffix])
        else:
            parts = {"kept": self.kept, "dropped": self.dropped, "duplicate_of": self.duplicate_of}
            arrays = {**parts, "similarity": self.similarity}
            names = self._names(ids)
            if names is not None:
                arrays |= {f"{name}_ids": names[rows] for name, rows in parts.items()}
            numbers = ("threshold", "keep", "neighbours", "groups", "unchecked", "seconds")
            record: dict[str, Any] = {"rows": self.rows, "kept": len(self.kept), "dropped": len(self.dropped)}
            record["settings"] = {name: getattr(self, name) for name in numbers[:3]}
            record |= {name: getattr(self, name) for name in numbers[3:]}
            storage.write_folder(target, record | {"sentence": self.sentence}, arrays, name=RECORD, force=force)
        return target


def check_target(path: str | os.PathLike, *, force: bool = False) -> None:
    """Refuse a path that `Duplicates.save` must not replace, or could not write."""
    target = Path(path)
    if target.suffix in _TABLES:
        tables.check_format(target, _TABLES[target.suffix])
        storage.check_file(target, force=force)
    else:
        storage.check_target(target, force=force, name=RECORD)


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
        Fitted. Its centres, scaled to unit norm, decide what is compared with what, so fits of
        ``metric="cosine"`` suit best; rows are assigned anew to the most similar one.
    X : array-like or SciPy sparse matrix of shape (n_samples, n_features), torch tensor, or path of a file
        What the model was fitted on. When not given, the files that it was fitted on are opened again, if they did not
        change since. Sparse rows are made dense a block at a time.
    threshold : float, default=0.95
        Cosine of two rows, whatever the metric of the model; above -1, at most 1. Compared in float64.
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
    source = reopen(model.clustering_.rows.data) if X is None else as_source(X)
    own = source.ids()
    if source.sparse:
        source = Densified(source)
    checks.features(source.d, model.cluster_centers_.shape[1], type(model).__name__)
    checks.fitted_rows(source.n, len(model.labels_))
    clock = time.perf_counter()
    with kernels.limit_threads(checks.jobs(n_jobs)), kernels.one_blas_thread():
        survey(source)  # refuses NaN, and what float32 cannot hold
        centers = _unit_centers(model.cluster_centers_)
        labels, far, prints, zero = _look(source, centers)
        twin = _twins(source, prints)
        rows = np.flatnonzero((twin == np.arange(source.n)) & ~zero).astype(np.int32)
        used, tasks = np.unique(labels[rows], return_inverse=True)
        labels[rows] = tasks
        key = {"central": far, "outlying": -far, "first": np.zeros(0)}[keep]
        order = np.argsort(key[rows], kind="stable") if len(key) else np.arange(len(rows))
        rank = np.empty(source.n, np.int32)
        rank[rows[order]] = np.arange(len(rows))
        state = _State(rank, twin, zero)
        least = threshold - _TOLERANCE
        guests, homes, unchecked = _guests(source, rows, labels, far, centers[used], least, neighbours)
        _choose(source, list(_tasks(rows, labels, guests, homes, rank, len(used))), state, least)
    kept, dropped, of, similarity = state.outcome(twin)
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
        ids=model.ids_ if own is None else own,
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


# --------------------------------------------------------------------------- what is compared with what


def _unit_centers(centers: np.ndarray) -> np.ndarray:
    """Centres of unit norm, float32 [k, d]; those without a direction are left out, all but one."""
    c = centers.astype(np.float64)
    c /= np.maximum(np.abs(c).max(axis=1, keepdims=True), 1e-300)
    norm = np.linalg.norm(c, axis=1, keepdims=True)
    some = norm[:, 0] > 0
    if not some.any():
        return np.eye(1, c.shape[1], dtype=np.float32)
    return (c[some] / norm[some]).astype(np.float32)


def _look(source: Source, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of every row: its most similar centre, squared distance to it, a hash, and whether it is zero."""
    labels, far = np.empty(source.n, np.int32), np.empty(source.n)
    prints, zero = np.empty(source.n, np.uint64), np.empty(source.n, bool)
    index = Flat().build(centers)
    for start, block in source.chunks(source.rows_per_chunk()):
        part = slice(start, start + len(block))
        x, norm = unit(block)
        labels[part] = index.search(x, 1)[0][:, 0]
        far[part] = kernels.own_sqdist(x, centers, labels[part])
        prints[part], zero[part] = fingerprints(block), norm == 0
    return labels, far, prints, zero


def _twins(source: Source, prints: np.ndarray) -> np.ndarray:
    """The lowest row with the same values, of each row: int32 [n]. Rows whose hashes collide are told apart."""
    _, lowest, inverse = np.unique(prints, return_index=True, return_inverse=True)
    twin = lowest[inverse].astype(np.int32)
    copies = np.flatnonzero(twin != np.arange(source.n))
    size = _block_rows(source)
    for start in range(0, len(copies), size):
        part = copies[start : start + size]
        differ = part[(source.take(part) != source.take(twin[part])).any(axis=1)]
        twin[differ] = differ
    return twin


def _guests(
    source: Source,
    rows: np.ndarray,
    labels: np.ndarray,
    far: np.ndarray,
    centers: np.ndarray,
    least: float,
    neighbours: int,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows near to borders, beside the clusters beyond these, and how many rows are near to too many."""
    if len(centers) < 2:
        return np.empty(0, np.int32), np.empty(0, np.int32), 0
    m = min(neighbours, len(centers) - 1)
    half = ((1 - least) / 2) ** 0.5
    by_cluster = rows[np.argsort(labels[rows], kind="stable")]
    guests, homes, unchecked = [], [], 0
    size = _block_rows(source)
    for start in range(0, len(rows), size):
        some = by_cluster[start : start + size]
        x, _ = unit(source.take(some))
        own = (1 - far[some] / 2).astype(np.float32)
        ids, count = borders(x, labels[some], own, centers, half, m)
        near = ids >= 0
        guests.append(np.repeat(some, near.sum(axis=1)))
        homes.append(ids[near])
        unchecked += int(np.count_nonzero(count > m))
    return np.concatenate(guests), np.concatenate(homes), unchecked


def _block_rows(source: Source) -> int:
    return max(64, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * source.d)))


# --------------------------------------------------------------------------- which rows are kept


class _State:
    """What is known of each row: rank, decision, what it was dropped for, how many tasks have yet to clear it."""

    def __init__(self, rank: np.ndarray, twin: np.ndarray, zero: np.ndarray):
        n = len(twin)
        self.rank = rank
        self.status = np.full(n, UNDECIDED, np.int8)
        self.duplicate_of = np.arange(n, dtype=np.int32)
        self.similarity = np.ones(n, np.float32)
        self.waits = np.zeros(n, np.int32)
        single = twin == np.arange(n)
        self.status[single & zero] = KEPT
        self.status[~single] = DROPPED

    @property
    def decisions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Decision, row it was dropped for, and cosine with it."""
        return self.status, self.duplicate_of, self.similarity

    def outcome(self, twin: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Kept and dropped rows, what these are duplicates of, and how similar; equal rows share a fate."""
        dropped = np.flatnonzero(self.status == DROPPED)
        of, similarity = self.duplicate_of[twin[dropped]], self.similarity[twin[dropped]]
        return np.flatnonzero(self.status == KEPT), dropped, of.astype(np.int64), similarity


class _Task:
    """Rows to compare with those of some others (`columns`) that have a better rank; both are in order of rank.

    Attributes
    ----------
    found : int32 [rows]
        The column in a row's way, or `UNSEEN` or `CLEAR`.
    cosine : float32 [rows]
        Its cosine with the row.
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray):
        self.rows, self.columns = rows, columns
        self.found, self.cosine = np.full(len(rows), UNSEEN, np.int32), np.zeros(len(rows), np.float32)


def _tasks(
    rows: np.ndarray, labels: np.ndarray, guests: np.ndarray, homes: np.ndarray, rank: np.ndarray, k: int
) -> Iterator[_Task]:
    """For each cluster, its rows and guests against its rows, and its rows against its guests."""

    def cut(some: np.ndarray, cluster: np.ndarray) -> list[np.ndarray]:
        order = np.lexsort((rank[some], cluster))
        return np.split(some[order], np.cumsum(np.bincount(cluster, minlength=k))[:-1])

    for own, others in zip(cut(rows, labels[rows]), cut(guests, homes), strict=True):
        both = np.concatenate([own, others])
        yield _Task(both[np.argsort(rank[both])], own)
        if len(others):
            yield _Task(own, others)


def _choose(source: Source, tasks: list[_Task], state: _State, least: float) -> None:
    """Decide every row. A round decides at least the undecided row of the best rank, in practice nearly all."""
    for task in tasks:
        state.waits[task.rows] += 1
    while tasks:
        for task in tasks:
            _compare(source, task, state, least)
        tasks = [task for task in tasks if (state.status[task.rows] == UNDECIDED).any()]


def _compare(source: Source, task: _Task, state: _State, least: float) -> None:
    """Compare the rows of a task with those before them, until each is decided, clear or waits for other tasks."""
    size = _block_rows(source)
    while len(places := ready(task.rows, task.columns, task.found, task.cosine, *state.decisions)):
        for start in range(0, len(places), size):
            part = places[start : start + size]
            near = _first(source, task, part, state, least)
            decide(task.rows, task.columns, part, *near, task.found, task.cosine, state.waits, *state.decisions)


def _first(
    source: Source, task: _Task, places: np.ndarray, state: _State, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """For some rows of a task the first column in their way, behind the one that was until it was dropped."""
    size, rows, rank = _block_rows(source), task.rows[places], state.rank
    low = task.found[places] + np.int32(1)
    high = np.searchsorted(rank[task.columns], rank[rows]).astype(np.int32)
    first, last = int(low.min()), int(high[-1])
    columns = first + np.flatnonzero(state.status[task.columns[first:last]] != DROPPED).astype(np.int32)
    near, cosine = np.full(len(rows), CLEAR, np.int32), np.zeros(len(rows), np.float32)
    if not len(columns):
        return near, cosine
    x = _gather(source, rows)
    for start in range(0, len(columns), size):
        part = columns[start : start + size]
        left = np.flatnonzero((near == CLEAR) & (low <= part[-1]) & (high > part[0]))
        if not len(left):
            continue
        some = task.columns[part]
        here = np.minimum(np.searchsorted(rank[rows], rank[some]), len(rows) - 1)
        y = tuple(a[here] for a in x) if (rows[here] == some).all() else _gather(source, some)
        z = x if len(left) == len(rows) else tuple(a[left] for a in x)
        near[left], cosine[left] = first_near(z, low[left], high[left], y, part, least)
    return near, cosine


def _gather(source: Source, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows as they are, scaled to unit norm, and their norms."""
    x = source.take(rows)
    return x, *unit(x)

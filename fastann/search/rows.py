"""An index over rows: built by any spec, searched, tuned, measured, saved and read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import sparse

from fastann import checks, kernels, storage
from fastann.cluster.space import METRICS, Space, fit_space, space_of
from fastann.data.csr import CSRSource
from fastann.data.identity import check_unchanged, lasting
from fastann.data.open import as_source, can_reopen, is_elsewhere, open_source, reopen
from fastann.data.source import ArraySource, Source, Without, dense
from fastann.data.whole import float32_rows, stored_rows
from fastann.index import gpu
from fastann.index.base import Index, Spec
from fastann.index.faiss import faiss, faiss_threads
from fastann.index.inverted import InvertedIndex
from fastann.index.parse import parse_index
from fastann.index.recall import least
from fastann.index.spec import IVF, Flat
from fastann.search.exact import SearchRecall, Truth, nearest
from fastann.search.queries import ORTHOGONAL, queries_of, zeros_of

RECORD, WHAT = "index.json", "a saved index of rows"
HELD = 2**30  # bytes of float32 rows up to which exact search keeps them, arranged for it, in memory
EXACT_TO = 2**15  # rows up to which "auto" is exact
RECALL = 0.99


def build_index(
    x: Any,
    index: Any = "auto",
    *,
    metric: str = "euclidean",
    recall: float | None = None,
    device: Any = "cpu",
    n_jobs: int | None = None,
    random_state: Any = None,
) -> RowIndex:
    """Index the rows of `x`, to find the nearest of them to queries.

    Parameters
    ----------
    x : array-like or SciPy sparse matrix of shape (n_samples, n_features), torch tensor, or path
        What `fastann.KMeans` takes. ``"flat"`` reads rows of more than 1 GiB (as float32) where they lie, a block at a
        time; every other index has them as float32 in memory, once or twice. They must not change while the index is
        in use. Sparse rows are searched by ``"flat"``, through the columns that they share with a query.
    index : str or spec, default="auto"
        Any that `fastann.parse_index` takes, such as ``"ivf:nlist=400,nprobe=4"``; ``"auto"`` is exact up to 32,768
        rows and of sparse ones, else ``IVF(nprobe="auto")``.
    metric : {"euclidean", "cosine"}, default="euclidean"
        What "nearest" is by: Euclidean distance, or 1 - cosine.
    recall : float or None, default=None
        For an index whose search option is "auto": the recall@10 it must reach on a sample of the rows, each without
        itself, with its whole 95% interval. None is 0.99; with any other index it must be None.
    device : str or list, default="cpu"
        Where the index is built and searched, as of `KMeans`.
    n_jobs : int or None, default=None
        Threads of building and searching; None is all cores.
    random_state : int, RandomState or None, default=None
        Seed of what the index draws, and of samples of queries.

    Returns
    -------
    RowIndex

    Raises
    ------
    ValueError, TypeError
        For rows or parameters that make no sense; the message says what was given, what was needed and what to do.
    ImportError
        If FAISS is needed and not installed.
    """
    checks.choice(metric, "metric", METRICS)
    source = as_source(x)
    spec = chosen(index, source)
    if recall is not None:
        checks.real(recall, "recall", 0.0, above=True)
        if recall >= 1 or spec.open is None:
            raise ValueError(
                f"recall={recall!r} is what an index whose search option is 'auto' must reach, below 1, as in "
                f"build_index(x, 'ivf:nprobe=auto', recall=0.95); got index={str(spec)!r}"
            )
    found = RowIndex(
        source,
        *fit_space(source, metric, zero_rows=True),
        spec.started(),
        seed=checks.seed(random_state),
        n_jobs=n_jobs,
        device=gpu.parse_device(device, faiss),
    )
    return found if spec.open is None else found.tune(RECALL if recall is None else recall)


def chosen(index: Any, source: Source) -> Spec:
    """The spec of the parameter `index`; what "auto" stands for depends on the rows."""
    if not isinstance(index, str) or index != "auto":
        return parse_index(index)
    return Flat() if source.sparse or source.n <= EXACT_TO else IVF(nprobe="auto")


class RowIndex:
    """Rows, and an index over them; `build_index` makes it, `load` reads it.

    Parameters
    ----------
    source : Source
        The rows, as they are.
    space : Space
        Of the metric.
    view : Source
        The rows in this space.
    spec : Spec
        What to build.
    seed : int
        Of what the index draws, and of samples of queries.
    n_jobs : int or None
        Threads; None is all cores.
    device : str or list, default="cpu"
        Where to build and search it.
    data : uint8 ndarray or None, default=None
        A built index as it was written, which is read in place of building.

    Attributes
    ----------
    index : Spec
        What it was built by, with its present search options.
    metric : str
        What "nearest" is by: "euclidean" or "cosine".
    n, d : int
        Rows and columns.
    ids : ndarray [n] or None
        Names of the rows, where the data has them: ``index.ids[found]``.
    repaired : int
        Queries of the last search for which the index found fewer than `m` rows; they were searched exactly.
    """

    def __init__(
        self,
        source: Source,
        space: Space,
        view: Source,
        spec: Spec,
        *,
        seed: int,
        n_jobs: int | None,
        device: Any = "cpu",
        data: np.ndarray | None = None,
    ):
        zeros = zeros_of(view)
        if len(zeros) == view.n:
            raise ValueError("every row is zero and has no direction, which metric='cosine' needs")
        self.source, self.space, self.index = source, space, spec
        self.rows: Source = Without(view, zeros) if len(zeros) else view
        self.seed, self.n_jobs, self.repaired = seed, n_jobs, 0
        self.n, self.d, self.ids = source.n, source.d, source.ids()
        if source.sparse and spec != Flat():
            raise ValueError(f"sparse rows are searched by index='flat' or 'auto', got {str(spec)!r}")
        if reason := spec.cut(self.rows.n, "the number of rows, "):
            raise ValueError(reason)
        if source.n >= 2**31 and spec != Flat():
            raise ValueError(f"index={str(spec)!r} numbers up to 2,147,483,647 rows, got {source.n:,}; use 'flat'")
        with self._threads():
            self._built = self._build(device, data)

    @property
    def metric(self) -> str:
        return self.space.metric

    def __repr__(self) -> str:
        return f"RowIndex({self.n:,} x {self.d}, index={str(self.index)!r}, metric={self.metric!r})"

    def __len__(self) -> int:
        return self.n

    def search(self, queries: Any, m: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Find the `m` nearest rows of each query, nearest first.

        Rows for which the index finds fewer are searched exactly, and counted in `repaired`. A zero row has no
        direction and is never found under the cosine metric; a zero query is as far from every row.

        Parameters
        ----------
        queries : whatever `build_index` takes as rows
            Of as many columns as the rows: shape (n_queries, n_features).
        m : int, default=10
            Rows to find for each query; at most as many as there are rows.

        Returns
        -------
        distances : float32 ndarray of shape (n_queries, m)
            Euclidean, or 1 - cosine.
        ids : int64 ndarray of shape (n_queries, m)
            Row numbers.
        """
        self._check_m(m)
        with self._threads():
            view = self._view(queries)
            ids, sqdist = np.empty((view.n, m), np.int64), np.empty((view.n, m), np.float32)
            repaired = 0
            for start, block in view.chunks():
                part = slice(start, start + block.shape[0])
                ids[part], sqdist[part], short = self._search(self._built, block, m)
                repaired += short
            self.repaired = repaired
            zeros = zeros_of(view)
            ids[zeros], sqdist[zeros] = np.arange(m), ORTHOGONAL
        return self.space.distance(sqdist), self.rows.at(ids) if isinstance(self.rows, Without) else ids

    def measure(self, queries: Any = None, m: int = 10) -> SearchRecall:
        """Measure recall@m against exact search, on a sample of 200 to 1,000 queries.

        Parameters
        ----------
        queries : rows, optional
            A sample of the index's own when not given, each of which is no neighbour of itself.
        m : int, default=10
            Nearest rows of each query that are to be found.
        """
        with self._threads():
            return self._truth(queries, m).measure(lambda x, count: self._search(self._built, x, count)[0])

    def set_search(self, **options: Any) -> Self:
        """Change search options without building anew.

        Parameters
        ----------
        **options : int or str
            By name, such as ``nprobe=16`` or ``ef_search=128``; those of the kind of `index`.

        Returns
        -------
        self
        """
        spec = self.index.searching(**options)
        if spec.open is not None:
            raise ValueError(f"{spec.open}='auto' is found for a recall: call tune(0.95), or give a number")
        with self._threads():
            if self._built is not None:
                self._built = self._built.retuned(spec)
        self.index = spec
        return self

    def tune(self, recall: float = RECALL, queries: Any = None, m: int = 10) -> Self:
        """Take the least value of the search option whose recall@m, with its 95% interval, reaches `recall`.

        Parameters
        ----------
        recall : float, default=0.99
            Below 1.
        queries : rows, optional
            What it is measured on: see `measure`.
        m : int, default=10
            Nearest rows of each query that are to be found.

        Returns
        -------
        self
        """
        if checks.real(recall, "recall", 0.0, above=True) >= 1:
            raise ValueError(f"recall must be below 1, got {recall!r}; index='flat' is exact")
        option = self.index.search_option
        if option is None or self._built is None:
            raise ValueError(
                f"index={str(self.index)!r} has no search option that is a number, so there is none to find"
            )
        built = self._built
        with self._threads():
            truth = self._truth(queries, m)

            def passes(value: int) -> bool:
                index = built.retuned(self.index.at(value))
                return truth.measure(lambda x, count: self._search(index, x, count)[0]).reaches(recall)

            best = least(passes, self.index.number(option), built.most)
        return self.set_search(**{option: best})

    # ----------------------------------------------------------------- saving

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write a folder that `load` reads, whole or not at all, with checksums.

        Rows that lie in files stay there, and the folder says where; others are written into it.

        Parameters
        ----------
        path : path
            The folder.
        force : bool, default=False
            Whether to replace a saved index that is there.

        Raises
        ------
        FileExistsError
            If `path` exists and may not be replaced (`force`), or is no saved index.
        """
        known = self.source.fingerprint()
        kept = can_reopen(known)
        record = {
            "index": str(self.index),
            "metric": self.metric,
            "n": self.n,
            "d": self.d,
            "seed": self.seed,
            "data": lasting(known) if kept else None,
        }
        arrays = {} if kept else self._stored()
        if self.space.mean is not None:
            arrays["mean"] = self.space.mean
        if not kept and self.ids is not None:
            arrays["ids"] = self.ids
        data = None if self._built is None else self._built.written()
        if data is not None:
            arrays["index"] = data
        storage.write_folder(path, record, arrays, name=RECORD, force=force)

    def _stored(self) -> dict[str, np.ndarray]:
        rows = stored_rows(self.source)
        if self.source.sparse:
            return {"data": rows.data, "indices": rows.indices, "indptr": rows.indptr}
        return {"rows": rows}

    @classmethod
    def load(cls, path: str | os.PathLike[str], rows: Any = None, *, n_jobs: int | None = None) -> Self:
        """Read what `save` wrote; nothing is unpickled.

        Parameters
        ----------
        path : path
            The folder.
        rows : path or rows, optional
            Where the rows lie now, if not where they lay; the same rows.
        n_jobs : int or None, default=None
            Threads of reading and searching; None is all cores.

        Raises
        ------
        FileNotFoundError
            If there is no such folder, or a file of the rows is gone.
        fastann.RunError
            If a file is missing or altered.
        ValueError
            If the rows are others.
        """
        record, arrays = storage.read_folder(path, name=RECORD, what=WHAT)
        try:
            spec, space = parse_index(record["index"]), space_of(record["metric"], arrays.get("mean"))
            seed, known, n, d = (record[name] for name in ("seed", "data", "n", "d"))
            checks.integer(seed, "seed", 0)
        except (KeyError, TypeError, ValueError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise storage.RunError(f"{path} does not describe {WHAT}: {what}; build it again") from error
        source = _rows_again(arrays, known, (n, d), rows)
        if (source.n, source.d) != (n, d):
            raise ValueError(
                f"the index is of {n:,} rows of {d} columns, got {source.n:,} of {source.d}; pass those rows"
            )
        view = space.view(source, zero_rows=True)
        found = cls(source, space, view, spec, seed=seed, n_jobs=n_jobs, data=arrays.get("index"))
        found.ids = arrays.get("ids", found.ids)
        return found

    # ----------------------------------------------------------------- how

    def _build(self, device: Any, data: np.ndarray | None) -> Index | None:
        """The built index; None where blocks of rows are searched where they lie."""
        rows, exact = self.rows, self.index == Flat()
        if exact and device == "cpu" and 4 * rows.n * rows.d > HELD and not rows.sparse:
            return None
        if rows.sparse:
            return InvertedIndex(float32_rows(rows))
        held = float32_rows(rows)
        index = self.index.build(held, seed=self.seed, device=device) if data is None else self.index.read(data, held)
        return index.light()

    def _search(self, index: Index | None, queries: Any, m: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Ids (int64 [q, m]), squared distances (float32 [q, m]), and how many queries were repaired."""
        if index is None:
            return *nearest(self.rows, queries, m), 0
        found, sqdist = index.measured(queries, m)
        ids, short = found.astype(np.int64), np.flatnonzero((found < 0).any(axis=1))
        if len(short):
            ids[short], sqdist[short] = nearest(self.rows, queries[short], m)
        return ids, sqdist, len(short)

    def _truth(self, queries: Any, m: int) -> Truth:
        self._check_m(m, queries is None)
        return Truth.of(self.rows, None if queries is None else self._view(queries), m, self.seed)

    def _check_m(self, m: int, own: bool = False) -> None:
        most = self.rows.n - own
        if checks.integer(m, "m", 1) > most:
            left = f" that are not zero, of {self.n:,}" if self.rows.n < self.n else ""
            itself = ", and a row is no neighbour of itself" if own else ""
            raise ValueError(
                f"m={m} rows are asked for, and there are {self.rows.n:,}{left}{itself}; lower m or add rows"
            )

    def _view(self, queries: Any) -> Source:
        return queries_of(queries, self.d, self.space, sparse=self.rows.sparse)

    @contextmanager
    def _threads(self) -> Iterator[None]:
        count = checks.jobs(self.n_jobs)
        with kernels.limit_threads(count), faiss_threads(count):
            yield


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder that `RowIndex.save` wrote."""
    return (Path(path) / RECORD).is_file()


def _rows_again(
    arrays: dict[str, np.ndarray], known: dict[str, Any] | None, shape: tuple[int, int], rows: Any
) -> Source:
    """The rows of a saved index: those given, those saved with it, or those of the files that it names."""
    kept = _kept(arrays, shape)
    if rows is not None:
        source = (
            open_source(rows, **(known or {}).get("options", {})) if is_elsewhere(rows) else as_source(rows, "rows")
        )
        if known is not None and source.fingerprint() is not None:
            check_unchanged(known, source.fingerprint())
        if kept is not None and (source.n, source.d) == shape:
            _check_same(kept, source)
        return source
    return reopen(known) if kept is None else kept


def _kept(arrays: dict[str, np.ndarray], shape: tuple[int, int]) -> Source | None:
    """The rows that were saved with an index; None where they stayed in files."""
    if "rows" in arrays:
        return ArraySource(arrays["rows"])
    if "indptr" in arrays:
        return CSRSource(sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape))
    return None


def _check_same(kept: Source, given: Source) -> None:
    """Refuse rows that are not those which were saved: an index would go on to give the numbers of these."""
    step = min(kept.rows_per_chunk(), given.rows_per_chunk())
    for (start, a), (_, b) in zip(kept.chunks(step), given.chunks(step), strict=True):
        a, b = dense(a), dense(b)
        if not np.array_equal(a, b):
            row = start + int(np.flatnonzero((a != b).any(axis=1))[0])
            raise ValueError(
                f"row {row} is not the one that was saved with the index; pass the rows that it was built over, or none"
            )

"""The two studies, `sweep` over index settings and `bench` of methods: every combination once, in its own process.

Both leave a study on disk (see `records`): resuming is calling the same again, and reports read what lies there. Runs
are strictly one after the other, methods take turns seed by seed, with the same threads and starting rows for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastann import checks, records
from fastann.cluster.progress import Bar, seen
from fastann.cluster.space import METRICS
from fastann.records import Record, RecordError, Study
from fastann.study import grid, process
from fastann.study.data import MADE_UP, Data, MadeUp
from fastann.study.methods import PEERS
from fastann.study.results import Result, compare, so_far

WHAT = ("fit", "assign", "search")
LIMITS = ("time_limit", "memory_limit")  # settings that change no result, and may differ when resuming
ORDERED = ("metric", "max_iter", "tol", "sample", "threads", "silhouette")  # settings that every run is told
CENTROIDS, TRUTH = "centroids.npy", "truth.npy"
# Of studies of searches: the task that makes what is searched and found, and the files it leaves.
PREPARED = {"assign": ("prepare", (CENTROIDS, TRUTH)), "search": ("prepare_search", (TRUTH,))}
NEIGHBOURS = (1, 10, 100)  # the m of recall@m
TASK = "fastann.study.worker:carry_out"

Watch = Callable[[int, str, int, str], None]
Runner = Callable[..., process.Answer]


# --------------------------------------------------------------------- the two commands


def sweep(
    x: Any,
    n_clusters: int | None = None,
    indexes: Any = (),
    *,
    what: str = "fit",
    queries: Any = None,
    m: int | Sequence[int] | None = None,
    metric: str = "euclidean",
    seeds: int | Sequence[int] = 3,
    sample: int | float | None = None,
    baseline: str = "flat",
    max_iter: int = 25,
    tol: float = 1e-4,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    prune: bool = False,
    out: str | os.PathLike[str],
    progress: Watch | None = None,
    command: str = "",
    n_jobs: int | None = None,
    retry: bool = False,
    runner: Runner | None = None,
) -> Result:
    """Try every index of a grid, with every seed, and record time, recall and inertia of each.

    Calling it again with the same request goes on where it stopped. Runs import what this process would, by its
    ``sys.path``.

    Parameters
    ----------
    x : array-like, torch tensor, or what `fastann.open_source` takes or returns
        Files are used where they lie, and read anew by every run; other rows are written into `out`, as runs are
        processes. Every run holds all rows in memory. Of sparse rows, the methods that take dense ones are failures.
    n_clusters : int
        Clusters to find, or centroids to search. None of ``what="search"``.
    indexes : str or sequence of str
        Patterns that `expand` takes, ``"auto"``, or one of the methods of `bench`.
    what : {"fit", "assign", "search"}
        Whole fits, all from the same rows for a seed; or one search of fixed centroids, for which recall and
        relative inertia are measured over all rows; or building an index over the rows and searching `queries` in it.
    queries : whatever `x` may be, optional
        For ``what="search"``: a sample of 1,000 of the rows when not given, of which none is a neighbour of itself.
    m : int or sequence of int, optional
        For ``what="search"``: recall@m is measured for each, and the time for 10, or else the most; 1, 10 and 100 when
        not given, as far as there are rows.
    metric : {"euclidean", "cosine"}
        How rows are compared.
    seeds : int or sequence of int
        How many, from 0 on; or which.
    sample : int, float or None
        Rows to train on, or to search (of ``what="search"``: of the queries); None is all.
    baseline : str
        Method that inertia and time are compared with, "" for none; run too if it is not among `indexes`.
    max_iter, tol
        Of fits.
    time_limit : float or None
        Seconds that a fit, or building and searching, may take.
    memory_limit : float or None
        GiB that a run's process may have in memory, data included.
    prune : bool
        Skip larger search efforts (nprobe, ef_search) where a smaller one has a recall of 1, or an interval of it
        that lies above 0.9999.
    out : path
        Folder of the study.
    progress : callable or None
        Called as ``progress(done, running, left, best)`` before each run and at the end; see `ProgressLine`.
    command : str
        What reproduces it, for the report.
    n_jobs : int or None
        Threads for every run; None is all cores.
    retry : bool
        Run those again that failed.
    runner : callable
        What does a run: called as ``runner(order, time_limit=..., memory_limit=...)``, it returns a
        `fastann.study.process.Answer`. When not given, a process on this machine, which is used for the next run too
        unless a run crashed or came too late, or there is a `memory_limit`: loading libraries takes longer than many
        a run.

    Raises
    ------
    fastann.records.RecordError
        If `out` is another study, or no study.
    RuntimeError
        If every run failed, and no `runner` was given.
    KeyboardInterrupt
        On Ctrl-C; finished runs stay.
    """
    checks.choice(what, "what", WHAT)
    source = Data(x)
    _check_search(what, n_clusters, queries, m)
    if what == "search":
        asked = None if queries is None else Data(queries)
        settings = _of_searches(source, asked, indexes, baseline, m, sample)
        settings |= {"seeds": _seeds(seeds), "prune": bool(prune)}
        settings |= _common(metric, max_iter, tol, time_limit, memory_limit, n_jobs)
        study = Study("sweep", what, source.about(), settings, settings.pop("baseline"), command)
        return _go(study, source, Path(out), progress, retry, runner, asked)
    k = checks.n_clusters(n_clusters, source.n)
    methods, baseline = grid.methods_of(indexes, baseline)
    settings = {
        "n_clusters": [k],
        "methods": grid.in_order_of_effort(methods) if prune else methods,
        "sizes": [source.n],
        "seeds": _seeds(seeds),
        "sample": checks.sample(sample, source.n, k if what == "fit" else 1),
        "prune": bool(prune),
        "silhouette": False,
        **_common(metric, max_iter, tol, time_limit, memory_limit, n_jobs),
    }
    study = Study("sweep", what, source.about(), settings, baseline, command)
    return _go(study, source, Path(out), progress, retry, runner)


def bench(
    x: Any = None,
    n_clusters: int | Sequence[int] = (100, 1000),
    *,
    methods: Any = ("vanilla", "sklearn", "faiss", "auto", "ivf", "hnsw"),
    sizes: Sequence[int] | None = None,
    dims: int | Sequence[int] | None = None,
    seeds: int | Sequence[int] = 3,
    metric: str = "euclidean",
    max_iter: int = 25,
    tol: float = 1e-4,
    baseline: str = "vanilla",
    time_limit: float | None = None,
    memory_limit: float | None = None,
    out: str | os.PathLike[str],
    progress: Watch | None = None,
    command: str = "",
    n_jobs: int | None = None,
    retry: bool = False,
    runner: Runner | None = None,
) -> Result:
    """Compare methods of clustering, over numbers of clusters and of rows: time, memory and quality.

    Every method starts from the same rows and delivers centres and the label of every row; both are in its time.
    Under the cosine metric, scikit-learn and vanilla cluster the unit-norm rows, but all centres are measured at unit
    norm: those two then have a recall below 1. scikit-learn's `tol` is its own, on the movement of centres, and
    FAISS always does `max_iter` iterations: its own rule, to stop where a float32 objective repeats, is switched off.
    ``faiss-k-means++`` and ``faiss-super`` choose their starts themselves, by the seed.

    Parameters
    ----------
    n_clusters : int or sequence of int
        Clusters to find; of several, each is a problem of its own.
    methods : sequence of str
        ``"vanilla"``, the textbook in NumPy; ``"sklearn"``, scikit-learn's Lloyd; ``"faiss"``, faiss.Kmeans on all
        rows; ``"faiss-k-means++"``, the same from a start by its k-means++; ``"faiss-super"``, faiss.SuperKmeans;
        ``"auto"``, or any index.
    sizes : sequence of int or None
        Numbers of rows, of one random order; None is all.
    dims : int or sequence of int, optional
        In place of `x`: numbers of columns of made-up rows (overlapping blobs), of which there are 100,000 or `sizes`.
    x, seeds, metric, max_iter, tol, baseline, time_limit, memory_limit, out, progress, command, n_jobs, retry, runner
        See `sweep`.
    """
    if (x is None) == (dims is None):
        raise ValueError(
            "bench takes rows, or dims (numbers of columns of made-up rows), got "
            f"{'neither' if x is None else 'both'}; pass one of them"
        )
    wide = [] if dims is None else [checks.integer(d, "dims", 1) for d in _several(dims)]
    source: Data | MadeUp = Data(x) if dims is None else MadeUp(max(map(int, _several(sizes))) if sizes else MADE_UP)
    rows = [source.n] if sizes is None else [checks.integer(n, "sizes", 1, source.n) for n in _several(sizes)]
    ks = [checks.n_clusters(k, min(rows)) for k in _several(n_clusters)]
    found, baseline = grid.methods_of(methods, baseline)
    settings = {
        "n_clusters": list(dict.fromkeys(ks)),
        "methods": found,
        "sizes": list(dict.fromkeys(rows)),
        "seeds": _seeds(seeds),
        "sample": None,
        "prune": False,
        "silhouette": True,
        **({"dims": list(dict.fromkeys(wide))} if wide else {}),
        **_common(metric, max_iter, tol, time_limit, memory_limit, n_jobs),
    }
    study = Study("bench", "fit", source.about(), settings, baseline, command)
    return _go(study, source, Path(out), progress, retry, runner)


def _check_search(what: str, n_clusters: Any, queries: Any, m: Any) -> None:
    """Refuse arguments that are for another kind of sweep, and tell which is missing."""
    if what != "search":
        if n_clusters is None:
            raise ValueError(f"what={what!r} needs n_clusters, the number of clusters; give it")
        for name, value in (("queries", queries), ("m", m)):
            if value is not None:
                raise ValueError(f"{name} is for what='search', got what={what!r}; leave it out")
    elif n_clusters is not None:
        raise ValueError(f"what='search' searches rows, not clusters; leave n_clusters={n_clusters!r} out")


def _of_searches(rows: Data, queries: Data | None, indexes: Any, baseline: str, m: Any, sample: Any) -> dict[str, Any]:
    """What a study of searches of rows is asked for, checked; with its baseline."""
    methods, baseline = grid.methods_of(indexes, baseline)
    for method in methods:
        if method in PEERS:
            raise ValueError(
                f"{method!r} clusters; what='search' takes 'auto' and indexes, such as 'ivf:nprobe=1|4|16'"
            )
    if queries is not None and queries.source.d != rows.source.d:
        raise ValueError(
            f"queries have {queries.source.d} columns, and the rows have {rows.source.d}; pass queries of as many"
        )
    most = rows.n - (queries is None)  # a row is no neighbour of itself
    if m is None:
        wanted = [count for count in NEIGHBOURS if count <= most]
    else:
        wanted = sorted({checks.integer(count, "m", 1) for count in _several(m)})
    if not wanted or wanted[-1] > most:
        raise ValueError(
            f"m={wanted[-1] if wanted else 1} rows are asked for, and there are {most:,}; lower m or add rows"
        )
    return {
        "n_clusters": [0],
        "methods": methods,
        "sizes": [rows.n],
        "sample": checks.sample(sample, (queries or rows).n, 1),
        "silhouette": False,
        "m": wanted,
        "queries": None if queries is None else queries.about(),
        "baseline": baseline,
    }


def _common(metric: Any, max_iter: Any, tol: Any, time_limit: Any, memory_limit: Any, n_jobs: Any) -> dict[str, Any]:
    limits = dict(zip(LIMITS, (time_limit, memory_limit), strict=True))
    for name, value in limits.items():
        limits[name] = None if value is None else checks.real(value, name, 0.0, above=True)
    return {
        "metric": checks.choice(metric, "metric", METRICS),
        "max_iter": checks.integer(max_iter, "max_iter", 1),
        "tol": checks.real(tol, "tol", 0.0),
        "threads": checks.jobs(n_jobs),
        **limits,
    }


def _several(value: Any) -> list[Any]:
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if not values:
        raise ValueError("n_clusters, sizes and seeds need at least one number each, got none")
    return values


def _seeds(value: Any) -> list[int]:
    if isinstance(value, Iterable):
        return list(dict.fromkeys(checks.integer(seed, "seeds", 0, 2**31 - 1) for seed in _several(value)))
    return list(range(checks.integer(value, "seeds", 1)))


# --------------------------------------------------------------------- doing it


def _go(
    study: Study,
    data: Data | MadeUp,
    folder: Path,
    progress: Watch | None,
    retry: bool,
    runner: Runner | None,
    queries: Data | None = None,
) -> Result:
    """Do all runs that have no record yet."""
    study.machine = records.machine()
    study.settings = records.plain(study.settings)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if (folder / records.STUDY).exists():
            before = _check_same(folder, study)
            study.machine, study.command = before.machine, study.command or before.command
        records.save_study(folder, study)
        order = {name: study.settings[name] for name in ORDERED} | data.place(folder) | {"task": study.what}
        if study.what == "search":
            asked = None if queries is None else queries.place(folder, "queries")["files"]
            order |= {"queries": asked, "m": study.settings["m"]}
        order |= {"centroids": str((folder / CENTROIDS).absolute()), "truth": str((folder / TRUTH).absolute())}
        try:
            with process.Worker(TASK, threads=study.settings["threads"]) as worker:
                _do(folder, study, order, progress, retry, worker.run if runner is None else runner)
        finally:
            compare(folder, study)
    result = Result.load(folder)
    if runner is None:  # what fails in a runner of the caller's is the caller's to look at
        _check_some_done(result)
    return result


def _check_some_done(result: Result) -> None:
    """Refuse a study without any result."""
    failed = [record for record in result.records if record.status == process.FAILED]
    if len(failed) == len(result.records) > 0:
        reasons = list(dict.fromkeys(record.error for record in failed))
        others = f", the first of {len(reasons)} reasons" if len(reasons) > 1 else ""
        raise RuntimeError(
            f"every run failed, all {len(failed)} of them: {failed[0].method}: {reasons[0].rstrip('.')}{others}; mend "
            f"that and ask for the same with retry (--retry); the records lie in {result.folder}"
        )


def _check_folder(folder: Path) -> None:
    if folder.exists() and not (folder / records.STUDY).is_file():
        others = [p.name for p in folder.iterdir() if not p.name.startswith(".")] if folder.is_dir() else [folder.name]
        if others:
            raise RecordError(f"{folder} exists and is no study (it has {others[0]}); choose another folder")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to the same study; the system lifts the lock however this one ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordError(f"another process is writing to {folder}; wait for it or choose another folder") from None
        yield


def _check_same(folder: Path, study: Study) -> Study:
    """Refuse a folder that holds another study; return what it holds."""
    before = records.load_study(folder)
    pairs = [(name, getattr(before, name), getattr(study, name)) for name in ("kind", "what")]
    pairs += [(f"data {name}", before.data.get(name), study.data[name]) for name in ("n", "d", "dtype", "fingerprint")]
    known = before.settings | {"baseline": before.baseline}
    asked = study.settings | {"baseline": study.baseline}
    pairs += [(name, known.get(name), asked[name]) for name in asked if name not in LIMITS]
    for name, old, new in pairs:
        if old != new:
            raise RecordError(
                f"{folder} is a study with {name} = {old!r}, and {new!r} was asked for; "
                "ask for the same to resume it, or choose another folder"
            )
    return before


def _do(folder: Path, study: Study, order: dict[str, Any], progress: Watch | None, retry: bool, runner: Runner) -> None:
    """Do the runs that are left, one after the other; each leaves a record as it ends."""
    runs = grid.runs_of(study.settings)
    done = {record.name: record for record in records.load_records(folder)}
    if retry:
        done = {name: record for name, record in done.items() if record.status != process.FAILED}
    limits = {name: study.settings[name] for name in LIMITS}
    todo = [run for run in runs if run.name not in done]
    if study.what in PREPARED and todo:
        task, files = PREPARED[study.what]
        first = {"n": runs[0].n, "n_clusters": runs[0].n_clusters, "seed": study.settings["seeds"][0]}
        if not all((folder / name).exists() for name in files):  # kept when resuming
            _prepare(order | first | {"task": task}, runner)
    recall = f"recall_{max(study.settings['m'])}" if study.what == "search" else "recall"
    for i, run in enumerate(todo):
        if progress is not None:
            progress(len(done), run.label, len(todo) - i, so_far(list(done.values()), study))
        record = Record(run.name, run.method, run.configuration)
        reason = grid.pruned(run, done, runs, recall) if study.settings["prune"] else ""
        if reason:
            record.status, record.error = "skipped", reason
        else:
            asked = {"method": run.method, "n": run.n, "n_clusters": run.n_clusters, "seed": run.seed}
            asked |= {"d": run.d} if run.d else {}
            # Where somebody watches, the line that `progress` keeps up to date is enough.
            with Bar(progress is not None and not seen(), f"running {run.label}", drawn=False):
                answer = runner(order | asked, **limits)
            record.status, record.error = answer.status, answer.error
            record.values, record.series = (answer.result.get(name, {}) for name in ("values", "series"))
        records.save_record(folder, record)
        done[run.name] = record
    if progress is not None:
        progress(len(done), "", 0, so_far(list(done.values()), study))


def _prepare(order: dict[str, Any], runner: Runner) -> None:
    """Have what is searched, and the truth."""
    answer = runner(order, time_limit=None, memory_limit=None)
    if answer.status != process.DONE:
        raise RuntimeError(f"rows to search, and the nearest ones, could not be made: {answer.error}")

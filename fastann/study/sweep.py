"""Sweeps over index settings and benchmarks of methods: every combination once, each in a process of its own.

Both leave a study (see `records`): resuming is calling the same again, and reports read what lies on disk. Runs are
strictly one after the other, the methods taking turns seed by seed, with the same threads and starting rows for all.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fastann import checks, records, storage
from fastann.cluster.space import METRICS
from fastann.index.base import Spec
from fastann.index.parse import parse_index
from fastann.index.spec import Factory
from fastann.records import Record, RecordError, Study
from fastann.study import worker
from fastann.study.worker import PEERS

WHAT = ("fit", "assign")
LIMITS = ("time_limit", "memory_limit")  # settings that change no result, and may differ when resuming
DATA, CENTROIDS, TRUTH = "data.npy", "centroids.npy", "truth.npy"
FINGERPRINT_BYTES = 2**20
CLOSE = 1.01  # inertia over the lowest up to which a method may be the best
RECALL = 0.99  # the same for searches
SURE = 0.9999  # recall from which searching more is pointless

Watch = Callable[[int, str, int, str], None]


# --------------------------------------------------------------------- what to run


def expand(text: str) -> list[str]:
    """All indexes that a pattern means: ``"ivf:nlist=32|64,nprobe=1|2"`` is four.

    Alternatives are separated by ``|``, for any option, or for the whole (``"auto|flat"``).

    Raises
    ------
    ValueError
        For an unknown index or option.
    """
    found: dict[Any, str] = {}
    for one in _alternatives(text):
        found.setdefault(_spec(one) or one, one)
    return list(found.values())


def _alternatives(text: str) -> list[str]:
    name, colon, rest = text.partition(":")
    if not colon:
        return text.split("|")
    parts = []
    for token in re.split(r"([,;])", rest):
        key, equals, values = token.rpartition("=")
        parts.append([f"{key}{equals}{value}" for value in values.split("|")])
    return [f"{name}:{''.join(choice)}" for choice in itertools.product(*parts)]


def _spec(method: str) -> Spec | None:
    """The index that a method names, None for "auto" and the peers; `ValueError` for nonsense."""
    return None if method == "auto" or method in PEERS else parse_index(method)


def _methods(texts: Any, baseline: str) -> tuple[list[str], str]:
    """Expand all methods, without duplicates, and the baseline as it is called among them; it comes first if new."""
    if isinstance(texts, str | Spec):
        texts = [texts]
    found: dict[Any, str] = {}
    for text in texts:
        for one in expand(str(text)):
            found.setdefault(_spec(one) or one, one)
    if not found:
        raise ValueError("there is nothing to run; give at least one index, such as 'auto' or 'ivf:nprobe=1|4|16'")
    if not baseline:
        return list(found.values()), ""
    base = expand(str(baseline))
    if len(base) > 1:
        raise ValueError(f"baseline={baseline!r} means {len(base)} indexes; give one to compare with")
    known = found.get(_spec(base[0]) or base[0])
    return ([] if known else base) + list(found.values()), known or base[0]


@dataclass(frozen=True)
class Run:
    """One combination: its record's name, and what distinguishes it."""

    name: str
    method: str
    n: int
    n_clusters: int
    seed: int

    @property
    def configuration(self) -> dict[str, Any]:
        """What distinguishes the run, as plain values; the index with all its options."""
        spec = _spec(self.method)
        options = {} if spec is None else {f.name: getattr(spec, f.name) for f in fields(spec)}
        index = spec.name if spec is not None else ("auto" if self.method == "auto" else "")
        return {"n": self.n, "n_clusters": self.n_clusters, "seed": self.seed, "index": index, **options}

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.method} seed {self.seed}"


def _runs(settings: dict[str, Any]) -> list[Run]:
    """All runs, in the order they are done: methods take turns, from another one on for each seed."""
    methods = settings["methods"]
    labels = _labels(methods)
    out = []
    for turn, seed in enumerate(settings["seeds"]):
        for n, k in itertools.product(settings["sizes"], settings["n_clusters"]):
            for i in range(len(methods)):
                method = methods[(i + turn) % len(methods)]
                out.append(Run(f"{labels[method]}_n={n}_k={k}_seed={seed}", method, n, k, seed))
    return out


def _labels(methods: Sequence[str]) -> dict[str, str]:
    """A part of a file name for each method; those that would be alike, or too long, end in a checksum."""
    plain = {method: records.slug(method) for method in methods}
    counts: dict[str, int] = {}
    for label in plain.values():
        counts[label.lower()] = counts.get(label.lower(), 0) + 1
    return {
        method: label
        if counts[label.lower()] == 1 and len(label) <= 120
        else f"{label[:120]}-{hashlib.sha256(method.encode()).hexdigest()[:8]}"
        for method, label in plain.items()
    }


def _in_order_of_effort(methods: list[str]) -> list[str]:
    """The same methods; settings that differ only in search effort take their places with the least effort first."""
    places: dict[Any, list[int]] = {}
    for i, method in enumerate(methods):
        places.setdefault(_kin(method) or i, []).append(i)
    out = list(methods)
    for at in places.values():
        for i, method in zip(at, sorted((methods[i] for i in at), key=lambda m: _effort(m) or 0), strict=True):
            out[i] = method
    return out


def _effort(method: str) -> int | None:
    """Search effort of an index: its one search option, where that is a number."""
    spec = _spec(method)
    options = [] if spec is None else [getattr(spec, f.name) for f in fields(spec) if f.metadata.get("search")]
    return options[0] if len(options) == 1 and isinstance(options[0], int) else None


def _kin(method: str) -> tuple | None:
    """What settings share that differ only in search effort; None where there is no such effort."""
    spec = _spec(method)
    return None if spec is None or isinstance(spec, Factory) or _effort(method) is None else spec.built_with


def _pruned(run: Run, done: dict[str, Record], runs: list[Run]) -> str:
    """Why a run is pointless: with less effort, and the first seed, recall was as good as complete. "" if it is not.

    Only the first seed decides, so that a setting has all of its seeds or none, resumed or not.
    """
    kin, effort = _kin(run.method), _effort(run.method)
    if kin is None or effort is None:
        return ""
    for other in runs:
        record = done.get(other.name)
        if record is None or record.status != "done" or (other.n, other.n_clusters) != (run.n, run.n_clusters):
            continue
        if other.seed != runs[0].seed or _kin(other.method) != kin or (_effort(other.method) or 0) >= effort:
            continue
        if record.values.get("recall") == 1.0 or record.values.get("recall_low", 0.0) > SURE:
            return f"{other.method} already found {record.values['recall']:.4%} of the nearest centroids"
    return ""


# --------------------------------------------------------------------- the two commands


def sweep(
    x: Any,
    n_clusters: int,
    indexes: Any,
    *,
    what: str = "fit",
    metric: str = "euclidean",
    seeds: int | Sequence[int] = 3,
    sample: int | float | None = None,
    baseline: str = "flat",
    max_iter: int = 25,
    tol: float = 1e-4,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    prune: bool = False,
    out: str | os.PathLike,
    progress: Watch | None = None,
    command: str = "",
    n_jobs: int | None = None,
    retry: bool = False,
) -> Result:
    """Try every index of a grid, with every seed, and record time, recall and inertia of each.

    Calling it again with the same request goes on where it stopped.

    Parameters
    ----------
    x : array or path of a .npy file
        An array is written into `out`, as runs are processes; a file is used where it lies.
    n_clusters : int
    indexes : str or sequence of str
        Patterns that `expand` takes, ``"auto"``, or one of the methods of `bench`.
    what : {"fit", "assign"}
        Whole fits, all from the same rows for a seed; or one search of fixed centroids, for which recall and
        relative inertia are measured over all rows.
    metric : {"euclidean", "cosine"}
    seeds : int or sequence of int
        How many, from 0 on; or which.
    sample : int, float or None
        Rows to train on, or to search; None is all.
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
        Called as ``progress(done, running, left, best)`` before each run and at the end; see `Progress`.
    command : str
        What reproduces it, for the report.
    n_jobs : int or None
        Threads for every run; None is all cores.
    retry : bool
        Run those again that failed.

    Raises
    ------
    fastann.records.RecordError
        If `out` is another study, or no study.
    KeyboardInterrupt
        On Ctrl-C; finished runs stay.
    """
    checks.choice(what, "what", WHAT)
    source = _Data(x)
    k = checks.n_clusters(n_clusters, source.n)
    methods, baseline = _methods(indexes, baseline)
    settings = {
        "n_clusters": [k],
        "methods": _in_order_of_effort(methods) if prune else methods,
        "sizes": [source.n],
        "seeds": _seeds(seeds),
        "sample": checks.sample(sample, source.n, k if what == "fit" else 1),
        "prune": bool(prune),
        "silhouette": False,
        **_common(metric, max_iter, tol, time_limit, memory_limit, n_jobs),
    }
    return _go(Study("sweep", what, source.about(), settings, baseline, command), source, out, progress, retry)


def bench(
    x: Any,
    n_clusters: int | Sequence[int] = (100, 1000),
    *,
    methods: Any = ("vanilla", "sklearn", "faiss", "auto", "ivf", "hnsw"),
    sizes: Sequence[int] | None = None,
    seeds: int | Sequence[int] = 3,
    metric: str = "euclidean",
    max_iter: int = 25,
    tol: float = 1e-4,
    baseline: str = "vanilla",
    time_limit: float | None = None,
    memory_limit: float | None = None,
    out: str | os.PathLike,
    progress: Watch | None = None,
    command: str = "",
    n_jobs: int | None = None,
    retry: bool = False,
) -> Result:
    """Compare methods of clustering, over numbers of clusters and of rows: time, memory and quality.

    Every method starts from the same rows and delivers centres and the label of every row; both are in its time.
    Under the cosine metric, scikit-learn and vanilla cluster the unit-norm rows, but all centres are measured at unit
    norm: those two then have a recall below 1. scikit-learn's `tol` is its own, on the movement of centres, and
    faiss.Kmeans always does `max_iter` iterations.

    Parameters
    ----------
    n_clusters : int or sequence of int
    methods : sequence of str
        ``"vanilla"``, the textbook in NumPy; ``"sklearn"``, scikit-learn's Lloyd; ``"faiss"``, faiss.Kmeans on all
        rows; ``"auto"``, or any index.
    sizes : sequence of int or None
        Numbers of rows, of one random order; None is all.
    x, seeds, metric, max_iter, tol, baseline, time_limit, memory_limit, out, progress, command, n_jobs, retry
        See `sweep`.
    """
    source = _Data(x)
    rows = [source.n] if sizes is None else [checks.integer(n, "sizes", 1, source.n) for n in _several(sizes)]
    ks = [checks.n_clusters(k, min(rows)) for k in _several(n_clusters)]
    found, baseline = _methods(methods, baseline)
    settings = {
        "n_clusters": list(dict.fromkeys(ks)),
        "methods": found,
        "sizes": list(dict.fromkeys(rows)),
        "seeds": _seeds(seeds),
        "sample": None,
        "prune": False,
        "silhouette": True,
        **_common(metric, max_iter, tol, time_limit, memory_limit, n_jobs),
    }
    return _go(Study("bench", "fit", source.about(), settings, baseline, command), source, out, progress, retry)


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


class _Data:
    """The rows: a file that stays where it is, or an array that will be written into the study."""

    def __init__(self, x: Any):
        self.path = Path(x).absolute() if isinstance(x, str | os.PathLike) else None
        given = checks.npy_file(self.path) if self.path is not None else x
        self.array = checks.matrix(given, str(self.path or "X"))
        self.n = len(self.array)

    def about(self) -> dict[str, Any]:
        """What a study says of its data."""
        n, d = self.array.shape
        return {
            "name": "array" if self.path is None else self.path.stem,
            "n": n,
            "d": d,
            "dtype": str(self.array.dtype),
            "fingerprint": fingerprint(self.array),
        }

    def file(self, folder: Path) -> Path:
        """Where the rows lie, after writing them if need be."""
        if self.path is not None:
            return self.path
        if not (folder / DATA).exists():
            storage.write_array(folder / DATA, self.array)
        return folder / DATA


def fingerprint(array: np.ndarray) -> str:
    """SHA-256 of the shape and of about 1 MiB of rows at fixed places: enough to tell data sets apart."""
    row = max(1, array.itemsize * array.shape[1])
    at = np.unique(np.linspace(0, len(array) - 1, max(1, min(len(array), FINGERPRINT_BYTES // row))).astype(np.int64))
    digest = hashlib.sha256(f"{array.shape}".encode())
    digest.update(np.ascontiguousarray(array[at]).tobytes())
    return digest.hexdigest()


# --------------------------------------------------------------------- doing it


def _go(study: Study, source: _Data, out: str | os.PathLike, progress: Watch | None, retry: bool) -> Result:
    """Do all runs that have no record yet."""
    folder = Path(out)
    study.machine = records.machine()
    study.settings = records.plain(study.settings)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if (folder / records.STUDY).exists():
            before = _check_same(folder, study)
            study.machine, study.command = before.machine, study.command or before.command
        records.save_study(folder, study)
        order = {
            name: study.settings[name] for name in ("metric", "max_iter", "tol", "sample", "threads", "silhouette")
        }
        order |= {"path": str(source.file(folder)), "task": study.what}
        order |= {name: str((folder / f"{name}.npy").absolute()) for name in ("centroids", "truth")}
        runs = _runs(study.settings)
        try:
            _do(folder, study, runs, order, progress, retry)
        finally:
            _compare(folder, study)
    return Result.load(folder)


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


def _do(
    folder: Path, study: Study, runs: list[Run], order: dict[str, Any], progress: Watch | None, retry: bool
) -> None:
    done = {record.name: record for record in records.load_records(folder)}
    if retry:
        done = {name: record for name, record in done.items() if record.status != "failed"}
    limits = {name: study.settings[name] for name in LIMITS}
    todo = [run for run in runs if run.name not in done]
    if study.what == "assign" and todo:
        _prepare(folder, order | {"n": runs[0].n, "n_clusters": runs[0].n_clusters, "seed": study.settings["seeds"][0]})
    for i, run in enumerate(todo):
        if progress is not None:
            progress(len(done), run.label, len(todo) - i, _so_far(list(done.values()), study))
        record = Record(run.name, run.method, run.configuration)
        reason = _pruned(run, done, runs) if study.settings["prune"] else ""
        if reason:
            record.status, record.error = "skipped", reason
        else:
            request = order | {"method": run.method, "n": run.n, "n_clusters": run.n_clusters, "seed": run.seed}
            for name, value in worker.run(request, **limits).items():
                setattr(record, name, value)
        records.save_record(folder, record)
        done[run.name] = record
    if progress is not None:
        progress(len(done), "", 0, _so_far(list(done.values()), study))


def _prepare(folder: Path, order: dict[str, Any]) -> None:
    """Have the centroids that are searched, and the truth; made once, kept when resuming."""
    if (folder / CENTROIDS).exists() and (folder / TRUTH).exists():
        return
    answer = worker.run(order | {"task": "prepare"})
    if answer["status"] != "done":
        raise RuntimeError(f"the centroids to search could not be made: {answer['error']}")


def _compare(folder: Path, study: Study) -> None:
    """Write into the records what depends on the baseline: relative inertia and speed-up."""
    found = records.load_records(folder)
    for record in found:
        values = {name: value for name, value in record.values.items() if name != "speedup"}
        if study.what == "fit":
            values.pop("relative_inertia", None)
        values |= _relative(record, found, study)
        if values != record.values:
            record.values = values
            records.save_record(folder, record)


def _relative(record: Record, found: list[Record], study: Study) -> dict[str, float]:
    """A run beside the baseline: inertia by the median over its seeds, time by the run of the same seed."""
    base = [
        other
        for other in found
        if other.method == study.baseline and other.status == "done" and _case(other) == _case(record)
    ]
    out: dict[str, float] = {}
    if record.status != "done" or not base:
        return out
    inertia = statistics.median(other.values["inertia"] for other in base)
    if study.what == "fit" and inertia > 0:
        out["relative_inertia"] = record.values["inertia"] / inertia - 1
    for other in base:
        if other.configuration["seed"] == record.configuration["seed"] and record.values["seconds"] > 0:
            out["speedup"] = other.values["seconds"] / record.values["seconds"]
    return out


def _case(record: Record) -> tuple[int, int]:
    """What results are comparable within: rows and clusters."""
    return record.configuration["n"], record.configuration["n_clusters"]


# --------------------------------------------------------------------- what came of it


@dataclass(frozen=True)
class Row:
    """All seeds of a method, for one number of rows and clusters.

    Attributes
    ----------
    method : str
    n, n_clusters : int
    runs, done : int
        Runs, and those that ended well.
    values : dict of str to float
        Medians over the runs done.
    status, error : str
        Of the first run that was not done; "done" and "" if none.
    """

    method: str
    n: int
    n_clusters: int
    runs: int
    done: int
    values: dict[str, float]
    status: str
    error: str


def rows_of(found: Iterable[Record]) -> list[Row]:
    """Summarise records: by rows and clusters, the fastest first, those without a result at the end."""
    groups: dict[tuple, list[Record]] = {}
    for record in found:
        groups.setdefault((*_case(record), record.method), []).append(record)
    out = []
    for (n, k, method), group in groups.items():
        done = [record for record in group if record.status == "done"]
        names = dict.fromkeys(name for record in done for name in record.values)
        values = {m: statistics.median(r.values[m] for r in done if m in r.values) for m in names}
        first = next((record for record in group if record.status != "done"), group[0])
        out.append(Row(method, n, k, len(group), len(done), values, first.status, first.error))
    return sorted(out, key=lambda row: (not row.done, row.n, row.n_clusters, row.values.get("seconds", 0), row.method))


def best_of(rows: Sequence[Row], what: str) -> Row | None:
    """The fastest whose inertia is within 1% of the lowest; of searches, whose recall is at least 0.99.

    Where there are several numbers of rows and clusters, of the largest.
    """
    rows = [row for row in rows if row.done]
    largest = max(((row.n, row.n_clusters) for row in rows), default=None)
    rows = [row for row in rows if (row.n, row.n_clusters) == largest]
    if what == "fit" and rows:
        limit = CLOSE * min(row.values["inertia"] for row in rows)
        rows = [row for row in rows if row.values["inertia"] <= limit]
    elif what == "assign":
        rows = [row for row in rows if row.values["recall"] >= RECALL]
    return min(rows, key=lambda row: row.values["seconds"], default=None)


def _so_far(found: list[Record], study: Study) -> str:
    """The best so far in a few words, "" if there is none."""
    rows = rows_of(found)
    best = best_of(rows, study.what)
    if best is None:
        return ""
    said = f"{best.method} {best.values['seconds']:.3g} s"
    if study.what == "assign":
        return f"{said} at recall {best.values['recall']:.4f}"
    base = [
        r for r in found if r.method == study.baseline and r.status == "done" and _case(r) == (best.n, best.n_clusters)
    ]
    if not base:
        return f"{said} at inertia {best.values['inertia']:.4g}"
    return f"{said} at {best.values['inertia'] / statistics.median(r.values['inertia'] for r in base) - 1:+.1%}"


COLUMNS = {
    "seconds": ".3g",
    "speedup": ".2f",
    "inertia": ".6g",
    "relative_inertia": "+.2%",
    "recall": ".4f",
    "distances": ".1f",
    "iterations": ".0f",
    "silhouette": ".4f",
    "peak_mib": ".0f",
}


@dataclass
class Result:
    """A study as it lies on disk.

    Attributes
    ----------
    folder : Path
    study : Study
    records : list of Record
        By name.
    """

    folder: Path
    study: Study
    records: list[Record]

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Result:
        """Read a study; `RecordError` if it is none."""
        return cls(Path(folder), records.load_study(folder), records.load_records(folder))

    def rows(self) -> list[Row]:
        """Medians over seeds, a row for each method, number of rows and number of clusters."""
        return rows_of(self.records)

    def best(self) -> Row | None:
        """The fastest of the good ones: see `best_of`."""
        return best_of(self.rows(), self.study.what)

    def table(self) -> str:
        """Medians over seeds as aligned text, the fastest first; then what failed or was skipped, and why."""
        rows = self.rows()
        good = [row for row in rows if row.done]
        names = [name for name in COLUMNS if any(name in row.values for row in good)]
        axes = [a for a in ("n", "n_clusters") if len({getattr(row, a) for row in rows}) > 1]
        heads = {name: records.METRICS[name].title for name in names}
        lines = [["method", *({"n": "rows", "n_clusters": "clusters"}[a] for a in axes), "runs", *heads.values()]]
        for row in good:
            cells = [f"{row.values[name]:{COLUMNS[name]}}" if name in row.values else "" for name in names]
            lines.append([row.method, *(f"{getattr(row, a):,}" for a in axes), f"{row.done}/{row.runs}", *cells])
        out = [_aligned(lines)] if good else []
        for row in rows:
            if row.done < row.runs:
                where = "".join(f" {a}={getattr(row, a)}" for a in axes)
                out.append(f"{row.method}{where} {row.status}: {row.error}")
        return "\n".join(out)


def _aligned(lines: list[list[str]]) -> str:
    """Columns of text: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )


class Progress:
    """Tells how far a study is: one live line on a terminal, else a line for each run.

    Parameters
    ----------
    stream : text file or None
        Standard error when None.
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()

    def __call__(self, done: int, running: str, left: int, best: str) -> None:
        parts = [f"{done} of {done + left} done"]
        parts += [f"running {running}"] if running else []
        parts += [f"best so far {best}" if running else f"best {best}"] if best else []
        line = ", ".join(parts)
        if self.live:
            line = line[: shutil.get_terminal_size().columns - 1]
            self.stream.write(f"\r\x1b[K{line}" + ("" if running else "\n"))
        else:
            self.stream.write(f"{line}\n")
        self.stream.flush()

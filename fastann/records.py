"""Records of runs: what sweeps, benchmarks and evaluations leave on disk, and all that reports read.

A *study* is a folder: ``study.json`` (a `Study`: what was asked, of which data, on which machine) and one JSON file
per run in ``runs/``, named by its configuration, so that resuming is "the file exists". Files are written beside their
target and renamed.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastann import checks, storage

SCHEMA = 1
STUDY = "study.json"
RUNS = "runs"


@dataclass(frozen=True)
class Metric:
    """A number that a run has; axes, captions, tables and frontiers derive from it.

    Attributes
    ----------
    name : str
        Key in `Record.values`.
    label : str
        For axes and column heads, without the unit.
    unit : str
        "" for none; "s", "MiB" and so on.
    better : {"lower", "higher", None}
        None where neither is better.
    about : str
        A sentence: how it is computed.
    """

    name: str
    label: str
    unit: str = ""
    better: str | None = None
    about: str = ""

    @property
    def title(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


_METRICS = [
    Metric("seconds", "time", "s", "lower", "wall-clock time of the fit or search, without loading and compiling"),
    Metric("seconds_build", "build", "s", "lower", "building indexes over the centroids"),
    Metric("seconds_assign", "assign", "s", "lower", "finding the centroid of each row"),
    Metric("seconds_update", "update", "s", "lower", "means, and refilling empty clusters"),
    Metric("speedup", "speed-up", "x", "higher", "time of the baseline over this time, median of runs paired by seed"),
    Metric("recall", "recall@1", "", "higher", "share of rows that got their true nearest centroid"),
    Metric("throughput", "queries a second", "", "higher", "queries searched together, over the time of the search"),
    Metric("recall_low", "recall@1, lower", "", "higher", "lower end of its 95% interval (Wilson)"),
    Metric("recall_high", "recall@1, upper", "", "higher", "upper end of its 95% interval (Wilson)"),
    Metric(
        "inertia",
        "inertia a row",
        "",
        "lower",
        "mean squared distance (2 - 2 cosine for cosine) of all rows, those left out too, float64; a model's inertia_ "
        "is the sum over the rows kept",
    ),
    Metric("relative_inertia", "relative inertia", "", "lower", "inertia over the baseline's, less one"),
    Metric("distances", "distances a row", "", "lower", "distance computations per row and search"),
    Metric("iterations", "iterations", "", None, "Lloyd iterations, of all samples together"),
    Metric("peak_mib", "peak memory", "MiB", "lower", "highest resident memory of the run's process above its data"),
    Metric("empty", "empty clusters", "", "lower", "clusters without rows at the end"),
    Metric("imbalance", "imbalance", "", "lower", "k times the sum of squared cluster shares: 1 when all are equal"),
    Metric("silhouette", "silhouette", "", "higher", "mean over a sample of rows (Rousseeuw, 1987)"),
    Metric("simplified_silhouette", "simplified silhouette", "", "higher", "by distances to centres, over all rows"),
    Metric("davies_bouldin", "Davies-Bouldin", "", "lower", "mean worst ratio of spread to separation, on a sample"),
    Metric(
        "calinski_harabasz", "Calinski-Harabasz", "", "higher", "ratio of dispersions between and within, on a sample"
    ),
    Metric("intra", "mean distance to own centre", "", "lower", "over all rows"),
    Metric("inter", "distance of centre to nearest centre", "", None, "mean over centres, to the nearest other"),
    Metric("stability", "stability", "", "higher", "mean adjusted Rand index between fits of different seeds"),
    Metric("ari", "adjusted Rand index", "", "higher", "agreement with the true labels, 0 by chance"),
    Metric("ami", "adjusted mutual information", "", "higher", "agreement with the true labels, 0 by chance"),
    Metric("v_measure", "V-measure", "", "higher", "harmonic mean of homogeneity and completeness"),
    Metric("purity", "purity", "", "higher", "share of rows whose true label is their cluster's commonest"),
    Metric("left_out", "rows left out", "", None, "share of the rows farther from their centre than the threshold"),
    Metric("outlier_recall", "outliers found", "", "higher", "share of the known outliers that are left out"),
    Metric(
        "outlier_precision",
        "outliers among rows left out",
        "",
        "higher",
        "share of the rows left out that are known ones",
    ),
    Metric("ivf_recall_10", "recall@10 of the IVF", "", "higher", "ten nearest rows found in the clusters probed"),
    Metric("ivf_scanned", "rows scanned", "", "lower", "share of the rows that the IVF's probed clusters hold"),
]
METRICS = {metric.name: metric for metric in _METRICS}


def metric(name: str) -> Metric | None:
    """The metric of a name, if it is one: one of `METRICS`, or ``recall_10`` for recall@10 of any number."""
    if found := re.fullmatch("recall_([1-9][0-9]*)", name):
        return Metric(name, f"recall@{found[1]}", "", "higher", f"share of the {found[1]} nearest rows that are found")
    return METRICS.get(name)


def main_m(m: Sequence[int]) -> int:
    """The number of nearest rows that a study of searches goes by: 10 if it is among those asked for, else the most."""
    return 10 if 10 in m else max(m)


@dataclass
class Record:
    """One run of a study.

    Attributes
    ----------
    name : str
        Names the file; made by `slug`.
    method : str
        What was tried, as tables show it: ``ivf:nlist=32,nprobe=4``, ``vanilla``.
    configuration : dict
        What distinguishes the run: plain values, at least ``seed`` and ``n_clusters``.
    status : {"done", "failed", "skipped"}
    error : str
        Why it failed or was skipped, in a sentence.
    values : dict of str to float
        Metrics by name. A metric that could not be computed is absent.
    series : dict of str to list of float
        Per iteration: ``inertia`` (a row), ``seconds`` (since the start), ``moved``, ``recall``.
    """

    name: str
    method: str
    configuration: dict[str, Any]
    status: str = "done"
    error: str = ""
    values: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Study:
    """What a folder of runs is about.

    Attributes
    ----------
    kind : {"sweep", "bench"}
    what : {"fit", "assign", "search"}
        Whole fits, one search of fixed centroids, or searches of rows.
    data : dict
        ``name``, ``n``, ``d``, ``dtype``, ``fingerprint``.
    settings : dict
        Everything that was asked for, plain values.
    baseline : str
        The method that inertia and time are relative to, "" for none.
    command : str
        Reproduces it.
    machine : dict
        See `machine`.
    """

    kind: str
    what: str
    data: dict[str, Any]
    settings: dict[str, Any]
    baseline: str = ""
    command: str = ""
    machine: dict[str, str] = field(default_factory=dict)


class RecordError(ValueError):
    """A file of records that cannot be read, or a study that is another one."""


def slug(text: str) -> str:
    """A file name for any text: letters, digits, ``=-+.`` kept, all else one underscore."""
    return re.sub(r"[^A-Za-z0-9=+.\-]+", "_", text).strip("_.") or "_"


def plain(value: Any) -> Any:
    """A value as JSON has it: NumPy scalars become numbers, numbers that are not finite become None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON beside its target, then rename it over it."""
    storage.write_text(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object of this schema."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read ({error}); restore it or run again") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise RecordError(f"{path} has schema {found!r}, this fastann reads {SCHEMA}; use the version that wrote it")
    return content


def run_path(folder: str | os.PathLike[str], name: str) -> Path:
    """Where the record of a run lies."""
    return Path(folder) / RUNS / f"{name}.json"


def save_record(folder: str | os.PathLike[str], record: Record) -> None:
    """Write the record of a run."""
    write_json(run_path(folder, record.name), {"schema": SCHEMA, **asdict(record)})


def save_study(folder: str | os.PathLike[str], study: Study) -> None:
    """Write what a folder is about."""
    write_json(Path(folder) / STUDY, {"schema": SCHEMA, **asdict(study)})


def load_study(folder: str | os.PathLike[str]) -> Study:
    """Read what a folder is about; `RecordError` if it is no study."""
    path = Path(folder) / STUDY
    if not path.is_file():
        raise RecordError(f"{folder} has no {STUDY}: it is not the folder of a sweep or benchmark")
    study: Study = _as(Study, read_json(path), path)
    return study


def load_records(folder: str | os.PathLike[str]) -> list[Record]:
    """Read the records of all runs, by name."""
    return [_as(Record, read_json(path), path) for path in sorted((Path(folder) / RUNS).glob("*.json"))]


def _as(kind: type, content: dict[str, Any], path: Path) -> Any:
    try:
        return kind(**{key: value for key, value in content.items() if key != "schema"})
    except TypeError as error:
        raise RecordError(f"{path} is not a {kind.__name__.lower()} ({error}); restore it or run again") from None


def machine() -> dict[str, str]:
    """Processor, cores, memory, system and versions, as reports show them."""
    facts = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in ("fastann", "numpy", "scikit-learn", "faiss-cpu", "faiss-gpu"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return "unknown"
    limit = checks.memory_limit()
    limited = f", limited to {limit / 2**30:.3g} GiB" if limit < there else ""
    return f"{there / 2**30:.0f} GiB{limited}"


def frontier(points: Sequence[tuple[float, float]], x: Metric, y: Metric) -> list[int]:
    """Indices of the points that no other one beats, from the best `x` on.

    One point beats another when it is at least as good in both and better in one; so equal points stay together.

    Parameters
    ----------
    points : sequence of (x, y)
    x, y : Metric
        They must know which direction is better.
    """
    if x.better is None or y.better is None:
        raise ValueError(f"a frontier needs metrics with a direction, got {x.name} and {y.name}")
    signs = [1 if metric.better == "lower" else -1 for metric in (x, y)]
    signed = [(a * signs[0], b * signs[1]) for a, b in points]
    best = math.inf
    kept: list[int] = []
    for i in sorted(range(len(signed)), key=signed.__getitem__):
        if signed[i][1] < best or (kept and signed[i] == signed[kept[-1]]):
            best = signed[i][1]
            kept.append(i)
    return kept

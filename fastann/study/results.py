"""What came of a study: records beside the baseline, summed up over seeds, as a table and as progress."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from fastann import records
from fastann.records import Record, Study

CLOSE = 1.01  # inertia over the lowest up to which a method may be the best
RECALL = {"assign": 0.99, "search": 0.95}  # the same for searches: of centroids, and of rows


# --------------------------------------------------------------------- beside the baseline


def compare(folder: Path, study: Study) -> None:
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
    inertia = statistics.median(other.values["inertia"] for other in base) if study.what == "fit" else 0.0
    if inertia > 0:
        out["relative_inertia"] = record.values["inertia"] / inertia - 1
    for other in base:
        if other.configuration["seed"] == record.configuration["seed"] and record.values["seconds"] > 0:
            out["speedup"] = other.values["seconds"] / record.values["seconds"]
    return out


def _case(record: Record) -> tuple[int, int, int]:
    """What results are comparable within: rows, columns (0 where all have as many) and clusters (0 of searches)."""
    of = record.configuration
    return of["n"], of.get("d", 0), of.get("n_clusters", 0)


# --------------------------------------------------------------------- over seeds


@dataclass(frozen=True)
class Row:
    """All seeds of a method, for one number of rows, columns and clusters.

    Attributes
    ----------
    method : str
    n, d, n_clusters : int
        0 where all have as many columns, and where rows are searched and not clustered.
    runs, done : int
        Runs, and those that ended well.
    values : dict of str to float
        Medians over the runs done.
    status, error : str
        Of the first run that was not done; "done" and "" if none.
    """

    method: str
    n: int
    d: int
    n_clusters: int
    runs: int
    done: int
    values: dict[str, float]
    status: str
    error: str


def rows_of(found: Iterable[Record]) -> list[Row]:
    """Summarise records: by rows and clusters, the fastest first, those without a result at the end."""
    groups: dict[tuple[int, int, int, str], list[Record]] = {}
    for record in found:
        groups.setdefault((*_case(record), record.method), []).append(record)
    out = []
    for (n, d, k, method), group in groups.items():
        done = [record for record in group if record.status == "done"]
        names = dict.fromkeys(name for record in done for name in record.values)
        values = {m: statistics.median(r.values[m] for r in done if m in r.values) for m in names}
        first = next((record for record in group if record.status != "done"), group[0])
        out.append(Row(method, n, d, k, len(group), len(done), values, first.status, first.error))
    return sorted(
        out, key=lambda row: (not row.done, row.n, row.d, row.n_clusters, row.values.get("seconds", 0), row.method)
    )


def best_of(rows: Sequence[Row], study: Study) -> Row | None:
    """The fastest whose inertia is within 1% of the lowest; of searches, whose recall is at least 0.99 (of rows, 0.95).

    Where there are several numbers of rows and clusters, of the largest.
    """
    rows = [row for row in rows if row.done]
    largest = max(((row.n, row.d, row.n_clusters) for row in rows), default=None)
    rows = [row for row in rows if (row.n, row.d, row.n_clusters) == largest]
    if study.what == "fit" and rows:
        limit = CLOSE * min(row.values["inertia"] for row in rows)
        rows = [row for row in rows if row.values["inertia"] <= limit]
    elif study.what != "fit":
        recall = recall_of(study)
        rows = [row for row in rows if row.values[recall] >= RECALL[study.what]]
    return min(rows, key=lambda row: row.values["seconds"], default=None)


def recall_of(study: Study) -> str:
    """The name of the recall that a study of searches goes by."""
    return f"recall_{records.main_m(study.settings['m'])}" if study.what == "search" else "recall"


def so_far(found: list[Record], study: Study) -> str:
    """The best so far in a few words, "" if there is none; also of which size, where the study has several."""
    best = best_of(rows_of(found), study)
    if best is None:
        return ""
    sizes = [f"{getattr(best, axis):,} {AXES[axis]}" for axis in AXES if len(study.settings.get(ASKED[axis]) or ()) > 1]
    return _in_words(best, found, study) + (f", with {' and '.join(sizes)}" if sizes else "")


def _in_words(best: Row, found: list[Record], study: Study) -> str:
    said = f"{best.method} {best.values['seconds']:.3g} s"
    if study.what != "fit":
        return f"{said} at recall {best.values[recall_of(study)]:.4f}"
    base = [
        r
        for r in found
        if r.method == study.baseline and r.status == "done" and _case(r) == (best.n, best.d, best.n_clusters)
    ]
    if not base:
        return f"{said} at inertia {best.values['inertia']:.4g}"
    more = best.values["inertia"] / statistics.median(r.values["inertia"] for r in base) - 1
    return f"{said} at inertia {more:+z.1%}"


AXES = {"n": "rows", "d": "columns", "n_clusters": "clusters"}
ASKED = {"n": "sizes", "d": "dims", "n_clusters": "n_clusters"}  # what a study's settings call them
COLUMNS = {
    "seconds": ".3g",
    "speedup": ".2f",
    "inertia": ".6g",
    "relative_inertia": "+z.2%",
    "recall": ".4f",
    "distances": ".1f",
    "iterations": ".0f",
    "silhouette": ".4f",
    "peak_mib": ".0f",
}


# Columns that a narrow table does without, in this order: the report has them all.
SPARED = ("peak_mib", "iterations", "distances", "inertia", "seconds_build", "throughput", "silhouette", "speedup")


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
    def load(cls, folder: str | os.PathLike[str]) -> Result:
        """Read a study; `RecordError` if it is none."""
        return cls(Path(folder), records.load_study(folder), records.load_records(folder))

    def rows(self) -> list[Row]:
        """Medians over seeds, a row for each method, number of rows and number of clusters."""
        return rows_of(self.records)

    def best(self) -> Row | None:
        """The fastest of the good ones: see `best_of`."""
        return best_of(self.rows(), self.study)

    def table(self, width: int | None = None) -> str:
        """Medians over seeds as aligned text, the fastest first; then what failed or was skipped, and why.

        Parameters
        ----------
        width : int or None, default=None
            Characters that a line has room for: columns beyond are left out, the least telling first, and named in a
            last line. None leaves none out.
        """
        rows = self.rows()
        good = [row for row in rows if row.done]
        searched = self.study.settings.get("m") or []
        columns = COLUMNS | ({"seconds_build": ".3g", "throughput": ".4g"} if searched else {})
        columns |= {f"recall_{m}": ".4f" for m in searched}
        names = [name for name in columns if any(name in row.values for row in good)]
        axes = [a for a in AXES if len({getattr(row, a) for row in rows}) > 1]
        heads = [head for name in names if (head := _head(name))]
        lines = [["method", *(AXES[a] for a in axes), "runs", *heads]]
        for row in good:
            cells = [f"{row.values[name]:{columns[name]}}" if name in row.values else "" for name in names]
            lines.append([row.method, *(f"{getattr(row, a):,}" for a in axes), f"{row.done}/{row.runs}", *cells])
        out = [fitted(lines, [head for name in SPARED if (head := _head(name))], width)] if good else []
        for row in rows:
            if row.done < row.runs:
                where = "".join(f" {a}={getattr(row, a)}" for a in axes)
                out.append(f"{row.method}{where} {row.status}: {row.error}")
        return "\n".join(out)


def _head(name: str) -> str:
    """What a column of a metric is called."""
    found = records.metric(name)
    return found.title if found else ""


def fitted(lines: list[list[str]], spared: Sequence[str], width: int | None) -> str:
    """Cells as aligned columns; the first few of those that can be spared, as many as it takes, are named below."""
    left_out: list[str] = []
    for head in spared:
        if width is None or len(_aligned(lines).partition("\n")[0]) <= width:
            break
        if head in lines[0]:
            at = lines[0].index(head)
            lines = [line[:at] + line[at + 1 :] for line in lines]
            left_out.append(head)
    told = f"\nleft out, as lines are short here: {', '.join(left_out)}" if left_out else ""
    return _aligned(lines) + told


def _aligned(lines: list[list[str]]) -> str:
    """Columns of text: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )


class ProgressLine:
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

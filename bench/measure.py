"""What the benchmarks of memory share: runs in processes of their own, memory as the kernel counts it, tables."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.engine import (
    DONE,
    FAILED,
    MISSING,
    ROOT,
    THREADS,
    NotInstalled,
    forget_peak,
    processor,
    slug,
    versions,
    write,
)

CACHE = Path(tempfile.gettempdir()) / "fastann-bench"  # for data that is made once
MB, GB = 10**6, 10**9
Record = dict[str, Any]


# --------------------------------------------------------------------- memory


def memory() -> dict[str, int]:
    """Bytes of this process by the kernel's names: VmRSS, VmHWM (its peak), RssAnon, RssFile, RssShmem."""
    with open("/proc/self/status") as file:
        pairs = (line.split(":", 1) for line in file if line.startswith(("Vm", "Rss")))
        return {name: 1024 * int(value.split()[0]) for name, value in pairs}


def own(now: dict[str, int]) -> int:
    """Bytes that a process holds itself: without pages of files, which the kernel may drop at any time."""
    return now["RssAnon"] + now["RssShmem"]


class Peak:
    """Most memory of this process while a block runs, above what it held before.

    By the kernel's own peak where it can be reset. Else, and where data stay in a file (`in_file`), whose pages the
    kernel's peak would count, by samples of the process's own memory every few milliseconds; a thread takes them, and
    the loops of this package and of its peers let it run.

    Attributes
    ----------
    before, extra : int
        Bytes held before the block, and at most beyond that in it.
    by : str
        What was measured.
    """

    EVERY = 0.004  # seconds

    def __init__(self, *, in_file: bool = False):
        self.in_file = in_file

    def __enter__(self) -> Peak:
        self.sampled = not forget_peak() or self.in_file  # also trims the heap, so it comes first
        self.by = "RssAnon, sampled" if self.sampled else "VmHWM"
        self.before = self._now("VmRSS")
        self.most, self.over = self.before, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        if self.sampled:
            self.thread.start()
        return self

    def _now(self, name: str) -> int:
        return own(memory()) if self.sampled else memory()[name]

    def _watch(self) -> None:
        while not self.over.wait(self.EVERY):
            self.most = max(self.most, own(memory()))

    def __exit__(self, *_: object) -> None:
        self.most = max(self.most, self._now("VmHWM"))
        self.over.set()
        if self.sampled:
            self.thread.join()
        self.extra = self.most - self.before


# --------------------------------------------------------------------- runs


def about(threads: int) -> Record:
    """What every record says of where it was made."""
    return {
        "run": f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}",
        "threads": threads,
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": versions(),
    }


def guarded(measure: Callable[[Record], Record], order: Record) -> Record:
    """Do one run in this process; whatever goes wrong is a row too."""
    try:
        return order | measure(order) | {"status": DONE}
    except (ImportError, NotInstalled) as error:
        return order | {"status": MISSING, "error": str(error)}
    except Exception as error:
        trace = traceback.format_exc().splitlines()[-12:]
        return order | {"status": FAILED, "error": f"{type(error).__name__}: {error}", "trace": trace}


def answer(measure: Callable[[Record], Record], order: Record) -> None:
    """Do the run that `in_its_own_process` asks this process for."""
    path = Path(order.pop("answer"))
    write(path, guarded(measure, order))


def in_its_own_process(module: str, order: Record, timeout: float) -> Record:
    """Do one run as ``python -m module --one ORDER``, with the threads asked for; crashes and lateness are rows."""
    env = os.environ | {f"{library}_NUM_THREADS": str(order["threads"]) for library in THREADS}
    order = order | {"load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.json"
        command = [sys.executable, "-m", module, "--one", json.dumps(order | {"answer": str(path)})]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
        try:
            done = subprocess.run(command, cwd=ROOT, env=env, timeout=timeout, **quiet)
        except subprocess.TimeoutExpired:
            return order | {"status": FAILED, "error": f"not done after {timeout:g} s"}
        if path.exists():
            return json.loads(path.read_text())
        trace = done.stderr.splitlines()[-12:]
        why = "killed, for memory perhaps" if done.returncode == -9 else f"ended with exit code {done.returncode}"
        return order | {"status": FAILED, "error": why, "trace": trace}


def turns(methods: list[str], repeats: int) -> Iterator[tuple[int, str]]:
    """Yield seed and method of all runs; methods take turns, in another order for each seed."""
    for seed in range(repeats):
        turn = seed % len(methods)
        yield from ((seed, method) for method in methods[turn:] + methods[:turn])


def run_all(module: str, orders: Iterable[tuple[str, Record]], out: Path, timeout: float, redo: bool) -> None:
    """Make the runs that do not exist yet; each is a label and an order, and leaves LABEL.json."""
    out.mkdir(parents=True, exist_ok=True)
    for label, order in orders:
        file = out / f"{slug(label)}.json"
        if file.exists() and not redo:
            continue
        record = in_its_own_process(module, order, timeout)
        record.pop("path", None)  # of no use elsewhere
        write(file, record)
        told = f"{record['seconds']:.3g} s" if record["status"] == DONE else f"{record['status']}: {record['error']}"
        print(f"{file.stem}: {told}", file=sys.stderr, flush=True)


def saved(out: Path) -> list[Record]:
    """All records of a folder."""
    return [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]


def grouped(records: Iterable[Record], *names: str) -> dict[tuple, list[Record]]:
    """Records by what they have under some names, in order of these."""
    groups: dict[tuple, list[Record]] = defaultdict(list)
    for record in records:
        groups[tuple(record[name] for name in names)].append(record)
    return dict(sorted(groups.items()))


# --------------------------------------------------------------------- tables


def markdown(head: list[str], lines: list[list[str]]) -> str:
    """Lay out a table, readable as it is: the first column to the left, the others to the right."""
    widths = [max(3, *(len(line[i]) for line in [head, *lines])) for i in range(len(head))]
    rule = ["-" * widths[0], *(f"{'-' * (w - 1)}:" for w in widths[1:])]
    out = []
    for line in [head, rule, *lines]:
        cells = [cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


def three(value: float) -> str:
    """A number with three digits, or all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def middle(records: list[Record], name: str, form: Callable[[float], str] = three, scale: float = 1) -> str:
    """Median over runs, with the range in brackets where there are several that differ; "-" where there is none."""
    values = [record[name] / scale for record in records if record.get(name) is not None]
    if not values:
        return "-"
    low, high = form(min(values)), form(max(values))
    return form(statistics.median(values)) + ("" if low == high else f" ({low} to {high})")


def median(records: list[Record], name: str) -> float:
    return statistics.median(record[name] for record in records)


def failures(shown: str, records: list[Record], columns: int) -> list[list[str]]:
    """Rows of a table for the runs that failed; `reasons` says why."""
    whys = sorted({r["status"] for r in records if r["status"] != DONE})
    return [[shown, why, *["-"] * (columns - 2)] for why in whys]


def reasons(shown: Callable[[Record], str], records: list[Record]) -> str:
    """Why runs failed, one a line."""
    whys = {f"{shown(r)}: {r['error']}".replace("\n", " ") for r in records if r["status"] != DONE}
    return "\n".join(f"- {why}" for why in sorted(whys))


def footing(records: list[Record]) -> str:
    """Machine, versions and load of some records."""
    machines = sorted({f"{r['threads']} threads of {r['cores']} on {r['processor']}" for r in records})
    used = sorted({f"{name} {version}" for r in records for name, version in r["versions"].items()})
    load = max(r.get("load", 0) - r["threads"] for r in records)
    busy = "" if load <= 0.5 else f" The machine was busy with other work: load up to {load:.1f} above the threads."
    sittings = len({r["run"] for r in records})
    several = f" Made in {sittings} sittings." if sittings > 1 else ""
    return f"{'; '.join(machines)}. {', '.join(used)}.{several}{busy}"


def publish(out: Path, parts: Iterable[str]) -> None:
    """Print a report, and write it beside the records."""
    text = "\n\n".join(parts) + "\n"
    (out / "report.md").write_text(text)
    print(text)


def page(
    out: Path, module: str, title: str, table: Callable[[Any, list[Record]], str], keys: list[str], note: str
) -> None:
    """Print, and write to `out`, a table for each case (records alike in `keys`), from the JSON files there alone."""
    records = saved(out)
    if not records:
        print(f"no results yet; python -m {module} run")
        return
    parts = [title]
    if any(r["small"] for r in records):
        parts.append("**A run with --small: too small to conclude anything from.**")
    parts += [table(key, rows) for key, rows in grouped(records, *keys).items()]
    publish(out, [*parts, note, footing(records)])

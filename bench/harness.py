"""What every case shares: runs in processes of their own, a JSON file for each, and tables made from these alone.

A case gives orders, each with a label, and a task: a function from an order (a dict of plain values) to what was
measured. `run_all` leaves LABEL.json for each; what exists is not run again, and failures are records with their error.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from fastann.study import process
from fastann.study.process import DONE, FAILED

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results"
CACHE = Path(tempfile.gettempdir()) / "fastann-bench"  # for data that is made once
PACKAGES = (
    "numpy",
    "scipy",
    "faiss-cpu",
    "faiss-gpu",
    "superkmeans",
    "scikit-learn",
    "scikit-learn-intelex",
    "fastkmeans",
    "torch",
)
PACKAGES += ("sklvq", "sklearn-lvq")
MISSING, SKIPPED = "not installed", "skipped"
MB, GB = 10**6, 10**9
NOT_REAL = "**A run with --small or --here: nothing can be concluded from it.**"

Record = dict[str, Any]


class NotInstalled(Exception):
    """A peer, or the part of it that is wanted, is not there."""


class Skip(Exception):
    """A run that makes no sense here; the message is a sentence."""


# --------------------------------------------------------------------- runs


def task(measure: Callable[[Record], Record]) -> Callable[..., Record]:
    """Make a function that measures into one that a process carries out: what it cannot do is a record too."""

    @wraps(measure)
    def carry_out(order: Record, tell: process.Tell) -> Record:
        try:
            return measure(order) | {"status": DONE}
        except Skip as error:
            return {"status": SKIPPED, "error": str(error)}
        except (ImportError, NotInstalled) as error:
            return {"status": MISSING, "error": str(error)}

    return carry_out


def about(args: argparse.Namespace) -> Record:
    """What every record says of how and where it was made."""
    return {
        "run": f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}",
        "threads": args.threads,
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": versions(),
        "small": args.small,
        "here": args.here,
    }


def versions() -> dict[str, str]:
    """Versions of what takes part, and the commit of this package."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        found["fastann"] = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found["fastann"] = importlib.metadata.version("fastann")
    return found


def processor() -> str:
    """Name of the processor."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def turns(methods: Sequence[str], seeds: int, sizes: Sequence[int] = (0,)) -> Iterator[tuple[int, int, str]]:
    """Yield seed, size and method of all runs; methods take turns, in another order for each seed."""
    for seed in range(seeds):
        turn = seed % max(1, len(methods))
        for size in sizes:
            yield from ((seed, size, method) for method in [*methods[turn:], *methods[:turn]])


def run_one(function: Callable[..., Record], order: Record, time_limit: float | None) -> Record:
    """Do one run in a process of its own, with the threads asked for; crashes and lateness are records.

    With ``"here"`` in the order it is done in this process, quickly and without limits: that everything works is all
    that it shows.
    """
    order = order | {"load": os.getloadavg()[0]}
    if order.get("here"):
        return order | function(order, lambda phase: None)
    name = f"{function.__module__}:{function.__name__}"
    answer = process.run(name, order, threads=order["threads"], time_limit=time_limit, begins=process.TIMED)
    if answer.status == FAILED:
        return order | {"status": FAILED, "error": answer.error, "trace": answer.trace}
    return order | answer.result


def run_all(
    function: Callable[..., Record],
    orders: Iterable[tuple[str, Record]],
    args: argparse.Namespace,
    told: Callable[[Record], str] = lambda record: f"{record['seconds']:.3g} s",
    limits: dict[str, float] | None = None,
) -> None:
    """Make the runs that do not exist yet; `told` says what came of one, `limits` are seconds by method."""
    args.out.mkdir(parents=True, exist_ok=True)
    for label, order in orders:
        file = args.out / f"{slug(label)}.json"
        if file.exists() and not args.redo:
            continue
        limit = min(args.time_limit, (limits or {}).get(order.get("method", ""), args.time_limit))
        record = run_one(function, order, limit)
        record.pop("path", None)  # of no use elsewhere
        write(file, record)
        said = told(record) if record["status"] == DONE else f"{record['status']}: {record['error']}"
        print(f"{file.stem}: {said}", file=sys.stderr, flush=True)


def made(path: Path, function: Callable[..., Record], order: Record) -> Path:
    """Have a file made in another process, unless it is there: so a run's peak of memory is the run's own."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        record = run_one(function, order | {"path": str(path), "threads": os.cpu_count()}, None)
        if record["status"] != DONE:
            raise SystemExit(f"{path} could not be made: {record['error']}")
    return path


def slug(text: str) -> str:
    """Text that may stand in a file name."""
    return re.sub(r"[^A-Za-z0-9_.=@-]+", "-", text).strip("-")


def write(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1))
    part.replace(path)


def saved(out: Path) -> list[Record]:
    """All records of a folder."""
    return [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]


def done(records: Iterable[Record]) -> list[Record]:
    """Those that ended well."""
    return [record for record in records if record["status"] == DONE]


def grouped(records: Iterable[Record], *names: str) -> dict[Any, list[Record]]:
    """Records by what they have under some names (a tuple, but of one name its value), in order of these."""
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        key = tuple(record[name] for name in names)
        groups[key if len(names) > 1 else key[0]].append(record)
    return dict(sorted(groups.items()))


def paired(mine: list[Record], theirs: list[Record], name: str) -> list[float]:
    """Ratios of what two methods have under a name, seed by seed."""
    by_seed = {record["seed"]: record[name] for record in theirs}
    return [record[name] / by_seed[record["seed"]] for record in mine if record["seed"] in by_seed]


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


def spread(values: Sequence[float], form: Callable[[float], str] = three) -> str:
    """Median, with the range in brackets where there are several that differ; "-" where there is none."""
    if not values:
        return "-"
    low, high = form(min(values)), form(max(values))
    return form(statistics.median(values)) + ("" if low == high else f" ({low} to {high})")


def middle(records: list[Record], name: str, form: Callable[[float], str] = three, scale: float = 1) -> str:
    """What `spread` says of what records have under a name."""
    return spread([record[name] / scale for record in records if record.get(name) is not None], form)


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


def publish(out: Path, records: list[Record], title: str, parts: Iterable[str]) -> None:
    """Print a report on some records, and write it beside them."""
    small = [NOT_REAL] if any(r.get("small") or r.get("here") for r in records) else []
    text = "\n\n".join([title, *small, *filter(None, parts), footing(records)]) + "\n"
    (out / "report.md").write_text(text)
    print(text)


# --------------------------------------------------------------------- command line


def parser(case: str, doc: str | None, *, seeds: int = 1, time_limit: float = 3600) -> argparse.ArgumentParser:
    """Options that all cases have."""
    out = argparse.ArgumentParser(f"python -m bench {case}", None, doc, formatter_class=argparse.RawTextHelpFormatter)
    out.add_argument("command", nargs="?", choices=("run", "report"), help="both, when not given")
    out.add_argument("--seeds", type=int, default=seeds, help="runs of each, with seeds from 0")
    out.add_argument("--threads", type=int, default=os.cpu_count(), help="for every method; all cores when not given")
    out.add_argument("--time-limit", type=float, default=time_limit, help="seconds a run may take, loading included")
    out.add_argument("--redo", action="store_true", help="run again what exists")
    out.add_argument("--small", action="store_true", help="sizes that show that everything works")
    out.add_argument("--here", action="store_true", help="no processes: quick, and no measurement of anything")
    out.add_argument("--out", type=Path, help=f"folder of the results; bench/results/{case}, or {case}-small")
    out.add_argument("--cache", type=Path, default=CACHE, help="folder of the data")
    return out


def parsed(case: str, options: argparse.ArgumentParser, argv: list[str], small: Record) -> argparse.Namespace:
    """Read a command line; with --small, `small` replaces what else is asked for."""
    args = options.parse_args(argv)
    if args.small:
        vars(args).update(small)
    args.out = args.out or RESULTS / f"{case}{'-small' if args.small else ''}"
    return args


def names(text: str, known: Iterable[str], what: str) -> list[str]:
    """Names separated by commas, each of them known."""
    found = text.split(",")
    for name in found:
        if name not in known:
            raise SystemExit(f"no {what} is called {name!r}; known are {', '.join(known)}")
    return found


def do(
    args: argparse.Namespace,
    run: Callable[[argparse.Namespace], None],
    report: Callable[[argparse.Namespace, list[Record]], None],
) -> None:
    """Run, report, or both, as asked for."""
    if args.command != "report":
        run(args)
    if args.command != "run":
        records = saved(args.out)
        if records:
            report(args, records)
        else:
            print(f"no results in {args.out} yet; leave out `report`, or name another --out")

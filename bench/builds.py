"""The present checkout against another commit: the same results to the bit, and the same speed.

python -m bench.builds same [--commit 859ae44] [--cases sparse "auto, cells"]
python -m bench.builds speed [--commit 859ae44] [--pairs 5] [--data FOLDER]

The commit is checked out into a temporary folder, and every build runs in processes of its own with the same
interpreter and number of threads; both are given the cases of `bench.build_cases`, through public names only. `same`
also has the present build load, and go on with, what the other one saved or began; it ends with 1 if anything
differs. `speed` times both in turns and shows the median of the ratios. ``--tree FOLDER`` compares with a checkout that
exists, such as ``--tree .``: the present one with itself, to see that it is reproducible. The interpreter must have
what both need: commits before the native core need Numba.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pickle
import shutil
import site
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from bench.build_cases import TIMED
from bench.harness import markdown, three

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "859ae44"
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "BLIS", "VECLIB", "NUMEXPR")
SLOWER = 1.03  # median ratio from which a case counts as slower
STARTS = {
    "import fastann": ("import fastann", 15),
    "first access to KMeans": ("import fastann; fastann.KMeans", 15),
    "start of Python to labels of digits": (
        "from sklearn.datasets import load_digits; from fastann import KMeans; "
        "KMeans(10, random_state=0).fit_predict(load_digits().data)",
        10,
    ),
}

Results = dict[str, dict[str, np.ndarray]]


@contextmanager
def checkout(commit: str, root: Path = ROOT) -> Iterator[Path]:
    """A temporary folder with the files of a commit, removed afterwards."""
    git = ["git", "-C", str(root), "worktree"]
    with tempfile.TemporaryDirectory(prefix="fastann-build-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


PYTHON = [sys.executable, "-S", "-P"]  # -S: an editable installation would put its own tree before the one asked for
PLAIN = {
    "FASTANN_KERNELS": "avx2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NUMBA_CPU_NAME": "haswell",
}  # a CPU with AVX2 alone


def environment(tree: Path, threads: int, *, avx2: bool = False) -> dict[str, str]:
    """What a build runs in: its own tree, this interpreter's libraries, so many threads."""
    places = {"PYTHONPATH": os.pathsep.join([str(tree), *site.getsitepackages()])}
    counts = {f"{library}_NUM_THREADS": str(threads) for library in THREADS}
    plain: dict[str, str] = {}
    if avx2:
        plain = PLAIN if (tree / NATIVE).exists() else PLAIN | {"FASTANN_KERNELS": "blas", "NUMBA_CPU_FEATURES": ""}
    return os.environ | places | counts | plain


NATIVE = Path("fastann", "kernels", "CMakeLists.txt")


def compiled(tree: Path) -> Path:
    """Have the core of a tree lie in the tree: that of the present one is the one installed, others are compiled."""
    kernels = (tree / NATIVE).parent
    if not (tree / NATIVE).exists() or any(kernels.glob("_core*.so")):
        return tree
    try:
        installed = importlib.util.find_spec("fastann.kernels._core") if tree == ROOT else None
    except ImportError:
        installed = None
    if installed is not None and installed.origin is not None:
        shutil.copy(installed.origin, kernels)
        return tree
    build = tree / "build" / "core"
    configure = ["cmake", "-S", str(kernels), "-B", str(build), f"-DPython_EXECUTABLE={sys.executable}"]
    for command in (configure, ["cmake", "--build", str(build), "--parallel"]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.copy(next(build.glob("_core*.so")), kernels)
    return tree


def run(tree: Path, threads: int, step: str, order: dict[str, Any], *, avx2: bool = False) -> str:
    """Do a step of the cases in a process of the build that lies in `tree`; return what it prints."""
    cases = Path(__file__).with_name("build_cases.py")
    command = [*PYTHON, str(cases), str(tree), step, json.dumps(order)]
    done = subprocess.run(
        command, env=environment(tree, threads, avx2=avx2), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"the step {step!r} failed in {tree}, exit code {done.returncode}")
    return done.stdout


# --------------------------------------------------------------------- the same results


def difference(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> str:
    """The first difference between two results, to the bit; empty if there is none."""
    for name in old | new:
        if name not in old or name not in new:
            return f"{name}: only in the {'present' if name in new else 'other'} build"
        a, b = (np.ascontiguousarray(value) for value in (old[name], new[name]))
        if a.dtype.kind == "U" and b.dtype.kind == "U" and a.shape == b.shape:
            if (a != b).any():
                place = tuple(np.argwhere(a != b)[0])
                return f"{name}: {str(a[place])!r} became {str(b[place])!r}"
        elif a.dtype != b.dtype or a.shape != b.shape:
            return f"{name}: {a.dtype} {a.shape} became {b.dtype} {b.shape}"
        elif a.tobytes() != b.tobytes():
            rows = a.view(np.uint8).reshape(len(a), -1) != b.view(np.uint8).reshape(len(b), -1)
            told = f"{name}: {rows.any(axis=1).sum():,} of {len(a):,} rows differ"
            if a.dtype.kind not in "iuf":
                return told
            wide = [np.nan_to_num(value.astype(np.float64)) for value in (a, b)]
            scale = np.maximum(np.maximum(np.abs(wide[0]), np.abs(wide[1])), 1e-300)
            return f"{told}, by {(np.abs(wide[0] - wide[1]) / scale).max():.2g} relative at most"
    return ""


def verdict(old: dict[str, np.ndarray] | None, new: dict[str, np.ndarray] | None) -> tuple[bool, str]:
    """Whether a case's results agree, and a line that says so."""
    for which, found in (("other", old), ("present", new)):
        if found is None:
            return False, f"no result from the {which} build"
        if "failed" in found:
            return False, f"failed in the {which} build: {found['failed']}"
    assert old is not None
    assert new is not None
    if "refused" in new and "refused" not in old:
        return True, f"refused by the present build: {new['refused']}"
    if "skipped" in old and "skipped" in new:
        return True, f"skipped: {new['skipped']}"
    told = difference(old, new)
    return not told, told or f"equal: {len(new)} arrays"


def read(folder: Path) -> Results:
    return dict(pickle.loads(path.read_bytes()) for path in sorted(folder.glob("*.pickle")))


def results(trees: dict[str, Path], threads: int, wanted: list[str], folder: Path) -> dict[str, Results]:
    """Run all cases in both builds; what the other build leaves is found by both, at the same place."""
    out: dict[str, Results] = {}
    left, copy = folder / "left", folder / "copy"
    if not wanted or "found" in wanted:
        left.mkdir()
        run(trees["other"], threads, "leave", {"folder": str(left)})
        shutil.copytree(left, copy)
    for which, tree in trees.items():
        answers = folder / which
        answers.mkdir()
        clock = time.perf_counter()
        if wanted != ["found"]:
            run(tree, threads, "same", {"cases": wanted, "out": str(answers)})
        out[which] = read(answers)
        if left.exists():
            found = folder / f"{which}-found"
            found.mkdir()
            run(tree, threads, "find", {"folder": str(left), "out": str(found)})
            out[which] |= read(found)
            shutil.rmtree(left)
            if copy.exists():
                copy.rename(left)
        print(f"{which} build: {time.perf_counter() - clock:.0f} s", file=sys.stderr, flush=True)
    return out


def same(trees: dict[str, Path], args: argparse.Namespace) -> int:
    """Compare the results of both builds, a line for each case; 1 if any differ."""
    with tempfile.TemporaryDirectory(prefix="fastann-builds-") as name:
        found = results(trees, args.threads, args.cases, Path(name))
    bad = 0
    for case in found["other"] | found["present"]:
        agrees, told = verdict(found["other"].get(case), found["present"].get(case))
        bad += not agrees
        print(f"{case:<40}{'' if agrees else 'DIFFERENT '}{told}")
    print(f"{len(found['other'] | found['present'])} cases, {bad} different")
    return int(bad > 0 or not found["other"])


# --------------------------------------------------------------------- the same speed


def turns(pairs: int) -> list[str]:
    """Which build is to run: other, present, present, other, and so on."""
    return [which for i in range(pairs) for which in (("other", "present"), ("present", "other"))[i % 2]]


def line(case: str, seconds: dict[str, list[float]], quality: dict[str, float | None]) -> list[str]:
    """A row of the table; ratios are taken pair by pair."""
    ratios = [new / old for old, new in zip(seconds["other"], seconds["present"], strict=True)]
    middle = statistics.median(ratios)
    return [
        case,
        *(three(statistics.median(seconds[which])) for which in ("other", "present")),
        f"{middle:.3f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        *("-" if quality.get(which) is None else f"{quality[which]:.6g}" for which in ("other", "present")),
        "slower" if middle > SLOWER else "",
    ]


def timed(case: str, trees: dict[str, Path], args: argparse.Namespace) -> list[str]:
    """Time a case in both builds, each run in a process of its own."""
    seconds: dict[str, list[float]] = {which: [] for which in trees}
    quality: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory(prefix="fastann-rows-") as folder:
        order = {"case": case, "folder": folder, "shrink": args.shrink, "real": args.data}
        run(trees["present"], args.threads, "prepare", order)
        for which in turns(args.pairs):
            answer = json.loads(run(trees[which], args.threads, "time", order, avx2=args.avx2))
            seconds[which].append(answer["seconds"])
            quality[which] = answer["quality"]
    return line(case, seconds, quality)


def started(case: str, trees: dict[str, Path], args: argparse.Namespace) -> list[str]:
    """Time a process from its start to its end; one before that fills the caches."""
    code, pairs = STARTS[case]
    seconds: dict[str, list[float]] = {which: [] for which in trees}
    for which in [*trees, *turns(-(-pairs // args.shrink))]:
        clock = time.perf_counter()
        subprocess.run([*PYTHON, "-c", code], env=environment(trees[which], args.threads, avx2=args.avx2), check=True)
        seconds[which].append(time.perf_counter() - clock)
    return line(case, {which: some[1:] for which, some in seconds.items()}, {})


def speed(trees: dict[str, Path], args: argparse.Namespace) -> int:
    """Time both builds in turns, and print a table."""
    lines, skipped = [], []
    for case in [*TIMED, *STARTS]:
        if args.cases and not any(part in case for part in args.cases):
            continue
        real = TIMED[case].file if case in TIMED else None
        if args.data and real and not (Path(args.data) / real).exists():
            skipped.append(f"- {case}: skipped, as {real} is not in the folder of data")
            continue
        lines.append((timed if case in TIMED else started)(case, trees, args))
        print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
    head = ["case", "other, s", "present, s", "ratio", "range", "other: inertia or accuracy", "present", ""]
    print(markdown(head, lines), *skipped, sep="\n")
    told = "made-up rows and patches" if args.data is None else "real rows where there are some"
    print(f"\n{args.pairs} pairs, {args.threads} threads, {told}, load {os.getloadavg()[0]:.1f} at the end.")
    return 0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("same", "speed"))
    parser.add_argument("--commit", default=COMMIT, help=f"what to compare with; {COMMIT}")
    parser.add_argument("--tree", type=Path, help="a checkout to compare with, instead of a commit")
    parser.add_argument("--cases", nargs="+", default=[], help="those whose names contain one of these; all else")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of both builds; all when not given")
    parser.add_argument("--pairs", type=int, default=5, help="of runs that are timed")
    parser.add_argument("--data", help="folder of real rows to time instead of made-up ones")
    parser.add_argument("--avx2", action="store_true", help="hold `speed` to what a CPU with AVX2 alone has")
    parser.add_argument("--shrink", type=int, default=1, help="divides what is timed, to see that everything works")
    args = parser.parse_args()
    with nullcontext(args.tree.resolve()) if args.tree else checkout(args.commit) as other:
        trees = {"other": compiled(other), "present": compiled(ROOT)}
        return (same if args.command == "same" else speed)(trees, args)


if __name__ == "__main__":
    sys.exit(main())

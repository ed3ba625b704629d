"""Functions carried out in processes of their own, within limits of time and memory.

A `Worker` has a process, gives it an order, follows it and gives its answer; `main` is that process. Whatever goes
wrong, crash and lateness included, is an answer too. What is carried out is named ``"module:function"`` and called as
``function(order, tell)``: the order is a dict of plain values, `tell` is called with each phase as it begins, and the
dict of plain values that it returns is the result. Orders are read as lines of JSON from standard input; phases and
answers are written as lines of JSON to standard output.

Importing the libraries takes longer than many an order, so a process goes on to the next one, where that changes
nothing that is measured: it did not crash or run out of memory or time, no order has a limit of memory, and the system
can forget the peak of memory (Linux), so that each order has its own, above what was resident as it began.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

POLL = 0.1  # seconds between looks at a process
GRACE = 600.0  # seconds that loading, warming up and measuring may take beyond the limit of time
POOLS = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB", "NUMEXPR")  # libraries with threads of their own
TRACE_LINES = 12  # last lines of an error that are kept
DONE, FAILED = "done", "failed"
# What the process begins with: it finds modules where the other one does, and the same package as that one.
BOOT = """
import importlib.util, json, os, sys
given = json.loads(sys.stdin.readline())
sys.path[:] = given["path"] + [entry for entry in sys.path if entry not in given["path"]]
found = importlib.util.find_spec("fastann")
if found is None or os.path.realpath(found.origin or "") != given["package"]:
    sys.path.insert(0, os.path.dirname(os.path.dirname(given["package"])))
from fastann.study.process import main
main(given)
"""
LOAD, TIMED, MEASURE = "load", "timed", "measure"  # phases; a process begins by loading

PACKAGE = str(Path(__file__).resolve().parents[1] / "__init__.py")  # this one, where several are installed

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """How a process ended.

    Attributes
    ----------
    status : {"done", "failed"}
    error : str
        Why it failed, in a sentence; "" if it did not.
    trace : list of str
        The last lines of what Python, or the process, said of an error.
    result : dict
        What the function returned; empty if it failed.
    """

    status: str = DONE
    error: str = ""
    trace: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)


class LimitError(Exception):
    """A process took more than it may."""


# --------------------------------------------------------------------- outside the process


def run(
    task: str,
    order: dict[str, Any],
    *,
    threads: int | None = None,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    grace: float = GRACE,
    begins: str = LOAD,
) -> Answer:
    """Carry out an order in a process that is made for it; see `Worker`."""
    with Worker(task, threads=threads) as worker:
        return worker.run(order, time_limit=time_limit, memory_limit=memory_limit, grace=grace, begins=begins)


class Worker:
    """Carries out orders in a process of its own, which is kept for the next one where nothing speaks against it.

    Parameters
    ----------
    task : str
        ``"module:function"``, importable where this process is: the other one has the same ``sys.path``.
    threads : int or None
        Of every library that has threads of its own; None leaves that to the libraries.
    """

    def __init__(self, task: str, *, threads: int | None = None):
        self.task, self.threads = task, threads
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def run(
        self,
        order: dict[str, Any],
        *,
        time_limit: float | None = None,
        memory_limit: float | None = None,
        grace: float = GRACE,
        begins: str = LOAD,
    ) -> Answer:
        """Carry out an order.

        Parameters
        ----------
        order : dict
            Plain values.
        time_limit : float or None
            Seconds for the phase "timed"; each other phase may take `grace` more.
        memory_limit : float or None
            GiB of resident memory, looked at ten times a second. The process is then one for this order.
        grace : float
            Seconds.
        begins : str
            The phase it begins in: "timed" has the limit of time count from the start.

        Returns
        -------
        Answer
        """
        if memory_limit is not None:
            self.close()
        child = self._ready()
        assert child.stdin is not None
        mark = os.fstat(self.errors.fileno()).st_size
        try:
            with suppress(BrokenPipeError):  # it ended before reading; its exit code tells
                child.stdin.write(json.dumps({"task": self.task, "order": order}).encode() + b"\n")
                child.stdin.flush()
            answer, again = _listen(child, begins, time_limit, memory_limit, grace)
        except LimitError as error:
            self.close()
            return Answer(FAILED, str(error))
        except BaseException:
            self.close()
            raise
        if answer is None:
            return _ending(*self._end(patience=10), mark)
        if not again or memory_limit is not None:
            self.close()
        return answer

    def close(self) -> None:
        """End the process, if there is one."""
        if self.child is not None:
            self._end()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ready(self) -> subprocess.Popen[bytes]:
        """The process that waits for an order."""
        if self.child is not None:
            return self.child
        environment = dict(os.environ)
        if self.threads is not None:
            environment |= {f"{pool}_NUM_THREADS": str(self.threads) for pool in POOLS}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # A session of its own: Ctrl-C is for this process, which then ends the child.
        self.child = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            start_new_session=True,
        )
        assert self.child.stdin is not None
        where = {"path": [entry for entry in sys.path if isinstance(entry, str)], "package": PACKAGE}
        with suppress(BrokenPipeError):
            self.child.stdin.write(json.dumps(where | {"parent": os.getpid()}).encode() + b"\n")
        return self.child

    def _end(self, patience: float = 0.0) -> tuple[int, bytes]:
        """End the process, and give its exit code, and what it said on standard error."""
        child, self.child = self.child, None
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdout, self.errors:
            with suppress(BrokenPipeError):
                child.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=patience)
            child.kill()
            code = child.wait()
            self.errors.seek(0)
            return code, self.errors.read()


def _listen(
    child: subprocess.Popen[bytes],
    phase: str,
    time_limit: float | None,
    memory_limit: float | None,
    grace: float,
) -> tuple[Answer | None, bool]:
    """Follow a process to its answer, or to its end; also whether it may be given another order."""
    assert child.stdout is not None
    output = child.stdout.fileno()
    since, rest = time.monotonic(), b""
    while True:
        if select.select([output], [], [], POLL)[0]:
            said = os.read(output, 2**16)
            if not said:
                return None, False
            *lines, rest = (rest + said).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "answer" in message:
                    return Answer(**message["answer"]), message["again"]
                phase, since = message["phase"], time.monotonic()
        if time_limit is not None:
            allowed = time_limit if phase == TIMED else time_limit + grace
            if time.monotonic() - since > allowed:
                what = "took longer" if phase == TIMED else f"needed longer to {phase}"
                raise LimitError(f"{what} than {allowed:g} s; raise time_limit")
        if memory_limit is not None and resident(child.pid) > memory_limit * 2**30:
            raise LimitError(f"needed more than {float(memory_limit)} GiB; raise memory_limit")


def _ending(code: int, errors: bytes, mark: int) -> Answer:
    """Say how a process ended that gave no answer; what it said of former orders ends at `mark`."""
    lines = errors[mark:].decode(errors="replace").strip().splitlines()
    if code < 0:
        name = signal.Signals(-code).name
        error = f"crashed with {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    else:
        error = f"ended with exit code {code}" + (f": {lines[-1]}" if lines else "")
    return Answer(FAILED, error, lines[-TRACE_LINES:])


# --------------------------------------------------------------------- memory of a process


def resident(pid: int | None = None) -> int:
    """Bytes that a process (None: this one) has in memory now; 0 if it is gone."""
    pid = os.getpid() if pid is None else pid
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        pass
    if sys.platform.startswith("linux"):
        return 0
    done = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True)
    return 1024 * int(done.stdout.strip() or 0)


def peak() -> int:
    """Most bytes this process had in memory, since `forget_peak` where that works (Linux)."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> bool:
    """Start the peak anew, so that loading and warming up do not count; whether that worked."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what warming up left in the heap would hide what the run needs
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError, TypeError):
        return False
    return True


# --------------------------------------------------------------------- inside the process


def main(given: dict[str, Any]) -> None:
    """Read orders, carry each out, answer; `given` is what `BOOT` has read."""
    _die_with(given["parent"])
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print is no answer

    def tell(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    for line in sys.stdin:
        answer = _carried_out(json.loads(line), given["package"], lambda phase: tell({"phase": phase}))
        tell({"answer": asdict(answer), "again": not answer.error.startswith("MemoryError") and forget_peak()})


def _carried_out(asked: dict[str, Any], package: str, tell: Tell) -> Answer:
    try:
        if package != PACKAGE:
            raise ImportError(f"the process of a run imports {PACKAGE}, but {package} asked for it; uninstall one")
        module, _, function = asked["task"].partition(":")
        carry_out = getattr(import_module(module), function)
        return Answer(result=carry_out(asked["order"], tell))
    except Exception as error:  # the end of the process: whatever went wrong is its answer
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Answer(FAILED, said, traceback.format_exc().splitlines()[-TRACE_LINES:])


def _die_with(parent: int) -> None:
    """End this process when its parent does, however that ends."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):  # not Linux
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before that was set
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)

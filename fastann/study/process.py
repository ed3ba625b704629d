"""A function carried out in a process of its own, within limits of time and memory.

`run` starts the process, follows it and gives its answer; `main` is that process. Whatever goes wrong, crash and
lateness included, is an answer too. What is carried out is named ``"module:function"`` and called as
``function(order, tell)``: the order is a dict of plain values, `tell` is called with each phase as it begins, and the
dict of plain values that it returns is the result. The order is read as JSON from standard input; phases and the answer
are written as lines of JSON to standard output.
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
from typing import IO, Any

POLL = 0.1  # seconds between looks at a process
GRACE = 600.0  # seconds that loading, warming up and measuring may take beyond the limit of time
POOLS = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB", "NUMEXPR")  # libraries with threads of their own
TRACE_LINES = 12  # last lines of an error that are kept
DONE, FAILED = "done", "failed"
LOAD, TIMED, MEASURE = "load", "timed", "measure"  # phases; a process begins by loading

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
    """Carry out an order in a process of its own.

    Parameters
    ----------
    task : str
        ``"module:function"``, importable where this process is.
    order : dict
        Plain values.
    threads : int or None
        Of every library that has threads of its own; None leaves that to the libraries.
    time_limit : float or None
        Seconds for the phase "timed"; each other phase may take `grace` more.
    memory_limit : float or None
        GiB of resident memory, looked at ten times a second.
    grace : float
        Seconds.
    begins : str
        The phase it begins in: "timed" has the limit of time count from the start.

    Returns
    -------
    Answer
    """
    environment = dict(os.environ)
    if threads is not None:
        environment |= {f"{pool}_NUM_THREADS": str(threads) for pool in POOLS}
    with tempfile.TemporaryFile() as errors:
        # A session of its own: Ctrl-C is for this process, which then ends the child.
        child = subprocess.Popen(
            [sys.executable, "-m", "fastann.study.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdin, child.stdout:
            try:
                with suppress(BrokenPipeError):  # it ended before reading; its exit code tells
                    child.stdin.write(json.dumps({"task": task, "order": order, "parent": os.getpid()}).encode())
                    child.stdin.close()
                answer = _listen(child, child.stdout, begins, time_limit, memory_limit, grace)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=10)
            except LimitError as error:
                return Answer(FAILED, str(error))
            finally:
                if child.poll() is None:
                    child.kill()
                child.wait()
        return _ending(child.returncode, errors) if answer is None else answer


def _listen(
    child: subprocess.Popen[bytes],
    output: IO[bytes],
    phase: str,
    time_limit: float | None,
    memory_limit: float | None,
    grace: float,
) -> Answer | None:
    """Follow a process to its end, and return its answer if it gave one."""
    since, rest = time.monotonic(), b""
    while True:
        if select.select([output], [], [], POLL)[0]:
            said = os.read(output.fileno(), 2**16)
            if not said:
                return None
            *lines, rest = (rest + said).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "answer" in message:
                    return Answer(**message["answer"])
                phase, since = message["phase"], time.monotonic()
        if time_limit is not None:
            allowed = time_limit if phase == TIMED else time_limit + grace
            if time.monotonic() - since > allowed:
                what = "took longer" if phase == TIMED else f"needed longer to {phase}"
                raise LimitError(f"{what} than {allowed:g} s; raise time_limit")
        if memory_limit is not None and resident(child.pid) > memory_limit * 2**30:
            raise LimitError(f"needed more than {float(memory_limit)} GiB; raise memory_limit")


def _ending(code: int, errors: IO[bytes]) -> Answer:
    """Say how a process ended that gave no answer."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
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


def main() -> None:
    """Read an order, carry it out, answer."""
    asked = json.load(sys.stdin)
    _die_with(asked["parent"])
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print is no answer

    def tell(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        module, _, function = asked["task"].partition(":")
        carry_out = getattr(import_module(module), function)
        answer = Answer(result=carry_out(asked["order"], lambda phase: tell({"phase": phase})))
    except Exception as error:  # the end of the process: whatever went wrong is its answer
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        answer = Answer(FAILED, said, traceback.format_exc().splitlines()[-TRACE_LINES:])
    tell({"answer": asdict(answer)})


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


if __name__ == "__main__":
    main()

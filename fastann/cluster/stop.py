"""Why a fit stopped: each reason a value with a sentence, and the rule that decides."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from types import FrameType
from typing import Any


class StopReason(StrEnum):
    """Why the iterations ended; a string, with the `sentence` that explains it."""

    CONVERGED = "converged"
    MAX_ITER = "max_iter"
    TIME_LIMIT = "time_limit"
    INTERRUPTED = "interrupted"
    CALLBACK = "callback"
    GIVEN = "given"

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        return _SENTENCES[self]


# After these a fit goes on with the next sample or start, if there is one; the others end it.
ENDED = (StopReason.CONVERGED, StopReason.MAX_ITER)

_SENTENCES = {
    StopReason.CONVERGED: "The last iteration gained too little in inertia to go on (tol, effort), or no row moved.",
    StopReason.MAX_ITER: "max_iter iterations were done; the inertia was still decreasing.",
    StopReason.TIME_LIMIT: "Another iteration would have exceeded time_limit.",
    StopReason.INTERRUPTED: "Ctrl-C was pressed; the running iteration was finished.",
    StopReason.CALLBACK: "The callback returned True.",
    StopReason.GIVEN: "The centres are those that were given; no iteration was asked for.",
}


CTRL_C = (
    "Ctrl-C: this fit ends after the running iteration, with stop_reason_ 'interrupted', and the program goes on; "
    "a second Ctrl-C before that raises KeyboardInterrupt"
)


def told(reason: StopReason, history: Sequence[Any], tol: float) -> str:
    """Which rule ended the iterations, in a sentence with the numbers that it went by.

    Parameters
    ----------
    reason : StopReason
    history : list of Iteration
    tol : float
    """
    last = history[-1]
    before = history[-2].inertia if len(history) > 1 and history[-2].rows == last.rows else 0.0
    if reason not in ENDED or before <= 0:
        return "No row moved in the last iteration." if reason == ENDED[0] and last.moved == 0 else reason.sentence
    gain = (before - last.inertia) / before
    by = f"decreased the inertia by {100 * gain:.2g}%" if gain > 0 else "did not decrease the inertia"
    if reason == StopReason.MAX_ITER:
        return f"max_iter iterations were done; the last one {by}, and {last.moved:,} rows moved."
    if last.moved == 0:
        return "No row moved in the last iteration."
    if gain <= tol:
        return f"The last iteration {by}: no more than tol, {100 * tol:.2g}%."
    return f"The last iteration {by}: too little for the automatic mode to go on (a larger effort does)."


def converged(previous: float | None, inertia: float, moved: int, tol: float) -> bool:
    """Whether nothing moved, the inertia is 0 or it decreased by at most the share `tol` of itself."""
    return moved == 0 or inertia == 0 or (previous is not None and previous - inertia <= tol * previous)


class Deadline:
    """Seconds left of a `time_limit`, counted from construction."""

    def __init__(self, limit: float | None):
        self.end = None if limit is None else time.perf_counter() + limit

    def spend(self, seconds: float) -> None:
        """Count seconds that were spent before."""
        self.end = None if self.end is None else self.end - seconds

    def allows(self, seconds: float) -> bool:
        """Whether `seconds` more would still be in time."""
        return self.end is None or time.perf_counter() + seconds <= self.end


class CtrlC:
    """Context that turns the first Ctrl-C into a flag, and says so; a second one raises KeyboardInterrupt at once.

    Outside the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.pressed = False

    def __enter__(self) -> CtrlC:
        self.before: Any = None
        if threading.current_thread() is threading.main_thread():
            current = signal.getsignal(signal.SIGINT)
            if current is signal.default_int_handler:  # leave a host program's own handler alone
                self.before = current
                signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        with suppress(OSError, ValueError, RuntimeError, AttributeError):  # of a stream that is closed, busy or None
            sys.stderr.write(("\n" if sys.stderr.isatty() else "") + CTRL_C + "\n")
            sys.stderr.flush()

    def __exit__(self, *exc: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

"""Where the time of a fit goes: seconds by phase, which add up to all that passed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

PHASES = {
    "read": "opening the data, one look at every row, drawing samples",
    "start": "choosing the centroids to begin with",
    "swaps": "improving these on a sample of the rows",
    "build": "building indexes over the centroids, in all iterations",
    "assign": "finding the centroid of each row, in all iterations",
    "update": "means, and refilling empty clusters, in all iterations",
    "close": "final labels, and measuring what they and predictions miss",
    "other": "all else, such as checks, checkpoints and callbacks",
}
ITERATED = ("build", "assign", "update")  # the phases of an iteration
OTHER = "other"


class Clock:
    """Seconds by phase. One phase runs at any time, so that they add up to the time since the clock was made.

    Parameters
    ----------
    before : dict, optional
        Seconds by phase that count too, such as those up to a checkpoint.
    """

    def __init__(self, before: Mapping[str, float] | None = None):
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase, self._since = OTHER, time.perf_counter()
        self.count(before or {})

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Context of a phase; the phase around it pauses."""
        outer = self._turn(phase)
        try:
            yield
        finally:
            self._turn(outer)

    def count(self, seconds: Mapping[str, float]) -> None:
        """Add seconds by phase; of phases that are not known any more, to the last."""
        for phase, spent in seconds.items():
            self._seconds[phase if phase in PHASES else OTHER] += spent

    def read(self) -> dict[str, float]:
        """Seconds by phase until now."""
        self._turn(self._phase)
        return dict(self._seconds)

    def _turn(self, phase: str) -> str:
        """Go over to a phase; returns the one before."""
        now, outer = time.perf_counter(), self._phase
        self._seconds[outer] += now - self._since
        self._phase, self._since = phase, now
        return outer


def in_words(seconds: Mapping[str, float]) -> str:
    """Seconds in all, and of the phases that took a thousandth of them: ``3.3 (start 0.2, assign 3.1)``."""
    total = sum(seconds.values())
    parts = ", ".join(f"{phase} {_short(spent)}" for phase, spent in seconds.items() if spent > total / 1000)
    return f"{total:,.1f}" + (f" ({parts})" if parts else "")


def _short(seconds: float) -> str:
    return f"{seconds:,.1f}" if seconds >= 0.05 else f"{seconds:.1g}"

"""Signs of life of what takes long: a bar on a terminal and in a notebook, elsewhere a line every ten seconds."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import Any, Self
from weakref import WeakKeyDictionary

EVERY = 10.0  # seconds between lines
WORDS = {"it": "iterations", "epoch": "epochs", "row": "rows"}  # units of bars, as lines call them

# Of an object whose calls are short but many (batches of a stream): when the first began, and the next line is due.
_streams: WeakKeyDictionary[Any, tuple[float, float]] = WeakKeyDictionary()


class Bar:
    """Tells how far something is, on standard error, while its context lasts; nothing if not `verbose`.

    Where standard error is a file or a pipe (`nohup`, a batch system, a notebook that is run without its page), a bar
    would be one endless line, so lines come instead, from a thread: an iteration may take longer than ten seconds.

    Parameters
    ----------
    verbose : bool
    name : str
        What runs.
    total : int or None
        Steps at most, None where nobody knows.
    unit : {"it", "epoch", "row"}
        Of the steps.
    note : str
        What else there is to say at first; `step` changes it.
    owner : object or None
        An estimator that this is one of many calls of: lines then come every ten seconds of all of them, and no bar.
    drawn : bool
        False: lines on a terminal and in a notebook too, for what knows no steps that a bar could count.
    """

    def __init__(
        self,
        verbose: bool,
        name: str,
        total: int | None = None,
        unit: str = "it",
        *,
        note: str = "",
        owner: Any = None,
        drawn: bool = True,
    ):
        self.name, self.total, self.unit, self.note, self.owner = name, total, unit, note, owner
        self.done, self.may_draw = 0, drawn
        self.drawn: Any = None
        self.lines: _Lines | None = None
        self.verbose = bool(verbose) and sys.stderr is not None

    def __enter__(self) -> Self:
        if self.verbose and self.may_draw and self.owner is None and seen():
            self._draw()
        elif self.verbose:
            self.lines = _Lines(self)
        return self

    def begin(self, name: str) -> None:
        """Start anew under another name."""
        if self.drawn is not None:
            self.drawn.leave = self.done > 0
            self.drawn.close()
        self.name, self.done, self.note = name, 0, ""
        if self.drawn is not None:
            self._draw()

    def step(self, count: int = 1, note: str = "") -> None:
        """Take note of steps that were done, and of what is to be said beside them."""
        self.done, self.note = self.done + count, note or self.note
        if self.drawn is not None:
            self.drawn.set_postfix_str(self.note, refresh=False)
            self.drawn.update(count)

    def __exit__(self, *exc: object) -> None:
        if self.drawn is not None:
            if exc[0] is None and self.total is not None and 0 < self.done < self.total:
                self.drawn.total = self.done  # it ended before the most it might have taken: that is all of it
                self.drawn.refresh()
            self.drawn.close()
        if self.lines is not None:
            self.lines.close()

    def _draw(self) -> None:
        if in_notebook():
            from tqdm.auto import tqdm
        else:
            from tqdm import tqdm
        rows = self.unit == "row"  # a pass over few rows is not worth a bar
        self.drawn = tqdm(total=self.total, desc=self.name, unit=self.unit, unit_scale=rows, delay=1.0 if rows else 0.0)

    def line(self, seconds: float) -> str:
        """How far it is, in words."""
        most = "" if self.total is None or self.done > self.total else f" of {self.total:,}"
        if most and self.unit == "it":
            most = f" of at most {self.total:,}"
        count = f"{self.done:,}{most} {WORDS[self.unit]}" if self.done or self.total is not None else ""
        return f"{self.name}: {', '.join(filter(None, (count, self.note, f'{seconds:.0f} s')))}"


class _Lines:
    """Writes a line every ten seconds, and a last one if there was any."""

    def __init__(self, bar: Bar):
        self.bar, self.stream, self.began = bar, sys.stderr, time.monotonic()
        self.due = self.began + EVERY
        if bar.owner is not None:
            self.began, self.due = _streams.setdefault(bar.owner, (self.began, self.due))
        self.said = False
        if self.due <= time.monotonic():
            self._next()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="fastann progress", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.ended.wait(max(0.0, self.due - time.monotonic())):
            self._next()

    def _next(self) -> None:
        self._say()
        self.due, self.said = time.monotonic() + EVERY, True

    def _say(self) -> None:
        with suppress(OSError, ValueError):  # a pipe or file that was closed meanwhile is no reason to fail
            self.stream.write(self.bar.line(time.monotonic() - self.began) + "\n")
            self.stream.flush()

    def close(self) -> None:
        self.ended.set()
        self.thread.join()
        if self.bar.owner is not None:
            _streams[self.bar.owner] = self.began, self.due
        elif self.said:
            self._say()


def seen() -> bool:
    """Whether somebody watches standard error as it is written: on a terminal, or in a notebook."""
    return in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def in_notebook() -> bool:
    """Whether this runs in a kernel of a notebook, by what IPython says of itself; it is not imported for that."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config

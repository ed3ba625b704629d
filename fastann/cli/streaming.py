"""The command that learns from batches as they come: classify stream."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fastann.cli.classifier_options import made, shared_options
from fastann.cli.classifying import classify
from fastann.cli.common import COUNT, Failure, errors, with_options

if TYPE_CHECKING:
    from fastann.data.batches import Labelled
    from fastann.estimators.classifier import PrototypeClassifier


@classify.command(short_help="Learn from labelled batches as they come.")
@click.argument("model", type=click.Path())
@click.argument("batches", nargs=-1, required=True, type=click.Path(allow_dash=True), metavar="BATCHES...")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl", "npy"]),
    default=None,
    help="Of the batches; when not given, by the suffix of a file, or the first bytes of standard input.",
)
@click.option(
    "--label-column",
    default=None,
    help='Column or field of the labels, "label" when not given; of arrays its number, -1 for the last.',
)
@click.option(
    "--column",
    default=None,
    help='Field of the lists that are rows, or columns of their numbers, such as "x*" or "a,b"; else all others.',
)
@click.option("--batch", "most", type=COUNT, default=1000, show_default=True, help="Rows of text in a batch, at most.")
@click.option(
    "--save-every", type=float, default=60.0, show_default=True, help="Seconds after which the model is saved again."
)
@with_options(shared_options)
@errors
def stream(
    model: str,
    batches: tuple[str, ...],
    kind: str | None,
    label_column: str | None,
    column: str | None,
    most: int,
    save_every: float,
    **options: Any,
) -> None:
    """Learn from labelled BATCHES as they come, and keep MODEL up to date.

    BATCHES are files, or - for standard input: CSV with a header line, JSON lines, or arrays as numpy.save writes them,
    one after the other. MODEL goes on from where it is, or is made with the options given. It is saved on the way and
    at the end, each time beside the old one, which it then replaces: whoever reads MODEL finds a whole one. After
    Ctrl-C or bad input it has all batches before that.
    """
    from fastann import PrototypeClassifier, checks, storage
    from fastann.data.batches import Reading

    checks.integer(most, "--batch", 1)
    checks.real(save_every, "--save-every", 0.0)
    given = [name for name in options if _was_given(name)]
    learner = None
    if Path(model).exists():
        learner = PrototypeClassifier.load(model)
        if given:
            names = ", ".join("--" + _WORDS.get(name, name).replace("_", "-") for name in given)
            raise click.UsageError(f"{model} exists and keeps its parameters; leave out {names}, or name a new model")
        as_text = learner.classes_.dtype.kind == "U"
    else:
        storage.check_target(model)
        as_text = None
    reading = Reading(kind, label_column, column, as_text, most, min(1.0, max(save_every, 0.01)))
    course = Course(model, save_every, learner, options)
    with _terminated():
        try:
            for name in batches:
                with _opened(name) as (file, said):
                    for labelled in reading.batches(file, said):
                        course.take(labelled)
        except KeyboardInterrupt:
            course.save()
            raise Failure(f"interrupted; {course.kept()}") from None
        except Exception:
            course.save()
            if course.rows:
                click.echo(course.kept(), err=True)
            raise
    course.finish()


_WORDS = {"n_jobs": "jobs"}


class Course:
    """A stream so far: the model, how much it took in, and when it was saved last."""

    def __init__(self, path: str, every: float, model: PrototypeClassifier | None, options: dict[str, Any]):
        self.path, self.every, self.model, self.options = path, every, model, options
        self.rows = self.batches = self.classes = 0
        self.began = self.saved = time.monotonic()
        self.unsaved = False

    def take(self, batch: Labelled | None) -> None:
        """Learn a batch, if one came; save if it is time."""
        if batch is not None:
            if self.model is None:
                self.model = made(self.options, batch.labels, verbose=False)
            self.model.partial_fit(batch.x, batch.labels)
            assert self.model.last_batch_ is not None
            self.rows, self.batches, self.unsaved = self.rows + len(batch.x), self.batches + 1, True
            self.classes += len(self.model.last_batch_.new_classes)
        if self.unsaved and time.monotonic() - self.saved >= self.every:
            self.save()

    def save(self) -> None:
        """Save what was learned since it was saved last."""
        if self.unsaved and self.model is not None:
            self.model.save(self.path, force=True)
            self.saved, self.unsaved = time.monotonic(), False

    def kept(self) -> str:
        """Say what the saved model has."""
        if not self.rows:
            return "no batch was taken in, and nothing written"
        return f"{self.path} has all {self.batches:,} batches before that, {self.rows:,} rows"

    def finish(self) -> None:
        """Save, and say what was learned."""
        if self.model is None or not self.rows:
            raise click.UsageError("no labelled row came; nothing was written")
        self.save()
        last = self.model.last_batch_
        assert last is not None
        batches = "1 batch" if self.batches == 1 else f"{self.batches:,} batches"
        lines = {
            "rows": f"{self.rows:,} x {self.model.n_features_in_} in {batches}",
            "classes": f"{len(self.model.classes_):,} ({self.classes:,} new)",
            "prototypes": f"{last.active:,}, moved by {last.shift:.2e} in the last batch",
            "seconds": f"{time.monotonic() - self.began:.1f}",
            "model": self.path,
        }
        click.echo("\n".join(f"{name:<11}{value}" for name, value in lines.items()))


@contextmanager
def _opened(name: str) -> Iterator[tuple[Any, str]]:
    """A file of batches, or standard input, and what messages call it."""
    if name == "-":
        stdin = sys.stdin.buffer
        try:  # a copy of its own: the interpreter, as it ends, waits for a thread that reads its standard input
            file: Any = os.fdopen(os.dup(stdin.fileno()), "rb", closefd=False)
        except OSError:  # there is no file beneath
            file = stdin
        yield file, "standard input"
        return
    from fastann import checks

    checks.data_file(Path(name))
    with Path(name).open("rb") as file:
        yield file, name


@contextmanager
def _terminated() -> Iterator[None]:
    """Take a request to end, as service managers send it, for Ctrl-C."""
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        yield
        return

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    before: Any = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _was_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) == ParameterSource.COMMANDLINE

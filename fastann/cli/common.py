"""What all commands share: the group, errors as one line, options as decorators."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from fastann import __version__, show_versions
from fastann.cli.words import in_words_of

Option = Callable[[Callable[..., Any]], Callable[..., Any]]  # what click.option returns


class Failure(click.ClickException):
    """Something went wrong that is not the user's command line."""

    exit_code = 1


def errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors a user can mend into one line, and warnings into a line of the log."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        import warnings

        def told(message: object) -> str:
            return in_words_of(click.get_current_context().command, str(message))

        def show(message: Any, category: Any, *rest: Any) -> None:
            click.echo(f"warning: {told(message)}", err=True)

        with warnings.catch_warnings():
            warnings.showwarning = show  # type: ignore[assignment]
            try:
                command(*args, **kwargs)
            except (ValueError, TypeError, FileNotFoundError, FileExistsError) as error:
                raise click.UsageError(told(error)) from error
            except (OSError, ImportError, MemoryError, RuntimeError) as error:
                raise Failure(f"{type(error).__name__}: {told(error)}") from error
            except KeyboardInterrupt:
                raise Failure("interrupted; nothing was completed") from None

    return wrapped


# As they are used: look, cluster, see how good that is, do better, go on; commands that are not named here come last.
ORDER = (
    *("demo", "fit", "predict", "evaluate", "report", "indexes", "estimate", "tune", "sweep", "bench"),
    *("index", "search", "describe", "dedup", "classify", "export"),
)


class InOrder(click.Group):
    """Commands that help lists in the order of their use."""

    def list_commands(self, context: click.Context) -> list[str]:
        known = sorted(self.commands)
        return sorted(known, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


@click.group(
    cls=InOrder,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, help="Say which version this is.")
@click.option("-v", "--verbose", is_flag=True, help="With --version: versions of libraries, instructions, threads.")
@click.pass_context
def main(context: click.Context, version: bool, verbose: bool) -> None:
    """Cluster embeddings with k-means through FAISS indexes."""
    if version and verbose:
        show_versions()
    elif version:
        click.echo(f"fastann, version {__version__}")
    elif context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)
    if version:
        context.exit()


WHOLE = r"[0-9]+|[1-9][0-9]{0,2}((,[0-9]{3})+|(_[0-9]{3})+)"


class Count(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click
    """A number, whose thousands may stand apart: 1,000 and 1_000 are 1000."""

    def __init__(self, kind: Any):
        self.kind, self.name = kind, kind.name

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if isinstance(value, str) and re.fullmatch(WHOLE, value, re.ASCII):
            value = re.sub("[,_]", "", value)
        return self.kind.convert(value, param, context)


COUNT, AMOUNT = Count(click.INT), Count(click.FLOAT)


def choices(*names: str) -> str:
    """What help shows of an option with few values; the package checks them, as it does in Python."""
    return f"[{'|'.join(names)}]"


def _given(context: click.Context, param: click.Parameter, paths: tuple[str, ...]) -> Any:
    """One path as it is, none as None, several as a list: what a shell made of a pattern without quotes.

    A shell sorts part-10 before part-2. Rows are to be those, in the same order, of the pattern in quotes.
    """
    from fastann.data.paths import natural

    if len(paths) < 2:
        return paths[0] if paths else None
    return sorted(paths, key=lambda path: natural(Path(path))) if list(paths) == sorted(paths) else list(paths)


def data_argument(name: str = "data", *, required: bool = True) -> Option:
    """The argument DATA, or another of that kind: a path, or several, which come one after the other."""
    return click.argument(
        name,
        nargs=-1,
        required=required,
        type=click.Path(),
        callback=_given,
        metavar=name.upper() if required else f"[{name.upper()}]",
    )


def width_of_lines() -> int | None:
    """Characters that a line of a terminal has room for; None where results go to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def say(text: str) -> None:
    """Print lines, on a terminal broken between words and continued below the value that their name stands before."""
    width = width_of_lines()
    for line in text.split("\n"):
        name = re.match(r"\S+( \S+)* {2,}", line)
        below = " " * len(name[0]) if name and width and len(name[0]) < width // 2 else ""
        folded = [line] if width is None or len(line) <= width else _WRAP(line, width, subsequent_indent=below)
        click.echo("\n".join(folded))


_WRAP = partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)
label_column = click.option(
    "--label-column",
    default=None,
    help='Column of a .csv, .tsv or .parquet file of labels; the only one, or "label", when not given.',
)


def with_options(options: Sequence[Option]) -> Option:
    """Decorate a command with several options, in their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate

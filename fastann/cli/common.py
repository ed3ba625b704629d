"""What all commands share: the group, errors as one line, options as decorators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from fastann import __version__, show_versions
from fastann.cli.words import in_words_of


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


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
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


label_column = click.option(
    "--label-column",
    default=None,
    help='Column of a .csv, .tsv or .parquet file of labels; the only one, or "label", when not given.',
)


Option = Callable[[Callable[..., Any]], Callable[..., Any]]  # what click.option returns


def with_options(options: Sequence[Option]) -> Option:
    """Decorate a command with several options, in their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate

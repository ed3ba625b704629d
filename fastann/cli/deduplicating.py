"""The command that removes near-duplicates: dedup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fastann.cli.common import choices, data_argument, errors, main, say, with_options
from fastann.cli.fitting import data_options, rows_of
from fastann.cli.words import in_words_of

if TYPE_CHECKING:
    from fastann.duplicates.result import Duplicates


@main.command(short_help="Find near-duplicate rows, and keep one of each.")
@click.argument("run", type=click.Path())
@data_argument(required=False)
@with_options(data_options)
@click.option(
    "--threshold",
    default=0.95,
    show_default=True,
    help="Cosine from which two rows are near-duplicates; above -1, at most 1. SemDeDup's eps is 1 - cosine.",
)
@click.option(
    "--keep",
    metavar=choices("central", "outlying", "first"),
    default="central",
    show_default=True,
    help="Which row stays: the one most similar to its centre (central), least similar (outlying), or first.",
)
@click.option(
    "--neighbours",
    default=64,
    show_default=True,
    help="Clusters that a row is compared with beside its own, at most; 0 stays inside clusters.",
)
@click.option("--out", required=True, type=click.Path(), help="Folder to write, or a .csv or .parquet file.")
@click.option("--jobs", "n_jobs", type=int, default=None, help="Threads; all cores when not given.")
@click.option("--force", is_flag=True, help="Replace an existing result.")
@errors
def dedup(
    run: str,
    data: str | None,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    threshold: float,
    keep: str,
    neighbours: int,
    out: str,
    n_jobs: int | None,
    force: bool,
) -> None:
    """Find near-duplicates among the rows of DATA through the clusters of RUN, and keep one of each.

    DATA is what `fastann fit` takes: a file, a folder of files or a quoted pattern, with as many columns as RUN was
    fitted to. Without it the files that RUN was fitted to are opened again, if they did not change since. Every dropped
    row reaches the threshold with the kept row that it is reported with. A folder gets kept.npy, dropped.npy,
    duplicate_of.npy, similarity.npy and dedup.json; a file one line per row.
    """
    from fastann import KMeans
    from fastann import dedup as find
    from fastann.duplicates.result import check_target

    check_target(out, force=force)
    x = rows_of(data, column, id_column, dtype, d)
    found = find(
        KMeans.load(run).set_params(verbose=True),
        x,
        threshold=threshold,
        keep=keep,
        neighbours=neighbours,
        n_jobs=n_jobs,
    )
    found.save(out, force=force)
    say(summary(found, out))


def summary(found: Duplicates, out: str) -> str:
    """Lines that say what was found, what was kept, and how sure it is."""
    m = len(found.dropped)
    low = f"the least similar pair has a cosine of {found.similarity.min():.4f}" if m else ""
    lines = {
        "rows": f"{found.rows:,}",
        "kept": f"{len(found.kept):,} ({found.keep})",
        "dropped": f"{m:,} ({m / found.rows:.2%})"
        + (f", near-duplicates of {found.groups:,} of the kept rows; {low}" if m else ""),
        "threshold": f"{found.threshold:g}",
        "certainty": in_words_of(dedup, found.certainty),
        "seconds": f"{found.seconds:.1f}",
        "written": out,
    }
    return "\n".join(f"{name:<11}{value}" for name, value in lines.items())

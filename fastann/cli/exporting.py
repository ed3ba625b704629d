"""The command that writes a clustering for other programs: export."""

from __future__ import annotations

import click

from fastann.cli.common import choices, errors, main


@main.command()
@click.argument("run", type=click.Path())
@click.option(
    "--format",
    metavar=choices("faiss", "faiss-ivf", "npy", "csv", "parquet", "km"),
    required=True,
    help="faiss, faiss-ivf or npy (centres); csv, parquet or km (rows).",
)
@click.option("--out", required=True, type=click.Path(), help="File to write.")
@click.option(
    "--ids",
    type=click.Path(),
    default=None,
    help="Names of the rows for csv and parquet, .npy; those of the run when not given.",
)
@click.option(
    "--lengths",
    type=click.Path(),
    default=None,
    help="For km: the number of rows of each utterance, .npy; all rows are one when not given.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@errors
def export(run: str, format: str, out: str, ids: str | None, lengths: str | None, force: bool) -> None:
    """Write the clustering in RUN for another program.

    faiss is a flat index over the centres, faiss-ivf a trained, empty inverted file whose cells are the clusters, npy
    the centres as an array. A table (csv, parquet) has the columns row, id, cluster, distance, second_cluster and
    margin: what RUN has of these. km is one line of clusters per utterance, as the tools of HuBERT read units.
    """
    from pathlib import Path

    from fastann import KMeans, checks
    from fastann import export as write

    names = None if ids is None else checks.npy_file(Path(ids))
    parts = None if lengths is None else checks.npy_file(Path(lengths))
    write(KMeans.load(run), out, format, ids=names, lengths=parts, force=force)
    click.echo(f"{Path(out).stat().st_size:,} bytes written to {out}")

"""The command that labels rows by a fitted model: predict."""

from __future__ import annotations

from pathlib import Path

import click

from fastann.cli.common import data_argument, errors, main, with_options
from fastann.cli.fitting import data_options, rows_of


@main.command(short_help="Label rows with the nearest centres of a run.")
@click.argument("run", type=click.Path())
@data_argument()
@click.option("--out", required=True, type=click.Path(), help="File to write: labels (.npy), or a .csv or .parquet.")
@click.option(
    "--index", default=None, help="Search with this index, not with the one of the run; see `fastann indexes`."
)
@click.option("--metric", default=None, help="Of a file of centres: euclidean (the default) or cosine.")
@click.option(
    "--reject", type=float, default=None, help="Label -1 where more of the cluster lies nearer, such as 0.99."
)
@click.option("--novelty", is_flag=True, help="Column outlier_score: distance over the cluster's scale, 1 is usual.")
@with_options(data_options)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@errors
def predict(
    run: str,
    data: str,
    out: str,
    index: str | None,
    metric: str | None,
    reject: float | None,
    novelty: bool,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    force: bool,
) -> None:
    """Label the rows of DATA with the nearest centres of RUN, which may also be a file of centres.

    DATA is what `fastann fit` takes: a file, a folder of files or a quoted pattern. A .npy file gets the labels alone
    (int32), a .csv or .parquet file the columns row, id (where DATA has ids), cluster and distance.
    """
    from fastann import KMeans, storage
    from fastann.cluster import plan
    from fastann.data.open import as_source
    from fastann.runs.exports import assignments
    from fastann.storage import tables

    format = Path(out).suffix.removeprefix(".")
    if format not in ("npy", *tables.FORMATS):
        raise click.UsageError(f"--out {out}: give a name that ends in .npy (labels), .csv or .parquet (a table)")
    if format in tables.FORMATS:
        tables.check_format(out, format)
    elif novelty:
        raise click.UsageError(f"--novelty is a column of a table; {out} has labels alone: end it in .csv or .parquet")
    storage.check_file(out, force=force)
    if Path(run).is_file():
        km = KMeans.from_centers(run, index=index or "flat", metric=metric or "euclidean")
    elif metric is not None:
        raise click.UsageError(f"--metric is for a file of centres; {run} has its own, as it was fitted")
    else:
        km = KMeans.load(run)
        if index is not None:
            km.index_ = plan.choose_index(index, len(km.cluster_centers_), km._device())
    source = as_source(rows_of(data, column, id_column, dtype, d))
    km.set_params(verbose=True)
    if format == "npy":
        labels = km.predict(source, reject=reject)
        storage.write_array(out, labels)
    else:
        labels, distances, scores = km.judged(source, reject, scores=novelty)
        tables.write(out, assignments(labels, distances, ids=source.ids(), scores=scores), format)
    beyond = int((labels < 0).sum())
    click.echo(f"{len(labels):,} labels written to {out}" + (f", {beyond:,} of them -1" if beyond else ""))

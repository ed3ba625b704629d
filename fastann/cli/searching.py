"""The commands that search rows: index, search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from fastann.cli.common import choices, data_argument, errors, main, with_options
from fastann.cli.fitting import data_options, rows_of

if TYPE_CHECKING:
    from fastann.search.rows import RowIndex

ARRAYS = ("npz", "npy")

_jobs = click.option("--jobs", "n_jobs", type=int, default=None, help="Threads; all cores when not given.")


def _probe(context: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    if value is None or value == "auto":
        return value
    if not value.isdecimal():
        raise click.UsageError(f"--probe must be a whole number or auto, got {value!r}")
    return int(value)


@main.command(short_help="Find the rows nearest to queries.")
@click.argument("run", type=click.Path())
@data_argument("queries")
@click.option("-m", "m", type=int, default=10, show_default=True, help="Nearest rows to find of each query.")
@click.option(
    "--probe",
    callback=_probe,
    default=None,
    help="Clusters to search, 8 if there are so many; of a saved index nprobe, ef_search or rerank; auto: by --recall.",
)
@click.option(
    "--recall", type=float, default=None, help="With --probe auto, the recall@m to reach; 0.99 when not given."
)
@click.option("--rows", type=click.Path(), default=None, help="The rows to search; those of RUN when not given.")
@click.option("--measure", is_flag=True, help="Measure recall@m on a sample of the queries, against exact search.")
@with_options(data_options)
@_jobs
@click.option("--out", required=True, type=click.Path(), help="File to write: .npz, .npy, .csv or .parquet.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@errors
def search(
    run: str,
    queries: str,
    m: int,
    probe: int | str | None,
    recall: float | None,
    rows: str | None,
    measure: bool,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    n_jobs: int | None,
    out: str,
    force: bool,
) -> None:
    """Find the rows nearest to each of QUERIES, through the clusters of RUN or a saved index.

    RUN is what `fastann fit` or `fastann index` wrote, and knows where its rows lie if they lie in files. QUERIES
    is what `fastann fit` takes as DATA, as is --rows. A .npz gets the arrays ids (int64) and distances (float32), a
    .npy the ids alone, a .csv or .parquet the columns query, query_id and id (where the data has ids), rank, row and
    distance.
    """
    from fastann import KMeans, storage
    from fastann.data.open import as_source
    from fastann.search.clusters import usual_probe
    from fastann.search.rows import RowIndex, is_saved
    from fastann.storage import tables

    format = Path(out).suffix.removeprefix(".")
    if format not in (*ARRAYS, *tables.FORMATS):
        raise click.UsageError(
            f"--out {out}: give a name that ends in .npz or .npy (arrays), .csv or .parquet (a table)"
        )
    if format in tables.FORMATS:
        tables.check_format(out, format)
    storage.check_file(out, force=force)
    source = as_source(rows_of(queries, column, id_column, dtype, d))
    measured = None
    if is_saved(run):
        index = RowIndex.load(run, rows, n_jobs=n_jobs)
        _set(index, source, m, probe, recall)
        distances, ids = index.search(source, m)
        measured = index.measure(source, m) if measure else None
        names, how = index.ids, str(index.index)
    else:
        km = KMeans.load(run).set_params(verbose=True, n_jobs=n_jobs)
        given, count = None if rows is None else as_source(rows), probe
        if count is None:
            count = usual_probe(len(km.cluster_centers_))
        if count == "auto":
            count = km.probe_for(source, m, rows=given, recall=recall)
        assert not isinstance(count, str)
        distances, ids = km.search(source, m, probe=count, rows=given, recall=None if probe == "auto" else recall)
        measured = km.search_recall(source, m, probe=count, rows=given) if measure else None
        names, how = km.ids_ if given is None else given.ids(), f"{count} of {len(km.cluster_centers_):,} clusters"
    _write(out, format, ids, distances, source.ids(), names)
    click.echo(f"{ids.shape[1]} rows nearest to {len(ids):,} queries written to {out}, through {how}")
    if measured is not None:
        click.echo(str(measured))


def _set(index: RowIndex, queries: Any, m: int, probe: int | str | None, recall: float | None) -> None:
    """Search a saved index as far as asked for."""
    option = index.index.search_option
    if recall is not None and probe != "auto":
        raise click.UsageError("--recall is for --probe auto; give both, or leave it out")
    if probe is None:
        return
    if option is None:
        raise click.UsageError(f"{index.index} has no number of cells or candidates to search; leave --probe out")
    if probe == "auto":
        index.tune(0.99 if recall is None else recall, queries, m)
    else:
        index.set_search(**{option: probe})


def _write(out: str, format: str, ids: np.ndarray, distances: np.ndarray, own: Any, names: Any) -> None:
    """Write what was found as arrays, or as a table with a line for each query and neighbour."""
    from fastann import storage
    from fastann.storage import tables

    if format == "npz":
        storage.write_file(out, lambda file: np.savez(file, ids=ids, distances=distances))
    elif format == "npy":
        storage.write_array(out, ids)
    else:
        query = np.repeat(np.arange(len(ids)), ids.shape[1])
        columns = {"query": query} | ({} if own is None else {"query_id": own[query]})
        columns |= {"rank": np.tile(np.arange(1, ids.shape[1] + 1), len(ids)), "row": ids.ravel()}
        columns |= {} if names is None else {"id": names[ids.ravel()]}
        tables.write(out, columns | {"distance": distances.ravel()}, format)


@main.command("index", short_help="Index rows, for search.")
@data_argument()
@click.option("--index", default="auto", show_default=True, help="auto, or one that `fastann indexes` lists.")
@click.option(
    "--metric",
    metavar=choices("euclidean", "cosine"),
    default="euclidean",
    show_default=True,
    help="How rows are compared.",
)
@click.option(
    "--recall", type=float, default=None, help="Recall@10 that an open search option (nprobe=auto) must reach; 0.99."
)
@with_options(data_options)
@_jobs
@click.option("--seed", default=0, show_default=True, help="Seed of all randomness.")
@click.option("--out", required=True, type=click.Path(), help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace an existing index.")
@errors
def build_index(
    data: str,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    seed: int,
    out: str,
    force: bool,
    **options: Any,
) -> None:
    """Index the rows of DATA, for `fastann search`.

    DATA is what `fastann fit` takes. The index is written to a folder; the rows stay where they are.
    """
    from fastann import build_index as build
    from fastann import storage
    from fastann.search.rows import RECORD

    storage.check_target(out, force=force, name=RECORD)
    index = build(rows_of(data, column, id_column, dtype, d), random_state=seed, **options)
    index.save(out, force=force)
    click.echo(f"{index.n:,} rows x {index.d}, {index.index}, written to {out}")

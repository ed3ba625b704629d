"""The commands that measure: sweep, bench, tune, evaluate, estimate, report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from fastann.cli.common import errors, label_column, main, with_options
from fastann.cli.fitting import data_options, rows_of

_metric = click.option("--metric", default="euclidean", show_default=True, help="euclidean or cosine.")
_seed = click.option("--seed", default=0, show_default=True, help="Seed of all randomness.")
_jobs = click.option("--jobs", "n_jobs", type=int, default=None, help="Threads; all cores when not given.")
_study = [
    _metric,
    click.option("--seeds", default=3, show_default=True, help="Runs of each method, with different starts."),
    click.option("--max-iter", default=25, show_default=True, help="Iterations at most."),
    click.option(
        "--time-limit", type=float, default=None, help="Seconds that a fit, or building and searching, may take."
    ),
    click.option(
        "--memory-limit", type=float, default=None, help="GiB that a run may have in memory, its data included."
    ),
    click.option("--retry", is_flag=True, help="Do failed runs again."),
    click.option("--no-report", is_flag=True, help="Leave report.html out."),
]


def _command() -> str:
    return shlex.join(["fastann", *sys.argv[1:]])


def _numbers(text: str, name: str) -> list[int]:
    try:
        return [int(float(part)) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{name} must be numbers separated by commas, such as 1000,4096; got {text!r}") from None


def _report(folder: Any, wanted: bool) -> None:
    """Write report.html, or say why not: a report is no reason to fail."""
    if not wanted:
        return
    from fastann import report

    try:
        click.echo(f"\nreport  {report.build(folder)}")
    except ImportError as error:
        click.echo(f"no report.html: {error}", err=True)


@main.command()
@click.argument("data", type=click.Path())
@click.option("--n-clusters", "-k", type=int, required=True, help="Number of clusters.")
@click.option(
    "--index",
    "indexes",
    multiple=True,
    required=True,
    help='Setting or grid, such as "ivf:nlist=32|64,nprobe=1|4"; repeat it for several.',
)
@click.option(
    "--what", default="fit", show_default=True, help="fit: whole fits; assign: one search of fixed centroids."
)
@click.option(
    "--sample", type=int, default=None, help="Rows to train on (fit) or to search (assign); all when not given."
)
@click.option("--baseline", default="flat", show_default=True, help="Method that inertia and time are compared with.")
@click.option(
    "--prune", is_flag=True, help="Skip larger nprobe or ef_search where a smaller one has a recall of 1 already."
)
@with_options(data_options)
@with_options(_study)
@click.option("--out", required=True, type=click.Path(), help="Folder of the sweep; what is there is not run again.")
@errors
def sweep(
    data: str,
    n_clusters: int,
    indexes: tuple[str, ...],
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    out: str,
    no_report: bool,
    **options: Any,
) -> None:
    """Try index settings on DATA, each run in a process of its own.

    DATA is what `fastann fit` takes, of dense rows: a file, a folder of files or a quoted pattern
    ("vectors/*.parquet"). Every run reads it anew and holds all rows in memory.

    A sweep that was stopped goes on where it was when the same command is given again.
    """
    from fastann import sweep as run
    from fastann.study.results import ProgressLine

    rows = rows_of(data, column, id_column, dtype, d)
    done = run(rows, n_clusters, list(indexes), out=out, progress=ProgressLine(), command=_command(), **options)
    click.echo(done.table())
    _report(done.folder, not no_report)


@main.command()
@click.argument("data", type=click.Path(), required=False)
@click.option("--n-clusters", "-k", default="100,1000", show_default=True, help="One or more, separated by commas.")
@click.option(
    "--methods",
    default="vanilla,sklearn,faiss,auto,ivf,hnsw",
    show_default=True,
    help="vanilla, sklearn, faiss, faiss-k-means++, faiss-super, auto or any index, separated by commas.",
)
@click.option("--sizes", default=None, help="Numbers of rows to cluster, separated by commas; all when not given.")
@with_options(data_options)
@with_options(_study)
@click.option(
    "--out", required=True, type=click.Path(), help="Folder of the benchmark; what is there is not run again."
)
@errors
def bench(
    data: str | None,
    n_clusters: str,
    methods: str,
    sizes: str | None,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    out: str,
    no_report: bool,
    **options: Any,
) -> None:
    """Compare with plain k-means: NumPy, scikit-learn, FAISS; on DATA, or on patches of two photographs.

    DATA is what `fastann fit` takes, of dense rows: a file, a folder of files or a quoted pattern
    ("vectors/*.parquet"). Every run reads it anew and holds all rows in memory.
    """
    from fastann import bench as run
    from fastann.study.results import ProgressLine

    rows = rows_of(data, column, id_column, dtype, d)
    done = run(
        _photographs() if rows is None else rows,
        _numbers(n_clusters, "--n-clusters"),
        methods=methods.split(","),
        sizes=None if sizes is None else _numbers(sizes, "--sizes"),
        out=out,
        progress=ProgressLine(),
        command=_command(),
        **options,
    )
    click.echo(done.table())
    _report(done.folder, not no_report)


def _photographs() -> Any:
    from fastann.data.patches import patches

    return patches()


@main.command()
@click.argument("data", type=click.Path())
@click.option("--n-clusters", "-k", type=int, required=True, help="Number of clusters.")
@click.option("--recall", default=0.99, show_default=True, help="Share of rows that must get their nearest centroid.")
@click.option("--index", default=None, help="Only this kind of index, such as ivf or ivf:nlist=64.")
@click.option("--budget", default="60s", show_default=True, help="Time to spend, such as 500ms, 60s, 5min or 1h.")
@with_options(data_options)
@_metric
@_jobs
@_seed
@errors
def tune(
    data: str,
    n_clusters: int,
    budget: str,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    seed: int,
    **options: Any,
) -> None:
    """Find the fastest index that reaches a recall on DATA.

    DATA is what `fastann fit` takes, of dense rows: a file, a folder of files or a quoted pattern.
    """
    from fastann import tune as run

    rows = rows_of(data, column, id_column, dtype, d)
    click.echo(run(rows, n_clusters, budget=_seconds(budget), random_state=seed, **options).summary())


def _seconds(text: str) -> float:
    units = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "": 1.0}
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    try:
        return float(number) * units[text[len(number) :]]
    except (KeyError, ValueError):
        raise click.UsageError(f"--budget must be a time such as 60s or 5min, got {text!r}") from None


@main.command()
@click.argument("clustering", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("--truth", default=None, type=click.Path(), help="True labels: .npy, .txt, .csv, .tsv or .parquet.")
@label_column
@click.option("--metric", default=None, help="euclidean or cosine, for labels; a run knows its own.")
@click.option(
    "--sample", default=20_000, show_default=True, help="Rows for silhouette, Davies-Bouldin and Calinski-Harabasz."
)
@click.option("--stability", default=0, help="Fit so often with other seeds, 2 or more, and compare; 0: not at all.")
@click.option(
    "--retrieval", is_flag=True, help="Measure recall@10 of an inverted file with these clusters for its lists."
)
@click.option("--projection", default="pca", show_default=True, help="How the map is drawn: pca, tsne or umap.")
@with_options(data_options)
@click.option("--out", default=None, type=click.Path(), help="Folder for evaluation.json and report.html.")
@_seed
@errors
def evaluate(
    clustering: str,
    data: str,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    out: str | None,
    seed: int,
    **options: Any,
) -> None:
    """Measure how good a CLUSTERING of DATA is: a run directory, or labels (.npy).

    DATA is what `fastann fit` takes, of dense rows: a file, a folder of files or a quoted pattern.
    """
    from fastann import evaluate as run

    done = run(Path(clustering), rows_of(data, column, id_column, dtype, d), random_state=seed, **options)
    click.echo(done.summary())
    if out is not None:
        done.save(out)
        _report(out, True)


@main.command()
@click.option("--rows", type=float, required=True, help="Number of rows, such as 1e8.")
@click.option("--dims", type=int, required=True, help="Number of columns.")
@click.option("--n-clusters", "-k", type=int, required=True, help="Number of clusters.")
@click.option(
    "--index",
    multiple=True,
    help="Index to estimate, repeat it for several; auto, flat, cells, ivf and hnsw when not given.",
)
@click.option(
    "--iterations", default=25, show_default=True, help="Iterations of fits with a given index; auto stops by itself."
)
@_jobs
@errors
def estimate(index: tuple[str, ...], **options: Any) -> None:
    """Predict operations, memory and time of a fit on this machine, from a short calibration."""
    from fastann import estimate as run
    from fastann.study.estimate import table

    click.echo(table(run(index=list(index) or None, **options)))


@main.command()
@click.argument("folder", type=click.Path())
@errors
def report(folder: str) -> None:
    """Write report.html into FOLDER, which is that of a sweep, a benchmark, a fit or an evaluation."""
    from fastann import report as package

    click.echo(package.build(folder))

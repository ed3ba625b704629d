"""The commands that measure: sweep, bench, tune, evaluate, estimate, report."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from fastann.cli.common import (
    AMOUNT,
    COUNT,
    choices,
    data_argument,
    errors,
    label_column,
    main,
    say,
    width_of_lines,
    with_options,
)
from fastann.cli.fitting import data_options, rows_of
from fastann.cli.words import in_words_of
from fastann.cluster.progress import Bar

_metric = click.option(
    "--metric",
    metavar=choices("euclidean", "cosine"),
    default="euclidean",
    show_default=True,
    help="How rows are compared.",
)
_seed = click.option("--seed", default=0, show_default=True, help="Seed of all randomness.")
_jobs = click.option("--jobs", "n_jobs", type=int, default=None, help="Threads; all cores when not given.")
_study = [
    _metric,
    _jobs,
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
    parts = [part.strip() for part in text.split(",")]
    if any(re.fullmatch("0[0-9]+", part) for part in parts[1:]):
        raise click.UsageError(f"{name} {text}: commas stand between numbers here; write {text.replace(',', '')}")
    try:
        found = [float(part) for part in parts]
        if not all(number.is_integer() for number in found):
            raise ValueError
        return [int(number) for number in found]
    except ValueError:
        raise click.UsageError(f"{name} must be numbers separated by commas, such as 1000,4096; got {text!r}") from None


def _can_report(wanted: bool) -> bool:
    """Whether report.html will be written; says before the work why not, as that is no reason to fail."""
    from fastann.report import check_libraries

    try:
        if wanted:
            check_libraries()
    except ImportError as error:
        click.echo(f"no report.html will be written: {error}", err=True)
        return False
    return wanted


def _report(folder: Any, wanted: bool) -> None:
    from fastann.report import build

    if wanted:
        click.echo(f"\nreport  {build(folder)}")


@main.command(short_help="Try a grid of index settings.")
@data_argument()
@click.option("--n-clusters", "-k", type=COUNT, default=None, help="Number of clusters; not for --what search.")
@click.option(
    "--index",
    "indexes",
    multiple=True,
    required=True,
    help='Setting or grid, such as "ivf:nlist=32|64,nprobe=1|4"; repeat it for several.',
)
@click.option(
    "--what",
    metavar=choices("fit", "assign", "search"),
    default="fit",
    show_default=True,
    help="fit: whole fits; assign: one search of fixed centroids; search: an index over the rows, and --queries.",
)
@click.option(
    "--queries", type=click.Path(), default=None, help="With --what search: these; 1,000 of the rows when not given."
)
@click.option("-m", "m", default=None, help="With --what search: recall@m for each of these; 1,10,100 when not given.")
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
    n_clusters: int | None,
    indexes: tuple[str, ...],
    m: str | None,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    out: str,
    no_report: bool,
    **options: Any,
) -> None:
    """Try index settings on DATA, in processes beside this one.

    DATA is what `fastann fit` takes: a file, a folder of files or a quoted pattern ("vectors/*.parquet"). Every run
    reads it anew and holds all rows in memory. Of sparse rows, methods that take dense ones are failures.

    A sweep that was stopped goes on where it was when the same command is given again.
    """
    from fastann import sweep as run
    from fastann.study.results import ProgressLine

    rows, reported = rows_of(data, column, id_column, dtype, d), _can_report(not no_report)
    options["m"] = None if m is None else _numbers(m, "-m")
    done = run(rows, n_clusters, list(indexes), out=out, progress=ProgressLine(), command=_command(), **options)
    click.echo(done.table(width_of_lines()))
    _report(done.folder, reported)


@main.command(short_help="Compare with k-means of NumPy, scikit-learn and FAISS.")
@data_argument(required=False)
@click.option("--n-clusters", "-k", default="100,1000", show_default=True, help="One or more, separated by commas.")
@click.option(
    "--methods",
    default="vanilla,sklearn,faiss,auto,ivf,hnsw",
    show_default=True,
    help="vanilla, sklearn, faiss, faiss-k-means++, faiss-super, auto or any index, separated by commas.",
)
@click.option("--sizes", default=None, help="Numbers of rows to cluster, separated by commas; all when not given.")
@click.option("--dims", default=None, help="Numbers of columns of made-up rows, such as 10,100,1000; in place of DATA.")
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
    dims: str | None,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    out: str,
    no_report: bool,
    **options: Any,
) -> None:
    """Compare with plain k-means: NumPy, scikit-learn, FAISS; on DATA, or on patches of two photographs.

    DATA is what `fastann fit` takes: a file, a folder of files or a quoted pattern ("vectors/*.parquet"). Every run
    reads it anew and holds all rows in memory. Of sparse rows, methods that take dense ones are failures.
    """
    from fastann import bench as run
    from fastann.study.results import ProgressLine

    rows, reported = rows_of(data, column, id_column, dtype, d), _can_report(not no_report)
    done = run(
        _photographs() if rows is None and dims is None else rows,
        _numbers(n_clusters, "--n-clusters"),
        methods=methods.split(","),
        sizes=None if sizes is None else _numbers(sizes, "--sizes"),
        dims=None if dims is None else _numbers(dims, "--dims"),
        out=out,
        progress=ProgressLine(),
        command=_command(),
        **options,
    )
    click.echo(done.table(width_of_lines()))
    _report(done.folder, reported)


def _photographs() -> Any:
    from fastann.data.patches import patches

    return patches()


BUDGET = (
    "Time to try indexes for, such as 500ms, 60s, 5min or 1h. Reading DATA, a short fit before and timing the fastest "
    "again afterwards come on top."
)


@main.command()
@data_argument()
@click.option("--n-clusters", "-k", type=COUNT, required=True, help="Number of clusters.")
@click.option("--recall", default=0.99, show_default=True, help="Share of rows that must get their nearest centroid.")
@click.option("--index", default=None, help="Only this kind of index, such as ivf or ivf:nlist=64.")
@click.option("--budget", default="60s", show_default=True, help=BUDGET)
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
    metric: str,
    seed: int,
    **options: Any,
) -> None:
    """Find the fastest index that reaches a recall on DATA.

    DATA is what `fastann fit` takes: a file, a folder of files or a quoted pattern.
    """
    from fastann import tune as run

    rows = rows_of(data, column, id_column, dtype, d)
    with Bar(True, "tune", drawn=False):
        found = run(rows, n_clusters, budget=_seconds(budget), metric=metric, random_state=seed, **options)
    given: dict[str, Any] = {"--column": column, "--id-column": id_column, "--dtype": dtype, "--dim": d}
    given |= {"-k": n_clusters, "--metric": metric, "--index": found.index, "--out": "RUN"}
    words = [str(word) for name, value in given.items() if value is not None for word in (name, value)]
    say(found.summary(shlex.join(["fastann", "fit", data, *words])))


def _seconds(text: str) -> float:
    units = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "": 1.0}
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    try:
        return float(number) * units[text[len(number) :]]
    except (KeyError, ValueError):
        raise click.UsageError(f"--budget must be a time such as 60s or 5min, got {text!r}") from None


@main.command(short_help="Measure how good a clustering is.")
@click.argument("clustering", type=click.Path())
@data_argument()
@click.option("--truth", default=None, type=click.Path(), help="True labels: .npy, .txt, .csv, .tsv or .parquet.")
@label_column
@click.option(
    "--outliers", default=None, type=click.Path(), help="Rows known to belong nowhere: .npy of True and False."
)
@click.option(
    "--metric", metavar=choices("euclidean", "cosine"), default=None, help="Needed for labels; a run knows its own."
)
@click.option(
    "--sample", default=20_000, show_default=True, help="Rows for silhouette, Davies-Bouldin and Calinski-Harabasz."
)
@click.option("--stability", default=0, help="Fit so often with other seeds, 2 or more, and compare; 0: not at all.")
@click.option(
    "--retrieval", is_flag=True, help="Measure recall@10 of an inverted file with these clusters for its lists."
)
@click.option(
    "--projection",
    metavar=choices("pca", "tsne", "umap"),
    default="pca",
    show_default=True,
    help="How the map is drawn: pca, tsne or umap.",
)
@click.option("--components", default=2, show_default=True, help="Dimensions of the map: 2 or 3.")
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

    DATA is what `fastann fit` takes: a file, a folder of files or a quoted pattern.
    """
    from fastann import evaluate as run

    rows = rows_of(data, column, id_column, dtype, d)
    reported = _can_report(out is not None)
    with Bar(True, "evaluate", drawn=False):
        done = run(Path(clustering), rows, random_state=seed, **options)
    say(in_words_of(click.get_current_context().command, done.summary()))
    if out is not None:
        done.save(out)
        _report(out, reported)


@main.command(short_help="Predict what a fit will cost on this machine.")
@data_argument(required=False)
@click.option("--rows", type=AMOUNT, default=None, help="Number of rows, such as 1e8; those of DATA when not given.")
@click.option("--dims", type=COUNT, default=None, help="Number of columns; those of DATA when not given.")
@click.option("--n-clusters", "-k", type=COUNT, required=True, help="Number of clusters.")
@click.option(
    "--index",
    multiple=True,
    help="Index to estimate, repeat it for several; auto, flat, cells, ivf and hnsw when not given.",
)
@click.option(
    "--iterations", default=25, show_default=True, help="Iterations of fits with a given index; auto stops by itself."
)
@with_options(data_options)
@_jobs
@errors
def estimate(
    data: str | None,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    index: tuple[str, ...],
    **options: Any,
) -> None:
    """Predict operations, memory and time of a fit on this machine, from a short calibration.

    With DATA, or a part of it, that is made on its rows: how soon a fit stops is in these. Without, give --rows and
    --dims, and made-up rows stand for yours.
    """
    from fastann import estimate as run
    from fastann.study.estimate import table

    rows = rows_of(data, column, id_column, dtype, d)
    say(table(run(data=rows, index=list(index) or None, **options), width_of_lines()))


@main.command(short_help="Write report.html into the folder of a fit, a study or an evaluation.")
@click.argument("folder", type=click.Path())
@errors
def report(folder: str) -> None:
    """Write report.html into FOLDER, which is that of a sweep, a benchmark, a fit or an evaluation."""
    from fastann import report as package

    click.echo(package.build(folder))

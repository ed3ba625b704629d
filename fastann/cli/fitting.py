"""The commands that cluster: fit, indexes, demo."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fastann.cli.common import COUNT, WHOLE, Option, choices, data_argument, errors, main, say, with_options
from fastann.cli.words import in_words_of

if TYPE_CHECKING:
    from fastann.estimators.kmeans import KMeans


def _sample(value: str | None) -> int | float | None:
    """A sample: a whole number is rows, anything with a point is a fraction."""
    if value is None:
        return None
    try:
        if re.fullmatch(WHOLE, value):
            return int(COUNT.convert(value, None, None))
        if "_" in value:  # float() would take 1_0
            raise ValueError
        return float(value)
    except ValueError:
        raise click.UsageError(f"--sample must be rows (100000) or a fraction (0.1), got {value!r}") from None


def _share(context: click.Context, param: click.Parameter, value: str) -> float | str:
    """A share of the rows, or auto."""
    try:
        return value if value == "auto" else float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a share of the rows, such as 0.05, nor auto") from None


def _unless_said(context: click.Context, param: click.Parameter, value: bool | None) -> bool | str:
    """What a flag says; auto where it is not given."""
    return "auto" if value is None else value


def _iterations(most: int) -> Option:
    return click.option("--max-iter", default=most, show_default=True, help="Iterations at most.")


_ITERATIONS = _iterations(25)
_fit_options: list[Option] = [
    click.option("--index", default="auto", show_default=True, help="auto, or one that `fastann indexes` lists."),
    click.option(
        "--recall",
        type=float,
        default=None,
        help="Recall@1 that an index with nprobe=auto or ef_search=auto must reach; 0.99 when not given.",
    ),
    click.option(
        "--metric",
        metavar=choices("euclidean", "cosine"),
        default="euclidean",
        show_default=True,
        help="How rows are compared.",
    ),
    click.option(
        "--init",
        metavar=choices("auto", "random", "k-means++", "k-means||", "afk-mc2"),
        default="auto",
        show_default=True,
        help="How k-means starts.",
    ),
    click.option("--n-init", default=1, show_default=True, help="Starts tried; the one of lowest inertia is kept."),
    click.option(
        "--swaps/--no-swaps",
        default=None,
        callback=_unless_said,
        help="Improve the start by swaps, or not; by default where that is known to pay.",
    ),
    _ITERATIONS,
    click.option(
        "--effort",
        default=1.0,
        show_default=True,
        help="For auto: 2 searches twice as cautiously, and goes on until iterations gain half as much.",
    ),
    click.option(
        "--size-aware/--no-size-aware",
        default=None,
        callback=_unless_said,
        help="Move rows by Hartigan's rule, or to the nearest centre; by default what index auto does.",
    ),
    click.option(
        "--exact-labels", is_flag=True, help="Find the final labels by exact search of every row, whatever the index."
    ),
    click.option(
        "--tol",
        default=1e-4,
        show_default=True,
        help="Stop when an iteration decreases inertia by no more than this share; 0: when no row moves.",
    ),
    click.option(
        "--sample",
        default=None,
        help="Train on so many random rows (100000), or this fraction (0.1); all rows are labelled.",
    ),
    click.option(
        "--empty",
        metavar=choices("split", "farthest", "keep"),
        default="split",
        show_default=True,
        help="An empty cluster takes half of another (split), moves to the farthest row (farthest) or stays (keep).",
    ),
    click.option(
        "--trim",
        default="0",
        show_default=True,
        callback=_share,
        help="Leave this share of the rows out of the means, those farthest out (0.05), or auto to find the share.",
    ),
    click.option(
        "--outlier-threshold", type=float, default=None, help="Or leave out rows beyond so many mean distances (2)."
    ),
    click.option(
        "--outlier-labels",
        metavar=choices("nearest", "-1"),
        default="nearest",
        show_default=True,
        help="Cluster of rows left out: the nearest, or -1.",
    ),
    click.option("--time-limit", type=float, default=None, help="Seconds for all iterations; one is always done."),
    click.option(
        "--device", multiple=True, help="cpu (the default), auto, cuda, cuda:N, cuda:all; repeat it for more."
    ),
    click.option("--shard", is_flag=True, help="Several GPUs split the centroids between them, not the rows."),
    click.option("--jobs", "n_jobs", type=int, default=None, help="Threads; all cores when not given."),
    click.option("--seed", default=0, show_default=True, help="Seed of all randomness."),
]


data_options = [
    click.option(
        "--column",
        default=None,
        help="What holds the rows: a column of lists, an array, a tensor; or a pattern of columns ('x*').",
    ),
    click.option(
        "--id-column", default=None, help="Column of integers or strings that names rows (Parquet, Arrow, CSV)."
    ),
    click.option(
        "--dtype",
        default=None,
        help="Type of raw numbers (float16, bfloat16, ...); bfloat16 also where a file cannot say so.",
    ),
    click.option("--dim", "d", type=int, default=None, help="Number of columns of raw numbers."),
]


def rows_of(data: str | None, column: str | None, id_column: str | None, dtype: str | None, d: int | None) -> Any:
    """What an estimator is given: the path itself, or what is opened with options; None where DATA may be missing."""
    from fastann import open_source

    if all(option is None for option in (column, id_column, dtype, d)):
        return data
    if data is None:
        raise click.UsageError("--column, --id-column, --dtype and --dim say how DATA is opened; give DATA too")
    return open_source(data, column=column, id_column=id_column, dtype=dtype, d=d)


@main.command()
@data_argument(required=False)
@click.option("--n-clusters", "-k", type=COUNT, default=None, help="Number of clusters; needed without --resume.")
@with_options(data_options)
@with_options(_fit_options)
@click.option("--margins/--no-margins", default=True, help="Find second nearest centres too (the default), or not.")
@click.option(
    "--max-memory",
    default=None,
    help="Memory that the fit may take, such as 2GiB; half of what is free when not given.",
)
@click.option(
    "--temp-folder",
    type=click.Path(),
    default=None,
    help="Folder on a disk for what exceeds that; the one that RUN is in when not given.",
)
@click.option(
    "--checkpoint",
    type=float,
    default=None,
    help="Write checkpoints, at least so many seconds apart; 0: after every start and iteration.",
)
@click.option("--out", type=click.Path(), default=None, help="Run directory to write; needed without --resume.")
@click.option("--resume", type=click.Path(), default=None, help="Unfinished run to go on with; DATA only if it moved.")
@click.option(
    "--labels/--no-labels",
    default=True,
    help="Write what is known of each row (the default), or the model alone.",
)
@click.option("--force", is_flag=True, help="Replace an existing run.")
@click.option("--report", is_flag=True, help="Write report.html into the run directory too.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.pass_context
@errors
def fit(
    context: click.Context,
    data: str | None,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    checkpoint: float | None,
    out: str | None,
    resume: str | None,
    force: bool,
    report: bool,
    quiet: bool,
    labels: bool,
    **options: Any,
) -> None:
    """Cluster the rows of DATA and write a run directory.

    DATA is a file, a folder of files or a quoted pattern ("vectors/*.parquet"): .npy, .npz (sparse or not), Parquet,
    Arrow, CSV, HDF5, zarr, safetensors, fvecs, fbin or raw numbers.

    With --checkpoint the run directory is there from the beginning. If the fit is killed, `fastann fit --resume RUN`
    goes on from the last checkpoint, with the data and options that RUN names, and ends where it would have ended. Data
    that lies elsewhere by then is given too: `fastann fit DATA --resume RUN`.
    Ctrl-C and --time-limit end a fit early but complete the run.
    """
    from fastann import storage
    from fastann.report import build, check_libraries

    if report:
        check_libraries()  # before hours of work
    if resume is not None:
        _refuse_beside_resume(context)
        _resume(resume, data, quiet, options)
        out = resume
    else:
        if data is None:
            raise click.UsageError("Missing argument 'DATA' (or --resume, with an unfinished run).")
        if options["n_clusters"] is None:
            raise click.UsageError("Missing option '--n-clusters' / '-k'.")
        if out is None:
            raise click.UsageError("Missing option '--out'.")
        storage.check_target(out, force=force)
        options["temp_folder"] = options["temp_folder"] or _made(Path(out).absolute().parent)
        source = rows_of(data, column, id_column, dtype, d)
        if checkpoint is None:
            _fit_and_save(_estimator(quiet, options), source, out, labels=labels, force=force)
        else:
            _begin(source, out, force, quiet, labels, {**options, "checkpoint_seconds": checkpoint})
    if report:
        click.echo(f"{'report':<12}{build(out)}")


BESIDE_RESUME = ("resume", "data", "report", "quiet", "n_jobs", "max_memory", "temp_folder")


def _refuse_beside_resume(context: click.Context) -> None:
    """Refuse options that an unfinished run has already."""
    given = [
        param
        for param in context.command.params
        if context.get_parameter_source(param.name or "") == ParameterSource.COMMANDLINE
        and param.name not in BESIDE_RESUME
    ]
    if given:
        raise click.UsageError(
            f"--resume takes everything from the run, so {given[0].opts[0]} cannot be given with it; leave it out"
        )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _begin(data: Any, out: str, force: bool, quiet: bool, labels: bool, options: dict[str, Any]) -> None:
    """Fit with checkpoints in the run directory, which is there from now on."""
    from fastann.data.open import as_source

    km, source = _estimator(quiet, options), as_source(data)
    km.begin_run(source, out, labels=labels, force=force)
    _fit_and_save(km, source, out, labels=labels, force=False)


def _resume(run: str, data: str | None, quiet: bool, options: dict[str, Any]) -> None:
    """Go on with a run that was begun, whose rows may lie elsewhere now; nothing is left to do for a complete one."""
    from fastann import KMeans, storage
    from fastann.cluster import checkpoint
    from fastann.runs.clustering import resume

    if not storage.is_running(run):
        km = KMeans.load(run)
        checkpoint.remove(Path(run) / storage.CHECKPOINTS)
        click.echo(f"{run} is complete: {km.clustering_.rows.n:,} rows in {len(km.cluster_centers_):,} clusters")
        return
    km, source = resume(run, KMeans, data)
    given = {name: options[name] for name in ("n_jobs", "max_memory", "temp_folder") if options[name] is not None}
    km.set_params(verbose=not quiet, **given)
    _fit_and_save(km, source, run, labels=storage.read_manifest(run).get("labels", True), force=False)


@main.command()
@errors
def indexes() -> None:
    """List the indexes, their options and defaults."""
    from fastann.index.spec import ALIASES, SPECS

    click.echo("auto\n    Exact on small problems; on others candidates, bounds and cell-major search. The default.")
    for name, spec in SPECS.items():
        also = "".join(f" Also called {alias}." for alias, of in ALIASES.items() if of == name)
        click.echo(f"{name}\n    {(spec.__doc__ or '').splitlines()[0]}{also}")
        for f in fields(spec):
            if "help" in f.metadata:
                default = "" if f.default is MISSING or f.default is None else f" [{f.default}]"
                click.echo(f"    {f.name}: {f.metadata['help']}{default}")


_DEMO = [_iterations(100) if option is _ITERATIONS else option for option in _fit_options]


@main.command(short_help="Cluster the patches of two photographs: a first look.")
@click.option("--n-clusters", "-k", type=COUNT, default=1000, show_default=True, help="Number of clusters.")
@with_options(_DEMO)
@click.option("--out", default="demo-run", show_default=True, type=click.Path(), help="Run directory to write.")
@click.option("--force", is_flag=True, help="Replace an existing run.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@errors
def demo(out: str, force: bool, quiet: bool, **options: Any) -> None:
    """Cluster the 531,720 8x8 patches of scikit-learn's two sample photographs, and write a report."""
    from fastann import storage
    from fastann.data.patches import patches
    from fastann.report import build, check_libraries

    storage.check_target(out, force=force)
    click.echo("1 of 3: cutting two photographs into 8x8 patches", err=True)
    data = patches()
    told = f"{len(data):,} patches of {data.shape[1]} numbers into {options['n_clusters']:,} clusters"
    click.echo(f"2 of 3: clustering {told}, which takes seconds", err=True)
    _fit_and_save(_estimator(quiet, options), data, out, force=force)
    try:
        check_libraries()
        click.echo("3 of 3: writing the report", err=True)
        click.echo(f"{'report':<12}{build(out).absolute()}")
    except ImportError as error:
        click.echo(f"3 of 3: no report, as {error}", err=True)
    click.echo(NEXT.format(fastann=_called()))


NEXT = """
What to try next, beside opening the report in a browser:
  {fastann} fit YOURS.npy -k 100 --report --out runs/first
      your own rows: .npy, Parquet, HDF5, a folder of files, ...
  {fastann} bench YOURS.npy -k 100 --methods vanilla,faiss,auto --out runs/bench
      beside k-means in NumPy and of FAISS
  {fastann} --help
      everything else"""


def _called() -> str:
    """How a shell finds this command: an environment that is not active has it beside its Python."""
    beside = Path(sys.executable).with_name("fastann")
    if shutil.which("fastann") or not beside.exists():
        return "fastann"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def _estimator(quiet: bool, options: dict[str, Any]) -> KMeans:
    """An estimator with the options of the command line."""
    from fastann import KMeans

    options["random_state"] = options.pop("seed")
    options["outlier_labels"] = -1 if options["outlier_labels"] == "-1" else options["outlier_labels"]
    options["sample"] = _sample(options["sample"])
    options["device"] = list(options["device"]) if len(options["device"]) > 1 else (*options["device"], "cpu")[0]
    return KMeans(verbose=not quiet, **options)


def _fit_and_save(km: KMeans, data: Any, out: str, *, force: bool, labels: bool = True) -> None:
    km.fit(data)
    km.save(out, labels=labels, force=force)
    say(summary(km, out))


def summary(km: KMeans, out: str) -> str:
    """Lines that say what was done, how good it is and where it lies."""
    from fastann.estimators.summary import of_centers, text

    said = {name: in_words_of(fit, value) for name, value in of_centers(km).items()}
    return text(said | {"run": out})

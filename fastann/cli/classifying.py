"""The commands that classify a table: classify fit, classify predict, classify evaluate."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from fastann.cli.classifier_options import fit_options, made, shared_options
from fastann.cli.common import data_argument, errors, label_column, main, say, with_options
from fastann.cli.fitting import data_options, rows_of

if TYPE_CHECKING:
    from fastann.estimators.classifier import PrototypeClassifier

SHOWN = 5  # worst classes, and confusions, that evaluate lists


@main.group()
def classify() -> None:
    """Classify rows by the nearest of several prototypes per class.

    Rows are what `fastann fit` takes: a file, a folder of files or a quoted pattern; sparse ones are .npz, as
    scipy.sparse.save_npz writes it. Labels are .npy, .txt with one label a line, .csv with a header line, or .parquet.
    Labels in text are strings, unless every one of them is an integer: then they are int64.
    """


@classify.command(short_help="Learn prototypes of classes, and write a model.")
@data_argument()
@click.argument("labels", type=click.Path())
@label_column
@with_options(data_options)
@with_options(shared_options)
@with_options(fit_options)
@click.option("--out", required=True, type=click.Path(), help="Folder of the model to write.")
@click.option("--force", is_flag=True, help="Replace an existing model.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@errors
def fit(
    data: str,
    labels: str,
    label_column: str | None,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    out: str,
    force: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Learn prototypes of the classes of the rows of DATA and write a model.

    DATA is what `fastann fit` takes: a file, a folder of files or a quoted pattern; sparse rows are .npz, as
    scipy.sparse.save_npz writes it. LABELS is .npy, .txt with one label a line, .csv or .tsv with a header line, or
    .parquet. Labels in text are strings, unless every one of them is an integer without leading zeros: then they are
    int64.
    """
    from fastann import storage
    from fastann.data.labels import read_labels
    from fastann.data.open import as_source

    storage.check_target(out, force=force)
    y = read_labels(labels, label_column)
    model = made(options, y, verbose=not quiet)
    source = as_source(rows_of(data, column, id_column, dtype, d))
    clock = time.perf_counter()
    model.fit(source, y)
    seconds = time.perf_counter() - clock
    model.save(out, force=force)
    say(summary(model, source.n, seconds, out))


@classify.command(short_help="Classify rows with a model.")
@click.argument("model", type=click.Path())
@data_argument()
@with_options(data_options)
@click.option("--out", required=True, type=click.Path(), help="File to write: .npy, .txt or .csv.")
@click.option("--reject-below", type=float, default=None, help="Reject rows of a smaller similarity.")
@click.option(
    "--reject-label",
    default=None,
    help="Label of rejected rows; when not given, -1 where labels are numbers, else rejected.",
)
@click.option("--proba", is_flag=True, help="Write probabilities: .npy, float32, a column per class, sorted.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@errors
def predict(
    model: str,
    data: str,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    out: str,
    reject_below: float | None,
    reject_label: str | None,
    proba: bool,
    force: bool,
) -> None:
    """Classify the rows of DATA, which is what `fastann fit` takes, with MODEL.

    A .txt gets one label a line, a .csv the columns row, id (where DATA has ids), label and similarity: the cosine, or
    1 / (1 + squared distance), to the nearest prototype.
    """
    from fastann import PrototypeClassifier, checks, storage
    from fastann.data.labels import parse_labels
    from fastann.data.open import as_source

    if proba and (reject_below is not None or reject_label is not None):
        raise click.UsageError("--proba writes probabilities, not labels: leave --reject-below and --reject-label out")
    _check_out("--out", out, [".npy"] if proba else [".npy", ".txt", ".csv"], force)
    fitted, source = PrototypeClassifier.load(model), as_source(rows_of(data, column, id_column, dtype, d))
    fitted.set_params(verbose=True, output="numpy")
    if proba:
        shares = fitted.predict_proba(source).astype(np.float32)
        storage.write_array(out, shares)
        click.echo(f"probabilities of {len(shares):,} rows and {shares.shape[1]:,} classes written to {out}")
        return
    if reject_below is not None:
        fitted.set_params(reject_below=checks.real(reject_below, "--reject-below", -1.0))
    if reject_label is not None:
        if fitted.reject_below is None:
            raise click.UsageError(f"--reject-label {reject_label} rejects nothing alone; give --reject-below too")
        as_text = fitted.classes_.dtype.kind == "U"
        fitted.set_params(reject_label=parse_labels([reject_label], as_text=as_text)[0].item())
    labels = fitted.predict(source)
    if out.endswith(".npy"):
        storage.write_array(out, labels)
    else:
        storage.write_text(out, _text(fitted, source, labels, out))
    click.echo(f"{len(labels):,} labels written to {out}")


@classify.command(short_help="Measure how well a model classifies.")
@click.argument("model", type=click.Path())
@data_argument()
@click.argument("labels", type=click.Path())
@label_column
@with_options(data_options)
@click.option("--json", "out", default=None, type=click.Path(), help="File for the same numbers (.json).")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@errors
def evaluate(
    model: str,
    data: str,
    labels: str,
    label_column: str | None,
    column: str | None,
    id_column: str | None,
    dtype: str | None,
    d: int | None,
    out: str | None,
    force: bool,
) -> None:
    """Measure how well MODEL classifies the rows of DATA, given their true LABELS.

    DATA is what `fastann fit` takes. LABELS is .npy, .txt with one label a line, .csv or .tsv with a header line, or
    .parquet; text is read as numbers where the classes of the model are numbers. No row is rejected.
    """
    from fastann import PrototypeClassifier, checks, records
    from fastann.data.labels import check_like, read_labels
    from fastann.data.open import as_source

    if out is not None:
        _check_out("--json", out, [".json"], force)
    fitted, source = PrototypeClassifier.load(model), as_source(rows_of(data, column, id_column, dtype, d))
    fitted.set_params(verbose=True, output="numpy")
    y = read_labels(labels, label_column, as_text=fitted.classes_.dtype.kind == "U")
    y = checks.class_labels(y, source.n)
    check_like(y, fitted.classes_, labels)
    found = measure(y, fitted.set_params(reject_below=None).predict(source), fitted.classes_)
    click.echo(measured(found))
    if out is not None:
        records.write_json(out, {"schema": records.SCHEMA, **found})


def _check_out(option: str, out: str, suffixes: list[str], force: bool) -> None:
    """Refuse a file name of another kind, and a file that exists, before any work."""
    if Path(out).suffix not in suffixes:
        raise click.UsageError(f"{option} {out}: give a name that ends in {' or '.join(suffixes)}")
    if Path(out).exists() and not force:
        raise click.UsageError(f"{out} exists already; choose another path or pass --force to replace it")


def _text(model: PrototypeClassifier, source: Any, labels: np.ndarray, out: str) -> str:
    """Labels as lines of text, or as CSV beside their similarity to the nearest prototype."""
    from fastann.cluster.space import space_of
    from fastann.data.labels import check_lines

    names, codes = np.unique(labels, return_inverse=True)
    words = [str(name) for name in names]
    check_lines(words, out)
    if out.endswith(".txt"):
        return "".join(f"{words[code]}\n" for code in codes)
    distance, _ = model.kneighbors(source, 1)
    near = space_of(model.metric).closeness(distance[:, 0])
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    ids = source.ids()
    named = [() if ids is None else (ids[row],) for row in range(len(codes))]
    writer.writerow(["row", *(["id"] if ids is not None else []), "label", "similarity"])
    writer.writerows((row, *named[row], words[codes[row]], f"{near[row]:.6g}") for row in range(len(codes)))
    return file.getvalue()


def summary(model: PrototypeClassifier, n: int, seconds: float, out: str) -> str:
    """Lines that say what was learned, whether refinement helped, and where the model lies."""
    from fastann.estimators.summary import of_classes, text

    rows = {"rows": f"{n:,} x {model.n_features_in_}"}
    return text(rows | of_classes(model) | {"seconds": f"{seconds:.1f}", "model": out})


def measure(truth: np.ndarray, predicted: np.ndarray, known: np.ndarray) -> dict[str, Any]:
    """Accuracy with its interval, macro F1, and where the errors are.

    Parameters
    ----------
    truth, predicted : ndarray of shape (n,)
    known : ndarray
        Classes of the model.
    """
    from sklearn.metrics import f1_score

    from fastann.index.recall import wilson

    n, right = len(truth), truth == predicted
    hits = int(right.sum())
    classes, codes, rows = np.unique(truth, return_inverse=True, return_counts=True)
    recall = np.bincount(codes, right) / rows
    worst = np.lexsort((-rows, recall))[:SHOWN]
    names, pairs = np.unique(np.concatenate([truth[~right], predicted[~right]]), return_inverse=True)
    a, b = pairs[: n - hits], pairs[n - hits :]
    found, times = np.unique(a * len(names) + b, return_counts=True)
    often = np.argsort(-times, kind="stable")[:SHOWN]
    return {
        "rows": n,
        "right": hits,
        "accuracy": hits / n,
        "accuracy_interval": list(wilson(hits, n)),
        "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
        "classes": len(classes),
        "rows_of_unknown_classes": int(rows[~np.isin(classes, known)].sum()),
        "worst_classes": [
            {"class": classes[i].item(), "rows": int(rows[i]), "recall": float(recall[i])} for i in worst
        ],
        "confusions": [
            {
                "true": names[found[i] // len(names)].item(),
                "predicted": names[found[i] % len(names)].item(),
                "rows": int(times[i]),
            }
            for i in often
        ],
    }


def measured(found: dict[str, Any]) -> str:
    """What `measure` found, as a table for a terminal."""
    low, high = found["accuracy_interval"]
    lines = [
        f"{'rows':<11}{found['rows']:,} of {found['classes']:,} classes",
        f"{'accuracy':<11}{found['accuracy']:.4f} (95%: {low:.4f} to {high:.4f})",
        f"{'macro F1':<11}{found['macro_f1']:.4f}",
    ]
    if found["rows_of_unknown_classes"]:
        lines.append(
            f"{'unknown':<11}{found['rows_of_unknown_classes']:,} rows of classes that the model does not know"
        )
    worst = [(str(c["class"]), f"{c['rows']:,}", f"{c['recall']:.4f}") for c in found["worst_classes"]]
    lines += ["", *_aligned(("lowest recall", "rows", "recall"), worst, 1)]
    often = [(str(c["true"]), str(c["predicted"]), f"{c['rows']:,}") for c in found["confusions"]]
    if often:
        lines += ["", *_aligned(("class", "taken for", "rows"), often, 2)]
    return "\n".join(lines)


def _aligned(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], words: int) -> list[str]:
    """Lines of a table whose first columns are words, the others numbers."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(f"{cell:{'<' if i < words else '>'}{widths[i]}}" for i, cell in enumerate(row)).rstrip()
        for row in [head, *rows]
    ]

"""Options of the commands that train a classifier, and the estimator that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import numpy as np

from fastann.cli.common import choices

if TYPE_CHECKING:
    from fastann.estimators.classifier import PrototypeClassifier

shared_options = [  # of fits and streams
    click.option(
        "--n-prototypes",
        default="3",
        show_default=True,
        help="Prototypes per class, auto, or numbers by class: spam=5,ham=2.",
    ),
    click.option(
        "--default-prototypes",
        default=3,
        show_default=True,
        help="Prototypes of the classes that --n-prototypes does not name, where it names some.",
    ),
    click.option(
        "--metric",
        metavar=choices("cosine", "euclidean"),
        default="cosine",
        show_default=True,
        help="How rows are compared.",
    ),
    click.option(
        "--init",
        metavar=choices("k-means++", "random"),
        default="k-means++",
        show_default=True,
        help="How k-means starts.",
    ),
    click.option(
        "--assignment",
        metavar=choices("hard", "soft"),
        default="hard",
        show_default=True,
        help="Training rows go to the nearest prototype of their class (hard), or are shared (soft).",
    ),
    click.option(
        "--scores",
        metavar=choices("linear", "softmax"),
        default="linear",
        show_default=True,
        help="Shares of soft assignment: linear in the similarity, or its softmax.",
    ),
    click.option("--temperature", default=0.1, show_default=True, help="Temperature of that softmax."),
    click.option(
        "--wrong-class-penalty",
        default=1.0,
        show_default=True,
        help="In soft assignment, taken off the similarity to prototypes of other classes.",
    ),
    click.option(
        "--shrinkage",
        default="auto",
        show_default=True,
        help="Pull prototypes to the mean of their class as so many rows there would; or auto.",
    ),
    click.option("--merge-threshold", type=float, default=None, help="Merge prototypes of a class nearer than this."),
    click.option(
        "--relative-merge",
        default=None,
        help="true: --merge-threshold is a share of the spread of each class. A number, instead of that option: a "
        "share of the mean distance between prototypes.",
    ),
    click.option(
        "--percentile-threshold",
        type=float,
        default=None,
        help="Merge pairs, and truncate coordinates, only below this quantile too.",
    ),
    click.option(
        "--min-weight", default=0.0, show_default=True, help="Drop prototypes that stand for less weight (rows)."
    ),
    click.option(
        "--truncation-threshold",
        default=0.0,
        show_default=True,
        help="Coordinates of prototypes that are smaller become zero.",
    ),
    click.option("--max-iter", default=10, show_default=True, help="Epochs of k-means at most."),
    click.option(
        "--tol",
        default=1e-4,
        show_default=True,
        help="Stop when an epoch decreases the sum of squared distances by no more than this share.",
    ),
    click.option("--index", default="auto", show_default=True, help="auto, or one that `fastann indexes` lists."),
    click.option(
        "--recall",
        default=0.99,
        show_default=True,
        help="Recall that an index which leaves its search option open must reach.",
    ),
    click.option(
        "--prototype-dtype",
        type=click.Choice(["float32", "float16", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Type of stored prototypes.",
    ),
    click.option("--jobs", "n_jobs", type=int, default=None, help="Threads; all cores when not given."),
    click.option("--seed", default=0, show_default=True, help="Seed of all randomness."),
]

fit_options = [
    click.option(
        "--refine",
        metavar=choices("auto", "softmax", "none"),
        default="auto",
        show_default=True,
        help="Gradient steps after k-means: softmax, none, or auto (where rows held out gain by them).",
    ),
    click.option(
        "--class-weight",
        type=click.Choice(["balanced"]),
        default=None,
        help="balanced: classes of few rows weigh as much as others in refinement and probabilities.",
    ),
]


def made(options: dict[str, Any], labels: np.ndarray, *, verbose: bool) -> PrototypeClassifier:
    """The estimator of some options, for classes with labels like these."""
    from fastann import PrototypeClassifier

    given = dict(options)
    given["random_state"], given["dtype"] = given.pop("seed"), given.pop("prototype_dtype")
    given["n_prototypes"] = _by_class(given["n_prototypes"], labels)
    given["shrinkage"] = _number_or_auto("--shrinkage", given["shrinkage"], float, "a number")
    given["relative_merge"] = _flag_or_number(given["relative_merge"])
    return PrototypeClassifier(verbose=verbose, **given)


def _by_class(value: str, labels: np.ndarray) -> Any:
    """Numbers of prototypes: one, "auto", or a dict by class, whose keys are read as the labels are."""
    if "=" not in value:
        return _number_or_auto("--n-prototypes", value, int, "a whole number")
    from fastann.data.labels import parse_labels

    pairs = [part.rpartition("=") for part in value.split(",")]
    for name, mark, number in pairs:
        if not mark or not name or not number.isascii() or not number.isdigit():
            raise click.UsageError(
                f"--n-prototypes must name classes and whole numbers, such as spam=5,ham=2, got {value!r}"
            )
    names = parse_labels([name for name, _, _ in pairs], as_text=labels.dtype.kind not in "iub")
    return {name: int(number) for name, (_, _, number) in zip(names.tolist(), pairs, strict=True)}


def _flag_or_number(value: str | None) -> Any:
    if value is None or value in ("true", "false"):
        return None if value is None else value == "true"
    return _number_or("--relative-merge", value, float, "true, false or a number")


def _number_or_auto(option: str, value: str, kind: type, what: str) -> Any:
    return value if value == "auto" else _number_or(option, value, kind, f"{what} or auto")


def _number_or(option: str, value: str, kind: type, what: str) -> Any:
    try:
        if "_" in value:  # int() and float() would take 1_0
            raise ValueError
        return kind(value)
    except ValueError:
        raise click.UsageError(f"{option} must be {what}, got {value!r}") from None

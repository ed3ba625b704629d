"""Parameters and labels of the classifier: what each may be, checked before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastann import checks
from fastann.classify.prototypes import Thinning
from fastann.classify.search import PrototypeSearch
from fastann.classify.training import Recipe
from fastann.cluster import plan
from fastann.cluster.passes.groups import Sharing
from fastann.cluster.space import METRICS, Space
from fastann.index import gpu
from fastann.index.faiss import faiss

INITS = ("k-means++", "random")
ASSIGNMENTS = ("hard", "soft")
REFINE = ("auto", "none", "softmax")
SCORES = ("linear", "softmax")
DTYPES = ("float32", "float16", "bfloat16")
OUTPUTS = ("numpy", "torch")


def check_classifier(model: Any) -> None:
    """Check the parameters of a `PrototypeClassifier` that do not depend on the data."""
    checks.choice(model.metric, "metric", METRICS)
    checks.choice(model.init, "init", INITS)
    checks.choice(model.assignment, "assignment", ASSIGNMENTS)
    checks.choice(model.scores, "scores", SCORES)
    checks.choice(model.refine, "refine", REFINE)
    checks.choice(model.dtype, "dtype", DTYPES)
    checks.choice(model.output, "output", OUTPUTS)
    check_class_weight(model.class_weight)
    checks.real(model.temperature, "temperature", 0.0, above=True)
    checks.real(model.wrong_class_penalty, "wrong_class_penalty", 0.0)
    checks.integer(model.candidates, "candidates", 1)
    checks.integer(model.default_prototypes, "default_prototypes", 1)
    check_merging(model.merge_threshold, model.relative_merge)
    if model.percentile_threshold is not None:
        checks.real(model.percentile_threshold, "percentile_threshold", 0.0)
    if model.percentile_threshold is not None and not 0 < model.percentile_threshold <= 1:
        raise ValueError(f"percentile_threshold must be in (0, 1], got {model.percentile_threshold}")
    if model.shrinkage != "auto":
        checks.real(model.shrinkage, "shrinkage", 0.0)
    checks.real(model.min_weight, "min_weight", 0.0)
    checks.real(model.truncation_threshold, "truncation_threshold", 0.0)
    checks.integer(model.max_iter, "max_iter", 1)
    checks.real(model.tol, "tol", 0.0)
    if model.reject_below is not None:
        checks.real(model.reject_below, "reject_below", -1.0)
    plan.choose_index(model.index, 1)
    checks.real(model.recall, "recall", 0.0, above=True)
    if model.recall >= 1:
        raise ValueError(f"recall must be below 1, got {model.recall}; for exact search pass index='flat'")
    if (device := gpu.parse_device(model.device, faiss)) != "cpu":
        gpu.require(faiss(), device)


def check_classes(
    classes: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, zeros: np.ndarray | None = None
) -> None:
    """Check that rows of positive weight have at least two of the classes, rows of `zeros` being left out for that."""
    some = np.ones(len(labels), bool) if weights is None else weights > 0
    if zeros is not None:
        some[zeros] = False
    held = np.unique(labels[some])
    if len(held) >= 2:
        return
    if zeros is not None and len(zeros):
        left = "no other row is left" if not len(held) else f"the others have one class: {held.tolist()[0]!r}"
        raise ValueError(
            f"a classifier needs at least 2 classes; {len(zeros)} of {len(labels)} rows are zero, have no direction, "
            f"which metric='cosine' needs, and cannot be learned from; {left}. Add rows, or pass metric='euclidean'"
        )
    rows = "y has" if len(classes) < 2 else "the rows of positive weight have"
    raise ValueError(
        f"a classifier needs at least 2 classes, {rows} one class: {held.tolist()[0]!r}; add rows of others"
    )


def check_merging(threshold: Any, relative: Any) -> None:
    """Check when prototypes merge: at a distance, at a share of the class's spread, or of the mean distance."""
    if threshold is not None:
        checks.real(threshold, "merge_threshold", 0.0)
    if is_flag(relative):
        if relative and threshold is None:
            raise ValueError(
                "relative_merge=True makes merge_threshold a share of the spread of each class, but merge_threshold is "
                "None; give it too, for example merge_threshold=0.5"
            )
    elif relative is not None:
        checks.real(relative, "relative_merge", 0.0)
        if threshold is not None:
            raise ValueError(
                f"merge_threshold={threshold} and relative_merge={relative} are two ways to say when prototypes merge; "
                "give one of them, or relative_merge=True for a merge_threshold relative to the spread of each class"
            )


def is_flag(value: Any) -> bool:
    """Whether a value is True or False, rather than a number."""
    return isinstance(value, bool | np.bool_)


def check_class_weight(value: Any) -> None:
    """Check that weights of classes are None, "balanced" or a dict of numbers of 0 or more."""
    if isinstance(value, Mapping):
        for label, weight in value.items():
            checks.real(weight, f"class_weight[{label!r}]", 0.0)
    elif value is not None and not (isinstance(value, str) and value == "balanced"):
        raise ValueError(f"class_weight must be None, 'balanced' or a dict of class label to weight, got {value!r}")


def refuse_balanced(value: Any) -> None:
    """Refuse weights that a stream cannot know before its end."""
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(
            "class_weight 'balanced' is not supported for partial_fit, as a batch does not tell how frequent classes "
            "are. Compute weights from a sample of the labels, w = sklearn.utils.class_weight.compute_class_weight("
            "'balanced', classes=classes, y=y), and pass class_weight=dict(zip(classes, w))"
        )


def weighted(
    class_weight: Any, classes: np.ndarray, codes: np.ndarray, weights: np.ndarray | None, *, whole: bool = False
) -> np.ndarray | None:
    """Weights of rows times those of their classes: float64 [n], or None where there are none.

    `whole` says that there are no classes but these, so that a dict is wrong which has others and lacks some of these.
    """
    if class_weight is None:
        return weights
    rows = np.ones(len(codes)) if weights is None else weights
    total = np.bincount(codes, rows, minlength=len(classes))
    held = total > 0
    if class_weight == "balanced":
        by_class = np.divide(total.sum(), held.sum() * total, out=np.ones(len(classes)), where=held)
    else:
        plain = [c.item() if isinstance(c, np.generic) else c for c in classes]
        missing = [c for c in plain if c not in class_weight]
        if whole and missing and len(plain) - len(missing) != len(class_weight):
            others = [c for c in class_weight if c not in plain]
            raise ValueError(
                f"The classes, {missing[:10]}, are not in class_weight, which has {others[:10]} that y lacks; its keys "
                "must be labels as they stand in y"
            )
        by_class = np.array([class_weight.get(c, 1.0) for c in plain], float)
    if held.sum() > 1 and np.count_nonzero(held & (by_class > 0)) < 2:
        raise ValueError(
            f"class_weight={class_weight!r} leaves weight to fewer than 2 classes; give at least two a positive weight"
        )
    out: np.ndarray = rows * by_class[codes]
    return out


def with_new(known: np.ndarray, labels: np.ndarray, expected: Any) -> np.ndarray:
    """Classes known so far, those that a caller expects (None: none), and those of the labels of a batch, sorted."""
    given = known if expected is None else np.asarray(checks.one_kind(expected, "classes"))
    if given.ndim != 1:
        raise ValueError(f"classes must be a list of labels, got an array of shape {given.shape}")
    given = np.unique(given)
    for others in (known, given):
        if len(others) and _is_text(others) != _is_text(labels):
            raise ValueError(
                f"labels of {labels.dtype} do not go with classes of {others.dtype}; use one kind of label"
            )
    new = np.setdiff1d(labels if expected is None else np.concatenate([given, labels]), known)
    return np.union1d(known, new) if len(new) else known


def listed_by(model: Any, classes: np.ndarray, before: np.ndarray | None = None) -> np.ndarray | None:
    """Classes that a list of numbers of prototypes names, in its order; None if it is no list.

    `before` are those that it named in earlier batches: classes that came later may sort between them.
    """
    wanted = model.n_prototypes
    if not isinstance(wanted, (list, tuple, np.ndarray)):
        return None
    if before is not None and len(before) == len(wanted):
        return before
    if len(wanted) > len(classes):
        raise ValueError(
            f"n_prototypes lists {len(wanted)} numbers for {len(classes)} classes; at most one per class is needed, in "
            "order of the sorted labels (a stream takes a dict, or all classes with its first batch)"
        )
    return classes[: len(wanted)]


def sizes_of(model: Any, classes: np.ndarray, listed: np.ndarray | None, *, whole: bool = False) -> np.ndarray | None:
    """Prototypes wanted of each class: int64 [classes], or None where they are to be chosen.

    `whole` says that there are no classes but these, so that a dict is wrong which has none of them.
    """
    wanted, k = model.n_prototypes, len(classes)
    if isinstance(wanted, str):
        checks.choice(wanted, "n_prototypes", ("auto",))
        return None
    if isinstance(wanted, Mapping):
        plain = [c.item() if isinstance(c, np.generic) else c for c in classes]
        if whole and wanted and not any(c in wanted for c in plain):
            raise ValueError(
                f"n_prototypes names {list(wanted)[:10]}, none of which is a class of y, which has {plain[:10]}; its "
                "keys must be labels as they stand in y"
            )
        for label, number in wanted.items():
            checks.integer(number, f"n_prototypes[{label!r}]", 1)
        return np.array([wanted.get(c, model.default_prototypes) for c in plain], np.int64)
    if listed is not None:
        sizes = np.full(k, model.default_prototypes, np.int64)
        sizes[np.searchsorted(classes, listed)] = [checks.integer(v, "n_prototypes", 1) for v in wanted]
        return sizes
    return np.full(k, checks.integer(wanted, "n_prototypes", 1), np.int64)


def recipe_of(model: Any, space: Space) -> Recipe:
    """The parameters as training takes them."""
    sharing = None
    if model.assignment == "soft":
        sharing = Sharing(model.candidates, model.scores, model.temperature, model.wrong_class_penalty)
    return Recipe(
        space=space,
        init=model.init,
        sharing=sharing,
        thinning=Thinning(
            model.merge_threshold,
            None if is_flag(model.relative_merge) else model.relative_merge,
            model.percentile_threshold,
            model.min_weight,
            model.truncation_threshold,
            by_spread=is_flag(model.relative_merge) and bool(model.relative_merge),
        ),
        shrinkage=None if model.shrinkage == "auto" else float(model.shrinkage),
        max_iter=model.max_iter,
        tol=model.tol,
        candidates=model.candidates,
        dtype=model.dtype,
        spec=PrototypeSearch(model.index),
        device=gpu.parse_device(model.device, faiss),
    )


def _is_text(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "US" or (labels.dtype.kind == "O" and all(isinstance(v, str) for v in labels))

"""Which runs a study has: patterns of indexes times seeds, sizes and numbers of clusters, in order."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from fastann import records
from fastann.index.base import Spec
from fastann.index.parse import parse_index
from fastann.records import Record
from fastann.study.methods import PEERS

SURE = 0.9999  # recall from which searching more is pointless


def expand(text: str) -> list[str]:
    """All indexes that a pattern means: ``"ivf:nlist=32|64,nprobe=1|2"`` is four.

    Alternatives are separated by ``|``, for any option, or for the whole (``"auto|flat"``).

    Raises
    ------
    ValueError
        For an unknown index or option.
    """
    found: dict[Any, str] = {}
    for one in _alternatives(text):
        found.setdefault(_spec(one) or one, one)
    return list(found.values())


def _alternatives(text: str) -> list[str]:
    name, colon, rest = text.partition(":")
    if not colon:
        return text.split("|")
    parts = []
    for token in re.split(r"([,;])", rest):
        key, equals, values = token.rpartition("=")
        parts.append([f"{key}{equals}{value}" for value in values.split("|")])
    return [f"{name}:{''.join(choice)}" for choice in itertools.product(*parts)]


def _spec(method: str) -> Spec | None:
    """The index that a method names, None for "auto" and the peers; `ValueError` for nonsense."""
    return None if method == "auto" or method in PEERS else parse_index(method)


def methods_of(texts: Any, baseline: str) -> tuple[list[str], str]:
    """Expand all methods, without duplicates, and the baseline as it is called among them; it comes first if new."""
    if isinstance(texts, str | Spec):
        texts = [texts]
    found: dict[Any, str] = {}
    for text in texts:
        for one in expand(str(text)):
            found.setdefault(_spec(one) or one, one)
    if not found:
        raise ValueError("there is nothing to run; give at least one index, such as 'auto' or 'ivf:nprobe=1|4|16'")
    if not baseline:
        return list(found.values()), ""
    base = expand(str(baseline))
    if len(base) > 1:
        raise ValueError(f"baseline={baseline!r} means {len(base)} indexes; give one to compare with")
    known = found.get(_spec(base[0]) or base[0])
    return ([] if known else base) + list(found.values()), known or base[0]


@dataclass(frozen=True)
class Run:
    """One combination: its record's name, and what distinguishes it; 0 stands for no clusters, and for one width."""

    name: str
    method: str
    n: int
    n_clusters: int
    seed: int
    d: int = 0

    @property
    def configuration(self) -> dict[str, Any]:
        """What distinguishes the run, as plain values; the index with all its options."""
        spec = _spec(self.method)
        options = {} if spec is None else {f.name: getattr(spec, f.name) for f in fields(spec)}
        index = spec.name if spec is not None else ("auto" if self.method == "auto" else "")
        sizes = {"n": self.n, "d": self.d, "n_clusters": self.n_clusters}
        return {name: size for name, size in sizes.items() if size} | {"seed": self.seed, "index": index, **options}

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.method} seed {self.seed}"


def runs_of(settings: dict[str, Any]) -> list[Run]:
    """All runs, in the order they are done: methods take turns, from another one on for each seed."""
    methods = settings["methods"]
    labels = _labels(methods)
    out = []
    for turn, seed in enumerate(settings["seeds"]):
        for n, k, d in itertools.product(settings["sizes"], settings["n_clusters"], settings.get("dims") or [0]):
            for i in range(len(methods)):
                method = methods[(i + turn) % len(methods)]
                sizes = "".join(f"_{name}={size}" for name, size in (("n", n), ("d", d), ("k", k)) if size)
                out.append(Run(f"{labels[method]}{sizes}_seed={seed}", method, n, k, seed, d))
    return out


def _labels(methods: Sequence[str]) -> dict[str, str]:
    """A part of a file name for each method; those that would be alike, or too long, end in a checksum."""
    plain = {method: records.slug(method) for method in methods}
    counts: dict[str, int] = {}
    for label in plain.values():
        counts[label.lower()] = counts.get(label.lower(), 0) + 1
    return {
        method: label
        if counts[label.lower()] == 1 and len(label) <= 120
        else f"{label[:120]}-{hashlib.sha256(method.encode()).hexdigest()[:8]}"
        for method, label in plain.items()
    }


def in_order_of_effort(methods: list[str]) -> list[str]:
    """The same methods; settings that differ only in search effort take their places with the least effort first."""
    places: dict[Any, list[int]] = {}
    for i, method in enumerate(methods):
        places.setdefault(_kin(method) or i, []).append(i)
    out = list(methods)
    for at in places.values():
        for i, method in zip(at, sorted((methods[i] for i in at), key=lambda m: _effort(m) or 0), strict=True):
            out[i] = method
    return out


def _effort(method: str) -> int | None:
    """Search effort of an index, where it has a search option and that is a number."""
    spec = _spec(method)
    effort = None if spec is None or spec.search_option is None else getattr(spec, spec.search_option)
    return effort if isinstance(effort, int) else None


def _kin(method: str) -> tuple[Any, ...] | None:
    """What settings share that differ only in search effort; None where there is no such effort."""
    spec = _spec(method)
    return None if spec is None or _effort(method) is None else spec.built_with


def pruned(run: Run, done: dict[str, Record], runs: list[Run], recall: str = "recall") -> str:
    """Why a run is pointless: with less effort, and the first seed, recall was as good as complete. "" if it is not.

    `recall` is the name of the metric. Only the first seed decides, so that a setting has all of its seeds or none,
    resumed or not.
    """
    kin, effort = _kin(run.method), _effort(run.method)
    if kin is None or effort is None:
        return ""
    for other in runs:
        record = done.get(other.name)
        if (
            record is None
            or record.status != "done"
            or (other.n, other.n_clusters, other.d) != (run.n, run.n_clusters, run.d)
        ):
            continue
        if other.seed != runs[0].seed or _kin(other.method) != kin or (_effort(other.method) or 0) >= effort:
            continue
        if record.values.get(recall) == 1.0 or record.values.get(f"{recall}_low", 0.0) > SURE:
            what = "centroids" if recall == "recall" else "rows"
            return f"{other.method} already found {record.values[recall]:.4%} of the nearest {what}"
    return ""

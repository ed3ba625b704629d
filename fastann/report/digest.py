"""The runs of a study put together: medians over seeds, problems, frontiers, and the finding in a sentence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fastann import records
from fastann.records import METRICS, Metric, Record, Study, frontier
from fastann.report.html import is_number, number, percent, span, with_unit, written

TIME, SPEEDUP, INERTIA = METRICS["seconds"], METRICS["speedup"], METRICS["inertia"]
QUALITY = {"fit": METRICS["relative_inertia"], "assign": METRICS["recall"]}
ENOUGH = {"fit": 0.01, "assign": 0.99, "search": 0.95}  # what counts as good as the baseline
NOISE = "no difference beyond noise"
PROBLEM = {"n": "rows", "d": "columns", "n_clusters": "clusters"}


@dataclass(eq=False)
class Group:
    """The runs of one method on one problem, over seeds."""

    method: str
    runs: list[Record] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The index or library: what stands before the options."""
        return self.method.partition(":")[0]

    @cached_property
    def done(self) -> list[Record]:
        """The runs that have values."""
        return [run for run in self.runs if run.status == "done"]

    def values(self, metric: Metric) -> list[float]:
        """A metric's values, of all seeds that have one."""
        found = [run.values.get(metric.name) for run in self.done]
        return [value for value in found if is_number(value)]  # type: ignore[misc]

    def median(self, metric: Metric) -> float | None:
        """A metric's median over seeds; None where no seed has it."""
        values = self.values(metric)
        return statistics.median(values) if values else None

    @property
    def middle(self) -> Record | None:
        """The run of the median seed, by time."""
        timed = [run for run in self.done if is_number(run.values.get(TIME.name))]
        timed.sort(key=lambda run: (run.values[TIME.name], run.name))
        return timed[(len(timed) - 1) // 2] if timed else None


class Panel:
    """The groups of one problem: which are on the frontier, and what was found.

    Attributes
    ----------
    sizes : dict of str to float
        Rows and clusters, where a study has several.
    shown : list of Group
        Those with a time and a quality.
    rank : dict of Group to int
        Places on the frontier, from the fastest on.
    """

    def __init__(self, study: Study, sizes: dict[str, float], groups: list[Group]):
        self.study, self.sizes, self.groups = study, sizes, groups
        self.quality = quality_of(study)
        if not any(group.values(self.quality) for group in groups) and any(group.values(INERTIA) for group in groups):
            self.quality = INERTIA  # nothing to relate it to: no baseline, or it failed
        self.shown = [g for g in groups if g.values(TIME) and g.values(self.quality)]
        self.points = [(_some(g.median(TIME)), _some(g.median(self.quality))) for g in self.shown]
        front = frontier(self.points, TIME, self.quality)
        self.rank = {self.shown[at]: place for place, at in enumerate(front, 1)}
        self.baseline = next((g for g in self.shown if g.method == study.baseline), None)

    @property
    def name(self) -> str:
        """The problem, where a study has several: ``10,000 rows, 100 clusters``."""
        return ", ".join(f"{number(size)} {PROBLEM[name]}" for name, size in self.sizes.items())

    @property
    def enough(self) -> float | None:
        """The quality from which a method is as good as the baseline; None when nothing has one."""
        if self.quality is INERTIA:
            return min(y for _, y in self.points) * (1 + ENOUGH["fit"])
        return ENOUGH[self.study.what if self.study.what in ENOUGH else "fit"]

    def best(self, leave: Group | None = None) -> Group | None:
        """The fastest method, other than the baseline and one to leave out, whose quality is enough."""
        sign = 1 if self.quality.better == "lower" else -1
        good = [
            (x, sign * y, i)
            for i, (x, y) in enumerate(self.points)
            if sign * y <= sign * _some(self.enough) and self.shown[i] not in (self.baseline, leave)
        ]
        return self.shown[min(good)[2]] if good else None

    def nearest(self) -> Group | None:
        """The method of the best quality, other than the baseline."""
        sign = 1 if self.quality.better == "lower" else -1
        others = [(sign * y, x, i) for i, (x, y) in enumerate(self.points) if self.shown[i] is not self.baseline]
        return self.shown[min(others)[2]] if others else None

    # ----------------------------------------------------------------- sentences

    def finding(self) -> str:
        """What was found, in a sentence."""
        if not self.shown:
            return _nothing(self.groups)
        best = self.best()
        if best is None:
            return self._none_is_enough()
        time = with_unit(best.median(TIME), TIME)
        told = f"{best.method} {self._reaches(best)}"
        other = self.baseline or self.best(leave=best)
        if other is None:
            return f"{told} in {time}; nothing else does."
        doubt = noise(best, other)
        once = f"; with one seed, {NOISE} is shown" if one_seed(best, other) else ""
        if doubt:
            return f"{told} in {time}, and {other.method} takes {with_unit(other.median(TIME), TIME)}: {doubt}."
        if self.baseline is None:
            return f"{told} in {time}, the fastest that does{once}."
        speedup, ratios = self._speedup(best)
        against = f"{time} against {with_unit(self.baseline.median(TIME), TIME)}"
        if speedup <= 1:
            return (
                f"Nothing that {self._would_reach()} is faster than {self.baseline.method}: the fastest, {best.method} "
                f"({written(best.median(self.quality), self.quality)}), takes {number(1 / speedup)} times as long "
                f"({against}){once}."
            )
        low, high = (_short(pick(ratios)) for pick in (min, max))
        seeds = f"; {low} to {high} over {len(ratios)} seeds" if low != high else ""
        return f"{told} {_short(speedup)} times faster ({against}{seeds}){once}."

    def _reaches(self, group: Group) -> str:
        value = group.median(self.quality)
        if self.quality is INERTIA:
            return f"reaches an {INERTIA.label} of {number(value)}, within {_share(ENOUGH['fit'])} of the lowest,"
        if self.study.what == "search":
            return f"finds {_share(_some(value), 2)} of the nearest rows ({self.quality.label})"
        if self.quality is QUALITY["assign"]:
            return f"finds the nearest centroid of {_share(_some(value), 2)} of the rows"
        return f"reaches {self._base()} inertia ({percent(value)})"

    def _base(self) -> str:
        return f"{self.study.baseline}'s" if self.study.baseline else "the baseline's"

    def _would_reach(self) -> str:
        if self.study.what in ("assign", "search"):
            return f"has a {self.quality.label} of at least {number(self.enough)}"
        return f"comes within {_share(ENOUGH['fit'])} of {self._base()} inertia"

    def _none_is_enough(self) -> str:
        near = self.nearest()
        if near is None:
            assert self.baseline is not None
            time = with_unit(self.baseline.median(TIME), TIME)
            return f"Only the baseline, {self.baseline.method}, finished: in {time}."
        value, time = written(near.median(self.quality), self.quality), with_unit(near.median(TIME), TIME)
        than = "" if self.baseline is None else f", but {self.baseline.method}"
        return f"Nothing{than} {self._would_reach()}: the nearest is {near.method} ({value}), in {time}."

    def _speedup(self, group: Group) -> tuple[float, list[float]]:
        """Speed-up over the baseline as recorded; by medians where the records have none."""
        assert self.baseline is not None
        ratios = group.values(SPEEDUP) or [_ratio(_some(self.baseline.median(TIME)), _some(group.median(TIME)))]
        return statistics.median(ratios), ratios


def quality_of(study: Study) -> Metric:
    """What the runs of a study are good by, beside their time."""
    if study.what == "search" and (found := records.metric(f"recall_{records.main_m(study.settings['m'])}")):
        return found
    return QUALITY.get(study.what, QUALITY["fit"])


def one_seed(*groups: Group) -> bool:
    """Whether a method has one time only, which says nothing of how much times differ by chance."""
    return min(len(group.values(TIME)) for group in groups) < 2


def noise(one: Group, other: Group) -> str:
    """What to say where times over seeds tell no difference between two methods; "" where they do.

    Medians that are apart by no more, as a ratio, than the slowest and the fastest seed of one of them are, may be
    apart by chance.
    """
    if one_seed(one, other):
        return ""
    times = [group.values(TIME) for group in (one, other)]
    low, high = sorted(map(statistics.median, times))
    spread = max(_ratio(max(values), min(values)) for values in times)
    if _ratio(high, low) > spread:
        return ""
    told = " and ".join(span(values, TIME) or written(values[0], TIME) for values in times)
    return f"{NOISE}, as seeds took {told} s"


def _ratio(high: float, low: float) -> float:
    return high / low if low > 0 else math.inf if high > 0 else 1.0


def panels(study: Study, runs: Sequence[Record]) -> list[Panel]:
    """The problems of a study, smallest first; one where sizes do not vary."""
    varying = [
        name for name in PROBLEM if len({value for run in runs if is_number(value := run.configuration.get(name))}) > 1
    ]
    found: dict[tuple[float, ...], dict[str, Group]] = {}
    for run in runs:
        # A run that does not say its size has the study's own.
        given: list[Any] = [run.configuration.get(name, study.data.get(name)) for name in varying]
        groups = found.setdefault(tuple(float(size) if is_number(size) else 0.0 for size in given), {})
        groups.setdefault(run.method, Group(run.method)).runs.append(run)
    return [
        Panel(study, dict(zip(varying, sizes, strict=True)), list(found[sizes].values())) for sizes in sorted(found)
    ]


def count(runs: Sequence[Record]) -> str:
    """How many runs there are, and what became of them."""
    states = [run.status for run in runs]
    parts = [f"{states.count(state)} {state}" for state in ("done", "failed", "skipped") if state in states]
    return f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {', '.join(parts)}"


def _nothing(groups: Sequence[Group]) -> str:
    """The finding where no run has both a time and a quality."""
    runs = [run for group in groups for run in group.runs]
    failed = next((run for run in runs if run.status == "failed"), None)
    first = f"; the first failure is {failed.method}: {failed.error.rstrip('.')}" if failed else ""
    return f"None of the runs has both {TIME.label} and quality ({count(runs)}){first}."


def _some(value: float | None) -> float:
    assert value is not None
    return value


def _share(value: float, digits: int = 0) -> str:
    """A share as a percentage without a sign; never rounded up to 100%."""
    text = f"{100 * value:.{digits}f}%"
    return text if value in (0, 1) or float(text[:-1]) < 100 else f"{100 * value:.5f}%"


def _short(ratio: float) -> str:
    """A ratio in three digits."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"

"""The fastest index that reaches a recall, found on the user's own data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastann import checks, kernels
from fastann.data.csr import CSRSource
from fastann.data.open import as_source
from fastann.data.source import ArraySource, Source
from fastann.estimators.kmeans import KMeans
from fastann.index.base import AUTO, Index, Spec
from fastann.index.faiss import faiss_threads
from fastann.index.parse import parse_index
from fastann.index.recall import Audit, Recall, least
from fastann.index.spec import Flat, kinds

AUDIT_ROWS = 8192  # held-out rows that recall is found on; as many others confirm it
TIMED_ROWS = 65_536  # rows that searches are timed on
ROUNDS = 5
FINALISTS = 6  # settings that are timed again, taking turns


@dataclass(frozen=True)
class Trial:
    """One setting, as measured.

    Attributes
    ----------
    index : Spec
    recall : float
        Recall@1 on held-out rows.
    interval : tuple of float
        Its 95% interval (Wilson, 1927).
    reached : bool
        Whether the whole interval is above the target, or the search is exact.
    seconds : float
        For one pass over all rows: building the index once, and searching every row.
    seconds_build : float
    """

    index: Spec
    recall: float
    interval: tuple[float, float]
    reached: bool
    seconds: float
    seconds_build: float


@dataclass(frozen=True)
class Tuned:
    """What `tune` found.

    Attributes
    ----------
    index : Spec
        To pass to `KMeans`.
    n_clusters : int
    target : float
    recall, interval
        Of `index`, measured on fresh rows after it was chosen.
    seconds, seconds_flat : float
        For one pass over all rows, with `index` and by exact search.
    trials : list of Trial
        Everything tried, fastest first; those that did not reach the target come last.
    complete : bool
        Whether the budget sufficed for everything.
    metric : {"euclidean", "cosine"}
    """

    index: Spec
    n_clusters: int
    target: float
    recall: float
    interval: tuple[float, float]
    seconds: float
    seconds_flat: float
    trials: list[Trial]
    complete: bool
    metric: str = "euclidean"

    @property
    def call(self) -> str:
        """The call to use."""
        return f'KMeans(n_clusters={self.n_clusters}, index="{self.index}", metric="{self.metric}")'

    def _speed(self) -> str:
        if self.index == Flat():
            return "no other index is faster"
        ratio = self.seconds_flat / self.seconds
        slower = "slower than exact search: index='flat' is better"
        return f"{ratio:.1f} times as fast as exact search" if ratio >= 1 else slower

    def summary(self, call: str | None = None) -> str:
        """The choice, the evidence and the call to use, as lines of text; `call` takes the place of `Tuned.call`."""
        width = max(len(word) for word in ("index", *(str(t.index) for t in self.trials)))
        lines = [f"{'index':<{width}}  recall@1  95% interval      seconds a pass"]
        for t in self.trials:
            low, high = t.interval
            mark = "*" if t.index == self.index else " " if t.reached else "-"
            lines.append(f"{t.index!s:<{width}}  {t.recall:<8.4f}  {low:.4f} to {high:.4f}  {t.seconds:<10.3g} {mark}")
        low, high = self.interval
        lines += [
            "* chosen, - below the target" + ("" if self.complete else "; the budget ended before all was tried"),
            "",
            f"{self.index}: recall {self.recall:.4f} on fresh rows (95%: {low:.4f} to {high:.4f}), {self._speed()}",
            self.call if call is None else call,
        ]
        return "\n".join(lines)


def tune(
    x: Any,
    n_clusters: int,
    *,
    recall: float = 0.99,
    index: Any = None,
    metric: str = "euclidean",
    budget: float = 60.0,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> Tuned:
    """Find the fastest index whose measured recall@1 reaches a target.

    Centroids come from a short fit of a sample. For every kind of index, and several ways of building it, the
    least search effort (``nprobe``, ``ef_search``) is sought whose whole 95% interval, on held-out rows, lies above
    the target; the fastest are then timed again, taking turns, and the choice is confirmed on rows not seen before.

    Parameters
    ----------
    x : array-like or SciPy sparse matrix of shape (n_samples, n_features), torch tensor, or path
        Sparse rows are searched exactly, so all there is to find out of them is how long that takes.
    n_clusters : int
        Centroids to search.
    recall : float, default=0.99
        Share of rows that must get their true nearest centroid; below 1.
    index : str or spec, default=None
        Consider this kind of index alone ("ivf"), with the options given fixed ("ivf:nlist=64").
    metric : {"euclidean", "cosine"}, default="euclidean"
        How rows are compared.
    budget : float, default=60.0
        Seconds in which indexes are tried, one after the other; the one that is under way then is finished. It leaves
        out what comes before, reading the rows and a short fit of a sample, and what follows: the fastest are timed
        several times more, and the choice is confirmed.
    n_jobs : int or None, default=None
        Threads; None is all cores.
    random_state : int, RandomState or None, default=None
        Seed of the sample and the short fit.

    Returns
    -------
    Tuned
        Its ``.index`` is what to pass to `KMeans`. Exact search is always among what is compared, so there
        is always an answer, unless `index` excludes it.

    Raises
    ------
    ValueError
        If no setting of the given `index` reaches the target, or for bad parameters.
    """
    if checks.real(recall, "recall", 0.0, above=True) >= 1:
        raise ValueError(f"recall must be below 1, got {recall!r}; index='flat' is exact")
    checks.real(budget, "budget", 0.0, above=True)
    kind = None if index is None else parse_index(index)
    source = as_source(x)
    if source.sparse:
        kind = _of_sparse_rows(kind)
    k = checks.n_clusters(n_clusters, source.n)
    if source.n < 4 * k and source.n < AUDIT_ROWS:
        raise ValueError(
            f"tuning {k} clusters needs at least {min(4 * k, AUDIT_ROWS)} rows, got {source.n}; "
            "lower n_clusters or add data"
        )
    from sklearn.utils import check_random_state

    rng = np.random.default_rng(check_random_state(random_state).randint(2**31))
    threads = checks.jobs(n_jobs)
    train, audit, fresh, timed = _split(source, k, rng)
    km = KMeans(k, metric=metric, max_iter=5, init="random", n_jobs=n_jobs, random_state=int(rng.integers(2**31)))
    km.fit(train)
    centroids = km.clustering_.centroids
    kept = CSRSource if source.sparse else ArraySource
    views = (km.clustering_.space.view(kept(rows)) for rows in (audit, fresh, timed))
    audit, fresh, timed = (view.take(np.arange(view.n)) for view in views)
    with kernels.limit_threads(threads), faiss_threads(threads):
        found = _search(centroids, audit, fresh, timed, source.n, k, recall, kind, time.perf_counter() + budget)
    return replace(found, metric=metric)


def _of_sparse_rows(kind: Spec | None) -> Spec:
    """The one index that searches sparse rows."""
    if kind is not None and kind != Flat():
        raise ValueError(f"sparse rows are searched by index='flat' alone, got {str(kind)!r}; leave index out")
    return Flat()


def _split(source: Source, k: int, rng: np.random.Generator) -> list[Any]:
    """Rows to train on, to find recall on, to confirm it on and to time with, apart where there are enough."""
    n = source.n
    held = min(AUDIT_ROWS, n // 4)
    order = rng.permutation(n)
    parts = [order[: 2 * held][:held], order[held : 2 * held], order[2 * held :][:TIMED_ROWS]]
    train = order[2 * held :][: max(64 * k, 2**16)] if n - 2 * held >= k else order
    return [source.take(np.sort(part)) for part in (train, *parts)]


def _candidates(kind: Spec | None, k: int) -> Iterator[Spec]:
    """Ways to build an index, quickest to try first; of a given kind, with the options that are given kept."""
    if kind is None:
        for one in kinds():
            yield from one.grid(k)
        return
    yield from dict.fromkeys(replace(spec, **kind.given) for spec in kind.grid(k)) or [kind]


def _option(spec: Spec, kind: Spec | None) -> str | None:
    """The search option to find, unless the user fixed it."""
    fixed = kind is not None and kind.given.get(spec.search_option or "", AUTO) != AUTO
    return None if fixed else spec.search_option


def _search(
    centroids: np.ndarray,
    audit: Any,
    fresh: Any,
    timed: Any,
    n: int,
    k: int,
    target: float,
    kind: Spec | None,
    end: float,
) -> Tuned:
    """Find the least effort of each candidate, time the fastest in turns, confirm the choice."""
    measured, confirm = Audit(audit, centroids), Audit(fresh, centroids)
    found: list[_Setting] = []
    complete = True
    for spec in _candidates(kind, k):
        if found and time.perf_counter() > end:
            complete = False
            break
        found.append(_Setting(spec, _option(spec, kind), centroids, measured, target))
    flat = next((s for s in found if s.exact), None) or _Setting(Flat(), None, centroids, measured, target)
    for setting in [*found, flat]:
        setting.time(timed)
    good = sorted((s for s in found if s.reaches(target)), key=lambda s: s.pass_seconds(n))
    if not good:
        best = max(found, key=lambda s: s.recall.value)
        raise ValueError(
            f"no setting of {kind} reaches a recall of {target:g}: {best.spec} came to {best.recall.value:.4f}; "
            "lower recall, or let every index be tried (index=None)"
        )
    for _ in range(ROUNDS):
        for setting in dict.fromkeys([*good[:FINALISTS], flat]):
            setting.time(timed)
    good.sort(key=lambda s: s.pass_seconds(n))
    for chosen in good:
        while not ((recall := confirm.measure(chosen.index)).reaches(target) or chosen.exact) and chosen.harder():
            chosen.recall = measured.measure(chosen.index)
            chosen.time(timed)
        if recall.reaches(target) or chosen.exact:
            break
    else:
        raise ValueError(
            f"{good[0].spec} reaches a recall of {target:g} on some rows but {recall.value:.4f} on fresh ones; "
            "lower recall, or let every index be tried (index=None)"
        )
    order = sorted(found, key=lambda s: (not s.reaches(target), s.pass_seconds(n)))
    return Tuned(
        index=chosen.spec,
        n_clusters=k,
        target=target,
        recall=recall.value,
        interval=recall.interval,
        seconds=chosen.pass_seconds(n),
        seconds_flat=flat.pass_seconds(n),
        trials=[
            Trial(s.spec, s.recall.value, s.recall.interval, s.reaches(target), s.pass_seconds(n), s.build)
            for s in order
        ],
        complete=complete,
    )


class _Setting:
    """An index built in one way, at the least search effort that reaches the target."""

    def __init__(self, spec: Spec, option: str | None, centroids: np.ndarray, audit: Audit, target: float):
        spec.started().build(centroids[:256])  # compiles, or loads, what the next build runs
        clock = time.perf_counter()
        self.built = spec.started().build(centroids)
        self.build = time.perf_counter() - clock
        self.spec, self.index, self.exact = spec, self.built, self.built.exact
        self.option = option
        if option is not None:
            start = getattr(spec.started(), option)
            value = least(lambda v: audit.measure(self._at(v)).reaches(target), start, self.built.most)
            self._set(value)
        self.recall: Recall = audit.measure(self.index)
        self.searches: list[float] = []
        self.rows = 1

    def _at(self, value: int) -> Index:
        return self.built.retuned(self.spec.at(value))

    def _set(self, value: int) -> None:
        self.spec = self.spec.at(value)
        self.index = self.built.retuned(self.spec)

    def reaches(self, target: float) -> bool:
        """Whether recall, with its whole interval, is above a target; an exact search need not show it."""
        return self.exact or self.recall.reaches(target)

    def harder(self) -> bool:
        """Search a tenth more, at least one step; False where there is no more."""
        if self.option is None or getattr(self.spec, self.option) >= self.built.most:
            return False
        value = getattr(self.spec, self.option)
        self._set(min(self.built.most, value + max(1, value // 10)))
        self.searches = []
        return True

    def time(self, x: Any) -> None:
        """Time one search."""
        clock = time.perf_counter()
        self.index.search(x, 1)
        self.searches.append(time.perf_counter() - clock)
        self.rows = x.shape[0]

    def pass_seconds(self, n: int) -> float:
        """Seconds to build the index and search `n` rows."""
        return self.build + float(np.median(self.searches)) * n / self.rows

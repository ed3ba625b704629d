"""Better starts where a look at the rows costs next to nothing: deep breaths, and a last word of many rows.

Breaths of a few clusters mend what is wrong in one place. Here half as many clusters more are drawn, by what rows cost,
and taken out again in halves, with iterations between: what is left is often another optimum, and a lower one. Rows of
few columns are laid out for that side by side, so that sixteen are compared with a centre at once, and 64 of them that
are near each other with few centres. On large tables a sample leads to optima that are not those of all rows: several
times as many have the last word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastann import kernels
from fastann.cluster.swap import BREATH, BREATHED, GAIN, SETTLE, SETTLED, Found, Swaps
from fastann.index.spec import Flat

_COLUMNS, _MORE_COLUMNS, _LITTLE = 16, 64, 2**23  # up to which this is fastest; more, where a look compares so little
_READ = 64  # numbers that are compared while a row is looked up
_BINS = 128  # of a column, by which rows of a cluster are put in order
_NEIGHBOURS, _PER_CENTRE = 2**13, 16  # rows, and for each centre, that tell which clusters are next to each other
_IN, _OUT = 3, 2  # Lloyd iterations in a deep breath, and while it ends
_DEEP, _IDLE, _SPENT = 20, 8, 2**29  # deep breaths, those in turn that gain nothing, and comparisons, at most;
_EARLY, _THEN, _LATE = 8, 4, 3  # where more rows follow: from each of two starts, from the better one, on these rows,
_IDLE_EARLY, _TWICE = 6, 2  # after so many in turn, and with so many times the comparisons: a small part of a fit
_WIDE, _WIDELY, _SHALLOW = 2**17, 2**25, 2  # rows that have the last word, if a look compares no more; breaths there
_TINY, _STARTS = 2**12, 16  # numbers that a look compares, up to which so many other starts are tried
_LAST, _CLOSE = 50, 1e-6  # Lloyd iterations at the end, and relative gain below which they end


class DeepSwaps(Swaps):
    """Moves centres of dense rows of few columns."""

    held, still = 12, 1e-4

    lanes: tuple[np.ndarray, np.ndarray]  # the rows, laid out

    @classmethod
    def suits(cls, x: Any, k: int) -> bool:
        """Whether such rows are looked at quickly."""
        if hasattr(x, "nnz"):
            return False
        columns = _COLUMNS if x.size * k > _LITTLE else _MORE_COLUMNS
        return bool(x.shape[1] <= columns and cls.costs_little(x.size * k))

    def more(self, n: int) -> int:
        """Rows, of `n` in all, that are to have the last word; 0 if those that there are do."""
        size = min(n, _WIDE, int(_WIDELY / self.compared * len(self.x)))
        return size if size > len(self.x) else 0

    def best(self, centres: np.ndarray, n: int, again: Callable[[], np.ndarray]) -> np.ndarray:
        """The best that comes of some centres, and of others by `again` where more of the `n` rows follow."""
        self._lay_out(centres)
        if not self.more(n):
            return self._closed(self._deep(self._tried(self._begun(centres)), _DEEP, _IDLE), BREATH)
        tried = [self._deep(self._begun(each), _EARLY, _IDLE_EARLY, _TWICE * _SPENT) for each in (centres, again())]
        return self._deep(min(tried, key=lambda found: found.cost), _THEN, _THEN).centres

    def closed(self, centres: np.ndarray) -> np.ndarray:
        """What these rows make of centres that fewer led to: float32 [k, d]."""
        self._lay_out(centres)
        begun = self.found(self._settled(centres, self.held, self.still))
        return self._closed(self._deep(begun, _LATE, _LATE), _SHALLOW)

    def _begun(self, centres: np.ndarray) -> Found:
        """What swaps lead to."""
        return self._swaps(self.settled(centres), brief=False)

    def _tried(self, best: Found) -> Found:
        """The best of this and of what random rows lead to, where rows are few: breaths often come back there."""
        tiny = self.compared <= _TINY and len(self.x) > len(best.centres)
        for _ in range(_STARTS if tiny else 0):
            if best.cost > 0:
                rows = self.rng.choice(len(self.x), len(best.centres), replace=False)
                other = self.found(self._settled(self.x[rows], _LAST, _CLOSE))
                best = min(best, other, key=lambda found: found.cost)
        return best

    def _closed(self, best: Found, depth: int) -> np.ndarray:
        """Breaths of such a depth, and iterations to the end."""
        return self._settled(self._breaths(best, depth, BREATHED).centres, _LAST, _CLOSE)

    def _deep(self, best: Found, most: int, idle: int, spent: float = _SPENT) -> Found:
        """At most so many deep breaths, and so many in turn that gain nothing."""
        k, failed, limit = len(best.centres), 0, self.spent + spent
        for _ in range(most):
            if failed == idle or self.spent >= limit or not best.cost > 0:
                break
            mass = np.cumsum(best.sqdist[:, 0] * self.weights)
            drawn = np.searchsorted(mass, self.rng.random(k // 2) * mass[-1], side="right")
            more = self.x[np.unique(np.minimum(drawn, len(mass) - 1))]
            now = self.found(self._settled(np.concatenate([best.centres, more]), _IN))
            while len(now.centres) > k:
                fewer = self._without(now, (len(now.centres) - k + 1) // 2)
                now = self.found(self._settled(fewer, _OUT if len(fewer) > k else self.held, self.still))
            gain = 1 - now.cost / best.cost
            best = now if gain > 0 else best
            failed = 0 if gain > GAIN else failed + 1
        return best

    # ----------------------------------------------------------------- looks

    def _lay_out(self, centres: np.ndarray) -> None:
        """Put rows of a cluster side by side, in the order of the widest column."""
        ids, widest = Flat().build(centres).search(self.x, 1)[0][:, 0], self.x[:, self.x.var(axis=0).argmax()]
        low, width = float(widest.min()), float(np.ptp(widest))
        scale = (_BINS - 1) / width if width > _BINS * np.finfo(np.float32).tiny else 0.0
        order = ids * _BINS + ((widest - low) * np.float64(scale)).astype(np.int32)
        small = order.astype(np.uint16) if len(centres) * _BINS <= 2**16 else order  # which are sorted fastest
        rows = np.argsort(small, kind="stable")
        self.x, self.weights = self.x[rows], self.weights[rows]
        self.lanes = kernels.in_lanes(self.x)

    def found(self, centres: np.ndarray, m: int = 2) -> Found:
        """What these centres cost, and the two nearest of each row."""
        ids, sqdist, _, _, loss, cost, _ = self._look(centres, two=True)
        return Found(centres, ids.T, sqdist.T, cost, loss=loss)

    def _settled(self, centres: np.ndarray, most: int = SETTLE, still: float = SETTLED) -> np.ndarray:
        before = np.inf
        for _ in range(most):
            _, _, sums, mass, _, cost, _ = self._look(centres, two=False)
            if before - cost <= still * cost:
                break
            centres, before = self.space.means(sums, mass, centres), cost
        return centres

    def _look(self, centres: np.ndarray, *, two: bool) -> tuple[Any, ...]:
        weights, (n, d) = None if self.even else self.weights, self.x.shape
        seen = kernels.assign(*self.lanes, self.x, weights, centres, two)
        self.spent += seen[-1] * d + n * (_READ + (4 + len(centres) / 16) * d)  # the last two are sums, and boxes
        return seen

    def _loss(self, found: Found) -> np.ndarray:
        return super()._loss(found) if found.loss is None else found.loss

    def _heirs(self, found: Found) -> np.ndarray:
        step = max(1, len(found.ids) // max(_NEIGHBOURS, _PER_CENTRE * len(found.centres)))
        return self._heirs_by(found.ids[::step], self.weights[::step], len(found.centres))

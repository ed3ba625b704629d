"""Better starts for few clusters: centres that hardly matter go where one more matters most, on a sample of rows.

Lloyd's iterations cannot take a centre out of one group of rows and put it into another, so a start that gives two
centres to one group and one to two keeps that error for good. What removing a centre costs is known from each row's
second nearest; what splitting a cluster gains, from two means of its own rows. As in FLS++ (Conrads et al., 2024) a
change counts when the cost is lower after some iterations. Where rounds of swaps gain no more and iterations cost next
to nothing, breathing k-means (Fritzke, 2020) goes on: some clusters too many, iterations, and those taken out that then
matter least. Of many clusters a fifth come and go at once: where clusters overlap, one such breath gains what many of
five do; where they are groups of their own, swaps gain more, and come first. Where the sample is a small part of the
rows, so that all this is a small part of a fit, other starts are tried as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastann import kernels
from fastann.cluster.space import Space
from fastann.cluster.trim import Trim
from fastann.cluster.update import Sums
from fastann.index.own import FlatIndex

_ROUNDS = 40
SETTLE = 4  # Lloyd iterations after a round, at most
SETTLED = 1e-3  # relative gain below which they end
GAIN = 1e-4  # relative gain of a round that counts
_FAILED = 4  # rounds in turn that gain nothing, after which there are no more
_WORTH = 0.5  # share of what a removal costs that a split must gain: iterations make up for the rest
_TRIALS = 4  # rows drawn to split a cluster by
_CHEAP = 2**28  # rows x centres x columns that take next to no time to compare; beyond, a round must promise more
_PAYS = 2e-2  # relative gain that is worth it then: on few rows for each centre, splits promise more than they keep
_SPENT, _GOING = 2**31, 3e-3  # comparisons after which each round must gain so much for another
_PER_CENTRE, _MOST = 32, 2**15  # rows for each centre, at least, however long that takes; and in all
_BRIEFLY = 3e-3  # gain of a round below which deep breaths gain more
BREATH, _SHARE = 5, 5  # clusters too many, at first: so many, or, in deep breaths, the fifth part where that is more
_HELD = 5  # Lloyd iterations in and out of deep breaths, at most
_BREATHS, BREATHED = 150, 2**29  # looks at the sample, and comparisons, for breaths, at most
# Comparisons for swaps and deep breaths together: those of so many looks at all rows, but from so many to so many.
_DEEP_LOOKS, _DEEP_LEAST, _DEEP_MOST = 16, 3 * 2**29, 5 * 2**31
_SPLIT = 256  # rows of a cluster that tell how to split it, at least
_PAIRS = 2**18  # pairs of clusters that are all counted
_STARTS, _LOOKS = 4, 8  # other starts at most, as long as all is no more than so many looks at all rows


@dataclass(frozen=True)
class Found:
    """Rows and their two nearest centres: ids (int32 [m, 2]), squared distances (floats [m, 2]), the cost.

    Where rows are left out, which are farther than the `limit`, the cost is that of the others, and no distance counts
    as more than the limit; `farthest` is the largest there is. `loss` is what each centre spares, where that is known.
    """

    centres: np.ndarray
    ids: np.ndarray
    sqdist: np.ndarray
    cost: float
    limit: float = np.inf
    farthest: float = np.inf
    loss: np.ndarray | None = None


def enough(k: int, values: float) -> int:
    """Rows that are enough for `k` centres, if each has so many values."""
    return max(_PER_CENTRE * k, min(_MOST, int(_CHEAP / (k * max(values, 1)))))


class Swaps:
    """Moves centres of a sample of rows.

    Parameters
    ----------
    x : float32 [m, d], or a float32 CSR matrix
        Rows that stand for all.
    weights : float64 [m] or None
    k : int
    space : Space
    rng : Generator
    trim : Trim, optional
        Which rows are left out.
    """

    held, still = 8, 3e-4  # Lloyd iterations in and out of a breath, at most; relative gain below which they end

    def __init__(
        self,
        x: Any,
        weights: np.ndarray | None,
        k: int,
        space: Space,
        rng: np.random.Generator,
        trim: Trim | None = None,
    ):
        values = x.nnz / x.shape[0] if hasattr(x, "nnz") else x.shape[1]
        self.x, self.space, self.rng, self.trim = x, space, rng, trim
        self.weights, self.even = np.ones(x.shape[0]) if weights is None else weights, weights is None
        self.compared, self.spent = x.shape[0] * k * values, 0.0
        self.cheap = self.costs_little(self.compared)
        self.near: np.ndarray | None = None  # where rounding screens: the nearest of each row at the last search

    @staticmethod
    def costs_little(compared: float) -> bool:
        """Whether a look at the rows does, that compares so many numbers."""
        return compared <= _CHEAP

    def best(self, centres: np.ndarray, n: int, again: Callable[[], np.ndarray]) -> np.ndarray:
        """The best that comes of some centres, and of others by `again`, for `n` rows in all: float32 [k, d]."""
        return self.best_found(centres, n, again).centres

    def best_found(self, centres: np.ndarray, n: int, again: Callable[[], np.ndarray]) -> Found:
        """The same, and which clusters they make."""
        look = n / self.x.shape[0] * self.compared
        affordable, deep = min(_SPENT, _LOOKS * look), min(_DEEP_MOST, max(_DEEP_LEAST, _DEEP_LOOKS * look))
        deep = 0 if hasattr(self.x, "nnz") else deep  # whether they pay on sparse rows was not measured
        best = self._improved(centres, deep)
        for _ in range(_STARTS):
            if not (self.cheap and best.cost > 0) or self.spent * 2 > affordable:
                break
            other = self._improved(again(), deep)
            best = other if other.cost < best.cost else best
        return best

    def _improved(self, centres: np.ndarray, deep: float = 0) -> Found:
        """Centres that cost no more after a few iterations than these do.

        With comparisons allowed for it (`deep`), breaths go deep, where swaps were made at all.
        """
        best = self.found(self._settled(centres) if self.cheap else centres)
        depth, began = max(BREATH, len(centres) // _SHARE if deep else 0), self.spent
        best = self._swaps(best, brief=depth > BREATH)
        if deep and self.spent > began:
            return self._breaths(best, depth, deep - (self.spent - began))
        return self._breaths(best, BREATH, BREATHED) if self.cheap else best

    def _swaps(self, best: Found, *, brief: bool) -> Found:
        """Rounds of swaps, until they gain nothing; if `brief`, until they gain less than deep breaths would."""
        centres = best.centres
        most, failed = max(1, len(centres) // 4), 0
        for _ in range(_ROUNDS):
            changed, count, promised = self._swapped(best, most)
            if not count or not (self.cheap or brief or promised > _PAYS * best.cost):
                break
            now = self.found(self._settled(changed))
            gain = 1 - now.cost / best.cost if best.cost > 0 else 0.0
            best = now if gain > 0 else best
            if gain > GAIN:
                failed = 0
            else:
                failed, most = failed + 1, max(1, count // 2)
            if failed == _FAILED or (self.spent > _SPENT and gain < _GOING) or (brief and 0 < gain < _BRIEFLY):
                break
        return best

    def _breaths(self, best: Found, depth: int, allowed: float) -> Found:
        """Breaths, within so many comparisons; where one gains nothing the next is half as deep, or a cluster less."""
        depth = min(depth, len(best.centres) // 2)
        limit = self.spent + min(allowed, _BREATHS * self.compared)
        while depth > 0 and self.spent < limit:
            now = self._breathed(best, depth)
            gain = 1 - now.cost / best.cost if best.cost > 0 else 0.0
            best = now if gain > 0 else best
            if gain <= GAIN:
                depth = max(BREATH, depth // 2) if depth > BREATH else depth - 1
        return best

    def _breathed(self, found: Found, depth: int) -> Found:
        """`depth` clusters more, iterations, and as many less that matter least then, and iterations."""
        which, pairs, gain = self._split(found, min(len(found.centres), 4 * depth))
        split = np.argsort(-gain, kind="stable")[:depth]
        centres = np.concatenate([found.centres, pairs[split, 1]])
        centres[which[split]] = pairs[split, 0]
        held = self.held if depth <= BREATH else _HELD
        more = self.found(self._settled(centres, held, self.still))
        return self.found(self._settled(self._without(more, len(split)), held, self.still))

    def _without(self, found: Found, count: int) -> np.ndarray:
        """The centres without so many that matter least."""
        heir, cheapest = self._heirs(found).tolist(), np.argsort(self._loss(found), kind="stable").tolist()
        spare, kept = np.zeros(len(heir), bool), [False] * len(heir)
        for heirs in (True, False):  # of two that would take each other's rows, one stays, if there are enough others
            for at in cheapest:
                if count and not (spare[at] or (heirs and kept[at])):
                    spare[at] = kept[heir[at]] = True
                    count -= 1
        return found.centres[~spare]

    # ----------------------------------------------------------------- iterations

    def _search(self, centres: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
        """The m nearest centres, one or two, of each row: int32 [m], and squared distances, float32."""
        self.spent += self.compared
        index, m = FlatIndex(centres), min(m, len(centres))
        if hasattr(self.x, "nnz") or not index.packed.rounded:
            return index.search(self.x, m)
        if m == 1:
            hint = None if self.near is None else np.minimum(self.near, len(centres) - 1)  # a wrong one costs little
            ids, sqdist = index.search(self.x, 1, hint)
        else:  # the two nearest are among the eight that a screen lists
            rows, far = np.arange(len(self.x), dtype=np.int32), np.full(len(self.x), np.inf, np.float32)
            ids, dist = index.listed(self.x, rows, m, far)
            ids, sqdist = ids[:, :m], dist[:, :m] ** 2
        self.near = np.ascontiguousarray(ids[:, 0])
        return ids, sqdist

    def found(self, centres: np.ndarray, m: int = 2) -> Found:
        """What these centres cost; swaps need the two nearest of each row."""
        ids, near = self._search(centres, m)
        sqdist = near.astype(np.float64)
        if self.trim is None:
            return Found(centres, ids, sqdist, float((sqdist[:, 0] * self.weights).sum()))
        kept, limit = self._kept(near[:, 0])
        cost, farthest = float((sqdist[:, 0] * kept).sum()), float(sqdist[:, 0].max())
        return Found(centres, ids, np.minimum(sqdist, limit), cost, limit, farthest)

    def settled(self, centres: np.ndarray) -> Found:
        """What a few Lloyd iterations lead to."""
        return self.found(self._settled(centres))

    def improved(self, centres: np.ndarray) -> np.ndarray:
        """Centres that cost no more after a few iterations than these do: float32 [k, d]."""
        return self._improved(centres).centres

    def means(self, weights: np.ndarray, ids: np.ndarray, centres: np.ndarray) -> np.ndarray:
        """Means of the rows, of such weights, in clusters `ids` (int32 [m]); centres without rows stay."""
        return self._means(self.x, weights, ids, centres)

    def _kept(self, sqdist: np.ndarray) -> tuple[np.ndarray, float]:
        """Weights, 0 for rows that are left out, and the squared distance beyond which they are."""
        if self.trim is None:
            return self.weights, np.inf
        limit = self.trim.limit(np.ascontiguousarray(sqdist), None if self.even else self.weights, self.space)
        return np.where(sqdist <= limit, self.weights, 0.0), limit

    def _settled(self, centres: np.ndarray, most: int = SETTLE, still: float = SETTLED) -> np.ndarray:
        """After at most so many Lloyd iterations, which end at a relative gain of `still`."""
        before = np.inf
        for _ in range(most):
            ids, sqdist = self._search(centres, 1)
            kept, _ = self._kept(sqdist[:, 0])
            cost = float((sqdist[:, 0] * kept).sum())
            if before - cost <= still * cost:
                break
            centres, before = self._means(self.x, kept, ids[:, 0], centres), cost
        return centres

    def _means(self, x: Any, weights: np.ndarray, ids: np.ndarray, centres: np.ndarray) -> np.ndarray:
        sums = Sums.zero(centres, weighted=True)
        sums.add(x, weights, ids)
        means: np.ndarray = sums.means(self.space, centres)
        return means

    # ----------------------------------------------------------------- one round

    def _swapped(self, found: Found, most: int) -> tuple[np.ndarray, int, float]:
        """Centres of which up to `most` were moved, how many were, and what that gains at once."""
        k, loss, heir = len(found.centres), self._loss(found), self._heirs(found)
        which, pairs, gain = self._split(found, min(k, max(16, 4 * most)))
        centres, taken, count, promised = found.centres.copy(), np.zeros(k, bool), 0, 0.0
        cheapest = np.argsort(loss, kind="stable")
        for at in np.argsort(-gain, kind="stable"):
            source = which[at]
            if count == most or not gain[at] > 0:
                break
            if taken[source]:
                continue
            # Neither a cluster that changed in this round, nor one whose rows would go to one that did.
            free = ~taken[cheapest] & ~taken[heir[cheapest]] & (cheapest != source) & (heir[cheapest] != source)
            if not free.any():
                break
            spare = cheapest[free.argmax()]
            if gain[at] <= _WORTH * loss[spare]:
                continue
            centres[source], centres[spare] = pairs[at]
            taken[[source, spare, heir[spare]]] = True
            count, promised = count + 1, promised + gain[at] - loss[spare]
        return centres, count, promised

    def _loss(self, found: Found) -> np.ndarray:
        """What each centre would cost if it were not there: float64 [k]."""
        further = found.sqdist[:, 1] - found.sqdist[:, 0]
        return np.bincount(found.ids[:, 0], self.weights * further, minlength=len(found.centres))

    def _heirs(self, found: Found) -> np.ndarray:
        """The cluster that most of each cluster's rows would go to if their own were not there: int64 [k]."""
        return self._heirs_by(found.ids, self.weights, len(found.centres))

    @staticmethod
    def _heirs_by(ids: np.ndarray, mass: np.ndarray, k: int) -> np.ndarray:
        """The same by some rows: their two nearest centres, and weights."""
        pair = ids[:, 0].astype(np.int64) * k + ids[:, 1]
        if k * k <= max(len(pair), _PAIRS):
            weights = np.bincount(pair, mass, minlength=k * k).reshape(k, k)
            return np.where(weights.any(axis=1), weights.argmax(axis=1), np.arange(k))
        pairs, place = np.unique(pair, return_inverse=True)
        order = np.argsort(np.bincount(place, mass), kind="stable")
        heirs = np.arange(k)
        heirs[pairs[order] // k] = pairs[order] % k  # of equal ones the last, which is the largest
        return heirs

    def _split(self, found: Found, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Split the clusters that cost most in two: which these are, two centres each [t, 2, d], what it gains [t]."""
        k = len(found.centres)
        own, sqdist = found.ids[:, 0], found.sqdist[:, 0]
        spread = np.bincount(own, self.weights * sqdist, minlength=k)
        which = np.sort(np.argsort(-spread, kind="stable")[:count])
        offsets, order = kernels.group(np.ascontiguousarray(own), k)
        step = np.maximum(1, (offsets[which + 1] - offsets[which]) // _SPLIT)
        some = [order[offsets[j] + self.rng.integers(s) : offsets[j + 1] : s] for j, s in zip(which, step, strict=True)]
        rows = np.concatenate(some)
        labels = np.repeat(np.arange(count, dtype=np.int32), [len(part) for part in some])
        x, weights, closest = self.x[rows], self.weights[rows], sqdist[rows].astype(np.float64)
        grouped, one = kernels.grouped(x, labels, count), np.ones(count, np.int64)
        seen = np.bincount(labels, weights * closest, minlength=count)
        picks = kernels.plus_plus(x, weights, grouped, one, self.rng.random((count, _TRIALS)), closest)
        pairs = np.repeat(found.centres[which], 2, axis=0)
        drawn = np.flatnonzero(picks >= 0)
        picked = x[picks[drawn]]
        pairs[2 * drawn + 1] = picked.toarray() if hasattr(picked, "toarray") else picked
        first = np.arange(0, 2 * count + 1, 2)
        for _ in range(2):
            halves, far = kernels.nearest_in_group(x, labels, pairs, first)
            pairs = self._means(x, weights if self.trim is None else weights * (far <= found.limit), halves, pairs)
        _, after = kernels.nearest_in_group(x, labels, pairs, first)
        after = after if self.trim is None else np.minimum(after, found.limit)
        left = np.bincount(labels, weights * after, minlength=count)
        gain = spread[which] * (1 - left / np.where(seen > 0, seen, 1))
        return which, pairs.reshape(count, 2, -1), np.where(picks >= 0, gain, 0.0)

"""Seeds drawn by Markov chains: AFK-MC2, which looks at all rows once, however many clusters there are."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.cluster.memory import Memory
from fastann.data.source import dense
from fastann.index.spec import Flat

LENGTH = 200  # steps of each chain, as in the paper
AT_ONCE = 2**22  # values of the rows that chains running side by side propose


def afk_mc2(lot: Any, k: int, rng: np.random.Generator, memory: Memory) -> np.ndarray:
    """Rows to start from, by assumption-free k-MC2 (Bachem, Lucic, Hassani and Krause, 2016).

    The first is drawn by weight. After one look at all rows, every other one is where a Metropolis-Hastings chain ends
    after `LENGTH` steps: rows are proposed half by weight, half by weight times squared distance to the first centre,
    and accepted in proportion to weight times squared distance to the nearest centre so far, which is what k-means++
    draws by.

    Parameters
    ----------
    lot : Lot
        The rows; see `fastann.cluster.start`.
    k : int
    rng : numpy.random.Generator
    memory : Memory
        Which a number for each row is taken of.

    Returns
    -------
    int64 [at most k]
        Different rows; fewer than k where chains end at rows that are centres already.
    """
    n, weights = lot.n, lot.weights
    mass = np.ones(n) if weights is None else weights.astype(np.float64)
    first = _drawn(np.cumsum(mass), rng.random(1))
    cost, index = memory.empty(n, np.float64), Flat().build(dense(lot.take(first)))
    for start, block in lot.chunks():
        cost[start : start + block.shape[0]] = index.search(block, 1)[1][:, 0]
    cost *= mass
    total = float(cost.sum())
    proposal = mass / (2 * mass.sum()) + (cost / (2 * total) if total > 0 else 0)
    chances = np.cumsum(proposal)
    seeds, side = first, max(1, AT_ONCE // (LENGTH * max(1, index.centroids.shape[1])))
    while len(seeds) < k and total > 0:
        chains = min(side, k - len(seeds))
        ids = _drawn(chances, rng.random(chains * LENGTH))
        x, odds = lot.take(ids), mass[ids] / proposal[ids]
        near = Flat().build(dense(lot.take(seeds))).search(x, 1)[1][:, 0].astype(np.float64)
        uniform = rng.random(chains * LENGTH)
        for chain in range(chains):
            part = slice(chain * LENGTH, (chain + 1) * LENGTH)
            at = part.start + _end(near[part] * odds[part], uniform[part])
            seeds = np.append(seeds, ids[at])
            rest = slice(part.stop, None)
            near[rest] = np.minimum(near[rest], _sqdist(x[rest], x[at : at + 1]))
    _, order = np.unique(seeds, return_index=True)
    return seeds[np.sort(order)]


def _end(goal: np.ndarray, uniform: np.ndarray) -> int:
    """Where a chain ends that is offered one state after another, so good for how often it is proposed."""
    at = 0
    for step in range(1, len(goal)):
        if goal[step] > uniform[step] * goal[at]:
            at = step
    return at


def _drawn(cumulative: np.ndarray, shares: np.ndarray) -> np.ndarray:
    at = np.searchsorted(cumulative, shares * cumulative[-1], side="right")
    return np.minimum(at, len(cumulative) - 1)


def _sqdist(x: Any, centre: Any) -> np.ndarray:
    """Squared L2 distances of rows to one, dense or sparse: float64 [n]."""
    if sparse.issparse(x):
        products = (x @ centre.T).toarray()[:, 0].astype(np.float64)
        return np.maximum(0, kernels.sqnorms(x) + kernels.sqnorms(centre) - 2 * products)
    difference = x - centre
    return np.einsum("ij,ij->i", difference, difference, dtype=np.float64)

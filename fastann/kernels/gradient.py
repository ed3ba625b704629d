"""Compiled steps of stochastic gradient descent on prototypes: scores, cross-entropy, Adam.

A batch of `b` rows has a list of `m` prototypes for each row, -1 where there are fewer: the (row, prototype) pairs. The
pair at place ``row * m + slot`` keeps that place in `out`, `score` and `slope`. `rows` and `prototypes` are what
`table` returns.
"""

import numpy as np
from numba import njit, prange

from fastann.kernels.members import group
from fastann.kernels.rows import add, clear, dot32, entries, gather, load, sqnorm, unload
from fastann.kernels.simd import FAST


def pairs_by_prototype(ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Group the pairs of `ids` (int32 [b, m], -1 for none) by prototype.

    Returns
    -------
    first : int64 [k + 1]
    places : int32
        The pairs of prototype j are at ``places[first[j]:first[j + 1]]``.
    """
    return group(ids.reshape(-1), k)


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def pair_scores(rows, pieces, prototypes, first, places, m, d, euclidean, out):
    """Score of each pair: minus the squared L2 distance if `euclidean`, the product otherwise (cosine of unit vectors).

    Parameters
    ----------
    pieces : int
        Tasks to cut the prototypes into.
    first, places : from `pairs_by_prototype`
    m, d : int
    out : float32 [b * m]
        Written to, where there is a pair. For Euclidean, ``2 x.p - |p|^2 - |x|^2`` in float32.
    """
    k = first.shape[0] - 1
    for piece in prange(pieces):
        work = np.zeros(d, np.float32)
        for j in range(piece * k // pieces, (piece + 1) * k // pieces):
            if first[j] == first[j + 1]:
                continue
            v = load(prototypes, j, work)
            square = np.float32(sqnorm(prototypes, j))
            for q in range(first[j], first[j + 1]):
                s = dot32(rows, places[q] // m, v)
                if euclidean:
                    s = 2 * s - square - np.float32(sqnorm(rows, places[q] // m))
                out[places[q]] = s
            unload(prototypes, j, work)


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def coefficients(ids, owner, labels, weights, scale, smooth, score, slope, loss):
    """Cross-entropy of each row, and its derivative by each score, divided by the scale.

    The softmax is that of the scores times `scale`; a class is as likely as the sum over its prototypes.

    Parameters
    ----------
    ids : int32 [b, m]
    owner : int32 [k]
        Class of each prototype.
    labels : int32 [b]
        Class of each row.
    weights : float64 [b]
    scale : float
    smooth : float
        Label smoothing: this share of the target is spread evenly over the row's prototypes.
    score : float32 [b, m]
    slope : float32 [b, m]
        Written to: the derivatives, times the row's weight; 0 where there is no prototype.
    loss : float64 [b, 2]
        Written to: the cross-entropy of each row, and its derivative by the logarithm of the scale, both weighted.
    """
    b, m = ids.shape
    for i in prange(b):
        top = np.float32(-3e38)
        for s in range(m):
            if ids[i, s] >= 0:
                top = max(top, score[i, s])
        total, right = np.float64(0), np.float64(0)
        found = 0
        for s in range(m):
            slope[i, s] = 0
            if ids[i, s] >= 0:
                e = np.exp(np.float64(scale) * np.float64(score[i, s] - top))
                slope[i, s] = e
                total += e
                found += 1
                if owner[ids[i, s]] == labels[i]:
                    right += e
        right = max(right, total * 1e-30)
        by_scale = np.float64(0)
        for s in range(m):
            if ids[i, s] >= 0:
                q = slope[i, s] / total
                g = q - (1 - smooth) * (slope[i, s] / right if owner[ids[i, s]] == labels[i] else 0.0) - smooth / found
                by_scale += g * (score[i, s] - top)
                slope[i, s] = g * weights[i]
        loss[i, 0] = weights[i] * (np.log(total) - np.log(right))
        loss[i, 1] = weights[i] * scale * by_scale


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def descend(rows, pieces, prototypes, first, places, m, d, slope, euclidean, scale, rate, least, mean, square, taken):
    """One step of Adam (Kingma and Ba, 2015) on every prototype that has pairs; others stay as they are.

    A coordinate that is zero stays zero, whether it is stored or not: no row of the prototype has a value there.

    Parameters
    ----------
    rows, pieces, first, places, m, d, euclidean : as for `pair_scores`
    prototypes : float32 [k, d], or CSR
        Updated in place; scaled to unit norm again unless `euclidean`.
    slope, scale : float32 [b * m] and float32, as of `coefficients`
    rate : float32
        Length of a step of each coordinate.
    least : float32
        Added to the root of the second moment, so that gradients much smaller than it get no full step.
    mean, square : as `prototypes`
        First and second moment of the gradient, updated in place.
    taken : int64 [k]
        Steps of each prototype so far, updated in place.
    """
    k = first.shape[0] - 1
    for piece in prange(pieces):
        sums, work = np.zeros(d, np.float32), np.empty(d, np.float32)
        for j in range(piece * k // pieces, (piece + 1) * k // pieces):
            if first[j] == first[j + 1]:
                continue
            own = np.float32(0)
            for q in range(first[j], first[j + 1]):
                g = slope[places[q]]
                own += g
                add(rows, places[q] // m, g, sums)
            p, one, two = entries(prototypes, j), entries(mean, j), entries(square, j)
            gradient = gather(prototypes, j, sums, work)
            along = np.float32(0)
            for t in range(p.shape[0]):
                along += gradient[t] * p[t]
            taken[j] += 1
            fix_one = np.float32(1 / (1 - 0.9 ** taken[j]))
            fix_two = np.float32(1 / (1 - 0.99 ** taken[j]))
            for t in range(p.shape[0]):
                v = p[t]
                g = 2 * scale * (gradient[t] - own * v) if euclidean else scale * (gradient[t] - along * v)
                one[t] = np.float32(0.9) * one[t] + np.float32(0.1) * g
                two[t] = np.float32(0.99) * two[t] + np.float32(0.01) * g * g
                move = rate * (one[t] * fix_one) / (np.sqrt(two[t] * fix_two) + least)
                p[t] = v - move if v != 0 else v
            if not euclidean:
                norm = np.float32(0)
                for t in range(p.shape[0]):
                    norm += p[t] * p[t]
                norm = np.float32(1) / np.sqrt(norm)
                for t in range(p.shape[0]):
                    p[t] *= norm
            for q in range(first[j], first[j + 1]):
                clear(rows, places[q] // m, sums)

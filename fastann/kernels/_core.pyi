"""The compiled core: arrays in, arrays out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

def level() -> str:
    """Name of the instructions in use."""

def levels() -> list[str]:
    """
    Names of the instructions that this CPU has, and this library was compiled for; best first.
    """

def use(name: str) -> bool:
    """Use other instructions from now on; False if they are not available."""

def threads() -> int:
    """Most threads that loops called by this thread run on."""

def set_threads(count: int) -> int:
    """
    Set that; 0 is as many as there are cores. Returns what was set before.
    """

def end_idle_workers() -> None:
    """End the threads that have nothing to do: before a fork."""

def in_lanes(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """
    Rows side by side, as `assign` reads them.

    Parameters
    ----------
    x : float32 [n, d]

    Returns
    -------
    lanes : float32 [blocks, d, 16]
        Sixteen rows a block, column by column; zeros after the last row.
    boxes : float32 [boxes, 2, d]
        The least and the largest value of 64 rows each. Where such rows are near each other, they are compared with few
        centroids.
    """

def project(x: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """
    Products of rows with others, by float32.

    Parameters
    ----------
    x : float32 [n, d]
    directions : float32 [m, d]

    Returns
    -------
    products : float32 [n, m]
    """

def assign(
    lanes: NDArray[np.float32],
    boxes: NDArray[np.float32],
    x: NDArray[np.float32],
    weights: NDArray[np.float64] | None,
    centroids: NDArray[np.float32],
    two: bool,
) -> tuple[
    NDArray[np.int32], NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float, int
]:
    """
    One look at a table of few columns: nearest centroids, by float32, and the sums of their rows.

    Parameters
    ----------
    lanes : float32 [blocks, d, 16]
    boxes : float32 [boxes, 2, d]
        What `in_lanes` makes of `x`.
    x : float32 [n, d]
    weights : float64 [n] or None
    centroids : float32 [k, d]
    two : bool
        Whether to tell the two nearest of each row.

    Returns
    -------
    ids : int32 [2, n]
        Nearest and second nearest; [0, n] without `two`. -1 if there is none.
    sqdist : float32, of the same shape
    sums : float64 [k, d]
        Weighted sums of each cluster's rows.
    mass : float64 [k]
        Weight of these.
    loss : float64 [k]
        What these rows would cost more without the centroid; 0 without `two`.
    cost : float
        Weighted sum of squared distances to the nearest.
    compared : int
        Pairs of a row and a centroid that were compared.
    """

def nearest_in_group(
    x: NDArray[np.float32] | csr_matrix,
    labels: NDArray[np.int32],
    centroids: NDArray[np.float32] | csr_matrix,
    first: NDArray[np.int64],
    within: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """
    Nearest centroid among those of each row's group, by float64 distances; ties go to the lowest.

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    labels : int32 [n]
        Group of each row; negative for none.
    centroids : float32 [k, d], or a float32 CSR matrix
    first : int64 [groups + 1]
        Centroids of group g are first[g] to first[g + 1].
    within : float64 [n] or None
        Squared distances from which on the nearest centroid of a row does not matter: this is faster.

    Returns
    -------
    ids : int32 [n]
        -1 for rows of no group, or of one without centroids; also, of dense rows, for most with none `within`.
    sqdist : float32 [n]
        Infinite there.
    """

class Grouped:
    """Rows in groups, within which k-means++ draws centres."""

def grouped(
    x: NDArray[np.float32] | csr_matrix,
    labels: NDArray[np.int32],
    groups: int,
    rounded: bool = False,
    rows: NDArray[np.int32] | None = None,
) -> Grouped:
    """
    Rows in groups, as `plus_plus` and `hear` take them.

    Parameters
    ----------
    x : float32 [t, d], or a float32 CSR matrix
    labels : int32 [n]
        Group of each row; negative for none.
    groups : int
    rounded : bool, default=False
        Round dense rows to int8, in a quarter of their memory: pays where many centres are drawn of each group. What is
        drawn is the same.
    rows : int32 [n], optional
        The rows of x in question, which go by their place in this list from here on; all when not given.
    """

def plus_plus(
    x: NDArray[np.float32] | csr_matrix,
    weights: NDArray[np.float64],
    grouped: Grouped,
    sizes: NDArray[np.int64],
    uniform: NDArray[np.float64],
    closest: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """
    Greedy k-means++ (Arthur and Vassilvitskii, 2007) within each group of rows, all groups at once.

    Parameters
    ----------
    x : float32 [t, d], or a float32 CSR matrix
    weights : float64 [n]
    grouped : Grouped
        These rows.
    sizes : int64 [groups]
        Centres wanted of each.
    uniform : float64 [sum(sizes), trials]
        Random numbers in [0, 1): the draws of each centre, of which the best is kept.
    closest : float64 [n] or None
        Squared distance of each row to the nearest centre there is, infinite for all rows of a group where there is
        none; updated in place. None: there are none.

    Returns
    -------
    int64 [sum(sizes)]
        Rows chosen, group after group; -1 where a group has fewer distinct rows than that.
    """

def hear(
    x: NDArray[np.float32] | csr_matrix,
    grouped: Grouped,
    picks: NDArray[np.int64],
    first: NDArray[np.int64],
    closest: NDArray[np.float64],
) -> None:
    """
    Tell groups of new centres near to them, which are rows as well.

    Parameters
    ----------
    x : float32 [t, d], or a float32 CSR matrix
    grouped : Grouped
        These rows.
    picks : int64 array
        New centres, sorted by the group that is to hear of them; one may be there several times.
    first : int64 [groups + 1]
        Group g is to hear of picks[first[g]] to picks[first[g + 1] - 1].
    closest : float64 [n]
        Squared distance of each row to the nearest centre there is; lowered in place.
    """

def greedy(
    x: NDArray[np.float32], weights: NDArray[np.float64] | None, uniform: NDArray[np.float64]
) -> NDArray[np.int64]:
    """
    Greedy k-means++ (Arthur and Vassilvitskii, 2007): rows to start from, by squared differences.

    Parameters
    ----------
    x : float32 [n, d]
    weights : float64 [n] or None
    uniform : float64 [k, trials]
        Random numbers in [0, 1): the draws of each centre, of which the best is kept.

    Returns
    -------
    int64 [k]
        Rows chosen; fewer where there are fewer distinct rows of some weight.
    """

def pairs_by_prototype(ids: NDArray[np.int32], k: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """
    Group the pairs of a row and a prototype by prototype.

    Parameters
    ----------
    ids : int32 [b, m]
        Prototypes of each row of a batch, -1 for none. The pair of a row and one of its slots has the place
        ``row * m + slot`` in all that is computed of it.
    k : int
        Prototypes that there are.

    Returns
    -------
    first : int64 [k + 1]
    places : int32
        The pairs of prototype j are at ``places[first[j]:first[j + 1]]``.
    """

def pair_scores(
    x: NDArray[np.float32] | csr_matrix,
    prototypes: NDArray[np.float32] | csr_matrix,
    first: NDArray[np.int64],
    places: NDArray[np.int32],
    m: int,
    euclidean: bool,
) -> NDArray[np.float32]:
    """
    Score of each pair: minus the squared L2 distance if `euclidean`, the product otherwise (cosine of unit vectors).

    Parameters
    ----------
    x : float32 [b, d], or a float32 CSR matrix
    prototypes : float32 [k, d], or a float32 CSR matrix
    first, places : from `pairs_by_prototype`
    m : int
        Slots of a row.
    euclidean : bool

    Returns
    -------
    float32 [b, m]
        0 where there is no pair. For Euclidean, ``2 x.p - |p|^2 - |x|^2`` in float32.
    """

def coefficients(
    ids: NDArray[np.int32],
    owner: NDArray[np.int32],
    labels: NDArray[np.int32],
    weights: NDArray[np.float64],
    scale: float,
    smooth: float,
    score: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """
    Cross-entropy of each row, and its derivative by each score, divided by the scale.

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

    Returns
    -------
    slope : float32 [b, m]
        The derivatives, times the row's weight; 0 where there is no prototype.
    loss : float64 [b, 2]
        The cross-entropy of each row, and its derivative by the logarithm of the scale, both weighted.
    """

def descend(
    x: NDArray[np.float32] | csr_matrix,
    prototypes: NDArray[np.float32] | csr_matrix,
    first: NDArray[np.int64],
    places: NDArray[np.int32],
    slope: NDArray[np.float32],
    euclidean: bool,
    scale: float,
    rate: float,
    least: float,
    mean: NDArray[np.float32],
    square: NDArray[np.float32],
    taken: NDArray[np.int64],
) -> None:
    """
    One step of Adam (Kingma and Ba, 2015) on every prototype that has pairs; others stay as they are.

    A coordinate that is zero stays zero, whether it is stored or not: no row of the prototype has a value there.

    Parameters
    ----------
    x, first, places, euclidean : as for `pair_scores`
    prototypes : float32 [k, d], or a float32 CSR matrix
        Updated in place; scaled to unit norm again unless `euclidean`.
    slope : float32 [b, m]
        From `coefficients`.
    scale : float
        As of `coefficients`.
    rate : float
        Length of a step of each coordinate.
    least : float
        Added to the root of the second moment, so that gradients much smaller than it get no full step.
    mean, square : float32, one for each value that `prototypes` stores
        First and second moment of the gradient, updated in place.
    taken : int64 [k]
        Steps of each prototype so far, updated in place.
    """

LLOYD: int = 0

SIZE_AWARE: int = 1

SIZE_AWARE_COSINE: int = 2

WANTING: int = 2

def cost(rule: int, sqdist: float, mass: float, w: float, own: bool) -> float:
    """
    What a row of weight `w` costs in a cluster of `mass`: lower is better, comparable between clusters of one row.

    By Lloyd's rule, the squared distance d^2. Size-aware, what being in the cluster adds to the objective:

    - Euclidean (Hartigan, 1975): W d^2 / (W + w), or W d^2 / (W - w) for the row's own cluster, W being its weight.
    - Cosine: minus how much longer the row makes the cluster's sum, whose length without it, or with it if it is the
      row's own, is R: R - sqrt(R^2 + 2 R w s + w^2), or sqrt(R^2 - 2 R w s + w^2) - R for the own, s being the cosine.
    """

def look(
    x: NDArray[np.float32] | csr_matrix,
    order: NDArray[np.int32],
    c: NDArray[np.float32],
    weights: NDArray[np.float64] | None,
    rule: int,
    mass: NDArray[np.float64],
    drift: NDArray[np.float32],
    caution: float,
    labels: NDArray[np.int32],
    sqdist: NDArray[np.float32],
    ids: NDArray[np.int32],
    second: NDArray[np.float32],
    beyond: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """
    Decide for each row whether it can move at all, and compare those that can with their candidates.

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    order : int32 [r]
        Which rows to visit, none twice; rows of one cluster together keep its candidates in cache.
    c : float32 [k, d]
    weights : float64 [n] or None
    rule : LLOYD, SIZE_AWARE or SIZE_AWARE_COSINE
        How centroids are compared, see `cost`.
    mass : float64 [k]
        Weight of each cluster, or length of its sum for cosine.
    drift : float32 [k]
        How far each centroid moved (distance, not squared) since the last visit.
    caution : float
        Centroids that are no candidates are taken to have moved at most this share of the largest drift among the
        row's candidates.
    labels : int32 [n]
        Updated in place.
    sqdist : float32 [n]
        Updated in place. The squared distance of a row that was not looked at is an upper bound.
    ids : int32 [n, 8]
        Candidates of each row, -1 where there are fewer.
    second, beyond : float32 [n]
        Lower bounds on the distance (not squared) to the nearest candidate other than the row's own centroid, and to
        the nearest centroid that is no candidate. Updated in place.

    Returns
    -------
    status : uint8 [r]
        In the order of `order`: 0 (the bounds held), 1 (looked at), or WANTING (a centroid that is no candidate might be
        better).
    """

def merge(
    x: NDArray[np.float32] | csr_matrix,
    order: NDArray[np.int32],
    c: NDArray[np.float32],
    weights: NDArray[np.float64] | None,
    rule: int,
    mass: NDArray[np.float64],
    most: int,
    found: NDArray[np.int32],
    found_dist: NDArray[np.float32],
    labels: NDArray[np.int32],
    sqdist: NDArray[np.float32],
    ids: NDArray[np.int32],
    second: NDArray[np.float32],
    beyond: NDArray[np.float32],
) -> None:
    """
    Merge what a search found into the candidates of some rows, and assign these rows.

    Parameters
    ----------
    order : int32 [r]
        Which rows were searched for.
    most : int
        Candidates kept per row, at most 8.
    found : int32 [r, 8]
        Centroids found, nearest first, then -1.
    found_dist : float32 [r, 8]
        Their distances, not squared.
    x, c, weights, rule, mass, labels, sqdist, ids, second, beyond
        As for `look`. A label of -1 is a row that has none yet.
    """

def widened(block: NDArray[Any]) -> NDArray[np.float32]:
    """
    Convert a float16 array [n, d], of any byte order and layout, to a new C-ordered float32 array.
    """

def group(labels: NDArray[np.int32], k: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """
    Members of each cluster, in row order.

    Parameters
    ----------
    labels : int32 [n]
        Below k; rows whose label is negative are left out.
    k : int

    Returns
    -------
    offsets : int64 [k + 1]
    order : int32 [rows of all clusters], or int64 from 2^31 rows on
        Rows of cluster `j` are ``order[offsets[j]:offsets[j + 1]]``.
    """

def tally(
    labels: NDArray[np.int32],
    k: int,
    values: NDArray[np.float32] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """
    Sum of the values of each cluster's rows, times their weights: float64 [k].

    Unlike ``numpy.bincount``, it copies neither labels nor values to 64 bits.

    Parameters
    ----------
    labels : int32 [n]
    k : int
    values : float32 [n], optional
        1 each when not given.
    weights : float64 [n], optional
        1 each when not given.
    """

def members_at(labels: NDArray[np.int32], clusters: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """
    Pick one row of each of some clusters, by its place among the cluster's rows: int64 [c].

    Parameters
    ----------
    labels : int32 [n]
    clusters : int64 [c]
        No cluster twice.
    at : int64 [c]
        Places, from 0 and below the cluster's size.
    """

def rescore(
    x: NDArray[np.float32] | csr_matrix, c: NDArray[np.float32], ids: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """
    Sort each row's candidate centroids by float32 squared L2 distance; -1 goes last, at infinity.

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    c : float32 [k, d]
    ids : int32 [n, m]
        Centroid ids or -1. Sorted in place.

    Returns
    -------
    ids : int32 [n, m]
    sqdist : float32 [n, m]
    """

def own_sqdist(
    x: NDArray[np.float32] | csr_matrix, c: NDArray[np.float32], labels: NDArray[np.int32]
) -> NDArray[np.float64]:
    """
    Squared L2 distance of each row to one centroid, float64 [n].

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    c : float32 [k, d]
    labels : int32 [n]
        The centroid of each row.
    """

def runner_up(
    x: NDArray[np.float32] | csr_matrix, c: NDArray[np.float32], labels: NDArray[np.int32], ids: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """
    Nearest of some centroids that is not the row's own.

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    c : float32 [k, d]
    labels : int32 [n]
        The row's own centroid.
    ids : int32 [n, m]
        The centroids to choose from; -1 for none.

    Returns
    -------
    second : int32 [n]
        -1 where `ids` names no other.
    sqdist : float64 [n]
        Squared L2 distance, infinite there.
    """

def drift(
    c: NDArray[np.float32], ids: NDArray[np.int32], before: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """
    How far some centroids moved: L2 distances (not squared).

    Parameters
    ----------
    c : float32 [k, d]
    ids : int32 [r]
        Which of them, each once.
    before : float32 [r, d]
        Where these were.
    out : float32 [k]
        Gets the distances of these, at their ids.
    """

UNDECIDED: int = 0

KEPT: int = 1

DROPPED: int = 2

UNSEEN: int = -1

CLEAR: int = -2

def ready(
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    found: NDArray[np.int32],
    cosine: NDArray[np.float32],
    status: NDArray[np.int8],
    duplicate_of: NDArray[np.int32],
    similarity: NDArray[np.float32],
) -> NDArray[np.int32]:
    """
    Drop rows whose near row is kept; return which memberships are to be compared now, or compared again.

    A row is compared within its own cluster, and within those whose border it is near to; each of these is a membership.
    A row waits while the near row it found is undecided; once that one is dropped, it is to look on behind it.

    Parameters
    ----------
    rows : int32 [r]
        Row of each membership of a task.
    columns : int32
        Rows they are compared with.
    found : int32 [r]
        Place in `columns` of the near row found, or `UNSEEN`, or `CLEAR`.
    cosine : float32 [r]
        Cosine with it.
    status : int8 [n]
        `UNDECIDED`, `KEPT` or `DROPPED`; written to.
    duplicate_of, similarity : int32 and float32 [n]
        Of each dropped row the kept one, and their cosine; written to.

    Returns
    -------
    int32
        Places in `rows`.
    """

def decide(
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    places: NDArray[np.int32],
    near: NDArray[np.int32],
    value: NDArray[np.float32],
    found: NDArray[np.int32],
    cosine: NDArray[np.float32],
    waits: NDArray[np.int32],
    status: NDArray[np.int8],
    duplicate_of: NDArray[np.int32],
    similarity: NDArray[np.float32],
) -> None:
    """
    Note what a comparison found for the memberships at `places`; decide the rows for which that is enough.

    A row is dropped if its near row is kept, and kept once all its memberships are `CLEAR`. Memberships are taken in order,
    so that a row kept here drops later ones.

    Parameters
    ----------
    places : int32 [p]
        From `ready`.
    near, value : int32 and float32 [p]
        From `first_near`: place in `columns` or `CLEAR`, and cosine.
    waits : int32 [n]
        Memberships of each row that are not `CLEAR` yet; written to.
    rows, columns, found, cosine, status, duplicate_of, similarity : as for `ready`
        All but the first two are written to.
    """

def unit(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """
    Rows scaled to unit norm in float64 (float32 [n, d]; zero rows stay zero), and their norms (float64 [n]).
    """

def fingerprints(x: NDArray[np.float32]) -> NDArray[np.uint64]:
    """
    Hash of each row of a float32 array [n, d]: uint64 [n], the same for equal rows, 0.0 and -0.0 being equal.
    """

def borders(
    x: NDArray[np.float32],
    labels: NDArray[np.int32],
    own: NDArray[np.float32],
    c: NDArray[np.float32],
    half: float,
    m: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """
    For each row, the clusters whose border with the row's own cluster is near: at most `m`, and how many there are.

    The border of two clusters is the plane of points that are as far from one centre as from the other. Products are in
    float32, with room for their rounding: no border that is near is missed.

    Parameters
    ----------
    x : float32 [n, d]
        Unit rows, those of one cluster together.
    labels : int32 [n]
        Their nearest centres.
    own : float32 [n]
        Their products with these.
    c : float32 [k, d]
        Unit centres.
    half : float
        A border at up to this distance is near.
    m : int

    Returns
    -------
    ids : int32 [n, m]
        Nearest border first; -1 where there are fewer.
    count : int32 [n]
    """

def first_near(
    rows: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]],
    low: NDArray[np.int32],
    high: NDArray[np.int32],
    columns: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]],
    place: NDArray[np.int32],
    least: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """
    For each row the first of some columns whose cosine with it reaches `least`.

    Products of unit rows in float32 say which pairs may reach it; these are decided in float64, so the answer depends
    neither on the instructions nor on threads.

    Parameters
    ----------
    rows, columns : tuple of (float32 [n, d], the same of unit norm, float64 norms [n])
    low, high : int32 [n]
        Columns from place `low` on, before place `high`, are wanted.
    place : int32 [columns]
        Ascending.
    least : float

    Returns
    -------
    found : int32 [n]
        Place of that column, or `CLEAR`.
    cosine : float32 [n]
    """

class Packed:
    """
    Centroids packed for the searches, by the instructions in use when they were packed.

    Attributes
    ----------
    rounded : bool
        Whether they are rounded, to int8 or bfloat16, so that products only screen.
    """

    def update(self, centroids: NDArray[np.float32], changed: NDArray[np.bool_]) -> None:
        """
        Pack again, in place, the centroids (float32 [k, d]) that `changed` (bool [k]).
        """

    @property
    def rounded(self) -> bool: ...

def pack(
    centroids: NDArray[np.float32],
    rounded: bool,
    shift: NDArray[np.float32],
    columns: NDArray[np.int32] | None = None,
    offsets: NDArray[np.int64] | None = None,
) -> Packed:
    """
    Pack centroids for the searches.

    Parameters
    ----------
    centroids : float32 [k, d]
    rounded : bool
        Round them to screen, where the instructions in use have a screen: see `suits_screen`.
    shift : float32 [d]
        Taken off rows and centroids before they are rounded: best their mean.
    columns : int32 [k], optional
        The centroids, cell by cell.
    offsets : int64 [cells + 1], optional
        Where each cell begins in `columns`.
    """

def nearest(
    x: NDArray[np.float32], c: NDArray[np.float32], packed: Packed, hint: NDArray[np.int32] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """
    Nearest centroid of each row, certified exact.

    A centroid that its score rules out, with room for all rounding, is never looked at; where several are left they are
    compared by float64 distances, equal ones going to the lowest. So labels depend neither on the instructions nor on threads.

    Parameters
    ----------
    x : float32 [n, d]
    c : float32 [k, d]
    packed : Packed
        All of `c`.
    hint : int32 [n], optional
        A centroid believed near each row, or -1: rounded screens then look at fewer.

    Returns
    -------
    labels : int32 [n]
    sqdist : float32 [n]
        Squared L2 distances, to float32 rounding of ``|x|^2 + |c|^2``.
    """

def nearest_m(
    x: NDArray[np.float32], c: NDArray[np.float32], packed: Packed, m: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """
    The `m` nearest centroids of each row, nearest first, certified exact as in `nearest`.

    Parameters
    ----------
    x : float32 [n, d]
    c : float32 [k, d]
    packed : Packed
        All of `c`, not rounded.
    m : int

    Returns
    -------
    ids : int32 [n, m]
        -1 where m > k.
    sqdist : float32 [n, m]
        Squared L2 distances, those of float64 rounded; infinite there.
    """

def eight(
    x: NDArray[np.float32],
    rows: NDArray[np.int32],
    c: NDArray[np.float32],
    packed: Packed,
    within: NDArray[np.float32],
    coarse: Packed | None = None,
    nprobe: int = 0,
    rough: bool = False,
    m: int = 8,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """
    About the eight nearest centroids of some rows, nearest first.

    All queries being known, the (row, cell) pairs of a block of rows are grouped by cell, and each cell is searched for all
    its rows at once: several times faster than query by query.

    Parameters
    ----------
    x : float32 [n, d]
    rows : int32 [r]
        Which rows of `x`.
    c : float32 [k, d]
    packed : Packed
        All of `c`, cell by cell if there are cells.
    within : float32 [r]
        Distances beyond which no centroid is wanted; infinite for any.
    coarse : Packed, optional
        The centres of the cells, of which only the `nprobe` nearest to a row are searched; by default everything is.
    rough : bool
        Whether the distances that the screen gives will do: good to about 1% if it is rounded.
    m : int
        How many are wanted of each row, at most 8. Fewer are found sooner, but chosen by the screen alone.

    Returns
    -------
    ids : int32 [r, 8]
        -1 where fewer were found.
    dist : float32 [r, 8]
        Distances (not squared), infinite where the id is -1.
    """

def suits_screen(k: int, d: int, spread: float) -> bool:
    """
    Whether rounded screening pays for `k` centroids of `d` columns, and the arithmetic has room for them.

    `spread` is their root mean squared distance to their mean.
    """

def search_sparse(
    x: csr_matrix, by_column: NDArray[np.float32], csq: NDArray[np.float64], m: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """
    The `m` nearest centroids of each row, nearest first, certified exact; equal distances in the order of ids.

    Scores come from float32 sums over the row's stored values, vectorised over centroids; those closer than the worst
    rounding error are decided by float64 distances.

    Parameters
    ----------
    x : float32 CSR matrix [n, d]
    by_column : float32 [d, k]
        The centroids, transposed.
    csq : float64 [k]
        Their squared L2 norms.
    m : int
        At most k.

    Returns
    -------
    ids : int32 [n, m]
    sqdist : float32 [n, m]
        Squared L2 distances.
    """

def search_inverted(
    x: csr_matrix, lists: csr_matrix, csq: NDArray[np.float64], m: int, budget: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """
    The `m` nearest centroids of each row, nearest first, exactly; equal distances in the order of their ids.

    A row costs as much as centroids have stored values in the row's columns, plus one comparison per centroid.

    Parameters
    ----------
    x : float32 CSR matrix [n, d]
    lists : float32 CSR matrix [d, k]
        The centroids by column: the transpose of their matrix.
    csq : float64 [k]
        Squared L2 norms of the centroids.
    m : int
        At most k.
    budget : int, optional
        Most stored values of centroids to multiply per row. The columns that most centroids have are left out until that
        suffices, which makes the search approximate. None: no limit.

    Returns
    -------
    ids : int32 [n, m]
    sqdist : float32 [n, m]
        Squared L2 distances.
    """

class Spread:
    """
    Sparse centroids laid out for `search_spread`, in about half the memory of `lists`.

    Values are rounded to bfloat16. Columns that many centroids have are spread out over all of them, the others are lists.

    Parameters
    ----------
    centroids : float32 CSR matrix [k, d]
        Searched without a screen if its columns do not ascend in every row. None of the arrays may change afterwards.
    lists : float32 CSR matrix [d, k]
        The transpose.
    csq : float64 [k]
        Squared L2 norms of the centroids.
    """

    def __init__(self, centroids: csr_matrix, lists: csr_matrix, csq: NDArray[np.float64]) -> None: ...

def search_spread(x: csr_matrix, spread: Spread, m: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """
    What `search_inverted` finds without a budget, to the bit, with a fraction of its memory traffic.

    Float32 scores of rounded centroids rule out those that are farther by more than rounding; what is left is compared by
    the same float64 sums. More than 16 nearest are searched as there.

    Parameters
    ----------
    x : float32 CSR matrix [n, d]
    spread : Spread
    m : int
        At most k.

    Returns
    -------
    ids : int32 [n, m]
    sqdist : float32 [n, m]
        Squared L2 distances.
    """

def survey(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Squared L2 norm of each row of a float32 array [n, d], and the sum of the rows.

    NaN and infinity show in the norms, which is how they are found.

    Returns
    -------
    sqnorms : float64 [n]
    sum : float64 [d]
    """

def sqnorms(x: NDArray[np.float32] | csr_matrix) -> NDArray[np.float64]:
    """
    Squared L2 norms of the rows of a matrix: float64 [n].

    Parameters
    ----------
    x : float32 [n, d], or a CSR matrix of any floats
    """

def add_rows(
    x: NDArray[np.float32] | csr_matrix,
    weights: NDArray[np.float64] | None,
    labels: NDArray[np.int32],
    sums: NDArray[np.float64],
    counts: NDArray[Any],
    rows: NDArray[np.int32] | None = None,
    *,
    sign: int = 1,
) -> None:
    """
    Add each row, times its weight, to the sum of its cluster, in place; or take it away, with sign -1.

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    weights : float64 [n] or None
    labels : int32 [n], or [r] with `rows`
    sums : float64 [k, d]
        Written to.
    counts : int64 [k], or float64 [k] when weighted
        Rows of each cluster, or their weight; written to.
    rows : int32 [r], optional
        Add only these rows.
    """

def means(
    sums: NDArray[np.float64],
    counts: NDArray[Any],
    before: NDArray[np.float32],
    *,
    cosine: bool,
    changed: NDArray[np.bool_] | None = None,
    explained: NDArray[np.float64] | None = None,
    lead: float = 0.0,
    led: NDArray[np.float32] | None = None,
    out: NDArray[np.float32] | None = None,
    back: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """
    Mean of each cluster, scaled to unit norm for cosine; clusters without rows keep their centroid.

    Parameters
    ----------
    sums : float64 [k, d]
    counts : float64 or int64 [k]
    before : float32 [k, d]
    changed : bool [k], optional
        Clusters whose sums changed since `before` was made of them; all when not given.
    explained : float64 [k], optional
        What was returned with `before`; updated in place, and returned.
    lead : float, default=0
    led : float32 [k, d], optional
        Written to: points beyond the means of clusters that changed, by `lead` times the way from `before` to these.
    out : float32 [k, d], optional
        Where the means go; it may be `before`. By default a new array.
    back : bool [k], optional
        Of clusters that did not change, those whose row of `led` gets what `before` has; the others stay. By default all.

    Returns
    -------
    means : float32 [k, d]
    explained : float64 [k]
        By how much representing a cluster's rows by their mean lowers the weighted sum of squared norms:
        ``|S|^2 / W`` of its sum S and weight W; for cosine half of that, which is ``|S|``.
    """

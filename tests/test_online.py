"""K-means on a stream: running means that stay good, follow a drift, and survive saving."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import euclidean_distances

from fastann import KMeans


@pytest.fixture(scope="module")
def rows():
    """20,000 rows in 40 blobs of unequal sizes, shuffled."""
    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((40, 12))
    label = rng.choice(40, 20_000, p=rng.dirichlet(np.full(40, 2.0)))
    return (centres[label] + rng.standard_normal((20_000, 12))).astype(np.float32)


def stream(x, size, first=1000, **settings):
    km = KMeans(**{"n_clusters": 40, "random_state": 0} | settings).partial_fit(x[:first])
    for start in range(first, len(x), size):
        km.partial_fit(x[start : start + size])
    return km


def inertia(x, centres):
    return float(euclidean_distances(x.astype(np.float64), centres, squared=True).min(axis=1).mean())


def test_running_means_by_hand():
    """One centre: 0 and 2, weighted 1 each; then 7 with weight 2. With decay 0.5 the first two count half."""
    first, second = np.array([[0.0], [2.0]]), np.array([[7.0]])
    for decay, mean, weight in ((1.0, 4.0, 4.0), (0.5, (1 + 14) / 3, 3.0), ("auto", (1 + 14) / 3, 3.0)):
        km = KMeans(1, decay=decay).partial_fit(first).partial_fit(second, sample_weight=[2.0])
        assert km.cluster_centers_[0, 0] == pytest.approx(mean)
        assert km.weights_[0] == pytest.approx(weight)
        assert km.n_steps_ == 2


def test_cosine_by_hand():
    """The direction of the mean of unit rows (1, 0), (1, 0), (0, 1): the mean's length is not forgotten."""
    km = KMeans(1, metric="cosine", decay=1.0).partial_fit([[1.0, 0.0], [0.0, 2.0]]).partial_fit([[3.0, 0.0]])
    np.testing.assert_allclose(km.cluster_centers_[0], np.array([2, 1]) / 5**0.5, rtol=1e-6)


@pytest.mark.parametrize("size", [100, 1000])
def test_better_than_mini_batch_k_means_at_equal_rows_seen(rows, size):
    ours, theirs = [], []
    for seed in range(4):
        x = rows[np.random.default_rng(seed).permutation(len(rows))]
        ours.append(inertia(x, stream(x, size, random_state=seed).cluster_centers_))
        other = MiniBatchKMeans(40, random_state=seed, n_init=1).partial_fit(x[:1000])
        for start in range(1000, len(x), size):
            other.partial_fit(x[start : start + size])
        theirs.append(inertia(x, other.cluster_centers_))
    assert np.mean(ours) < np.mean(theirs)


def test_the_cut_of_the_stream_matters_little(rows):
    values = [inertia(rows, stream(rows, size).cluster_centers_) for size in (50, 500, 5000)]
    assert max(values) < 1.05 * min(values)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_saved_and_continued_equals_uninterrupted(rows, tmp_path, metric, kind):
    x = rows[:4000]
    whole = KMeans(10, metric=metric, random_state=0).partial_fit(kind(x[:1000]))
    for start in range(1000, 4000, 500):
        whole.partial_fit(kind(x[start : start + 500]))
    part = KMeans(10, metric=metric, random_state=0).partial_fit(kind(x[:1000])).partial_fit(kind(x[1000:1500]))
    part.save(tmp_path / "run")
    part = KMeans.load(tmp_path / "run")
    for start in range(1500, 4000, 500):
        part.partial_fit(kind(x[start : start + 500]))
    np.testing.assert_array_equal(part.cluster_centers_, whole.cluster_centers_)
    np.testing.assert_array_equal(part.labels_, whole.labels_)
    assert part.n_steps_ == whole.n_steps_ == 7


def test_goes_on_after_fit(rows):
    km = KMeans(40, random_state=0).fit(rows[:10_000])
    before = inertia(rows, km.cluster_centers_)
    assert km.weights_.sum() == 10_000
    for start in range(10_000, 20_000, 1000):
        km.partial_fit(rows[start : start + 1000])
    assert inertia(rows, km.cluster_centers_) < 1.02 * before
    assert km.labels_.shape == (1000,)
    np.testing.assert_array_equal(km.predict(rows[-1000:]), km.labels_)


@pytest.mark.parametrize(("decay", "follows"), [(0.7, True), (1.0, False)])
def test_decay_follows_a_drift(rng, decay, follows):
    km = KMeans(2, decay=decay, random_state=0)
    for step in range(40):
        centres = np.array([[0.0, 0], [20, 0]]) + [0, step / 4]
        km.partial_fit(np.repeat(centres, 50, axis=0) + 0.1 * rng.standard_normal((100, 2)))
    behind = np.abs(km.cluster_centers_[:, 1] - 39 / 4).max()
    assert behind < 1 if follows else behind > 3


def test_starved_centres_move_to_where_rows_are(rng):
    """Rows of one place first, then of another far away: centres do not all stay behind."""
    x = rng.standard_normal((400, 3))
    km = KMeans(8, decay=0.5, random_state=0).partial_fit(x)
    for _ in range(30):
        km.partial_fit(100 + 5 * rng.standard_normal((400, 3)))
    assert (km.cluster_centers_.mean(axis=1) > 50).sum() >= 7


def test_a_single_row_and_a_refused_batch(rows):
    km = stream(rows[:3000], 500)
    centres, steps = km.cluster_centers_.copy(), km.n_steps_
    with pytest.raises(ValueError, match=r"contains NaN, first in row 0, column 0"):
        km.partial_fit(np.full((5, 12), np.nan))
    with pytest.raises(ValueError, match="X has 3 features, but KMeans is expecting 12"):
        km.partial_fit(rows[:5, :3])
    np.testing.assert_array_equal(km.cluster_centers_, centres)
    assert km.n_steps_ == steps
    moved = (km.partial_fit(rows[7:8]).cluster_centers_ != centres).any(axis=1)
    assert moved.sum() <= 1
    assert km.labels_.shape == (1,)


def test_a_first_batch_with_too_few_rows_is_refused(rows):
    with pytest.raises(ValueError, match="n_clusters=40 needs at least 40 rows, got n_samples=39"):
        KMeans(40).partial_fit(rows[:39])


@pytest.mark.parametrize("decay", [0, -1, 1.5, np.nan, "slow"])
def test_decays_that_make_no_sense_are_refused(rows, decay):
    with pytest.raises((ValueError, TypeError), match="decay must be"):
        KMeans(4, decay=decay).partial_fit(rows[:100])


def test_same_seed_same_bits_on_any_number_of_threads(rows):
    one, two = (stream(rows, 700, n_jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(one.cluster_centers_, two.cluster_centers_)

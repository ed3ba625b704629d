"""Rows that belong nowhere: left out of the means, told by mask and score, rejected when they are new."""

import pickle

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import sparse
from sklearn.base import clone
from sklearn.covariance import EllipticEnvelope
from sklearn.preprocessing import RobustScaler

from fastann import KMeans, evaluate, report, robust_pipeline
from fastann.cli import main
from fastann.cluster.outliers import Tails
from fastann.cluster.plan import Limits
from fastann.cluster.space import Euclidean
from fastann.cluster.trim import threshold
from fastann.quality.evaluate import Evaluation

EVERYTHING = Limits(small=0, few=1)  # the plan of large problems, on small ones


def mixture(share=0.1, n=900, d=8, k=3, seed=0, far=30.0):
    """Rows of k clusters, of which a share is spread far around; which these are; the centres."""
    rng = np.random.default_rng(seed)
    centres = 12 * np.eye(k, d)
    out = np.arange(n) < round(share * n)
    x = centres[np.arange(n) % k] + rng.standard_normal((n, d))
    spread = rng.standard_normal((out.sum(), d))
    x[out] = far * (1 + rng.random((out.sum(), 1))) * spread / np.linalg.norm(spread, axis=1, keepdims=True)
    order = rng.permutation(n)
    return x[order].astype(np.float32), out[order], centres


def error(found, centres):
    """The largest distance of a true centre to the nearest one found."""
    return np.linalg.norm(centres[:, None] - found[None], axis=2).min(axis=1).max()


class Automatic(KMeans):
    limits = EVERYTHING


@pytest.mark.parametrize("kind", [KMeans, Automatic])
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_trimming_finds_planted_rows_and_the_centres_of_the_others(kind, share):
    x, out, centres = mixture(share)
    km = kind(3, trim=share, random_state=0).fit(x)
    np.testing.assert_array_equal(km.inlier_mask_, ~out)
    clean = KMeans(3, random_state=0).fit(x[~out])
    assert error(km.cluster_centers_, centres) < 1.05 * error(clean.cluster_centers_, centres)
    assert error(KMeans(3, random_state=0).fit(x).cluster_centers_, centres) > 1
    assert km.inertia_ == pytest.approx(clean.inertia_, rel=1e-3)
    np.testing.assert_allclose(km.inertia_all_, (km.distances_.astype(float) ** 2).sum(), rtol=1e-6)
    np.testing.assert_array_equal(km.inlier_mask_, km.distances_ <= km.threshold_)
    assert km.trim_ == pytest.approx(share)
    assert km.outlier_scores_[out].min() > km.outlier_scores_[~out].max()
    np.testing.assert_array_equal(km.labels_, km.predict(x))


@pytest.mark.parametrize("kind", [KMeans, Automatic])
def test_rows_left_out_do_not_move_the_means_by_a_bit(kind):
    """The published centres are the means of the rows within the threshold, whatever the others are."""
    x, out, _ = mixture()
    x[out] *= 1e6
    km = kind(3, trim=0.1, tol=0, max_iter=100, random_state=0).fit(x)
    inside = km.inlier_mask_
    means = np.stack([x[inside & (km.labels_ == j)].astype(float).mean(axis=0) for j in range(3)])
    np.testing.assert_allclose(km.cluster_centers_, means, rtol=0, atol=2e-5)


def test_a_far_group_gets_no_centre():
    x, out, centres = mixture(0.2)
    x[out] = 60 + np.random.default_rng(1).standard_normal((out.sum(), x.shape[1]))
    km = KMeans(3, trim=0.2, random_state=0).fit(x)
    np.testing.assert_array_equal(km.inlier_mask_, ~out)
    assert error(km.cluster_centers_, centres) < 0.5


@pytest.mark.parametrize("kind", [KMeans, Automatic])
def test_a_weight_is_that_many_rows(kind):
    x, _, _ = mixture(n=300)
    w = 1 + np.arange(300) % 3
    centres = 12 * np.eye(3, 8)
    options = {"init": centres, "trim": 0.1, "tol": 0, "max_iter": 50}
    weighted = kind(3, **options).fit(x, sample_weight=w)
    copied = kind(3, **options).fit(np.repeat(x, w, axis=0))
    np.testing.assert_allclose(weighted.cluster_centers_, copied.cluster_centers_, atol=1e-4)
    np.testing.assert_array_equal(np.repeat(weighted.inlier_mask_, w), copied.inlier_mask_)
    assert weighted.inertia_ == pytest.approx(copied.inertia_, rel=1e-5)
    np.testing.assert_allclose(weighted.weights_.sum(), w[weighted.inlier_mask_].sum())


def test_threshold_is_that_of_a_sort():
    rng = np.random.default_rng(0)
    for n, share in ((1, 0.4), (7, 0.3), (300, 0.05), (100, 0.0), (400, 0.5)):
        values = np.round(rng.exponential(size=n), 2).astype(np.float32)  # with ties
        w = rng.integers(0, 4, n).astype(float)
        w[0] = 1
        for weights in (None, w):
            mass = np.ones(n) if weights is None else weights
            right = min(v for v in values if mass[values > v].sum() <= share * mass.sum() + 1e-9)
            for part in (64, 2**20):
                found = threshold(values, weights, share, part=part)
                if weights is not None:  # a value that weighs nothing does just as well
                    assert mass[values > found].sum() == mass[values > right].sum()
                else:
                    assert found == right


def test_a_multiple_of_the_mean_distance():
    x, out, _ = mixture()
    km = KMeans(3, outlier_threshold=2.0, random_state=0).fit(x)
    np.testing.assert_array_equal(km.inlier_mask_, km.distances_ <= 2 * km.distances_.astype(float).mean())
    assert (~km.inlier_mask_ == out).mean() > 0.99


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_sparse_rows_as_dense(metric):
    x, _, _ = mixture()
    x[np.abs(x) < 0.5] = 0
    dense, thin = (KMeans(3, trim=0.1, metric=metric, random_state=0).fit(t) for t in (x, sparse.csr_matrix(x)))
    np.testing.assert_array_equal(dense.inlier_mask_, thin.inlier_mask_)
    np.testing.assert_allclose(dense.cluster_centers_, thin.cluster_centers_, atol=1e-4)


def test_cosine_leaves_out_directions_of_their_own():
    rng = np.random.default_rng(0)
    x = np.eye(3, 16)[np.arange(600) % 3] + 0.05 * rng.standard_normal((600, 16))
    x[:60] = rng.standard_normal((60, 16))
    x *= rng.uniform(0.1, 10, (600, 1))
    km = KMeans(3, metric="cosine", trim=0.1, random_state=0).fit(x)
    assert (~km.inlier_mask_ == (np.arange(600) < 60)).all()
    np.testing.assert_allclose(km.inertia_, 2 * km.distances_[km.inlier_mask_].astype(float).sum(), rtol=1e-5)


def test_rows_from_a_file_as_from_memory(tmp_path):
    x, _, _ = mixture(n=3000)
    np.save(tmp_path / "x.npy", x)
    memory = Automatic(3, trim=0.1, random_state=0).fit(x)
    file = Automatic(3, trim=0.1, max_memory="256MB", temp_folder=tmp_path, random_state=0).fit(tmp_path / "x.npy")
    np.testing.assert_array_equal(memory.cluster_centers_, file.cluster_centers_)
    np.testing.assert_array_equal(memory.inlier_mask_, file.inlier_mask_)


def test_labels_of_outliers_are_nearest_or_minus_one(tmp_path):
    x, out, _ = mixture()
    nearest = KMeans(3, trim=0.1, random_state=0).fit(x)
    marked = clone(nearest).set_params(outlier_labels=-1).fit(x)
    np.testing.assert_array_equal(marked.labels_, np.where(nearest.inlier_mask_, nearest.labels_, -1))
    np.testing.assert_array_equal(marked.predict(x), marked.labels_)
    assert marked.labels_.dtype == np.int32
    marked.save(tmp_path / "run")
    for again in (KMeans.load(tmp_path / "run"), pickle.loads(pickle.dumps(marked))):
        np.testing.assert_array_equal(again.labels_, marked.labels_)
        np.testing.assert_array_equal(again.inlier_mask_, ~out)
        np.testing.assert_array_equal(again.outlier_scores_, marked.outlier_scores_)
        assert (again.inertia_, again.inertia_all_, again.trim_) == (marked.inertia_, marked.inertia_all_, marked.trim_)
        np.testing.assert_array_equal(again.predict(x, reject=0.9), marked.predict(x, reject=0.9))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_more_clusters_than_distinct_rows(metric):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (40, 400)).astype(np.float32)[rng.integers(40, size=5000)]
    km = KMeans(300, metric=metric, trim=0.05, random_state=0).fit(x)
    assert km.cluster_centers_.shape == (300, 400)
    assert km.inertia_ < 1e-6


def test_without_trimming_nothing_is_left_out():
    x, _, _ = mixture()
    km = KMeans(3, random_state=0).fit(x)
    assert km.inlier_mask_.all()
    assert (km.trim_, km.inertia_all_, km.threshold_) == (0, km.inertia_, np.inf)


def test_a_fit_goes_on_from_a_checkpoint(tmp_path):
    x, _, _ = mixture(n=2000, k=6)
    options = {"trim": 0.1, "init": "random", "tol": 0, "max_iter": 8, "random_state": 3}
    for kind in (KMeans, Automatic):
        whole = kind(6, **options).fit(x)

        def stop(state):
            if state.record.iteration == 3:
                raise RuntimeError("killed")

        folder = tmp_path / kind.__name__
        with pytest.raises(RuntimeError, match="killed"):
            kind(6, checkpoint=folder, checkpoint_seconds=0, callback=stop, **options).fit(x)
        again = kind(6, checkpoint=folder, checkpoint_seconds=0, **options).fit(x)
        np.testing.assert_array_equal(again.cluster_centers_, whole.cluster_centers_)
        np.testing.assert_array_equal(again.inlier_mask_, whole.inlier_mask_)


@pytest.mark.parametrize("empty", ["split", "farthest"])
def test_empty_clusters_take_rows_that_stay(empty):
    x, out, _ = mixture()
    x[out] *= 100
    init = np.concatenate([12 * np.eye(3, 8), [[1e4] * 8]])
    km = KMeans(4, init=init, trim=0.1, empty=empty, index="flat", random_state=0).fit(x)
    assert np.bincount(km.labels_[km.inlier_mask_], minlength=4).min() > 0
    assert np.abs(km.cluster_centers_).max() < 100


@pytest.mark.parametrize("share", [0.05, 0.15])
def test_the_share_is_found(share):
    x, _, _ = mixture(share, n=2000)
    assert KMeans(3, trim="auto", random_state=0).fit(x).trim_ == pytest.approx(share, abs=0.02)


def test_no_share_is_found_where_nothing_is_far():
    x, out, _ = mixture(n=2000)
    km = KMeans(3, trim="auto", random_state=0).fit(x[~out])
    assert km.trim_ == 0
    assert km.inlier_mask_.all()
    plain = KMeans(3, random_state=0).fit(x[~out])
    np.testing.assert_array_equal(km.cluster_centers_, plain.cluster_centers_)


def test_the_share_of_a_far_group_is_found_though_it_is_larger_than_the_clusters():
    """With a centre for each cluster, that group takes one of these otherwise, and a cluster is left out."""
    rng = np.random.default_rng(0)
    centres = 12 * rng.standard_normal((5, 6))
    x = centres[np.arange(1600) % 5] + rng.standard_normal((1600, 6))
    far = 200 + rng.standard_normal((400, 6))
    assert KMeans(5, trim="auto", random_state=0).fit(np.concatenate([x, far])).trim_ == pytest.approx(0.2, abs=0.02)
    cluster = 40 + rng.standard_normal((400, 6))  # apart from the others, but one of the five
    assert KMeans(5, trim="auto", random_state=0).fit(np.concatenate([x[np.arange(1600) % 5 > 0], cluster])).trim_ == 0


def test_outliers_among_the_clusters_count_too():
    """In two columns some of the rows spread evenly lie within clusters, where they cannot be told one by one."""
    rng = np.random.default_rng(0)
    x = np.array([[0, 0], [0, 20], [20, 0], [20, 20]])[np.arange(3000) % 4] + 2 * rng.standard_normal((3000, 2))
    x[:600] = rng.uniform(-20, 40, (600, 2))
    assert KMeans(4, trim="auto", random_state=0).fit(x).trim_ == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("seed", range(2))
def test_wide_and_long_clusters_are_no_outliers(seed):
    rng = np.random.default_rng(seed)
    widths, scales = np.array([0.6, 1, 1.6]), np.array([1.6, 0.5, 0.5, 0.5, 0.5])
    x = 7 * np.eye(3, 5)[np.arange(3000) % 3] + widths[np.arange(3000) % 3, None] * scales * rng.standard_normal(
        (3000, 5)
    )
    assert KMeans(3, trim="auto", random_state=0).fit(x).trim_ == 0


def test_rows_that_are_alike_have_no_outliers():
    x = np.repeat(np.eye(3), 50, axis=0)
    assert KMeans(3, trim="auto", random_state=0).fit(x).trim_ == 0


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("a_cluster", [20, 2000])
def test_one_percent_of_fresh_rows_is_rejected(metric, a_cluster):
    rng = np.random.default_rng(0)
    k, d = 6, 16
    centres = 8 * rng.standard_normal((k, d))
    widths = rng.uniform(0.5, 2, k)

    def rows(n):
        label = rng.integers(k, size=n)
        return (centres[label] + widths[label, None] * rng.standard_normal((n, d))).astype(np.float32)

    rejected = []
    for seed in range(1 if a_cluster > 1000 else 12):
        km = KMeans(k, metric=metric, random_state=seed).fit(rows(k * a_cluster))
        rejected.append((km.predict(rows(20_000), reject=0.99) == -1).mean())
    assert np.mean(rejected) == pytest.approx(0.01, abs=0.003)


@pytest.mark.parametrize("law", ["normal", "long"])
def test_few_rows_tell_a_quantile_better_than_their_ranks_do(law):
    """Of 1,000 rows 10 are beyond it, give or take 3.1."""
    rng, off, by_rank = np.random.default_rng(0), [], []
    scales = 0.5 ** np.arange(6) if law == "long" else np.ones(6)
    for _ in range(40):
        x, fresh = (scales * rng.standard_normal((n, 6)) for n in (1000, 10_000))
        far, new = (np.linalg.norm(rows - x.mean(axis=0), axis=1) for rows in (x, fresh))
        tails = Tails.of(np.zeros(1000, np.int32), far.astype(np.float32), None, 1, Euclidean(), np.inf)
        off.append((new > tails.within(0.99)[0]).mean() - 0.01)
        by_rank.append((new > np.quantile(far, 0.99, method="weibull")).mean() - 0.01)
    assert abs(np.mean(off)) < 0.001
    assert np.std(off) < 0.87 * np.std(by_rank)


def test_scores_compare_clusters_of_different_width():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((500, 4)), 100 + 20 * rng.standard_normal((500, 4))])
    km = KMeans(2, random_state=0).fit(x)
    narrow, wide = (np.median(km.outlier_scores_[part]) for part in (slice(500), slice(500, None)))
    assert narrow == pytest.approx(wide, rel=0.05)
    np.testing.assert_array_equal(-km.score_samples(x), km.outlier_scores_)
    near, far = km.score_samples([[5.0] * 4, [100 + 5.0] * 4])
    assert near < far


def test_a_model_without_labels_still_rejects(tmp_path):
    x, _, _ = mixture()
    km = KMeans(3, trim=0.1, random_state=0).fit(x)
    km.save(tmp_path / "run", labels=False)
    again = KMeans.load(tmp_path / "run")
    np.testing.assert_array_equal(again.predict(x, reject=0.95), km.predict(x, reject=0.95))
    with pytest.raises(ValueError, match="saved without labels"):
        again.inlier_mask_  # noqa: B018


def test_batches_leave_rows_out_too():
    x, out, centres = mixture(n=1800)
    km, plain = KMeans(3, trim=0.1, decay=1.0, random_state=0), KMeans(3, init=centres, random_state=0)
    for part in np.array_split(np.arange(1800), 3):
        km.partial_fit(x[part])
        plain.partial_fit(x[part])
        assert km.inlier_mask_.mean() == pytest.approx(0.9, abs=0.02)
    assert error(km.cluster_centers_, centres) < 0.5 < error(plain.cluster_centers_, centres)
    assert km.weights_.sum() == pytest.approx((~out).sum(), rel=0.02)
    km.partial_fit(x[:1])
    assert km.inlier_mask_.tolist() == [True]
    assert (km.predict(x, reject=0.99) == -1).mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"trim": 5}, "trim must be between 0 and 0.5, got 5"),
        ({"trim": -0.1}, "trim must be >= 0"),
        ({"trim": "some"}, "or 'auto', got 'some'"),
        ({"trim": 0.1, "outlier_threshold": 2.0}, "give one of them"),
        ({"outlier_threshold": 0.5}, "outlier_threshold must be >= 1"),
        ({"outlier_labels": "none"}, "outlier_labels must be 'nearest' or -1, got 'none'"),
        ({"trim": 0.5, "n_clusters": 8}, "trim=0.5 leaves 5 of 10 rows for n_clusters=8"),
    ],
)
def test_what_makes_no_sense_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        KMeans(**{"n_clusters": 2, **options}).fit(np.random.default_rng(0).standard_normal((10, 2)))


def test_shares_that_cannot_be_rejected():
    km = KMeans(2, random_state=0).fit(np.random.default_rng(0).standard_normal((10, 2)))
    with pytest.raises(ValueError, match=r"reject must be between 0.5 and 0.999, got 1\.0"):
        km.predict([[0, 0]], reject=1.0)
    with pytest.raises(ValueError, match="made of centres alone"):
        KMeans.from_centers(np.eye(3)).predict(np.eye(3), reject=0.99)


# --------------------------------------------------------------------- a pipeline


@pytest.mark.parametrize("envelope", [False, True])
@pytest.mark.parametrize("marked", ["nearest", -1])
def test_a_robust_pipeline(envelope, marked):
    x, out, centres = mixture(far=60.0)
    x, centres = x * 100, 100 * centres  # which the scaler takes back
    model = robust_pipeline(3, contamination=0.1, envelope=envelope, outlier_labels=marked, random_state=0).fit(x)
    np.testing.assert_array_equal(model.inlier_mask_, ~out)
    assert error(model.cluster_centers_, centres) < 50
    assert set(model.labels_[~out]) == {0, 1, 2}
    assert set(model.labels_[out]) <= ({-1} if marked == -1 else {0, 1, 2})
    np.testing.assert_array_equal(model.predict(x), model.labels_)
    np.testing.assert_array_equal(clone(model).fit(x).labels_, model.labels_)


def test_the_envelope_is_that_of_all_columns_or_of_components_with_a_word():
    x, _, _ = mixture(n=300)
    scaled = RobustScaler().fit_transform(x)
    right = EllipticEnvelope(contamination=0.1, random_state=np.random.RandomState(0).randint(2**31 - 1)).fit(scaled)
    model = robust_pipeline(3, contamination=0.1, envelope=True, random_state=0).fit(x)
    np.testing.assert_array_equal(model.inlier_mask_, right.predict(scaled) == 1)
    assert model[-1].n_components_ == 8
    with pytest.warns(UserWarning, match="35 rows are too few for a covariance of 8 columns.* 7 leading"):
        model = robust_pipeline(2, envelope=True, random_state=0).fit(x[:35])
    assert model[-1].n_components_ == 7
    assert robust_pipeline(2, envelope=True, components=2, random_state=0).fit(x[:35])[-1].n_components_ == 2


def test_a_pipeline_refuses_what_contradicts():
    with pytest.raises(ValueError, match="components=3 are for an envelope"):
        robust_pipeline(2, components=3)
    with pytest.raises(ValueError, match="needs a share of the rows, got contamination='auto'"):
        robust_pipeline(2, envelope=True, contamination="auto")
    with pytest.raises(ValueError, match=r"contamination must be at most 0\.5, got 0\.7"):
        robust_pipeline(2, envelope=True, contamination=0.7).fit(np.eye(4))
    with pytest.raises(TypeError, match="trimm"):
        robust_pipeline(2, trimm=0.1)


# --------------------------------------------------------------------- an evaluation


def test_an_evaluation_says_what_was_found_and_what_is_far(tmp_path):
    x, out, _ = mixture()
    km = KMeans(3, trim=0.1, random_state=0).fit(x)
    mask = out.copy()
    mask[np.flatnonzero(out)[:9]] = False  # of 90 rows left out, 9 are none
    mask[np.flatnonzero(~out)[:19]] = True  # and 19 of 100 are not left out
    done = evaluate(km, x, outliers=mask, sample=200)
    assert done.values["outlier_recall"] == pytest.approx(0.81)
    assert done.values["outlier_precision"] == pytest.approx(0.9)
    assert done.values["left_out"] == pytest.approx(0.1)
    assert done.tail["rows"] == np.argsort(-km.distances_)[:20].tolist()
    assert done.tail["threshold"] == pytest.approx(km.threshold_)
    assert done.tail["distances"][-1] == pytest.approx(float(km.distances_.max()))
    done.save(tmp_path)
    assert Evaluation.load(tmp_path).tail == done.tail
    page = report.build(tmp_path).read_text()
    assert "Far rows" in page
    assert str(done.tail["rows"][0]) in page
    without = evaluate(km.labels_, x, sample=200)
    assert "left_out" not in without.values
    assert len(without.tail["rows"]) == 20
    assert out[without.tail["rows"]].all()


def test_an_evaluation_says_of_which_rows_its_inertia_is():
    x = np.random.default_rng(0).standard_normal((400, 4))
    km = KMeans(3, trim=0.1, random_state=0).fit(x)
    found = evaluate(km, x)
    assert found.values["inertia"] == pytest.approx(km.inertia_all_ / 400)
    kept = km.inertia_ / km.inlier_mask_.sum()
    (note,) = [note for note in found.notes if "not left out" in note]
    assert note == f"The inertia a row is the mean of all rows; of those not left out it is {kept:.5g}."
    assert note in found.summary()
    assert not [note for note in evaluate(KMeans(3, random_state=0).fit(x), x).notes if "left out" in note]


def test_an_evaluation_refuses_outliers_it_cannot_compare():
    x, out, _ = mixture(n=60)
    km = KMeans(3, random_state=0).fit(x)
    with pytest.raises(ValueError, match="fitted with trim or outlier_threshold"):
        evaluate(km, x, outliers=out)
    with pytest.raises(ValueError, match=r"shape \(59,\).*shape \(60,\), is needed"):
        evaluate(km, x, outliers=out[1:])


# --------------------------------------------------------------------- the command line


def called(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command_line_leaves_rows_out_and_rejects(tmp_path):
    x, out, _ = mixture()
    np.save(tmp_path / "x.npy", x)
    run, data = tmp_path / "run", tmp_path / "x.npy"
    told = called("fit", data, "-k", 3, "--trim", "0.1", "--outlier-labels", "-1", "--out", run, "--quiet")
    assert told.exit_code == 0, told.output
    assert "left out    10.00% of the rows" in told.output
    km = KMeans.load(run)
    np.testing.assert_array_equal(km.labels_ == -1, out)
    told = called("predict", run, data, "--reject", 0.95, "--out", tmp_path / "labels.npy")
    assert told.exit_code == 0, told.output
    labels = np.load(tmp_path / "labels.npy")
    np.testing.assert_array_equal(labels, km.predict(x, reject=0.95))
    assert f"{(labels == -1).sum()} of them -1" in told.output
    assert called("predict", run, data, "--novelty", "--out", tmp_path / "rows.csv").exit_code == 0
    header, first, *_ = (tmp_path / "rows.csv").read_text().splitlines()
    assert header == "row,cluster,distance,outlier_score"
    assert float(first.split(",")[3]) == pytest.approx(-km.score_samples(x[:1])[0], rel=1e-5)
    assert called("export", run, "--format", "csv", "--out", tmp_path / "all.csv").exit_code == 0
    header, *rows = (tmp_path / "all.csv").read_text().splitlines()
    assert header.endswith("outlier_score")
    np.testing.assert_array_equal([int(row.split(",")[1]) for row in rows], km.labels_)


def test_the_command_line_says_what_is_wrong_in_its_own_words(tmp_path):
    np.save(tmp_path / "x.npy", mixture(n=60)[0])
    fit = ("fit", tmp_path / "x.npy", "-k", 3, "--out", tmp_path / "run", "--quiet")
    for words, told in (
        (("--trim", "much"), "neither a share of the rows, such as 0.05, nor auto"),
        (("--trim", "0.1", "--outlier-threshold", "2"), "--trim 0.1 and --outlier-threshold 2.0"),
        (("--outlier-labels", "none"), "--outlier-labels must be"),
    ):
        result = called(*fit, *words)
        assert result.exit_code == 2
        assert told in result.output
    assert called(*fit).exit_code == 0
    for words, told in ((("--reject", "99"), "--reject must be between"), (("--novelty",), "end it in .csv")):
        result = called("predict", tmp_path / "run", tmp_path / "x.npy", "--out", tmp_path / "l.npy", *words)
        assert result.exit_code == 2
        assert told in result.output

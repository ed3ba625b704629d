"""Plots: the data they draw, on whose axes, and that their colours can be told apart."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="plots need matplotlib")

import matplotlib

matplotlib.use("Agg")
from matplotlib import colors, pyplot
from matplotlib.markers import MarkerStyle
from sklearn.metrics import silhouette_samples

from fastann import KMeans, plot, records
from fastann.plot.axes import COLOURS
from fastann.records import Record, Study
from fastann.report import plots


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    return np.repeat(10 * rng.standard_normal((4, 6)), [10, 20, 40, 80], axis=0) + rng.standard_normal((150, 6))


@pytest.fixture(scope="module")
def km(rows):
    return KMeans(4, random_state=0).fit(rows)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two methods beside the baseline, one of which both others beat."""
    folder = tmp_path_factory.mktemp("study")
    records.save_study(folder, Study("sweep", "fit", {"name": "x", "n": 100}, {}, baseline="flat"))
    values = {"flat": (4.0, 1.0, 0.0), "ivf:nprobe=1": (1.0, 1.1, 0.1), "ivf:nprobe=2": (2.0, 1.2, 0.2)}
    for method, (seconds, inertia, relative) in values.items():
        for k in (2, 5):
            found = {"seconds": seconds * k, "inertia": inertia / k, "relative_inertia": relative}
            name = records.slug(f"{method}-{k}")
            records.save_record(folder, Record(name, method, {"n": 100, "n_clusters": k, "seed": 0}, values=found))
    return folder


def test_clusters_are_drawn_with_their_rows_and_a_centre_each(km, rows):
    ax = plot.clusters(km, rows)
    clouds = [line for line in ax.lines if line.get_markersize() == 3]
    centres = [line for line in ax.lines if line.get_markersize() > 3]
    sizes = sorted(np.bincount(km.labels_))
    assert sorted(len(line.get_xdata()) for line in clouds) == sizes
    assert sum(len(line.get_xdata()) for line in centres) == 4
    for line in clouds:  # each cloud lies around the centre of its colour
        (own,) = [c for c in centres if c.get_color() == line.get_color()]
        assert np.allclose(line.get_xydata().mean(axis=0), own.get_xydata()[0], atol=1e-4)
    assert "of the variance" in ax.get_xlabel()


def test_a_map_of_many_clusters_gives_near_ones_different_colours(rows):
    x = np.repeat([[0.0, 0.0], [0.0, 1.0], [50.0, 0.0], [50.0, 1.0]] + [[9.0 * i, 90.0] for i in range(8)], 4, axis=0)
    ax = plot.clusters(np.repeat(np.arange(12), 4), x + np.random.default_rng(0).standard_normal(x.shape) / 100)
    centres = {
        tuple(np.round(p, 6)): line.get_color()
        for line in ax.lines
        if line.get_markeredgewidth() > 0
        for p in line.get_xydata()
    }
    near = [(a, b) for a, b in combinations(centres, 2) if np.hypot(a[0] - b[0], a[1] - b[1]) < 2]
    assert len(near) == 2
    assert all(centres[a] != centres[b] for a, b in near)


def look(line):
    return line.get_color(), str(line.get_marker())


@pytest.mark.parametrize("k", [12, 48])
def test_clusters_of_one_colour_differ_in_their_markers(k):
    places = np.random.default_rng(1).uniform(size=(k, 2)) * [100, 1]  # most are far from few: these lend colours often
    labels = np.repeat(np.arange(k), 3)
    ax = plot.clusters(labels, places[labels])
    centres = [line for line in ax.lines if line.get_markeredgewidth() > 0]
    clouds = [line for line in ax.lines if line.get_markeredgewidth() == 0]
    assert len({line.get_color() for line in clouds}) == 8
    assert [len(line.get_xdata()) for line in clouds] == [3] * k  # the rows of a cluster each
    assert {look(line) for line in clouds} == {look(line) for line in centres}
    for cloud in clouds:
        (own,) = [line for line in centres if look(line) == look(cloud)]
        assert np.allclose(own.get_xydata(), cloud.get_xydata().mean(axis=0))


def test_names_leave_centres_of_all_shapes_whole():
    places = np.random.default_rng(4).uniform(size=(15, 2))
    labels = np.repeat(np.arange(15), 3)
    ax = plot.clusters(labels, places[labels], names=[str(j) for j in range(15)])
    ax.figure.canvas.draw()
    seen = set()
    for text in ax.texts:
        (centre,) = [line for line in ax.lines if line.get_markeredgewidth() > 0 and text.xy in line.get_xydata()]
        drawn = MarkerStyle(centre.get_marker())
        outline = drawn.get_path().transformed(drawn.get_transform()).vertices * centre.get_markersize()
        top = ax.transData.transform(text.xy)[1] + outline[:, 1].max() * ax.figure.dpi / 72
        assert text.get_window_extent().y0 >= top - 1
        seen.add(str(centre.get_marker()))
    assert len(seen) > 1


def test_names_stand_beside_their_clusters(km, rows):
    ax = plot.clusters(km, rows, names=["a", "b", "c", "d"])
    assert {text.get_text() for text in ax.texts} == set("abcd")
    for text in ax.texts:  # above the centre, whose disc it leaves whole
        (centre,) = [line for line in ax.lines if line.get_markersize() > 3 and text.xy in line.get_xydata()]
        assert text.xyann[1] >= centre.get_markersize() / 2
    boxes = [text.get_window_extent() for text in plot.clusters(km, rows, names=["a long name " * 3] * 4).texts]
    assert boxes
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    with pytest.raises(ValueError, match="2 names for 4 clusters"):
        plot.clusters(km, rows, names=["a", "b"])


def test_a_sample_is_drawn_where_there_are_more_rows(km, rows):
    ax = plot.clusters(km, rows, sample=30)
    assert sum(len(line.get_xdata()) for line in ax.lines if line.get_markersize() == 3) == 30


def test_sizes_are_counted(km, tmp_path):
    np.save(tmp_path / "labels.npy", km.labels_)
    assert [bar.get_height() for bar in plot.sizes(tmp_path / "labels.npy").patches] == [
        bar.get_height() for bar in plot.sizes(km).patches
    ]
    ax = plot.sizes(km)
    assert sum(bar.get_height() for bar in ax.patches) == 4
    for size in np.bincount(km.labels_):
        assert any(bar.get_x() <= size < bar.get_x() + bar.get_width() for bar in ax.patches)
    assert ax.get_xlabel() == "rows in the cluster"
    assert sum(bar.get_height() for bar in plot.sizes([0, 0, 1, 5]).patches) == 3


@pytest.mark.parametrize("against", ["iteration", "seconds"])
def test_convergence_is_the_history(km, against, tmp_path):
    (line,) = plot.convergence(km, against=against).lines
    assert line.get_ydata().tolist() == [r.inertia / r.rows for r in km.history_]
    spent = np.cumsum([sum(r.seconds.values()) for r in km.history_])
    assert np.allclose(line.get_xdata(), spent if against == "seconds" else np.arange(1, km.n_iter_ + 1))
    km.save(tmp_path / "run")
    (read,) = plot.convergence(tmp_path / "run", against=against).lines
    assert read.get_ydata().tolist() == line.get_ydata().tolist()


def test_fits_by_name_are_lines_with_a_legend(km, rows):
    other = KMeans(3, random_state=0).fit(rows)
    ax = plot.convergence({"four": km, "three": other})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["four", "three"]
    assert len({line.get_color() for line in ax.lines}) == 2


def test_silhouettes_are_those_of_scikit_learn(km, rows):
    ax = plot.silhouette(km, rows)
    scores = silhouette_samples(rows, km.labels_)
    drawn = [bar.get_width() for bar in ax.patches]
    assert np.allclose(sorted(drawn), np.sort(scores), atol=1e-5)
    assert np.isclose(ax.lines[0].get_xdata()[0], scores.mean(), atol=1e-6)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1", "2", "3"]
    assert ax.get_ylabel() == "cluster"
    assert plot.silhouette(KMeans(30, random_state=0).fit(rows), rows).get_ylabel() == "cluster, 20 of 30"
    with pytest.raises(ValueError, match=r"of 1; draw more \(sample\)"):
        plot.silhouette(np.zeros(150, int), rows)


def test_silhouettes_go_by_the_models_metric(rows):
    km = KMeans(4, metric="cosine", random_state=0).fit(rows)
    scores = silhouette_samples(rows, km.labels_, metric="cosine")
    assert np.isclose(plot.silhouette(km, rows).lines[0].get_xdata()[0], scores.mean(), atol=1e-5)


def test_the_frontier_of_a_study_is_joined(study):
    ax = plot.frontier(study)
    joined = next(line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.2)
    assert joined.get_xydata().tolist() == [[5.0, 0.1], [20.0, 0.0]]  # of the larger size
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["flat", "ivf", "1: ivf:nprobe=1", "2: flat"]
    assert "relative inertia" in ax.get_ylabel()


def test_more_kinds_of_methods_than_colours_differ_in_their_markers(tmp_path):
    records.save_study(tmp_path, Study("sweep", "fit", {"name": "x", "n": 100}, {}, baseline="kind0"))
    for i in range(12):
        found = {"seconds": 1.0 + i, "inertia": 1.0, "relative_inertia": i / 100}
        settings = {"n": 100, "n_clusters": 5, "seed": 0}
        records.save_record(tmp_path, Record(f"run-{i}", f"kind{i}", settings, values=found))
    ax = plot.frontier(tmp_path)
    kinds = [line for line in ax.lines if line.get_label().startswith("kind")]
    assert len(kinds) == len({look(line) for line in kinds}) == 12
    keys = {(key.colour, key.outline) for key in (plots.key("", i) for i in range(12))}  # of a report's legend
    assert len(keys) == 12


def test_an_elbow_is_the_inertia_by_clusters(study, rows, km):
    ax = plot.elbow(study)
    assert {line.get_label(): line.get_xydata().tolist() for line in ax.lines}["flat"] == [[2.0, 0.5], [5.0, 0.2]]
    assert ax.get_legend() is not None
    fits = [km, KMeans(2, random_state=0).fit(rows)]
    (line,) = plot.elbow(fits).lines
    assert line.get_xydata().tolist() == [[2, fits[1].inertia_ / 150], [4, km.inertia_ / 150]]
    (line,) = plot.elbow({5: 1.0, 2: 4.0}).lines
    assert line.get_xydata().tolist() == [[2, 4], [5, 1]]


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda km, x: plot.clusters(km, x, ax=3), TypeError, "ax must be matplotlib Axes or None, got int"),
        (lambda km, x: plot.clusters(km, x, projection="lda"), ValueError, "projection"),
        (lambda km, x: plot.clusters(km, x, sample=0), ValueError, "sample"),
        (lambda km, x: plot.sizes(np.zeros((2, 2))), ValueError, "labels have dtype float64 and shape"),
        (lambda km, x: plot.convergence([1, 2]), TypeError, "fitted fastann.KMeans"),
        (lambda km, x: plot.convergence({}), ValueError, "empty dict"),
        (lambda km, x: plot.convergence(KMeans.from_centers(x[:3])), ValueError, "no iterations"),
        (lambda km, x: plot.elbow([km]), ValueError, r"two numbers of clusters or more, got \[4\]"),
        (lambda km, x: plot.elbow(7), TypeError, "models, a dict or a study, got int"),
        (lambda km, x: plot.frontier(km), TypeError, "study must be a folder"),
    ],
)
def test_what_cannot_be_drawn_is_refused(km, rows, call, error, told):
    with pytest.raises(error, match=told):
        call(km, rows)


def test_given_axes_are_drawn_on(km, rows, study):
    figure, axes = pyplot.subplots(3, 2)
    calls = [
        lambda ax: plot.clusters(km, rows, ax=ax),
        lambda ax: plot.sizes(km, ax=ax),
        lambda ax: plot.convergence(km, ax=ax),
        lambda ax: plot.silhouette(km, rows, ax=ax),
        lambda ax: plot.frontier(study, ax=ax),
        lambda ax: plot.elbow(study, ax=ax),
    ]
    for call, ax in zip(calls, axes.flat, strict=True):
        assert call(ax) is ax
        assert ax.lines or ax.patches
    figure.canvas.draw()
    assert len(pyplot.get_fignums()) == 1


# Machado, Oliveira and Fernandes (2009), severity 1: what eyes without one kind of cones see, in linear RGB.
EYES = {
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def lab(rgb):
    xyz = rgb @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    f = np.cbrt(np.clip(xyz / [0.9505, 1.0, 1.089], 0, None))
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("eyes", EYES)
def test_colours_can_be_told_apart_by_all_eyes(eyes):
    rgb = np.array([colors.to_rgb(colour) for colour in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = lab(np.clip(linear @ np.array(EYES[eyes]).T, 0, 1))
    apart = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in combinations(range(len(COLOURS)), 2)}
    assert min(apart.values()) > 15, sorted(apart.items(), key=lambda item: item[1])[:3]


def test_importing_it_loads_no_matplotlib():
    code = "import sys, fastann; fastann.plot.clusters; assert 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_a_sweep_returns_is_a_study(study):
    from fastann.study.results import Result

    labels = [text.get_text() for text in plot.frontier(Result.load(study)).get_legend().get_texts()]
    assert labels[:2] == ["flat", "ivf"]

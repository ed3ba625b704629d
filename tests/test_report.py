"""Reports: what is on a page, that it is what the records say, and that the page needs nothing but itself."""

import importlib.util
import re
import statistics
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="reports need jinja2")
pytest.importorskip("matplotlib", reason="reports need matplotlib")

from fastann import KMeans, PrototypeClassifier, records, report
from fastann.records import METRICS, Record, Study, slug
from fastann.report import clusters, digest, html, plots, svg

VOID = {"meta", "br", "hr", "link", "img", "input", "base", "col"}


class Page(HTMLParser):
    """A parsed page: its text, ids and links, tables by caption; tags must balance."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.classes, self.titles, self.headings = [], [], [], [], {}, []
        self.tables, self.caption, self.shown = {}, None, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self._seen(tag, dict(attributes))
        if tag not in VOID:
            self.open.append((tag, dict(attributes)))
        if tag == "tr":
            self.row = []
        if tag in ("td", "th"):
            self.row.append("")

    def handle_startendtag(self, tag, attributes):
        self._seen(tag, dict(attributes))

    def handle_endtag(self, tag):
        assert self.open[-1][0] == tag, f"</{tag}> closes <{self.open[-1][0]}>"
        self.open.pop()
        if tag == "tr":
            self.tables.setdefault(self.caption, []).append(self.row)

    def handle_data(self, data):
        tags = [tag for tag, _ in self.open]
        if not {"style", "script"} & set(tags):
            self.shown.append(data)
        if tags and tags[-1] == "caption":
            self.caption = data
        if tags and tags[-1] == "h2":
            self.headings.append(data)
        if tags and tags[-1] == "title" and "svg" in tags:
            self.titles[data] = self.open[-2][1].get("class", "")
        if ({"td", "th"} & set(tags)) and "small" not in tags:
            self.row[-1] += data

    def _seen(self, tag, attributes):
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes[name] for name in ("src", "href", "xlink:href") if name in attributes]
        self.classes += attributes.get("class", "").split()

    @property
    def text(self):
        return " ".join("".join(self.shown).split())

    def table(self, start):
        """The rows, without the head, of the table whose caption starts so."""
        (caption,) = [caption for caption in self.tables if caption.startswith(start)]
        return self.tables[caption][1:]


def read(folder):
    path = report.build(folder)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def run(method, seed=0, status="done", error="", *, n=None, k=50, series=None, **values):
    configuration = {"seed": seed, "n_clusters": k} | ({} if n is None else {"n": n})
    name = slug(f"{method}-k{k}-n{n}-seed{seed}")
    return Record(name, method, configuration, status, error, values, series or {})


def fit(method, seconds, relative, seed=0, **more):
    """A run of a fit; the baseline takes 10 s plus the seed."""
    curve = {"inertia": [9.0, 3.0, 2.0, 1.5 + relative], "seconds": [seconds * i / 4 for i in range(1, 5)]}
    curve["recall"] = [0.9, 0.95, 0.99, 0.995]
    values = {"seconds": seconds, "relative_inertia": relative, "speedup": (10.0 + seed) / seconds}
    return run(method, seed, series=curve, inertia=1.5 * (1 + relative), **values, **more)


def write(folder, runs, *, kind="sweep", what="fit", baseline="flat", name="wordnet", command="fastann sweep"):
    data = {"name": name, "n": 1000, "d": 8, "dtype": "float32", "fingerprint": "ab12"}
    machine = {"processor": "A processor", "numpy": "2.1"}
    records.save_study(folder, Study(kind, what, data, {"metric": "cosine"}, baseline, command, machine))
    for record in runs:
        records.save_record(folder, record)
    return folder


def sweep_runs():
    runs = []
    for seed in range(3):
        runs.append(fit("flat", 10.0 + seed, 0.0, seed))
        runs.append(fit("cells:nlist=64", 0.8 + 0.1 * seed, 0.001, seed))
        runs += [fit(f"ivf:nprobe={p}", 0.5 * p + 0.01 * seed, 0.4 / p**2, seed) for p in (1, 2, 4, 8)]
        runs += [fit(f"hnsw:ef_search={e}", 0.9, 0.02, seed) for e in (8, 16)]  # a tie
    runs.append(run("ivf:nlist=9999", 0, "failed", "ValueError: 9999 cells need <9999> clusters & more"))
    runs.append(run("ivf:nprobe=16", 0, "skipped", "nprobe=8 has recall 1 already"))
    return runs


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sweep"), sweep_runs())


@pytest.fixture(scope="module")
def page(sweep):
    return read(sweep)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((40, 6))[rng.integers(0, 40, 3000)] * 3 + rng.standard_normal((3000, 6))).astype("f")
    km = KMeans(40, random_state=0).fit(x)
    km.save(tmp_path_factory.mktemp("fit") / "run")
    return km, tmp_path_factory.getbasetemp() / "fit0" / "run"


EVALUATION = {
    "schema": 1,
    "kind": "evaluation",
    "values": {"silhouette": 0.2134, "inertia": 14.25, "ari": None, "odd_metric": 3.25},
    "intervals": {"silhouette": [0.2012, 0.2256]},
    "samples": {"silhouette": 20_000},
    "notes": ["AMI was left out: <too many> classes."],
    "n": 5000,
    "d": 8,
    "k": 3,
    "metric": "euclidean",
    "sizes": [4000, 990, 10],
    "clusters": {
        "size": [990, 4000, 10],
        "mean_distance": [1.5, 2.5, 0.5],
        "radius": [4, 5, 1],
        "nearest": [1, 0, 1],
        "nearest_distance": [3.5, 3.5, 9.0],
        "representatives": [[12345, 17], [18, 19], [20, -1]],
        "outliers": [[1], [2], [3]],
    },
    "retrieval": [[1, 0.01, 0.71], [4, 0.05, 0.93]],
    "map": {
        "method": "pca",
        "points": [[0.0, 0.0], [1.0, 1.0], [2.0, 0.5]],
        "labels": [0, 1, 2],
        "centroids": [[0.0, 0.1], [1.0, 1.2], [2.0, 0.4]],
        "sizes": [4000, 990, 10],
        "explained": [0.5, 0.25],
    },
}


def evaluate(folder, **changes):
    content = {name: value for name, value in (EVALUATION | changes).items() if value is not None}
    records.write_json(folder / report.EVALUATION, content)
    return folder


# --------------------------------------------------------------------- sweeps


def test_a_sweep_of_fits_says_what_is_fastest_at_the_same_inertia(page):
    assert "cells:nlist=64 reaches flat's inertia (+0.10%) 12.2 times faster (0.9000 s against 11 s" in page.text
    assert "12.0 to 12.5 over 3 seeds" in page.text
    assert "26 runs: 24 done, 1 failed, 1 skipped" in page.text


def test_the_setup_is_there(page):
    for part in ("A processor", "wordnet", "1,000", "0, 1, 2", "ab12", "cosine", "fastann sweep"):
        assert part in page.text


def test_the_table_of_methods_holds_medians_of_the_records(sweep, page):
    runs = records.load_records(sweep)
    rows = {row[0]: row for row in page.table("Medians over seeds")}
    assert set(rows) == {run.method for run in runs if run.status == "done"}
    shown = html.present(run.values for run in runs)
    for method, row in rows.items():
        own = [run for run in runs if run.method == method]
        for metric, cell in zip(shown, row[3:], strict=True):
            median = statistics.median(run.values[metric.name] for run in own)
            assert cell == html.written(median, metric), (method, metric.name)


def test_every_run_is_there(sweep, page):
    rows = page.table("Every run")
    runs = records.load_records(sweep)
    assert len(rows) == len(runs)
    seconds = {(row[0], row[2]): row[4] for row in rows}
    for record in runs:
        told = seconds[record.method, str(record.configuration["seed"])]
        assert told == html.written(record.values.get("seconds"), METRICS["seconds"])


def test_failed_and_skipped_runs_are_there_with_their_reasons(page):
    assert ["ivf:nlist=9999", "failed", "1", "ValueError: 9999 cells need <9999> clusters & more"] in page.table(
        "Runs that"
    )
    assert ["ivf:nprobe=16", "skipped", "1", "nprobe=8 has recall 1 already"] in page.table("Runs that")


def test_points_on_the_frontier_are_marked(sweep, page):
    medians = {}
    for record in records.load_records(sweep):
        if record.status == "done":
            medians.setdefault(record.method, []).append((record.values["seconds"], record.values["relative_inertia"]))
    names = list(medians)
    points = [tuple(map(statistics.median, zip(*medians[name], strict=True))) for name in names]
    best = [names[i] for i in records.frontier(points, METRICS["seconds"], METRICS["relative_inertia"])]
    assert [row[1] for row in page.table("The frontier")] == best
    drawn = {title.split(": time")[0]: classes.split() for title, classes in page.titles.items() if ": time" in title}
    assert set(drawn) == set(names)
    assert {name for name, classes in drawn.items() if "front" in classes} == set(best)
    assert {name for name, classes in drawn.items() if "faint" in classes} == set(names) - set(best) - {"flat"}


def test_metrics_are_explained_by_their_records(page):
    for name in ("seconds", "relative_inertia", "speedup", "inertia"):
        assert METRICS[name].about in page.text
    assert METRICS["silhouette"].about not in page.text


def test_convergence_and_recall_are_drawn(page):
    assert "Convergence" in page.headings
    assert "Inertia a row against iteration." in page.text
    assert "Recall@1 against time (s)." in page.text


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ([fit("flat", 10.0, 0.0), fit("ivf", 1.0, 0.03)], "Nothing, but flat comes within 1% of flat's inertia"),
        (
            [fit("flat", 10.0, 0.0), fit("ivf", 20.0, 0.0)],
            "is faster than flat: the fastest, ivf (0.00%), takes 2 times",
        ),
        ([fit("flat", 10.0, 0.0)], "Only the baseline, flat, finished: in 10 s."),
        ([run("ivf", 0, "failed", "out of memory.")], "(1 run: 1 failed); the first failure is ivf: out of memory."),
        (
            [run("auto", seconds=2.5, inertia=1.0), run("ivf", seconds=1.0, inertia=2.0)],
            "within 1% of the lowest, in 2.500 s",
        ),
    ],
    ids=["none near", "none faster", "alone", "all failed", "no baseline"],
)
def test_the_finding_is_honest(tmp_path, runs, told):
    assert told in read(write(tmp_path, runs)).text


@pytest.mark.parametrize(
    ("flat", "ivf", "told"),
    [
        ([10.0], [1.0], "10.0 times faster (1 s against 10 s); with one seed, no difference beyond noise is shown."),
        ([10.0], [20.0], "takes 2 times as long (20 s against 10 s); with one seed, no difference beyond noise is sho"),
        ([10.0, 11.0], [9.5, 10.2], "in 9.850 s, and flat takes 10.50 s: no difference beyond noise, as seeds took "),
        ([10.0, 11.0, 12.0], [12.5, 11.5, 10.5], "no difference beyond noise, as seeds took 10.50 to 12.50 and 10 to"),
        ([10.0, 30.0, 20.0], [5.0, 15.0, 16.0], "no difference beyond noise"),
        ([10.0, 30.0], [0.5, 1.5], "20.0 times faster"),
        ([10.0, 10.1], [9.0, 9.1], "1.11 times faster"),
        ([10.0, 10.1], [15.0, 15.1], "Nothing that comes within 1% of flat's inertia is faster than flat"),
    ],
)
def test_a_difference_is_one_beyond_noise(flat, ivf, told, tmp_path):
    runs = [
        run(method, seed, seconds=seconds, relative_inertia=0.0, inertia=1.0, speedup=flat[seed] / seconds)
        for method, times in (("flat", flat), ("ivf", ivf))
        for seed, seconds in enumerate(times)
    ]
    text = read(write(tmp_path, runs)).text
    assert told in text
    assert ("beyond noise, as seeds" in text) == ("noise, as seeds" in told or told == "no difference beyond noise")
    assert not ("as seeds took" in text and "times faster" in text)


def test_without_a_baseline_the_fastest_is_one_beyond_noise(tmp_path):
    def page_of(name, *times):
        runs = [
            run(method, seed, seconds=seconds, inertia=1.0)
            for method, own in zip("ab", times, strict=True)
            for seed, seconds in enumerate(own)
        ]
        return read(write(tmp_path / name, runs, baseline="")).text

    assert "in 1.050 s, and b takes 1.150 s: no difference beyond noise" in page_of("near", [1.0, 1.1], [1.05, 1.25])
    assert "in 1.050 s, the fastest that does." in page_of("far", [1.0, 1.1], [5.0, 5.1])
    assert "the fastest that does; with one seed, no difference beyond noise is shown." in page_of("one", [1.0], [5.0])


def tick_labels(drawing):
    """Texts of a drawing that are numbers."""
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawing)
    return [text for text in texts if re.fullmatch(r"[-+\u2212]?[\d,.]+(e[-+]\d+)?%?", text)]


@pytest.mark.parametrize("name", ["relative_inertia", "recall"])
@pytest.mark.parametrize("base", [0.0, 0.5, 123456.0])
@pytest.mark.parametrize("step", [0.0, 1e-17, 1e-6, 1e-3, 40.0])
def test_no_axis_has_a_label_twice(name, base, step):
    values = [base, base + step, base + 2 * step]
    axis = plots.Axis.of(METRICS[name], values)
    points = [plots.Point(1.0 + i, value, i, f"m{i}") for i, value in enumerate(values)]
    (drawing,) = plots.pareto("p", points, plots.Axis("x", lambda value: f"at {value}"), axis, small=True)
    labels = tick_labels(drawing)
    assert len(labels) == len(set(labels)) > 1, labels


@pytest.mark.parametrize(("low", "high"), [(1.1, 1.4), (0.9, 2.0), (3.0, 40.0), (1000.0, 9000.0), (0.001, 70.0)])
def test_an_axis_of_powers_has_labels(low, high):
    line = plots.Line([low, high], [low, high], 0, "one")
    drawing = plots.lines("g", [line], plots.Axis("rows", scale="log"), plots.Axis("time", scale="log"))
    assert len(tick_labels(drawing)) >= 4, "two on each axis"


def test_a_sweep_of_searches_asks_for_recall(tmp_path):
    runs = [run("flat", seconds=8.0, recall=1.0, speedup=1.0)]
    runs += [run("cells", seconds=2.0, recall=0.9931, recall_low=0.991, recall_high=0.995, speedup=4.0)]
    runs += [run("ivf", seconds=1.0, recall=0.95, speedup=8.0)]
    page = read(write(tmp_path, runs, what="assign"))
    assert "cells finds the nearest centroid of 99.31% of the rows 4.00 times faster (2 s against 8 s)" in page.text
    assert [row[1] for row in page.table("The frontier")] == ["ivf", "cells", "flat"]
    assert "0.9910 to 0.9950" in page.text


def test_a_benchmark_reports_every_size(tmp_path):
    runs = []
    for n in (1000, 9000):
        for k in (10, 90):
            runs += [fit("vanilla", n * k / 1e4, 0.0, n=n, k=k), fit("auto", n * k / 1e5, -0.004, n=n, k=k)]
    page = read(write(tmp_path, runs, kind="bench", baseline="vanilla"))
    assert "With 9,000 rows, 90 clusters: auto reaches vanilla's inertia (-0.40%)" in page.text
    assert len(re.findall("With [0-9,]+ rows, [0-9]+ clusters: auto", page.text)) == 4
    assert "How time grows" in page.headings
    assert "Time by number of rows, with 90 clusters" in page.text
    assert page.text.count("Relative inertia against time. With") == 4


def test_a_recall_below_one_is_never_shown_as_one():
    assert html.number(0.999996) == "0.9999960"
    assert html.number(1 - 1e-9) == "1 - 1e-09"
    assert html.number(1.0) == "1"
    assert digest._share(0.99999, 2) != "100.00%"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (117659, "117,659"), (12345.6, "12,346"), (1.23456, "1.235"), (0.000012345, "1.23e-05"), (None, "–")],  # noqa: RUF001
)
def test_numbers_have_four_digits(value, text):
    assert html.number(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0.00%"), (-1e-9, "0.00%"), (0.0123, "+1.23%"), (-0.5, "-50.0%")])
def test_percentages_are_signed(value, text):
    assert html.percent(value) == text


# --------------------------------------------------------------------- fits and evaluations


def test_a_fit_is_reported_from_its_run_directory(fitted):
    km, folder = fitted
    page = read(folder)
    assert {"Its course", "Cluster sizes", "Map", "Quality", "Iterations"} <= set(page.headings)
    assert f"After {km.n_iter_} iterations the inertia a row is {html.number(km.inertia_ / 3000)}" in page.text
    (line,) = [line for line in km.summary().splitlines() if line.startswith("iterations")]
    assert page.text.count(line.split(": ", 1)[1]) == 1
    assert km.stop_reason_.sentence not in page.text  # which says less than the line
    assert "n_clusters=40" in page.text
    sizes = np.bincount(km.labels_, minlength=40)
    assert f"{sizes.min()} to {sizes.max()}" in page.text
    rows = page.table("Every iteration")
    assert [row[3] for row in rows] == [html.number(record.moved) for record in km.history_]
    assert [row[1] for row in rows] == [html.number(record.inertia / record.rows) for record in km.history_]


def test_the_setup_of_a_fit_has_every_entry_once_and_parameters_by_their_names(fitted):
    names = re.findall(r"<dt>(.*?)</dt>", report.build(fitted[1]).read_text(encoding="utf-8"))
    assert {"device", "index", "max_iter", "n_init", "tol"} <= set(names)
    assert len(names) == len(set(names))
    assert "max iter" not in names


def test_few_clusters_differ_in_colour_whatever_their_numbers():
    labels = [0, 8, 9, 40]
    places = [[float(i), float(i % 2)] for i in range(4)]
    given = {"method": "pca", "points": places, "labels": labels, "centroids": places, "sizes": [1, 1, 1, 1]}
    (figure,) = clusters.chart(given).figures
    assert "coloured by cluster, centroids grey" in figure.caption
    coloured = set(re.findall(r"var\(--c\d\)", figure.drawings[0]))
    assert len(coloured) == 5, "four clusters, and the grey of their centroids"


def test_clusters_of_one_size_are_said_to_have_it():
    assert (
        clusters.sizes([150, 150]).figures[0].caption
        == "Clusters by their number of rows: 150 each. No cluster is empty."
    )
    assert "5 to 7, the median 6. 1 are empty." in clusters.sizes([5, 6, 7, 0]).figures[0].caption


@pytest.mark.parametrize("count", [2, 3, 25])
def test_the_first_and_the_last_bar_are_whole(count):
    xs = [float(i) for i in range(1, count + 1)]
    drawing = plots.stacked("s", xs, [("one", [1.0] * count)], plots.Axis("iteration", whole=True), plots.Axis("s"))
    ((left, width),) = re.findall(r'<clipPath[^>]*><rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', drawing)
    bars = re.findall(r'<path d="([^"]*)"[^>]*style="fill: var\(--c0\)', drawing)
    ends = [float(x) for bar in bars for x in re.findall(r"[ML] (-?[\d.]+) ", bar)]
    assert len(bars) == count
    assert float(left) <= min(ends)
    assert max(ends) <= float(left) + float(width)


def test_a_fit_with_an_evaluation_shows_both(fitted, tmp_path):
    km, _ = fitted
    km.save(tmp_path / "run")
    page = read(evaluate(tmp_path / "run"))
    assert {"Its course", "Retrieval", "Clusters"} <= set(page.headings)
    assert "0.2012 to 0.2256" in page.text


def test_an_evaluation_shows_metrics_with_intervals_and_samples(tmp_path):
    page = read(evaluate(tmp_path))
    rows = {row[0]: row[1:] for row in page.table("What was measured")}
    assert rows["silhouette ↑"] == ["0.2134", "0.2012 to 0.2256", "20,000"]
    assert rows["inertia a row ↓"] == ["14.25", html.NOTHING, html.NOTHING]
    assert rows["odd metric"] == ["3.250", html.NOTHING, html.NOTHING]
    assert "3 clusters of 5,000 rows have a silhouette of 0.2134 (95%: 0.2012 to 0.2256)" in page.text
    assert "AMI was left out: <too many> classes." in page.text
    assert page.table("Clusters, the largest")[0] == ["1", "4,000", "2.500", "5", "0", "3.500", "18, 19", "2"]
    assert "12345, 17" in page.text
    assert ["4", "0.05000", "0.9300"] in page.table("Clusters probed")
    assert "first direction, 50% of the variance" in page.text


OPTIONAL = [name for name in EVALUATION if name not in ("schema", "kind")]


@pytest.mark.parametrize("name", OPTIONAL)
def test_any_part_of_an_evaluation_may_be_absent(tmp_path, name):
    read(evaluate(tmp_path, **{name: None}))


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_part_of_an_evaluation_may_be_alone(tmp_path, name):
    absent = {other: None for other in OPTIONAL if other != name}
    if name in ("values", "sizes", "clusters", "map", "retrieval"):
        read(evaluate(tmp_path, **absent))
    else:
        with pytest.raises(records.RecordError, match="evaluate again"):
            report.build(evaluate(tmp_path, **absent))


def test_the_map_of_centroids_is_their_pca(rng):
    centroids = rng.standard_normal((50, 5)) * [5, 3, 1, 1, 1]
    given = clusters.pca(centroids.astype(np.float32), np.arange(50))
    from sklearn.decomposition import PCA

    pca = PCA(2).fit(centroids)
    np.testing.assert_allclose(np.abs(given["centroids"]), np.abs(pca.transform(centroids)), atol=1e-4)
    np.testing.assert_allclose(given["explained"], pca.explained_variance_ratio_, atol=1e-5)


@pytest.mark.parametrize("counts", [[5], [7, 7, 7], [1, 2, 3, 100_000], [0, 0, 4]])
def test_sizes_of_any_kind_have_a_histogram(counts):
    (figure,) = clusters.sizes(counts).figures
    bars = [int(n) for n in re.findall(r"<title>[\d, to]+: (\d+)</title>", figure.drawings[0])]
    assert sum(bars) == sum(count > 0 for count in counts)


# --------------------------------------------------------------------- the page


@pytest.fixture(params=["sweep", "fit", "evaluation"])
def any_folder(request, sweep, fitted, tmp_path):
    return {"sweep": sweep, "fit": fitted[1]}.get(request.param) or evaluate(tmp_path)


def test_a_page_needs_nothing_from_outside(any_folder):
    page = read(any_folder)
    assert all(link.startswith("#") for link in page.links)
    text = (any_folder / "report.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert "@import" not in text


def test_ids_are_unique_and_references_lead_somewhere(any_folder):
    page = read(any_folder)
    assert page.ids
    assert len(page.ids) == len(set(page.ids))
    text = (any_folder / "report.html").read_text(encoding="utf-8")
    targets = set(re.findall(r"url\(#([^)]+)\)", text)) | {link[1:] for link in page.links}
    assert targets <= set(page.ids)


def test_colours_are_the_pages_own(any_folder):
    report.build(any_folder)
    drawn = re.findall(r"<svg.*?</svg>", (any_folder / "report.html").read_text(encoding="utf-8"), flags=re.S)
    assert drawn
    for drawing in drawn:
        assert not re.search(r"(?:fill|stroke): #[0-9a-f]+", drawing)


def test_the_same_records_give_the_same_page(any_folder):
    first = report.build(any_folder).read_bytes()
    assert report.build(any_folder).read_bytes() == first


def test_tables_and_figures_are_accessible(any_folder):
    report.build(any_folder)
    text = (any_folder / "report.html").read_text(encoding="utf-8")
    assert '<html lang="en">' in text
    assert all('scope="' in head for head in re.findall(r"<th\b[^>]*>", text))
    assert text.count('<div role="img" aria-label="') == text.count("<figcaption>") == text.count("<figure") > 0
    assert 'aria-label=""' not in text


NASTY = "<b>x</b><script>alert(1)</script> $a_b$ --> \"q\" 'p' &amp;"


def test_texts_of_records_are_text(tmp_path):
    runs = [fit("flat", 10.0, 0.0), fit(f"ivf:{NASTY}", 1.0, 0.0), run("hnsw", 0, "failed", NASTY)]
    page = read(write(tmp_path, runs, name=NASTY, command=NASTY))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("<script>") == 1
    assert "<b>" not in text
    assert NASTY in unescape(text)
    assert page.text.count(NASTY) >= 5
    assert any(NASTY in title for title in page.titles)


def test_labels_of_drawings_are_text():
    drawing = plots.lines(
        "one", [plots.Line([1.0, 2.0], [1.0, 2.0], 0, NASTY)], plots.Axis(f'{NASTY} id="a" url(#b)'), plots.Axis("y")
    )
    parsed = Page(drawing)
    assert f'{NASTY} id="a" url(#b)' in parsed.text
    assert all(name.startswith("one-") for name in parsed.ids)


def test_two_drawings_share_no_ids():
    lines = [plots.Line([1.0, 2.0], [1.0, 2.0], 0, "a", marked=True)]
    one, two = (Page(plots.lines(name, lines, plots.Axis("x"), plots.Axis("y"))) for name in ("one", "two"))
    assert one.ids
    assert not set(one.ids) & set(two.ids)


def test_five_hundred_runs_stay_below_two_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    runs = []
    for i in range(170):
        for seed in range(3):
            record = fit(f"ivf:nlist={i},nprobe={i % 7}", float(rng.uniform(0.1, 20)), float(rng.uniform(0, 0.5)), seed)
            record.series = {name: rng.random(100).tolist() for name in ("inertia", "seconds", "recall")}
            record.values |= {name: float(rng.random()) for name in METRICS if name not in record.values}
            runs.append(record)
    path = report.build(write(tmp_path, runs))
    assert path.stat().st_size < 2e6
    assert len(Page(path.read_text(encoding="utf-8")).table("Every run")) == len(runs)


def test_nothing_of_the_drawing_library_stays_changed(sweep):
    import matplotlib

    before = dict(matplotlib.rcParams)
    report.build(sweep)
    assert dict(matplotlib.rcParams) == before


def test_colours_of_roles_differ():
    assert len(set(svg.ROLES.values())) == len(svg.ROLES)


# --------------------------------------------------------------------- refusals


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(records.RecordError, match=r"has none of study\.json, manifest\.json, evaluation\.json; give"):
        report.build(tmp_path)
    with pytest.raises(records.RecordError, match="nowhere is not a folder"):
        report.build(tmp_path / "nowhere")


def test_a_study_without_runs_is_refused(tmp_path):
    with pytest.raises(records.RecordError, match=r"no runs in runs; run the sweep or benchmark first"):
        report.build(write(tmp_path, []))


def test_what_cannot_be_read_is_refused(tmp_path):
    for name in ("study.json", "manifest.json", "evaluation.json"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("{]")
        with pytest.raises(records.RecordError, match=re.escape(name)):
            report.build(folder)
        assert not (folder / "report.html").exists()


def test_an_altered_run_is_refused(fitted, tmp_path):
    km, _ = fitted
    km.save(tmp_path / "run")
    (tmp_path / "run" / "labels.npy").write_bytes(b"other")
    with pytest.raises(records.RecordError, match=r"labels\.npy is not the file that was saved"):
        report.build(tmp_path / "run")


def test_another_kind_of_evaluation_is_refused(tmp_path):
    with pytest.raises(records.RecordError, match="of kind 'recipe', 'evaluation' is needed"):
        report.build(evaluate(tmp_path, kind="recipe"))


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_library_is_named_with_its_remedy(sweep, monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(ImportError, match=rf'{missing}; install with: pip install "fastann\[report\]"'):
        report.build(sweep)


def test_importing_the_package_loads_no_drawing():
    import subprocess
    import sys

    code = "import sys, fastann.report; print({'jinja2', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# --------------------------------------------------------------------- classifiers


@pytest.mark.parametrize("refine", ["auto", "none", "softmax"])
@pytest.mark.parametrize("labels", [np.arange(3) * 10, np.array(["a<b", "b", "c"])], ids=["numbers", "words"])
def test_a_classifier_is_reported_from_its_folder(tmp_path, refine, labels):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 900)
    x = (rng.standard_normal((900, 5)) + 2 * np.eye(5)[y]).astype(np.float32)
    model = PrototypeClassifier(2, refine=refine, random_state=0).fit(x, labels[y])
    model.save(tmp_path / "model")
    page = read(tmp_path / "model")
    assert {"Classes", "Epochs"} <= set(page.headings)
    assert f"3 classes, {len(model.prototypes_)} prototypes" in page.text
    rows = {name: count for name, count, _ in page.table("Classes")}
    assert rows == {str(label): str((model.prototype_labels_ == label).sum()) for label in labels}
    epochs = page.table("Every epoch")
    assert [row[1] for row in epochs] == [record.phase for record in model.history_]
    if refine == "auto":
        assert f"on {model.refinement_.rows} rows held out" in page.text
    assert "fastann classify evaluate MODEL DATA LABELS" in page.text


def test_a_stream_of_a_classifier_is_reported(tmp_path):
    x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    model = (
        PrototypeClassifier(random_state=0)
        .partial_fit(x[:30], np.arange(30) % 2)
        .partial_fit(x[30:], np.arange(30) % 3)
    )
    model.save(tmp_path / "model")
    assert "2 epochs or batches" in read(tmp_path / "model").text

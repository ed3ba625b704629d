"""Descriptions of clusters: words by c-TF-IDF, nearest rows, where texts come from and where names go."""

import csv
import json
import logging
import re

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.feature_extraction.text import CountVectorizer

import fastann
from fastann import KMeans, PrototypeClassifier, describe, export, report
from fastann.cli import main
from fastann.data.texts import read_texts
from fastann.topics.words import class_tfidf

FRUIT = ["red apple pie", "green apple", "apple tart and the pie", ""]
CARS = ["a fast car", "slow car", "car race", "a race of the car"]
TEXTS = FRUIT + CARS
X = np.array([[0.0, 0.0], [0.0, 0.1], [0.0, -0.1], [0.3, 0.0], [9.0, 9.0], [9.0, 9.2], [9.0, 8.8], [9.5, 9.0]])


@pytest.fixture
def km():
    return KMeans(2, random_state=0).fit(X)


@pytest.fixture
def run(km, tmp_path):
    km.save(tmp_path / "run")
    return tmp_path / "run"


def of(found, km, row):
    """What a list of a description says of the cluster of a row."""
    return found[km.labels_[row]]


def test_words_are_scored_as_bertopic_does():
    counts = CountVectorizer().fit_transform(["a1 b1 b1", "a1 c1 c1 c1"])
    scores = class_tfidf(counts.astype(float)).toarray()
    average = 3.5  # words a class; a1 comes twice in all, b1 twice, c1 thrice
    right = [[1 / 3 * np.log(1 + average / 2), 2 / 3 * np.log(1 + average / 2), 0]]
    right += [[1 / 4 * np.log(1 + average / 2), 0, 3 / 4 * np.log(1 + average / 3)]]
    assert np.allclose(scores, right)


def test_clusters_are_named_by_their_words(km):
    found = describe(km, TEXTS, words=3)
    assert of(found.words, km, 0)[:2] == ["apple", "pie"]
    assert of(found.names, km, 4).startswith("car, race, ")
    assert of(found.scores, km, 0) == sorted(of(found.scores, km, 0), reverse=True)
    assert not {"the", "and", "of"} & {word for words in describe(km, TEXTS, words=99).words for word in words}
    assert "the" in {word for words in describe(km, TEXTS, words=99, stop_words=None).words for word in words}


def test_the_nearest_rows_come_first(km):
    found = describe(km, TEXTS, rows=2)
    for start in (0, 4):
        own = np.arange(start, start + 4)
        near = own[np.argsort(np.linalg.norm(X[own] - km.cluster_centers_[km.labels_[start]], axis=1), kind="stable")]
        assert of(found.rows, km, start) == near[:2].tolist()
        assert of(found.texts, km, start) == [TEXTS[row] for row in near[:2]]


def test_a_vectorizer_of_ones_own_makes_the_words(km):
    found = describe(km, TEXTS, vectorizer=CountVectorizer(ngram_range=(2, 2)))
    assert set(of(found.words, km, 0)) == {
        "red apple",
        "apple pie",
        "green apple",
        "apple tart",
        "tart and",
        "and the",
        "the pie",
    }
    with pytest.raises(TypeError, match="like scikit-learn's CountVectorizer"):
        describe(km, TEXTS, vectorizer="bigrams")


def test_an_empty_cluster_has_no_name():
    km = KMeans(3, init=np.array([[0.0, 0], [9, 9], [99, 99]]), max_iter=0).fit(X)
    found = describe(km, TEXTS)
    assert found.names[2] == "" and found.rows[2] == [] and found.sizes == [4, 4, 0]  # noqa: PT018
    assert "(no words)" in found.summary()


def write(kind, tmp_path):
    """The texts in a file of a kind, in two for a pattern."""
    path = tmp_path / f"texts{kind}"
    if kind == ".txt":
        path.write_text("\n".join(TEXTS) + "\n")
    elif kind == ".jsonl":
        path.write_text("".join(json.dumps({"n": i, "text": text or None}) + "\n" for i, text in enumerate(TEXTS)))
    elif kind == ".parquet":
        pa = pytest.importorskip("pyarrow")
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"n": range(8), "text": [text or None for text in TEXTS]}), path)
    else:
        with path.open("w", newline="") as file:
            lines = csv.writer(file, delimiter="\t" if kind == ".tsv" else ",")
            lines.writerow(["n", "text"])
            lines.writerows(enumerate(TEXTS))
    return path


@pytest.mark.parametrize("kind", [".parquet", ".csv", ".tsv", ".jsonl", ".txt"])
def test_texts_are_read_from_files(kind, tmp_path, km):
    path = write(kind, tmp_path)
    assert read_texts(path) == TEXTS
    assert describe(km, path).words == describe(km, TEXTS).words
    if kind != ".txt":
        with pytest.raises(ValueError, match="no column 'body', it has 'n', 'text'"):
            read_texts(path, "body")


def test_texts_of_several_files_come_in_the_order_of_rows(tmp_path):
    for i in (2, 10):
        (tmp_path / f"part-{i}.txt").write_text(f"part {i}\n")
    assert read_texts(str(tmp_path / "part-*.txt")) == ["part 2", "part 10"]


@pytest.mark.parametrize(
    ("texts", "error", "told"),
    [
        (TEXTS[:5], ValueError, "5 texts for 8 rows"),
        ([*TEXTS[:7], 3], TypeError, r"texts\[7\] is 3, a int"),
        (["the", "and"] * 4, ValueError, "hold no words, or stop words only"),
        (7, TypeError, "sequence of strings or a path"),
        ("nowhere.csv", FileNotFoundError, "nowhere.csv"),
        ("rows.npy", ValueError, "texts are read from .parquet"),
    ],
)
def test_what_are_no_texts_is_refused(km, texts, error, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", X)
    with pytest.raises(error, match=told):
        describe(km, texts)


def test_a_model_without_labels_says_so(km, tmp_path):
    km.save(tmp_path / "bare", labels=False)
    with pytest.raises(ValueError, match="a description needs the label of every row"):
        describe(tmp_path / "bare", TEXTS)
    with pytest.raises(TypeError, match=r"fitted fastann\.KMeans or a run directory"):
        describe(np.zeros(8, int), TEXTS)


def test_a_run_gets_names_in_its_table_and_stays_whole(run, km):
    (run / "mine.txt").write_text("kept")
    before = (run / "clusters.csv").read_text().splitlines()
    for words in (4, 2):  # twice: the latter takes the place of the former
        assert describe(run, TEXTS, words=words).save() == run
        with (run / "clusters.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert list(lines[0])[-3:] == ["representative", "name", "words"]
        assert of(lines, km, 0)["words"].split()[:2] == ["apple", "pie"]
        assert len(of(lines, km, 0)["words"].split()) == words
    assert [",".join(line[n] for n in before[0].split(",")) for line in lines] == before[1:]
    loaded = KMeans.load(run)  # every checksum is looked at
    assert loaded.labels_.tolist() == km.labels_.tolist()
    assert (run / "mine.txt").read_text() == "kept"
    assert json.loads((run / "description.json").read_text())["words"] == describe(km, TEXTS, words=2).words


def test_a_run_of_other_centres_is_not_named(run, km):
    found = describe(run, TEXTS)
    KMeans(3, random_state=0).fit(X).save(run, force=True)
    with pytest.raises(ValueError, match="holds other centres"):
        found.save()
    with pytest.raises(ValueError, match="no run directory"):
        describe(km, TEXTS).save()


@pytest.mark.parametrize("evaluated", [False, True])
def test_a_described_run_has_names_in_the_map_of_its_report(tmp_path, evaluated):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    x = np.concatenate([X, X + [9, -9], X + [40, 40]])
    texts = [f"{text} {place}" for place in ("here", "there", "yonder") for text in TEXTS]
    km = KMeans(6, random_state=0).fit(x)
    km.save(tmp_path / "run")
    if evaluated:
        fastann.evaluate(km, x, sample=10).save(tmp_path / "run")
    drawn = re.compile(r'class="name"><text[^>]*>([^<]+)</text>')
    assert not drawn.findall(report(tmp_path / "run").read_text())
    found = describe(tmp_path / "run", texts)
    found.save()
    text = report(tmp_path / "run").read_text()
    for number in (0, 1):  # wide and narrow
        svg = next(part for part in text.split("<svg")[1:] if f'id="map-{number}-' in part)
        names = drawn.findall(svg)
        assert len(names) > 1
        assert set(names) <= set(found.names)
    assert "Named, where there is room: 6 of the largest." in text


def test_a_report_shows_words_and_texts(run):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    describe(run, TEXTS).save()
    text = report(run).read_text()
    assert "key words" in text and "apple, pie" in text and "fast car" in text  # noqa: PT018
    fastann.evaluate(run, X, sample=10).save(run)
    both = report(run).read_text()
    assert "apple, pie" in both and "centre to centre" in both  # noqa: PT018


def test_a_table_is_written(km, tmp_path):
    found = describe(km, TEXTS)
    found.save(tmp_path / "names.csv")
    with (tmp_path / "names.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == found.names
    assert of(lines, km, 4)["texts"].split("\n")[0] in CARS
    with pytest.raises(FileExistsError):
        found.save(tmp_path / "names.csv")
    with pytest.raises(ValueError, match=r"ends in \.csv or \.parquet"):
        found.save(tmp_path / "names.txt")


def test_the_command_names_clusters(run, tmp_path):
    path = write(".csv", tmp_path)
    done = CliRunner().invoke(main, ["describe", str(run), "--texts", str(path), "--column", "text", "--words", "2"])
    assert done.exit_code == 0, done.output
    assert "apple, pie" in done.stdout
    assert "apple pie" in (run / "clusters.csv").read_text()
    out = tmp_path / "out.csv"
    done = CliRunner().invoke(main, ["describe", str(run), "--texts", str(path), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--column", "body"], "no column 'body'"),
        (["--words", "0"], "--words"),
        (["--stop-words", "german"], "--stop-words must be one of"),
        (["--out", "names.txt"], "ends in .csv or .parquet"),
    ],
)
def test_the_command_refuses_in_its_own_words(run, tmp_path, words, told):
    done = CliRunner().invoke(main, ["describe", str(run), "--texts", str(write(".csv", tmp_path)), *words])
    assert done.exit_code == 2
    assert told in done.output


# ----------------------------------------------------------------- what fitted models say of themselves


def test_a_model_says_what_was_fitted(km):
    told = dict(line.split(None, 1) for line in km.summary().splitlines())
    assert told["rows"] == "8 x 2"
    assert told["clusters"] == "2"
    assert told["inertia"].startswith(f"{km.inertia_:.6g} ")
    assert told["recall"] == "1, exact search"
    assert told["iterations"].startswith(f"{km.n_iter_}: ")
    labels = np.repeat(["fruit", "car"], 4)
    assert (
        "prototypes" in PrototypeClassifier(n_prototypes=1, metric="euclidean", random_state=0).fit(X, labels).summary()
    )


def test_a_model_that_is_not_fitted_has_no_summary():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        KMeans(2).summary()


def test_notebooks_show_the_summary_of_a_fitted_model(km):
    bundle = km._repr_mimebundle_()
    assert f"{km.inertia_:.6g}" in bundle["text/html"]
    assert "fastann-summary" in km._repr_html_()
    assert "fastann-summary" not in KMeans(2)._repr_html_()
    assert bundle["text/plain"] == repr(km)


def test_nothing_is_logged_unless_asked_for(tmp_path, capfd):
    KMeans(2, random_state=0).fit(X).save(tmp_path / "run")
    assert capfd.readouterr() == ("", "")
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("fastann").handlers)


def test_the_log_says_iterations_and_the_end(caplog, tmp_path):
    with caplog.at_level(logging.DEBUG, logger="fastann"):
        km = KMeans(2, random_state=0).fit(X)
        km.save(tmp_path / "run")
    told = [record.getMessage() for record in caplog.records if record.name.startswith("fastann.")]
    assert sum(text.startswith("iteration ") for text in told) == km.n_iter_
    assert any(text.startswith(f"2 clusters of 8 rows after {km.n_iter_} iterations") for text in told)
    assert told[-1] == f"run written to {tmp_path / 'run'}"


def test_exports_go_on_after_names(run, tmp_path):
    describe(run, TEXTS).save()
    export(KMeans.load(run), tmp_path / "rows.csv", "csv")
    assert (tmp_path / "rows.csv").is_file()

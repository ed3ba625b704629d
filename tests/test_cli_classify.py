"""The commands that classify, as a shell sees them."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from fastann import KMeans, PrototypeClassifier
from fastann.cli import main
from fastann.cli.classifying import measure
from fastann.index.recall import wilson

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
DONE, FAILED, USAGE = 0, 1, 2
COMMANDS = main.commands["classify"].commands
PAGE = (Path(__file__).resolve().parents[1] / "docs" / "classification.md").read_text(encoding="utf-8")
WORDS = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine, the last"])
TRAIN, TEST = slice(0, 1200), slice(1200, None)


def classify(*args):
    result = CliRunner().invoke(main, ["classify", *map(str, args)], catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


def done(*args):
    result = classify(*args)
    assert (result.exit_code, result.stderr) == (DONE, ""), result.output
    return result.stdout


def refused(result, *parts, code=USAGE):
    """A refusal is one line on standard error, and nothing on standard output."""
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    error = result.stderr[result.stderr.index("Error: ") :].strip()
    assert len(error.splitlines()) == 1
    missing = [part for part in parts if part not in error]
    assert not missing, f"{missing} not in {error!r}"


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory, digits):
    """A folder of data and labels in every format, and two models."""
    folder = tmp_path_factory.mktemp("digits")
    x, y = digits
    for name, part in (("train", TRAIN), ("test", TEST)):
        np.save(folder / f"{name}.npy", x[part])
        sparse.save_npz(folder / f"{name}.npz", sparse.csr_matrix(x[part]))
        np.save(folder / f"{name}_y.npy", y[part])
        (folder / f"{name}_y.txt").write_text("".join(f"{v}\n" for v in WORDS[y[part]]), encoding="utf-8")
        with (folder / f"{name}_y.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("file", "label", "digit"), *(("x", WORDS[v], v) for v in y[part])])
    PrototypeClassifier(random_state=0).fit(x[TRAIN], y[TRAIN]).save(folder / "numbers")
    PrototypeClassifier(random_state=0).fit(sparse.csr_matrix(x[TRAIN]), WORDS[y[TRAIN]]).save(folder / "words")
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of that folder to work in."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_and_is_in_the_readme(command):
    assert COMMANDS[command].help.splitlines()[0].endswith(".")
    assert done(command, "--help").startswith("Usage:")
    assert f"fastann classify {command}" in PAGE
    for option in COMMANDS[command].params:
        assert not isinstance(option, click.Option) or option.help, option.name


def test_defaults_are_those_of_the_estimator():
    given = {p.name: p.default for p in COMMANDS["fit"].params if isinstance(p, click.Option)}
    given["dtype"] = given["prototype_dtype"]  # --dtype is that of raw data, as everywhere
    expected = PrototypeClassifier().get_params()
    shared = set(given) & set(expected)
    assert set(expected) - shared == {
        *("candidates", "device", "output", "reject_below", "reject_label", "verbose", "random_state")
    }
    assert {name: str(given[name]) for name in shared} == {name: str(expected[name]) for name in shared}


# --------------------------------------------------------------------------- fit


@pytest.mark.parametrize("data", ["train.npy", "train.npz"])
def test_fit_gives_the_model_of_the_estimator(here, digits, data):
    x, y = digits
    done("fit", data, "train_y.npy", "--out", "model", "--quiet")
    model, rows = PrototypeClassifier.load("model"), x[TRAIN] if data == "train.npy" else sparse.csr_matrix(x[TRAIN])
    expected = PrototypeClassifier(random_state=0).fit(rows, y[TRAIN])
    assert sparse.issparse(model.prototypes_) == (data == "train.npz")
    np.testing.assert_array_equal(model.predict(x[TEST]), expected.predict(x[TEST]))


@pytest.mark.parametrize(
    ("args", "kind"),
    [
        (["train_y.npy"], "i"),
        (["train_y.txt"], "U"),
        (["train_y.csv"], "U"),
        (["train_y.csv", "--label-column", "label"], "U"),
        (["train_y.csv", "--label-column", "digit"], "i"),
    ],
    ids=lambda v: " ".join(v),
)
def test_labels_are_read_from_every_format(here, digits, args, kind):
    done("fit", "train.npy", *args, "--out", "model", "--refine", "none", "--max-iter", 2)
    model = PrototypeClassifier.load("model")
    assert model.classes_.tolist() == (list(range(10)) if kind == "i" else sorted(WORDS))
    right = digits[1][TEST] if kind == "i" else WORDS[digits[1][TEST]]
    assert (model.predict("test.npy") == right).mean() > 0.8


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("1\n-2\n0\n", [1, -2, 0]),
        ("02108\n601\n7", ["02108", "601", "7"]),  # postal codes, and no numbers
        ("1\n2\nx\n", ["1", "2", "x"]),
        ("1\n2.0\n3", ["1", "2.0", "3"]),
        ("1_0\n2\n3", ["1_0", "2", "3"]),
        ("99999999999999999999\n2\n3", ["99999999999999999999", "2", "3"]),
        ("9999999999999999999\n2\n3", ["9999999999999999999", "2", "3"]),  # 19 digits, too large for int64
        ("\ufeff a b \r\nc\r\ndé", ["a b", "c", "dé"]),
        ("a\rb\rc\r", ["a", "b", "c"]),
    ],
)
def test_labels_in_text_are_strings_unless_all_are_integers(tmp_path, text, labels):
    from fastann.data.labels import read_labels

    (tmp_path / "y.txt").write_bytes(text.encode())
    found = read_labels(tmp_path / "y.txt")
    assert found.tolist() == labels
    assert found.dtype == np.int64 or found.dtype.kind == "U"
    assert read_labels(tmp_path / "y.txt", as_text=True).dtype.kind == "U"
    one = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    (tmp_path / "y.csv").write_text("anything\n" + one, encoding="utf-8-sig")  # the only column
    assert read_labels(tmp_path / "y.csv").tolist() == labels


def test_fit_prints_what_it_did(here):
    out = done("fit", "train.npy", "train_y.npy", "--out", "model")
    pattern = (
        r"rows        1,200 x 64\nclasses     10\nprototypes  30 \(3 a class\)\n"
        r"refinement  (kept|not kept): accuracy 0\.\d{4} -> [01]\.\d{4}, balanced 0\.\d{4} -> [01]\.\d{4}, "
        r"on 1\d\d rows held out\n( +recall of \d: [01]\.\d{4} -> [01]\.\d{4} \(\d+ rows\)\n)?"
        r"epochs      \d+ of k-means(, 5 of refinement)?\nseconds     \d+\.\d\nmodel       model\n"
    )
    assert re.fullmatch(pattern, out), out


def test_fit_says_when_no_refinement_was_tried(here):
    command = ["fit", "train.npy", "train_y.npy", "--out", "model", "--force", "--n-prototypes", "auto"]
    assert "refinement  none, as asked\n" in done(*command, "--refine", "none")
    out = done(*command, "--refine", "softmax")
    assert "refinement  softmax, as asked\n" in out
    assert ", 5 of refinement\n" in out
    np.save("few.npy", np.load("train.npy")[:60])
    np.save("few_y.npy", np.load("train_y.npy")[:60])
    assert "too few rows to hold some out" in done("fit", "few.npy", "few_y.npy", "--out", "few")


def test_a_quiet_fit_prints_the_summary_alone(here):
    assert done("fit", "train.npy", "train_y.npy", "--out", "model", "--quiet").startswith("rows ")


GIVEN = {
    ("--n-prototypes", "2"): 2,
    ("--n-prototypes", "auto"): "auto",
    ("--n-prototypes", "3=5,1=2"): {3: 5, 1: 2},
    ("--metric", "euclidean"): "euclidean",
    ("--init", "random"): "random",
    ("--assignment", "soft"): "soft",
    ("--scores", "softmax"): "softmax",
    ("--temperature", "0.2"): 0.2,
    ("--wrong-class-penalty", "0.5"): 0.5,
    ("--shrinkage", "2"): 2.0,
    ("--merge-threshold", "0.01"): 0.01,
    ("--relative-merge", "0.1"): 0.1,
    ("--relative-merge", "true"): True,
    ("--default-prototypes", "2"): 2,
    ("--percentile-threshold", "0.5"): 0.5,
    ("--min-weight", "3"): 3.0,
    ("--truncation-threshold", "0.001"): 0.001,
    ("--refine", "softmax"): "softmax",
    ("--class-weight", "balanced"): "balanced",
    ("--max-iter", "3"): 3,
    ("--tol", "0.5"): 0.5,
    ("--index", "flat"): "flat",
    ("--recall", "0.9"): 0.9,
    ("--prototype-dtype", "float16"): "float16",
}


def test_every_option_reaches_the_estimator(monkeypatch, here):
    seen = {}
    monkeypatch.setattr(
        PrototypeClassifier, "fit", lambda self, *a: seen.update(self.get_params()) or (_ for _ in ()).throw(ValueError)
    )
    for (option, text), value in GIVEN.items():
        classify("fit", "train.npy", "train_y.npy", "--out", "m", "--jobs", 1, "--seed", 7, option, text)
        name = option[2:].replace("-", "_").replace("prototype_dtype", "dtype")
        assert (seen[name], type(seen[name])) == (value, type(value))
        assert (seen["n_jobs"], seen["random_state"], seen["verbose"]) == (1, 7, True)
    options = {p.opts[0] for p in COMMANDS["fit"].params if isinstance(p, click.Option)}
    apart = {"--label-column", "--jobs", "--seed", "--out", "--force", "--quiet"}
    apart |= {"--column", "--id-column", "--dtype", "--dim"}  # of the data
    assert options == {option for option, _ in GIVEN} | apart


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--n-prototypes", "many"], ["--n-prototypes must be a whole number or auto, got 'many'"]),
        (["--n-prototypes", "2.5"], ["--n-prototypes must be a whole number or auto, got '2.5'"]),
        (["--n-prototypes", "0"], ["--n-prototypes must be >= 1, got 0"]),
        (["--n-prototypes", "3=5,2"], ["--n-prototypes must name classes", "spam=5,ham=2", "'3=5,2'"]),
        (["--n-prototypes", "12=5"], ["names [12], none of which is a class"]),
        (["--relative-merge", "some"], ["--relative-merge must be true, false or a number, got 'some'"]),
        (["--shrinkage", "1_0"], ["--shrinkage must be a number or auto, got '1_0'"]),
        (["--shrinkage", "nan"], ["shrinkage must be >= 0 and finite, got nan"]),
        (["--metric", "l1"], ["metric must be one of", "'l1'"]),
        (["--refine", "always"], ["refine must be one of", "'always'"]),
        (["--index", "tree"], ["unknown index 'tree'"]),
        (["--merge-threshold", "1", "--relative-merge", "1"], ["give one of them"]),
        (["--jobs", "0"], ["--jobs == 0"]),
        (["--seed", "-1"], ["eed must be between 0"]),
        (
            ["--label-column", "digit"],
            ["'digit'", "train_y.npy has no columns", "only .csv, .tsv and .parquet files"],
        ),
    ],
    ids=lambda v: " ".join(v),
)
def test_parameters_that_make_no_sense_are_usage_errors(here, args, parts):
    refused(classify("fit", "train.npy", "train_y.npy", "--out", "model", *args), *parts)
    assert not Path("model").exists()


BAD = {
    "none.txt": (None, ["no file none.txt", "check the path"]),
    "none.csv": (None, ["no file none.csv", "check the path"]),
    "none.npy": (None, ["no file none.npy", "check the path"]),
    "numbers": (None, ["numbers is a folder", ".npy, .txt (one a line), .csv"]),
    "y.json": (b"[]", ["y.json is a .json file", ".npy, .txt (one a line), .csv"]),
    "labels": (b"1\n", ["labels is a suffix-less file"]),
    "empty.txt": (b"", ["empty.txt is empty (0 bytes)", "one label per row"]),
    "empty.csv": (b"\n\n", ["empty.csv is empty (2 bytes)", "one label per row"]),
    "empty.npy": (b"", ["empty.npy is empty (0 bytes)"]),
    "blank.txt": (b"a\n\nb\n", ["line 2 of blank.txt is blank", "every line is one row's label"]),
    "end.txt": (b"a\nb\n\n", ["line 3 of end.txt is blank"]),
    "latin.txt": ("a\né\n".encode("latin-1"), ["latin.txt is not UTF-8 (byte 0xe9 in line 2)", "save it as UTF-8"]),
    "latin.csv": ("label\né\n".encode("latin-1"), ["latin.csv is not UTF-8 (byte 0xe9 in line 2)"]),
    "wide.csv": (b"a,b\n1,2\n", ["wide.csv has no column 'label'", "it has 'a', 'b'", "--label-column"]),
    "twice.csv": (b"label,label\n1,2\n", ["twice.csv has 2 columns 'label'", "rename all but one"]),
    "header.csv": (b"label\n", ["header.csv has a header line but no labels"]),
    "gap.csv": (b"id,label\n1,a\n\n2,b\n", ["line 3 of gap.csv is blank"]),
    "hole.csv": (b"id,label\n1,a\n2, \n", ["line 3 of hole.csv has no 'label'"]),
    "short.csv": (b"id,label\n1,a\n2\n", ["line 3 of short.csv has 1 fields, not 2"]),
    "huge.csv": (b"label\n" + b"x" * 140_000, ["line 2 of huge.csv cannot be read as CSV", "field larger"]),
    "few.txt": (b"a\nb\n", ["LABELS has 2 labels for 1200 rows of DATA"]),
    "same.txt": (b"a\n" * 1200, ["at least 2 classes", "'a'"]),
    "fake.npy": (b"label\n1\n", ["fake.npy is not a .npy file"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_labels_are_one_line_that_says_what_to_do(here, name):
    content, parts = BAD[name]
    if content is not None:
        Path(name).write_bytes(content)
    refused(classify("fit", "train.npy", name, "--out", "model"), *parts)
    assert not Path("model").exists()


def test_no_such_column(here):
    result = classify("fit", "train.npy", "train_y.csv", "--label-column", "class", "--out", "model")
    refused(result, "no column 'class'", "it has 'file', 'label', 'digit'", "--label-column")
    Path("wide.csv").write_text(",".join(f"c{i}" for i in range(30)) + "\n")
    refused(classify("fit", "train.npy", "wide.csv", "--out", "model"), "'c19' and 10 more")


def test_pickled_labels_are_never_read(here):
    np.save("y.npy", np.array(["a", None], dtype=object), allow_pickle=True)
    refused(classify("fit", "train.npy", "y.npy", "--out", "model"), "never unpickled", "y.astype(str)")


def test_bytes_are_read_as_strings(here):
    np.save("y.npy", np.char.encode(WORDS[np.load("train_y.npy")], "utf-8"))
    done("fit", "train.npy", "y.npy", "--out", "model", "--refine", "none", "--max-iter", 1)
    assert PrototypeClassifier.load("model").classes_.tolist() == sorted(WORDS)


@pytest.mark.parametrize(
    ("data", "content", "parts"),
    [
        ("none.npz", None, ["no file none.npz"]),
        ("x.npz", b"PK", ["x.npz cannot be read as a sparse matrix", "scipy.sparse.save_npz"]),
        ("x.pdf", b"1,2\n", ["x.pdf is a .pdf file", ".npy"]),
    ],
)
def test_bad_data_is_one_line(here, data, content, parts):
    if content is not None:
        Path(data).write_bytes(content)
    refused(classify("fit", data, "train_y.npy", "--out", "model"), *parts)


@pytest.mark.skipif(AS_ROOT, reason="root reads every file")
def test_labels_without_permission_are_refused(here):
    Path("train_y.txt").chmod(0)
    refused(classify("fit", "train.npy", "train_y.txt", "--out", "model"), "train_y.txt", "not readable")


def test_force_replaces_a_model_and_nothing_else(here):
    command = ["fit", "train.npy", "train_y.npy", "--refine", "none", "--max-iter", 1]
    refused(classify("fit", "none.npy", "none.npy", "--out", "numbers"), "numbers exists already", "--force")
    done(*command, "--n-prototypes", 1, "--out", "numbers", "--force")
    assert PrototypeClassifier.load("numbers").n_prototypes == 1
    Path("pictures").mkdir()
    Path("pictures/cat.png").write_bytes(b"cat")
    refused(classify(*command, "--out", "pictures", "--force"), "not a run directory")
    assert Path("pictures/cat.png").read_bytes() == b"cat"


# --------------------------------------------------------------------------- predict


@pytest.mark.parametrize("model", ["numbers", "words"])
@pytest.mark.parametrize("data", ["test.npy", "test.npz"])
def test_predict_writes_the_labels_of_the_estimator(here, model, data):
    fitted = PrototypeClassifier.load(model)
    expected = fitted.predict("test.npy")
    for out in ("y.npy", "y.txt", "y.csv"):
        assert done("predict", model, data, "--out", out) == f"597 labels written to {out}\n"
    found = np.load("y.npy")
    np.testing.assert_array_equal(found, expected, strict=True)
    assert Path("y.txt").read_text(encoding="utf-8").splitlines() == list(map(str, expected))
    with Path("y.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(597))
    assert [row["label"] for row in rows] == list(map(str, expected))
    near = 1 - fitted.kneighbors("test.npy", 1)[0][:, 0]
    np.testing.assert_allclose([float(row["similarity"]) for row in rows], near, rtol=2e-5)


def test_predictions_are_labels_that_evaluate_reads(here):
    for out in ("y.npy", "y.txt", "y.csv"):
        for model in ("numbers", "words"):
            done("predict", model, "test.npy", "--out", out, "--force")
            assert "accuracy   1.0000" in done("evaluate", model, "test.npy", out)


def test_similarity_of_the_euclidean_metric(here, digits):
    x, y = digits
    model = PrototypeClassifier(1, metric="euclidean", refine="none", random_state=0).fit(x[TRAIN], y[TRAIN])
    model.save("model")
    done("predict", "model", "test.npy", "--out", "y.csv")
    with Path("y.csv").open(newline="", encoding="utf-8") as file:
        found = [float(row["similarity"]) for row in csv.DictReader(file)]
    sqdist = ((x[TEST][:, None] - model.prototypes_[None]) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(found, 1 / (1 + sqdist), rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "args", "label"),
    [
        ("numbers", [], -1),
        ("numbers", ["--reject-label", "-9"], -9),
        ("numbers", ["--reject-label", "none"], "none"),
        ("words", [], "rejected"),
        ("words", ["--reject-label", "0"], "0"),
    ],
)
def test_rows_far_from_every_prototype_are_rejected(here, model, args, label):
    done("predict", model, "test.npy", "--out", "y.npy", "--reject-below", 0.85, *args)
    fitted, found = PrototypeClassifier.load(model), np.load("y.npy")
    far = 1 - fitted.kneighbors("test.npy", 1)[0][:, 0] < 0.85
    assert 0 < far.sum() < len(far)
    assert set(found[far].tolist()) == {label}
    assert found[~far].tolist() == fitted.predict("test.npy")[~far].astype(found.dtype).tolist()


@pytest.mark.parametrize("data", ["test.npy", "test.npz"])
def test_probabilities(here, data):
    assert "597 rows and 10 classes written to p.npy" in done("predict", "words", data, "--out", "p.npy", "--proba")
    found, model = np.load("p.npy"), PrototypeClassifier.load("words")
    assert (found.dtype, found.shape) == (np.float32, (597, 10))
    np.testing.assert_allclose(found, model.predict_proba("test.npz"), atol=1e-6)
    assert (model.classes_[found.argmax(axis=1)] == model.predict("test.npy")).all()


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["numbers", "test.npy", "--out", "y.json"], ["--out y.json", ".npy or .txt or .csv"]),
        (["numbers", "test.npy", "--out", "y.csv", "--proba"], ["--out y.csv", "ends in .npy"]),
        (["numbers", "test.npy", "--out", "y.npy", "--proba", "--reject-below", "0.5"], ["--proba", "leave"]),
        (["numbers", "test.npy", "--out", "y.npy", "--reject-label", "x"], ["--reject-label x", "--reject-below too"]),
        (["numbers", "test.npy", "--out", "y.npy", "--reject-below", "nan"], ["--reject-below must be >= -1", "nan"]),
        (["nothing", "test.npy", "--out", "y.npy"], ["no run directory nothing"]),
        (["numbers", "none.npy", "--out", "y.npy"], ["no file none.npy"]),
        (["numbers", "narrow.npy", "--out", "y.npy"], ["DATA has 3 features", "expecting 64"]),
        (["kmeans", "test.npy", "--out", "y.npy"], ["kmeans", "it is of a KMeans"]),
    ],
    ids=lambda v: " ".join(v),
)
def test_a_refused_predict_is_one_line_and_writes_nothing(here, args, parts):
    np.save("narrow.npy", np.ones((2, 3)))
    KMeans(2, random_state=0).fit(np.load("test.npy")).save("kmeans")
    before = sorted(p.name for p in here.iterdir())
    refused(classify("predict", *args), *parts)
    assert sorted(p.name for p in here.iterdir()) == before


def test_predict_replaces_a_file_with_force_only(here):
    Path("y.txt").write_bytes(b"mine")
    refused(classify("predict", "numbers", "test.npy", "--out", "y.txt"), "y.txt exists already", "--force")
    assert Path("y.txt").read_bytes() == b"mine"
    done("predict", "numbers", "test.npy", "--out", "y.txt", "--force")
    assert len(Path("y.txt").read_text().splitlines()) == 597


@pytest.mark.parametrize("label", ["", " padded", "two\nlines"])
def test_labels_that_a_line_cannot_hold_are_written_as_npy_only(here, label):
    y = np.array([label, "b"] * 50)
    PrototypeClassifier(1, refine="none").fit(np.tile(np.eye(2), (50, 1)), y).save("odd")
    np.save("eye.npy", np.eye(2))
    for out in ("y.txt", "y.csv"):
        refused(classify("predict", "odd", "eye.npy", "--out", out), f"{out} cannot hold the label", "ends in .npy")
    done("predict", "odd", "eye.npy", "--out", "y.npy")
    assert np.load("y.npy").tolist() == [label, "b"]


# --------------------------------------------------------------------------- evaluate


@pytest.mark.parametrize("labels", ["test_y.npy", "test_y.csv:digit"])
@pytest.mark.parametrize("data", ["test.npy", "test.npz"])
def test_evaluate_agrees_with_scikit_learn(here, data, labels):
    name, *column = labels.split(":")
    out = done("evaluate", "numbers", data, name, *(["--label-column", *column] if column else []), "--json", "e.json")
    y, found = np.load("test_y.npy"), json.loads(Path("e.json").read_text())
    p = PrototypeClassifier.load("numbers").predict(data)
    assert found["accuracy"] == pytest.approx(accuracy_score(y, p))
    assert found["accuracy_interval"] == pytest.approx(wilson(int((y == p).sum()), len(y)))
    assert found["macro_f1"] == pytest.approx(f1_score(y, p, average="macro"))
    recall, rows = recall_score(y, p, average=None), np.bincount(y)
    assert [c["recall"] for c in found["worst_classes"]] == pytest.approx(sorted(recall)[:5])
    assert all(c["recall"] == pytest.approx(recall[c["class"]]) for c in found["worst_classes"])
    assert all(c["rows"] == rows[c["class"]] for c in found["worst_classes"])
    off = confusion_matrix(y, p) - np.diag(np.bincount(y[y == p], minlength=10))
    assert [c["rows"] for c in found["confusions"]] == sorted(off.ravel().tolist(), reverse=True)[:5]
    assert all(c["rows"] == off[c["true"], c["predicted"]] for c in found["confusions"])
    assert f"accuracy   {found['accuracy']:.4f} (95%: " in out
    assert f"macro F1   {found['macro_f1']:.4f}\n" in out


def test_evaluate_prints_an_aligned_table(here):
    lines = done("evaluate", "words", "test.npz", "test_y.txt").splitlines()
    assert lines[0] == "rows       597 of 10 classes"
    worst, confused = lines[4:10], lines[11:]
    assert worst[0].split() == ["lowest", "recall", "rows", "recall"]
    assert len({len(line) for line in worst}) == 1
    assert confused[0].split() == ["class", "taken", "for", "rows"]
    assert len(confused) == 6
    assert len({len(line) for line in confused}) == 1


def test_labels_in_text_are_read_as_the_classes_are(here):
    """A model of strings whose test labels happen to be integers."""
    x = np.tile(np.eye(2), (10, 1))
    PrototypeClassifier(1, refine="none").fit(np.vstack([x, -x[:1]]), ["1", "2"] * 10 + ["other"]).save("texts")
    np.save("x.npy", x)
    Path("y.txt").write_text("1\n2\n" * 10)
    assert "accuracy   1.0000" in done("evaluate", "texts", "x.npy", "y.txt")


def test_classes_that_the_model_does_not_know_count_as_errors(here):
    y = np.load("test_y.npy")
    y[:40] = 77
    np.save("y.npy", y)
    out = done("evaluate", "numbers", "test.npy", "y.npy", "--json", "e.json")
    assert "unknown    40 rows of classes that the model does not know\n" in out
    found = json.loads(Path("e.json").read_text())
    assert found["worst_classes"][0] == {"class": 77, "rows": 40, "recall": 0.0}
    p = PrototypeClassifier.load("numbers").predict("test.npy")
    assert found["macro_f1"] == pytest.approx(f1_score(y, p, average="macro", zero_division=0))


def test_evaluate_rejects_no_row(here):
    model = PrototypeClassifier.load("numbers").set_params(reject_below=0.95, reject_label="far")
    model.save("careful")
    command = ["test.npy", "test_y.npy"]
    assert done("evaluate", "careful", *command) == done("evaluate", "numbers", *command)


def test_where_nothing_is_wrong_there_are_no_confusions():
    y = np.array([0, 1, 1])
    found = measure(y, y, y)
    assert (found["accuracy"], found["macro_f1"], found["confusions"]) == (1.0, 1.0, [])
    assert measure(y, 1 - y, y)["confusions"] == [
        {"true": 1, "predicted": 0, "rows": 2},
        {"true": 0, "predicted": 1, "rows": 1},
    ]


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["numbers", "test.npy", "train_y.npy"], ["LABELS has 1200 labels for 597 rows"]),
        (["numbers", "test.npy", "test_y.txt"], ["test_y.txt are strings", "of the model are numbers"]),
        (["words", "test.npy", "test_y.npy"], ["test_y.npy are numbers", "of the model are strings"]),
        (["numbers", "test.npy", "test_y.csv", "--label-column", "x"], ["no column 'x'", "'file', 'label', 'digit'"]),
        (["numbers", "test.npy", "test_y.npy", "--json", "e.txt"], ["--json e.txt", ".json"]),
        (["numbers", "narrow.npy", "two.txt"], ["DATA has 3 features", "expecting 64"]),
        (["nothing", "test.npy", "test_y.npy"], ["no run directory nothing"]),
    ],
    ids=lambda v: " ".join(v),
)
def test_a_refused_evaluate_is_one_line(here, args, parts):
    np.save("narrow.npy", np.ones((2, 3)))
    Path("two.txt").write_text("1\n2\n")
    refused(classify("evaluate", *args), *parts)


def test_evaluate_replaces_a_file_with_force_only(here):
    Path("e.json").write_text("mine")
    command = ["evaluate", "numbers", "test.npy", "test_y.npy", "--json", "e.json"]
    refused(classify(*command), "e.json exists already", "--force")
    assert Path("e.json").read_text() == "mine"
    done(*command, "--force")
    assert json.loads(Path("e.json").read_text())["rows"] == 597


# --------------------------------------------------------------------------- data and labels in other kinds of files


def test_raw_data_is_described_as_for_fit(here):
    np.load("train.npy").astype(np.float32).tofile("train.raw.npy")
    shape = ["--dtype", "float32", "--dim", "64"]
    done("fit", "train.raw.npy", "train_y.npy", *shape, "--out", "model", "--quiet", "--seed", 0)
    np.testing.assert_array_equal(
        PrototypeClassifier.load("model").prototypes_, PrototypeClassifier.load("numbers").prototypes_
    )
    done("predict", "model", "train.raw.npy", *shape, "--out", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), PrototypeClassifier.load("numbers").predict(np.load("train.npy")))
    assert "accuracy" in done("evaluate", "model", "train.raw.npy", "train_y.npy", *shape)
    refused(classify("predict", "model", "train.raw.npy", "--out", "z.npy"), "--dtype float32 --dim 768")


def test_predictions_name_rows_where_the_data_does(here):
    pytest.importorskip("pyarrow")
    x = np.load("train.npy")[:9]
    lines = [",".join(["code", *(f"x{i}" for i in range(64))])]
    lines += [",".join([f"{i:03}", *map(str, row)]) for i, row in enumerate(x)]
    Path("x.csv").write_text("\n".join(lines))
    done("predict", "numbers", "x.csv", "--id-column", "code", "--out", "y.csv")
    with open("y.csv", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [f"{i:03}" for i in range(9)]


def test_labels_are_written_as_they_were_given(here):
    """Postal codes: numbers would lose their zeros, and "07" would be "7"."""
    words = np.array(["07", "7", "02108", "10", "601", "1", "2", "3", "4", "5"])[np.load("train_y.npy")]
    Path("codes.csv").write_text("code\n" + "".join(f"{word}\n" for word in words))
    done("fit", "train.npy", "codes.csv", "--out", "model", "--quiet")
    done("predict", "model", "train.npy", "--out", "y.txt")
    found = Path("y.txt").read_text().split()
    assert set(found) == set(words)
    assert np.mean(np.array(found) == words) > 0.95
    assert "10 classes" in done("evaluate", "model", "train.npy", "codes.csv")


@pytest.mark.parametrize(("mark", "suffix"), [(";", ".csv"), ("\t", ".csv"), ("\t", ".tsv"), (",", ".tsv")])
def test_columns_of_labels_may_be_parted_by_other_marks(tmp_path, mark, suffix):
    from fastann.data.labels import read_labels

    path = tmp_path / f"y{suffix}"
    path.write_text("".join(mark.join(row) + "\n" for row in [("id", "label"), ("1", "a, b"), ("2", "c")][:3]))
    if mark == ",":
        path.write_text('id,label\n1,"a, b"\n2,c\n')
    assert read_labels(path).tolist() == ["a, b", "c"]
    assert read_labels(path, "id").tolist() == [1, 2]


@pytest.mark.parametrize("mark", ["\t", ";", ","])
def test_lines_of_several_fields_are_no_labels(here, mark):
    names = {"\t": "tabs", ";": "semicolons", ",": "commas"}[mark]
    y = np.load("train_y.npy")
    Path("y.txt").write_text("".join(f"row {i}{mark}{v}\n" for i, v in enumerate(y)))
    refused(
        classify("fit", "train.npy", "y.txt", "--out", "model"), f"2 fields parted by {names}", "--label-column label"
    )


def test_names_of_classes_may_hold_commas(tmp_path):
    from fastann.data.labels import read_labels

    lines = ["Doe, Jane", "Roe, Richard", "Doe, Jane"]
    (tmp_path / "y.txt").write_text("\n".join(lines))
    assert read_labels(tmp_path / "y.txt").tolist() == lines

"""`fastann classify stream`: batches from standard input and from files, saved on the way."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import click
import numpy as np
import pytest
from click.testing import CliRunner
from test_classifier import bits, modes

from fastann import PrototypeClassifier
from fastann.cli import main, streaming
from fastann.data.batches import Reading

NAMES = np.array(["ham", "spam", "02108", "nine, the last"])


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = modes(n=300)
    return x, y


def run(*args, given=b""):
    result = CliRunner().invoke(main, ["classify", "stream", *map(str, args)], input=given, catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


def done(*args, given=b""):
    result = run(*args, given=given)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result, *parts, code=2):
    assert result.exit_code == code, result.output
    missing = [part for part in parts if part not in result.stderr]
    assert not missing, f"{missing} not in {result.stderr!r}"


def as_csv(x, labels, mark=","):
    head = mark.join([*(f"x{j}" for j in range(x.shape[1])), "label"])
    quoted = [f'"{v}"' if isinstance(v, str) and mark in v else str(v) for v in labels.tolist()]
    return (
        "\n".join([head, *(mark.join([*map(repr, row), v]) for row, v in zip(x.tolist(), quoted, strict=True))]) + "\n"
    )


def as_lines(x, labels):
    rows = zip(x.tolist(), labels.tolist(), strict=True)
    return "".join(json.dumps({"label": v, "vector": row}) + "\n" for row, v in rows)


def as_arrays(x, y, size):
    file = io.BytesIO()
    for start in range(0, len(y), size):
        np.save(file, np.column_stack([x, y])[start : start + size])
    return file.getvalue()


def streamed(x, y, size, model=None, **parameters):
    model = model or PrototypeClassifier(random_state=0, **parameters)
    for start in range(0, len(y), size):
        model.partial_fit(x[start : start + size].astype(np.float64), y[start : start + size])
    return model


# --------------------------------------------------------------------------- formats


@pytest.mark.parametrize("where", ["standard input", "file"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "npy"])
def test_what_comes_is_learned_as_partial_fit_learns_it(table, kind, where):
    x, y = table
    content = {
        "csv": as_csv(x, y).encode(),
        "tsv": as_csv(x, y, "\t").encode(),
        "jsonl": as_lines(x, y).encode(),
        "npy": as_arrays(x, y, 100),
    }[kind]
    if where == "file":
        with open(f"batches.{kind}", "wb") as file:
            file.write(content)
        out = done("model", f"batches.{kind}", "--batch", 100)
    else:
        out = done("model", "-", "--batch", 100, given=content)
    assert "rows       300 x 10 in 3 batches\nclasses    4 (4 new)\nprototypes 12, moved by" in out
    model = PrototypeClassifier.load("model")
    assert bits(model) == bits(streamed(x, y, 100))
    assert model.classes_.dtype == np.int64


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_labels_of_text_stay_text_in_every_batch(table, kind):
    x, y = table
    order = np.argsort(y == 2, kind="stable")  # the last batches have nothing but digits as labels
    x, names = x[order], NAMES[y[order]]
    given = as_csv(x, names) if kind == "csv" else as_lines(x, names)
    done("model", "-", "--batch", 50, given=given.encode())
    assert list(PrototypeClassifier.load("model").classes_) == sorted(NAMES)
    done("model", "-", "--batch", 50, given=given.encode())


def test_a_model_goes_on_from_where_it_is(table):
    x, y = table
    done("model", "-", "--n-prototypes", "2=5,0=1", "--default-prototypes", 2, given=as_csv(x[:200], y[:200]).encode())
    out = done("model", "-", given=as_lines(x[200:], y[200:] + 4).encode())
    assert "classes    8 (4 new)" in out
    same = streamed(x[:200], y[:200], 200, n_prototypes={2: 5, 0: 1}, default_prototypes=2)
    same.partial_fit(x[200:].astype(float), y[200:] + 4)
    assert bits(PrototypeClassifier.load("model")) == bits(same)
    assert PrototypeClassifier.load("model").last_batch_.new_classes == (4, 5, 6, 7)
    refused(run("model", "-", "--n-prototypes", 2, "--jobs", 1), "keeps its parameters", "--n-prototypes, --jobs")


def test_several_files_and_columns_by_name(table):
    x, y = table
    lines = as_csv(x, y).splitlines()
    head = "id,topic," + lines[0].removesuffix(",label")
    rows = [f"row{i},{line.rsplit(',', 1)[1]},{line.rsplit(',', 1)[0]}" for i, line in enumerate(lines[1:])]
    for name, part in (("one.csv", rows[:150]), ("two.csv", rows[150:])):
        with open(name, "w") as file:
            file.write("\n".join([head, *part]) + "\n")
    done("model", "one.csv", "two.csv", "--label-column", "topic", "--column", "x*", "--batch", 150)
    assert bits(PrototypeClassifier.load("model")) == bits(streamed(x, y, 150))


def test_fields_of_json_and_of_arrays(table):
    x, y = table
    lines = [{"topic": int(v), "ids": [1, 2], "x": row} for row, v in zip(x.tolist(), y, strict=True)]
    given = "\n\n".join(map(json.dumps, lines)).encode()  # with blank lines
    done("lists", "-", "--label-column", "topic", "--column", "x", given=given)
    flat = [{"b": row[0], "label": int(v), "a": row[1]} for row, v in zip(x.tolist(), y, strict=True)]
    done("fields", "-", given="\n".join(map(json.dumps, flat)).encode())
    assert bits(PrototypeClassifier.load("lists")) == bits(streamed(x, y, 300))
    assert bits(PrototypeClassifier.load("fields")) == bits(streamed(x[:, :2], y, 300))
    file = io.BytesIO()
    np.save(file, np.array(list(zip(NAMES[y], x, strict=True)), [("label", "U20"), ("x", "f4", 10)]))
    np.save(file, np.array(list(zip(NAMES[y], x, strict=True)), [("label", "U20"), ("x", "f4", 10)]))
    done("arrays", "-", given=file.getvalue())
    assert list(PrototypeClassifier.load("arrays").classes_) == sorted(NAMES)
    first = io.BytesIO()
    np.save(first, np.column_stack([y, x]))
    done("first", "-", "--label-column", 0, given=first.getvalue())
    assert bits(PrototypeClassifier.load("first")) == bits(streamed(x, y, 300))


# --------------------------------------------------------------------------- on the way

BAD = {
    "a word for a number": ("csv", "x0,label\n1.0,a\n2.0,b\nmany,a\n", ["line 4 of standard input", "'many'", "'x0'"]),
    "a field too few": ("csv", "x0,label\n1.0,a\n2.0,b\n3.0\n", ["line 4", "1 fields, not 2"]),
    "no label": ("csv", "x0,label\n1.0,a\n2.0,b\n3.0,\n", ["line 4", "no 'label'"]),
    "no JSON": ("jsonl", '{"x": [1], "label": "a"}\n{"x": [2], "label": "b"}\nnot so\n', ["line 3", "not JSON"]),
    "a longer list": (
        "jsonl",
        '{"x": [1], "label": "a"}\n{"x": [2], "label": "b"}\n{"x": [1, 2], "label": "b"}\n',
        ["BATCHES has 2 features, but PrototypeClassifier is expecting 1"],
    ),
    "text in a list": (
        "jsonl",
        '{"x": [1], "label": "a"}\n{"x": [2], "label": "b"}\n{"x": ["1"], "label": "b"}\n',
        ["line 3", "'1'", "number"],
    ),
    "a label of another kind": ("csv", "x0,label\n1.0,1\n2.0,2\n3.0,b\n", ["labels of <U1 do not go with classes"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_what_came_before_is_kept(table, case):
    _, content, parts = BAD[case]
    result = run("model", "-", "--batch", 1, "--metric", "euclidean", given=content.encode())
    refused(result, *parts, "model has all 2 batches before that, 2 rows")
    assert len(PrototypeClassifier.load("model").classes_) == 2


@pytest.mark.parametrize(
    ("given", "args", "parts"),
    [
        (b"", [], ["no labelled row came"]),
        (b"x0,label\n", [], ["no labelled row came"]),
        (b"x0,y\n1,2\n", [], ["no one column 'label'", "['x0', 'y']"]),
        (b"1,2\n", ["--save-every", "-1"], ["--save-every must be >= 0"]),
        (b"1,2\n", ["--batch", "0"], ["--batch must be >= 1"]),
    ],
    ids=["nothing", "no rows", "no label", "seconds", "rows"],
)
def test_what_cannot_be_learned_writes_nothing(table, given, args, parts):
    refused(run("model", "-", *args, given=given), *parts)
    assert not os.path.exists("model")


def test_it_is_saved_on_the_way(table, monkeypatch):
    x, y = table
    saved = []
    plain = PrototypeClassifier.save
    monkeypatch.setattr(PrototypeClassifier, "save", lambda *a, **k: saved.append(1) or plain(*a, **k))
    done("model", "-", "--batch", 100, "--save-every", 0, given=as_csv(x, y).encode())
    assert len(saved) == 3
    saved.clear()
    done("model", "-", "--batch", 100, "--save-every", 1000, given=as_csv(x, y).encode())
    assert len(saved) == 1


def test_a_slow_pipe_is_learned_and_saved_while_it_is_open_and_kept_when_it_is_ended(table):
    x, y = table
    command = [sys.executable, "-m", "fastann", "classify", "stream", "model", "-", "--save-every", "0.05"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(as_csv(x, y).encode())
        process.stdin.flush()
        until = time.monotonic() + 60
        while not os.path.exists("model") and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.3)
        assert len(PrototypeClassifier.load("model").classes_) == 4  # a whole one, with the pipe open
        process.send_signal(signal.SIGTERM)
        process.stdin.flush()
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"interrupted; model has all" in error
    assert b"300 rows" in error
    assert PrototypeClassifier.load("model").score(x, y) > 0.8
    assert os.listdir(".") == ["model"]


def test_batches_end_when_nothing_more_comes_for_a_while():
    reading, end = os.pipe()
    with os.fdopen(reading, "rb") as file, os.fdopen(end, "wb") as pipe:
        pipe.write(b"a,label\n1,x\n2,y\n")
        pipe.flush()
        found = Reading(wait=0.05).batches(file, "pipe")
        first = next(found)
        assert (first.x.tolist(), first.labels.tolist()) == ([[1.0], [2.0]], ["x", "y"])
        assert next(found) is None
        pipe.write(b"3,x\n")
        pipe.close()
        rest = [batch for batch in found if batch is not None]
    assert [batch.x.tolist() for batch in rest] == [[[3.0]]]


def test_help_says_what_batches_are():
    command = main.commands["classify"].commands["stream"]
    assert all(p.help for p in command.params if isinstance(p, click.Option))
    assert "standard input" in command.help
    assert streaming.stream is command

"""Signs of life: lines where no terminal is, bars where one is, and what Ctrl-C says."""

import io
import signal
import sys
import time
import types

import numpy as np
import pytest
from scipy import sparse

from fastann import KMeans, PrototypeClassifier, dedup, sweep
from fastann.cluster import progress
from fastann.cluster.progress import Bar
from fastann.study.process import Answer
from fastann.study.results import ProgressLine

ROWS = np.random.default_rng(0).standard_normal((600, 8)).astype(np.float32)
LABELS = np.arange(600) % 3


@pytest.fixture
def soon(monkeypatch):
    """Lines every hundredth of a second."""
    monkeypatch.setattr(progress, "EVERY", 0.01)


def slow(state):
    time.sleep(0.03)


def in_files(folder):
    for i, part in enumerate(np.split(ROWS, 3)):
        np.save(folder / f"part-{i}.npy", part)
    return f"{folder}/part-*.npy"


KINDS = {
    "dense": lambda folder: ROWS,
    "sparse": lambda folder: sparse.csr_matrix(ROWS),
    "files": in_files,
}


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("kind", KINDS)
def test_a_verbose_fit_says_lines_where_no_terminal_is(kind, tmp_path, capsys):
    KMeans(5, random_state=0, swaps=False, tol=0, max_iter=3, verbose=True, callback=slow).fit(KINDS[kind](tmp_path))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith("k-means: ") for line in lines)
    assert "3 of at most 3 iterations, inertia " in lines[-1]


@pytest.mark.usefixtures("soon")
def test_starts_are_told_apart(capsys):
    KMeans(5, random_state=0, n_init=2, max_iter=2, verbose=True, callback=slow).fit(ROWS)
    said = capsys.readouterr().err
    assert "k-means, start 1: " in said
    assert "k-means, start 2: " in said


def test_a_short_fit_says_nothing_where_no_terminal_is(capsys):
    KMeans(5, random_state=0, verbose=True).fit(ROWS)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("soon")
def test_nothing_is_said_unless_asked_for(capsys):
    KMeans(5, random_state=0, callback=slow).fit(ROWS).predict(ROWS)
    assert capsys.readouterr().err == ""


@pytest.fixture
def slowly(monkeypatch):
    """Everything that is searched takes a while."""
    from fastann.estimators import classifier_fitted, kmeans_fitted

    for module in (kmeans_fitted, classifier_fitted):
        search = module.search
        monkeypatch.setattr(module, "search", lambda *a, search=search, **k: [time.sleep(0.05), search(*a, **k)][1])


@pytest.mark.usefixtures("soon", "slowly")
def test_answers_of_fitted_models_say_lines_too(capsys):
    models = [KMeans(3, random_state=0).fit(ROWS), PrototypeClassifier(random_state=0).fit(ROWS, LABELS)]
    for model in models:
        model.set_params(verbose=True).predict(ROWS)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) >= 2, model
        assert lines[-1].startswith("predict: 600 of 600 rows, ")


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("model", [KMeans(3, random_state=0), PrototypeClassifier(1, random_state=0)], ids=str)
def test_many_short_batches_of_a_stream_say_lines(model, capsys):
    model.set_params(verbose=True)
    for part in np.split(ROWS, 6):
        model.partial_fit(part, LABELS[: len(part)])
        time.sleep(0.02)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("partial_fit: ")]
    assert len(lines) >= 3
    assert "batch 6" in lines[-1] or "3 classes" in lines[-1]


@pytest.mark.usefixtures("soon")
def test_the_classifier_and_dedup_say_lines(monkeypatch, capsys):
    from fastann.classify import training
    from fastann.duplicates import find

    for module, name in ((training, "within"), (find, "_look")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real: [time.sleep(0.05), real(*a)][1])
    PrototypeClassifier(2, refine="none", verbose=True, random_state=0).fit(ROWS, LABELS)
    assert "prototypes: " in capsys.readouterr().err
    dedup(KMeans(3, metric="cosine", random_state=0).fit(ROWS).set_params(verbose=True), ROWS)
    assert "dedup: 600 rows, " in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_drawn_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    KMeans(5, random_state=0, swaps=False, max_iter=3, tol=0, verbose=True).fit(ROWS)
    assert "k-means: 100%" in sys.stderr.getvalue()
    assert "3/3" in sys.stderr.getvalue()


def test_a_bar_ends_full_where_a_fit_ends_early(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    km = KMeans(3, random_state=0, swaps=False, max_iter=300, verbose=True).fit(ROWS)
    assert 1 < km.n_iter_ < 300
    last = sys.stderr.getvalue().split("\r")[-1]
    assert last.startswith("k-means: 100%")
    assert f"{km.n_iter_}/{km.n_iter_}" in last


@pytest.mark.usefixtures("soon")
def test_what_has_no_bar_says_lines_on_a_terminal_too(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Bar(True, "evaluate", drawn=False):
        time.sleep(0.1)
    lines = sys.stderr.getvalue().splitlines()
    assert len(lines) >= 3
    assert all(line.startswith("evaluate: ") for line in lines)


def test_a_notebook_gets_the_bar_of_notebooks(monkeypatch, capsys):
    """Standard error of a kernel is no terminal."""
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    asked = []

    class Drawn:
        def __init__(self, **given):
            asked.append(given)

        def update(self, count):
            asked.append(count)

        def set_postfix_str(self, text, refresh):
            asked.append(text)

        def close(self):
            asked.append("closed")

    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Drawn))
    KMeans(5, random_state=0, max_iter=1, verbose=True).fit(ROWS)
    assert asked[0]["desc"] == "k-means"
    assert asked[-2:] == [1, "closed"]
    assert capsys.readouterr().err == ""


def test_no_standard_error_is_no_reason_to_fail(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    KMeans(5, random_state=0, verbose=True).fit(ROWS)


@pytest.mark.usefixtures("soon")
def test_a_stream_that_is_closed_meanwhile_is_no_reason_to_fail(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Bar(True, "it"):
        sys.stderr.close()
        time.sleep(0.03)


@pytest.mark.usefixtures("soon")
def test_a_long_run_of_a_sweep_says_lines(tmp_path, capsys):
    def run(order, **limits):
        time.sleep(0.05)
        return Answer(result={"values": {"seconds": 1.0, "inertia": 1.0}, "series": {}})

    sweep(ROWS, 3, "flat", seeds=1, out=tmp_path / "out", progress=ProgressLine(), runner=run)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "0 of 1 done, running flat seed 0"
    assert lines[1].startswith("running flat seed 0: ")
    assert lines[-1].startswith("1 of 1 done")
    sweep(ROWS, 3, "flat", seeds=1, out=tmp_path / "quiet", runner=run)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("soon")
def test_a_study_on_a_terminal_has_its_one_line_alone(monkeypatch, tmp_path):
    def run(order, **limits):
        time.sleep(0.05)
        return Answer(result={"values": {"seconds": 1.0, "inertia": 1.0}, "series": {}})

    monkeypatch.setattr(sys, "stderr", Terminal())
    sweep(ROWS, 3, "flat", seeds=1, out=tmp_path / "out", progress=ProgressLine(), runner=run)
    assert sys.stderr.getvalue().count("\n") == 1
    assert "running flat seed 0: " not in sys.stderr.getvalue()


# --------------------------------------------------------------------- Ctrl-C


def pressed(state):
    if state.record.iteration == 2:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def terminal_signals():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("terminal_signals")
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_says_what_it_does(kind, tmp_path, capsys):
    km = KMeans(5, random_state=0, swaps=False, tol=0, callback=pressed, max_iter=9).fit(KINDS[kind](tmp_path))
    assert (km.stop_reason_, km.n_iter_) == ("interrupted", 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Ctrl-C: this fit ends after the running iteration, with stop_reason_ 'interrupted'")
    assert "a second Ctrl-C before that raises KeyboardInterrupt" in line


@pytest.mark.usefixtures("terminal_signals")
def test_ctrl_c_in_a_classifier_raises(monkeypatch):
    from fastann.classify import training

    real = training.Course.note
    monkeypatch.setattr(training.Course, "note", lambda *a: [signal.raise_signal(signal.SIGINT), real(*a)])
    with pytest.raises(KeyboardInterrupt):
        PrototypeClassifier(2, random_state=0).fit(ROWS, LABELS)


@pytest.mark.usefixtures("terminal_signals")
def test_ctrl_c_without_standard_error_ends_the_fit(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    km = KMeans(5, random_state=0, swaps=False, tol=0, callback=pressed, max_iter=9).fit(ROWS)
    assert km.stop_reason_ == "interrupted"

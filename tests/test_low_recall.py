"""A recall below 0.9 on the fitted rows is warned of, once, with what to change."""

import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.exceptions import ConvergenceWarning

from fastann import KMeans
from fastann.cli import main


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((3000, 24), dtype="f")


@pytest.mark.parametrize(
    ("index", "advice"),
    [
        ("ivf:nlist=20,nprobe=1", ["a larger nprobe", "index='ivf:nlist=20,nprobe=auto', recall=0.95"]),
        ("cells:nlist=20,nprobe=1", ["a larger nprobe", "index='cells:nlist=20,nprobe=auto', recall=0.95"]),
        ("hnsw:m=2,ef_search=1", ["a larger ef_search", "index='hnsw:m=2,ef_search=auto', recall=0.95"]),
        ("lsh:bits=8,rerank=1", ["more bits", "a larger rerank", "index='lsh:bits=8,rerank=auto', recall=0.95"]),
        ("factory:LSH", ["a string with more of everything"]),
    ],
)
def test_one_warning_says_what_to_change(x, index, advice):
    with pytest.warns(ConvergenceWarning) as told:
        km = KMeans(150, index=index, max_iter=2, random_state=0).fit(x)
    assert len(told) == 1
    said = str(told[0].message)
    assert f"the labels are the nearest centres of {km.assignment_recall_:.1%} of the rows only" in said
    assert km.assignment_recall_ < 0.9
    assert all(words in said for words in [index, *advice, "exact_labels=True"])
    assert told[0].filename == __file__


def test_labels_that_are_searched_exactly_need_no_warning(x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        km = KMeans(150, index="ivf:nlist=20,nprobe=1", exact_labels=True, max_iter=2, random_state=0).fit(x)
    assert km.assignment_recall_ == 1
    assert km.predict_recall_ < 0.9


def test_the_advice_helps_and_a_recall_that_was_asked_for_is_no_surprise(x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = {"max_iter": 2, "random_state": 0}
        KMeans(150, index="ivf:nlist=20,nprobe=20", **options).fit(x)
        low = KMeans(150, index="ivf:nlist=20,nprobe=auto", recall=0.5, **options).fit(x)
        assert low.predict_recall_ < 0.9
        assert KMeans(150, index="lsh:bits=8,rerank=auto", recall=0.95, **options).fit(x).predict_recall_ > 0.94
        low.partial_fit(x[:500])


@pytest.mark.filterwarnings("default")
def test_the_command_line_names_its_options(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    asked = ["fit", tmp_path / "x.npy", "-k", 150, "--index", "ivf:nlist=20,nprobe=1", "--max-iter", 2, "--quiet"]
    done = CliRunner().invoke(main, [str(a) for a in [*asked, "--out", tmp_path / "run"]])
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("warning:")]
    assert "(--exact-labels)" in line
    assert "--index 'ivf:nlist=20,nprobe=auto', --recall 0.95" in line
    assert "exact_labels" not in line

"""Records on disk, and the Pareto frontier."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastann import records
from fastann.records import METRICS, Record, RecordError, Study, frontier

SECONDS, RECALL, INERTIA = METRICS["seconds"], METRICS["recall"], METRICS["relative_inertia"]


def test_the_frontier_of_a_small_case():
    points = [(1, 0.5), (2, 0.9), (3, 0.8), (4, 0.99), (4, 0.95), (1, 0.4)]
    assert [points[i] for i in frontier(points, SECONDS, RECALL)] == [(1, 0.5), (2, 0.9), (4, 0.99)]
    assert [points[i] for i in frontier(points, SECONDS, INERTIA)] == [(1, 0.4)]


def test_equal_points_stay_together_and_ties_in_one_metric_are_beaten():
    assert sorted(frontier([(1, 0.9), (1, 0.9), (2, 0.9), (1, 0.8)], SECONDS, RECALL)) == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_the_frontier_is_what_no_point_beats(points):
    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    expected = [i for i, p in enumerate(points) if not any(beats(q, p) for q in points)]
    assert sorted(frontier(points, SECONDS, RECALL)) == expected


def test_a_frontier_needs_directions():
    with pytest.raises(ValueError, match="got seconds and iterations"):
        frontier([(1, 1)], SECONDS, METRICS["iterations"])


def test_records_come_back_as_they_were(tmp_path):
    record = Record("a=1", "flat", {"seed": 0, "n_clusters": np.int64(4)}, values={"seconds": np.float64(1.5)})
    records.save_record(tmp_path, record)
    records.save_study(tmp_path, Study("sweep", "fit", {"n": 3}, {"k": 4}))
    assert records.load_records(tmp_path) == [
        Record("a=1", "flat", {"seed": 0, "n_clusters": 4}, values={"seconds": 1.5})
    ]
    assert records.load_study(tmp_path).settings == {"k": 4}
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a=1.json"]  # nothing is left beside it


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 99}', '{"schema": 1, "unknown": 2}'])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "bad.json").write_text(text)
    with pytest.raises(RecordError, match=r"bad\.json"):
        records.load_records(tmp_path)


def test_numbers_that_are_not_finite_do_not_make_bad_json(tmp_path):
    records.write_json(tmp_path / "x.json", {"schema": 1, "value": float("nan"), "all": [np.inf, 1]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"schema": 1, "value": None, "all": [None, 1]}


def test_any_text_makes_a_file_name():
    assert records.slug("ivf:nlist=32,nprobe=4 / ü") == "ivf_nlist=32_nprobe=4"
    assert records.slug("///") == "_"


def test_every_metric_says_what_it_is():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.about
        assert metric.better in ("lower", "higher", None)
    assert SECONDS.title == "time (s)"

"""What cannot work is refused before any work is done, in words that say what to do; what can work does."""

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from fastann import KMeans, checks, kernels, parse_index
from fastann.data.limits import Limits
from fastann.data.open import as_source
from fastann.estimators import kmeans_closing

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def x(rng):
    return rng.standard_normal((60, 4)).astype(np.float32)


@pytest.fixture
def km(x):
    return KMeans(3, random_state=0).fit(x)


def refusal(error, call, *args, **kwargs):
    """Message of the error that a call must raise."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def has(message, *parts):
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in {message!r}"


def distinct(n_rows, n_distinct):
    """Rows of which only `n_distinct` differ, all far apart."""
    return (np.arange(n_rows)[:, None] % n_distinct * [1.0, 10.0]).astype(np.float32)


# Every way rows reach the package. score and the rest must refuse what fit refuses.
USES = {
    "fit": lambda km, x: KMeans(3).fit(x),
    "fit_predict": lambda km, x: KMeans(3).fit_predict(x),
    "predict": lambda km, x: km.predict(x),
    "transform": lambda km, x: km.transform(x),
    "kneighbors": lambda km, x: km.kneighbors(x, 2),
    "score": lambda km, x: km.score(x),
}
AFTER_FIT = ["predict", "transform", "kneighbors", "score"]

# --------------------------------------------------------------------------- values


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_the_first_row_that_is_not_finite_is_named(x, km, use, value, word):
    bad = x.copy()
    bad[[17, 40], [2, 0]] = value
    has(refusal(ValueError, USES[use], km, bad), f"contains {word}", "row 17", "column 2", "remove or impute")


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_not_finite_rows_are_named_in_every_float_dtype(x, dtype):
    bad = x.astype(dtype)
    bad[17, 2] = np.nan
    has(refusal(ValueError, KMeans(3).fit, bad), "contains NaN", "row 17")


@pytest.mark.parametrize("use", ["fit", "predict"])
def test_not_finite_rows_are_named_in_a_file(tmp_path, x, km, use):
    x[17, 2] = np.nan
    np.save(tmp_path / "x.npy", x)
    has(refusal(ValueError, USES[use], km, tmp_path / "x.npy"), "contains NaN", "row 17")


def test_not_finite_rows_are_counted_from_the_start_of_the_data_not_of_a_chunk(x):
    bad = x.astype(np.float64)
    bad[37, 0] = np.inf
    has(refusal(ValueError, KMeans(3).fit, as_source(bad, limits=Limits(chunk_bytes=16 * 10))), "row 37")


def test_cosine_names_rows_that_are_not_finite_as_well(x):
    x[17, 2] = np.nan
    has(refusal(ValueError, KMeans(3, metric="cosine").fit, x), "contains NaN", "row 17")


@pytest.mark.parametrize("use", USES)
def test_values_whose_squares_overflow_are_refused(x, km, use):
    bad = x.astype(np.float64)
    bad[17, 2] = 1e30
    has(refusal(ValueError, USES[use], km, bad), "row 17", "1e+30", "overflow float32", "divide the data")


def test_values_beyond_float32_are_refused_as_too_large_not_as_infinite(x):
    bad = x.astype(np.float64)
    bad[17, 2] = -1e300
    has(refusal(ValueError, KMeans(3).fit, bad), "row 17", "1e+300", "divide the data")


def test_the_largest_values_that_are_promised_to_work_do(x):
    near = KMeans(3, random_state=0).fit(x)
    far = KMeans(3, random_state=0).fit(x.astype(np.float64) * 1e16)
    np.testing.assert_array_equal(far.labels_, near.labels_)


def test_spreads_whose_squares_vanish_are_refused(x):
    has(refusal(ValueError, KMeans(3).fit, x * 1e-25), "vanish in float32", "variance", "X.std()")


def test_cosine_gives_right_distances_or_refuses_rows_whose_squares_vanish(x):
    expected = KMeans(3, metric="cosine", random_state=0).fit(x).inertia_
    try:
        found = KMeans(3, metric="cosine", random_state=0).fit(x.astype(np.float64) * 1e-22).inertia_
    except ValueError as error:
        has(str(error), "row", "float32")
    else:
        assert found == pytest.approx(expected, rel=1e-3)


def test_cosine_refuses_a_zero_centre(x):
    start = np.vstack([x[:2], np.zeros((1, 4))])
    has(refusal(ValueError, KMeans(3, metric="cosine", init=start).fit, x), "centre 2 is zero")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (np.ones((9, 4), complex), ["Complex data not supported", "complex128", "real part"]),
        (np.full((9, 4), "a"), ["X has dtype <U1", "float or integer array is needed"]),
        ([["a", "b", "c", "d"]] * 9, ["X has dtype <U1", "float or integer array is needed"]),
        (np.full((9, 4), b"a"), ["X has dtype |S1"]),
        (np.full((9, 4), np.datetime64("2020-01-01")), ["X has dtype datetime64"]),
        (np.zeros((9, 4), [("a", "f4")]), ["X has dtype [('a', '<f4')]"]),
        (np.array([[1, 2, 3, "a"]] * 9, object), ["X has dtype object", "pass a numeric array"]),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": 0, "d": 0}), ["X has dtype object", "pass a numeric array"]),
        ([[1, 2, 3, 4], [1, 2]], ["X cannot be read as a table"]),
        (np.ones(4), ["2 dimensions", "(4,)", "reshape(-1, 1)"]),
        (np.ones((3, 4, 1)), ["2 dimensions", "(3, 4, 1)"]),
        (5.0, ["2 dimensions", "()"]),
        (None, ["2 dimensions"]),
        (np.ones((0, 4)), ["0 sample(s)", "(0, 4)", "at least one row"]),
        (np.ones((9, 0)), ["0 feature(s)", "(9, 0)", "at least one column"]),
    ],
    ids=[
        "complex",
        "strings",
        "strings in lists",
        "bytes",
        "dates",
        "records",
        "objects with a string",
        "data frame with a string",
        "ragged lists",
        "1-D",
        "3-D",
        "scalar",
        "None",
        "no rows",
        "no columns",
    ],
)
def test_what_is_not_a_table_of_numbers_is_refused(km, use, data, parts):
    has(refusal(ValueError, USES[use], km, data), *parts)


@pytest.mark.parametrize("use", USES)
def test_objects_that_are_no_numbers_are_refused(km, use):
    has(refusal(TypeError, USES[use], km, np.full((9, 4), object())), "X has dtype object", "pass a numeric array")


@pytest.mark.parametrize("use", AFTER_FIT)
def test_another_number_of_columns_is_refused(x, km, use):
    has(refusal(ValueError, USES[use], km, x[:, :3]), "X has 3 features", "expecting 4 features", "pass rows of 4")


def test_another_number_of_columns_in_a_file_is_refused(tmp_path, x, km):
    np.save(tmp_path / "x.npy", x[:, :3])
    has(refusal(ValueError, km.predict, tmp_path / "x.npy"), "X has 3 features", "expecting 4", "pass rows of 4")


# --------------------------------------------------------------------------- few, equal and constant rows


def test_more_clusters_than_rows_are_refused(x):
    has(refusal(ValueError, KMeans(61).fit, x), "n_clusters=61", "at least 61 rows", "n_samples=60", "lower n_clusters")


def test_as_many_clusters_as_rows_work(x):
    assert sorted(KMeans(60, random_state=0).fit_predict(x)) == list(range(60))


def test_one_row_and_one_cluster_work():
    assert KMeans(1).fit([[1.0, 2.0]]).cluster_centers_.tolist() == [[1, 2]]


@pytest.mark.parametrize("init", ["random", "k-means++", "k-means||"])
@pytest.mark.parametrize("empty", ["split", "farthest", "keep"])
def test_fewer_distinct_rows_than_clusters_is_said(init, empty):
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \([1-3]\) found smaller than n_clusters \(8\)"):
        KMeans(8, init=init, empty=empty, random_state=0).fit(distinct(60, 3))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("init", ["k-means++", "k-means||"])
@pytest.mark.parametrize("index", ["flat", "ivf", "hnsw"])
def test_fewer_distinct_rows_than_clusters_are_told_apart(init, index):
    x = distinct(60, 3)
    km = KMeans(8, init=init, index=index, random_state=0).fit(x)
    assert km.inertia_ == 0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("init", ["random", "k-means++", "k-means||"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_fewer_distinct_rows_than_clusters_get_valid_labels(init, metric):
    km = KMeans(8, init=init, metric=metric, random_state=0).fit(distinct(60, 3) + 1)
    assert set(km.labels_) <= set(range(8))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8, 1e-20])
def test_equal_rows_work_and_have_no_inertia(value):
    x = np.full((50, 3), value)
    with pytest.warns(ConvergenceWarning, match=r"\(1\) found smaller than n_clusters \(4\)"):
        km = KMeans(4, random_state=0).fit(x)
    assert km.inertia_ == pytest.approx(0, abs=1e-12 * value**2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_equal_rows_share_a_label():
    assert len(set(KMeans(4, random_state=0).fit_predict(np.full((50, 3), 0.1)))) == 1


@pytest.mark.parametrize("value", [0.0, 1.0, 1e6])
def test_constant_columns_change_no_label(x, value):
    padded = np.hstack([x.astype(np.float64), np.full((60, 3), value)])
    expected = KMeans(3, random_state=0).fit_predict(x)
    np.testing.assert_array_equal(KMeans(3, random_state=0).fit_predict(padded), expected)


# --------------------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda w: np.r_[w[:-1], -1.0], ["sample_weight[59] is -1.0", "not negative", "bad rows: 1"]),
        (lambda w: np.r_[np.nan, w[1:]], ["sample_weight[0] is nan", "finite"]),
        (lambda w: np.r_[np.inf, w[1:]], ["sample_weight[0] is inf", "finite"]),
        (lambda w: w * 0, ["zero for every row", "at least one weight"]),
        (lambda w: 0.0, ["zero for every row"]),
        (lambda w: w[:-1], ["(59,)", "(60,)", "one weight per row"]),
        (lambda w: w[:, None], ["1D array", "(60, 1)"]),
        (lambda w: ["heavy"] * 60, ["must be numbers"]),
        (lambda w: np.full(60, None), ["sample_weight"]),
        (lambda w: w * 1j, ["sample_weight", "complex"]),
    ],
    ids=["negative", "nan", "inf", "zeros", "scalar zero", "short", "2-D", "strings", "None", "complex"],
)
@pytest.mark.parametrize("use", ["fit", "score"])
def test_weights_that_make_no_sense_are_refused(x, km, use, change, parts):
    has(refusal(ValueError, getattr(km, use), x, sample_weight=change(np.ones(60))), *parts)


# --------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("value", "error", "parts"),
    [
        (0, ValueError, ["n_clusters must be >= 1", "got 0"]),
        (-3, ValueError, ["n_clusters must be >= 1", "got -3"]),
        (2.5, TypeError, ["n_clusters must be an integer", "2.5", "float"]),
        (3.0, TypeError, ["n_clusters must be an integer", "3.0", "float"]),
        ("3", TypeError, ["n_clusters must be an integer", "'3'", "str"]),
        (True, TypeError, ["n_clusters must be an integer", "True", "bool"]),
        (None, TypeError, ["n_clusters must be an integer", "None"]),
    ],
)
def test_n_clusters_must_be_a_whole_number(x, value, error, parts):
    has(refusal(error, KMeans(value).fit, x), *parts)


@pytest.mark.parametrize("value", [np.int64(3), np.uint8(3)])
def test_n_clusters_may_be_a_numpy_integer(x, value):
    assert len(KMeans(value).fit(x).cluster_centers_) == 3


PARAMETERS = [
    ("n_init", 0, ValueError, ["n_init must be >= 1", "got 0"]),
    ("n_init", 1.5, TypeError, ["n_init must be an integer", "1.5"]),
    ("n_init", "many", TypeError, ["n_init must be an integer", "'many'"]),
    ("algorithm", "auto", ValueError, ["algorithm must be one of 'lloyd', 'elkan'", "'auto'"]),
    ("copy_x", 1, TypeError, ["copy_x must be True or False", "got 1"]),
    ("max_iter", 0, ValueError, ["max_iter must be >= 1", "got 0"]),
    ("max_iter", 2.0, TypeError, ["max_iter must be an integer", "2.0"]),
    ("max_iter", True, TypeError, ["max_iter must be an integer", "True"]),
    ("tol", -1e-9, ValueError, ["tol must be >= 0", "-1e-09"]),
    ("tol", np.nan, ValueError, ["tol must be", "finite", "nan"]),
    ("tol", "small", TypeError, ["tol must be a number", "'small'"]),
    ("tol", None, TypeError, ["tol must be a number", "None"]),
    ("sample", 0, ValueError, ["sample must be >= 1", "got 0"]),
    ("sample", -0.5, ValueError, ["sample must be > 0", "-0.5"]),
    ("sample", 1.5, ValueError, ["sample=1.5", "(0, 1]", "int for a number of rows"]),
    ("sample", 2, ValueError, ["sample=2 gives 2 rows", "n_clusters=3", "at least 3"]),
    ("sample", 0.01, ValueError, ["sample=0.01 gives 1 rows", "n_clusters=3", "at least 3"]),
    ("sample", np.nan, ValueError, ["sample must be", "nan"]),
    ("sample", "half", TypeError, ["sample must be a number", "'half'"]),
    ("sample", True, TypeError, ["sample must be a number", "True"]),
    ("empty", "drop", ValueError, ["empty must be one of", "'split', 'farthest', 'keep'", "'drop'"]),
    ("empty", None, ValueError, ["empty must be one of", "None"]),
    ("metric", "manhattan", ValueError, ["metric must be one of", "'euclidean', 'cosine'", "'manhattan'"]),
    ("metric", 2, ValueError, ["metric must be one of", "got 2"]),
    ("time_limit", 0, ValueError, ["time_limit must be > 0", "got 0"]),
    ("time_limit", -1.0, ValueError, ["time_limit must be > 0", "got -1"]),
    ("time_limit", np.inf, ValueError, ["time_limit must be", "finite", "inf"]),
    ("time_limit", "1h", TypeError, ["time_limit must be a number", "'1h'"]),
    ("n_jobs", 0, ValueError, ["n_jobs == 0", "None for all cores"]),
    ("n_jobs", 1.5, TypeError, ["n_jobs must be an integer", "1.5"]),
    ("n_jobs", "all", TypeError, ["n_jobs must be an integer", "'all'"]),
    ("n_jobs", True, TypeError, ["n_jobs must be an integer", "True"]),
    ("callback", "print", TypeError, ["callback must be callable", "'print'"]),
    (
        "init",
        "kmeans++",
        ValueError,
        ["init must be one of", "'random', 'k-means++', 'k-means||', 'afk-mc2'", "'kmeans++'"],
    ),
    ("init", None, ValueError, ["init"]),
    ("random_state", "seed", ValueError, ["seed"]),
    ("random_state", -1, ValueError, ["Seed must be between 0"]),
    ("device", 1, ValueError, ["device must be", "'cuda:N'", "got 1"]),
    ("device", True, ValueError, ["device must be", "got True"]),
    ("device", None, ValueError, ["device must be", "got None"]),
    ("device", "gpu", ValueError, ["device must be", "'cpu', 'auto', 'cuda', 'cuda:N'", "'gpu'"]),
    ("device", "cuda:", ValueError, ["device must be", "'cuda:'"]),
    ("device", "cuda:-1", ValueError, ["device must be", "'cuda:-1'"]),
    ("device", "cuda:x", ValueError, ["device must be", "'cuda:x'"]),
    ("device", ("cpu", "cuda"), ValueError, ["device must be", "'cpu', 'auto', 'cuda'"]),
    ("device", ("cuda:0", "cuda"), ValueError, ["none twice"]),
    ("device", (), ValueError, ["at least one"]),
    ("index", "faiss", ValueError, ["unknown index 'faiss'", "'auto', 'flat', 'ivf', 'hnsw', 'factory'"]),
    ("index", "", ValueError, ["unknown index ''", "'auto', 'flat'"]),
    ("index", "IVF", ValueError, ["unknown index 'IVF'", "'ivf'"]),
    ("index", 3, TypeError, ["index must be 'auto'", "fastann.IVF", "got 3"]),
    ("index", None, TypeError, ["index must be 'auto'", "got None"]),
    ("index", "ivf:probes=3", ValueError, ["'ivf' has no option 'probes'", "nlist", "nprobe", "train_iter"]),
    ("index", "hnsw:nprobe=3", ValueError, ["'hnsw' has no option 'nprobe'", "m (", "ef_construction", "ef_search"]),
    ("index", "flat:nprobe=3", ValueError, ["'flat' has no option 'nprobe'", "it has none"]),
    ("index", "ivf:nprobe=0", ValueError, ["nprobe must be", "got 0"]),
    ("index", "ivf:nlist=-4", ValueError, ["nlist must be", "got -4"]),
    ("index", "ivf:nprobe=2.5", ValueError, ["nprobe must be an integer", "'2.5'"]),
    ("index", "ivf:nprobe=", ValueError, ["nprobe must be an integer", "''"]),
    ("index", "ivf:nprobe", ValueError, ["nprobe must be an integer", "''"]),
    ("index", "ivf:nprobe=None", TypeError, ["nprobe must be an integer", "None"]),
    ("index", "hnsw:m=1", ValueError, ["m must be", "got 1"]),
    # Beyond FAISS's C int: refused here, not by an OverflowError or TypeError of its wrapper.
    ("index", "ivf:train_iter=99999999999", ValueError, ["train_iter", "99999999999"]),
    ("index", "hnsw:m=99999999999", ValueError, ["m must be", "99999999999"]),
    ("index", "hnsw:ef_construction=99999999999", ValueError, ["ef_construction", "99999999999"]),
    ("index", "hnsw:ef_search=99999999999", ValueError, ["ef_search", "99999999999"]),
    ("index", "ivf:nlist=2,nlist=3", ValueError, ["nlist", "twice"]),
    ("index", "factory:", ValueError, ["factory string is needed", "'SQ8'", "''"]),
    ("index", "factory:Nonsense", ValueError, ["cannot build factory:Nonsense", "3 centroids of 4 dimensions"]),
    ("index", "factory:PQ3", ValueError, ["cannot build factory:PQ3", "3 centroids of 4 dimensions"]),
    ("index", "factory:Flat;nprobe=2", ValueError, ["cannot build factory:Flat;nprobe=2"]),
]


@pytest.mark.parametrize(("name", "value", "error", "parts"), PARAMETERS, ids=[f"{p[0]}={p[1]!r}" for p in PARAMETERS])
def test_parameters_that_make_no_sense_are_refused(x, name, value, error, parts):
    km = KMeans(3).set_params(**{name: list(value) if isinstance(value, tuple) else value})
    has(refusal(error, km.fit, x), *parts)


INDEXES = [p[1:] for p in PARAMETERS if p[0] == "index" and "cannot build" not in p[3][0]]


@pytest.mark.parametrize(("value", "error", "parts"), INDEXES, ids=[repr(p[0]) for p in INDEXES])
def test_parse_index_refuses_what_fit_refuses(value, error, parts):
    has(refusal(error, parse_index, value), *parts)


def test_more_threads_than_cores_are_not_asked_for():
    # FAISS crashes the process where the system cannot start as many threads as it is told to use.
    assert checks.jobs(100_000) == checks.jobs(None)


def test_an_unknown_parameter_is_refused():
    has(refusal(TypeError, KMeans, 3, maxiter=5), "maxiter")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", ["cuda:0", "cuda:1"]], ids=str)
def test_a_gpu_is_refused_where_faiss_has_none(x, device):
    import faiss

    if hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this FAISS is a GPU build")
    message = refusal(RuntimeError, KMeans(3, device=device).fit, x)
    has(message, "device=cuda:", "CPU build", "pip install 'fastann[gpu]'", "device='cpu'")


@pytest.mark.parametrize(
    ("init", "parts"),
    [
        (np.zeros((4, 4)), ["init has shape (4, 4)", "n_clusters=3", "(3, 4) is needed"]),
        (np.zeros((3, 5)), ["init has shape (3, 5)", "4 features", "(3, 4) is needed"]),
        (np.zeros(3), ["init needs 2 dimensions", "(3,)"]),
        (np.full((3, 4), "a"), ["init has dtype <U1"]),
        (np.r_[np.zeros((2, 4)), [[0, np.nan, 0, 0]]], ["init contains NaN or infinity", "row 2"]),
        (np.r_[[[np.inf] * 4], np.zeros((2, 4))], ["init contains NaN or infinity", "row 0"]),
        (np.full((3, 4), 1e30), ["init", "1e+30"]),
    ],
    ids=["too many", "too wide", "1-D", "strings", "nan", "inf", "overflow"],
)
@pytest.mark.parametrize("kind", ["array", "callable"])
def test_starting_centres_that_make_no_sense_are_refused(x, init, parts, kind):
    given = init if kind == "array" else lambda X, k, random_state: init
    has(refusal(ValueError, KMeans(3, init=given).fit, x), *parts)


@pytest.mark.parametrize(
    ("value", "error", "parts"),
    [
        (0, ValueError, ["n_neighbors", "between 1 and 3", "got 0"]),
        (4, ValueError, ["n_neighbors", "between 1 and 3", "got 4"]),
        (1.0, TypeError, ["n_neighbors must be an integer", "1.0"]),
    ],
)
def test_kneighbors_refuses_more_neighbours_than_clusters(x, km, value, error, parts):
    has(refusal(error, km.kneighbors, x, value), *parts)


def test_set_search_names_the_search_options(x):
    km = KMeans(3, index="ivf").fit(x)
    has(refusal(ValueError, km.set_search, nlist=2), "'nlist' is not a search option", "it has nprobe")


def test_set_search_on_exact_search_says_there_is_none(km):
    has(refusal(ValueError, km.set_search, nprobe=2), "'nprobe' is not a search option of flat", "it has none")


# --------------------------------------------------------------------------- files


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def saved(path, array):
    np.save(path, array)
    return path.read_bytes()


FILES = {
    "missing": (FileNotFoundError, ["no file", "check the path"]),
    "folder": (ValueError, ["is a folder", "numpy.save"]),
    "empty": (ValueError, ["is empty (0 bytes)", "numpy.save"]),
    "text": (ValueError, ["is not a .npy file", "numpy.save"]),
    "magic only": (ValueError, ["cannot be read as .npy", "truncated", "numpy.save"]),
    "half a header": (ValueError, ["cannot be read as .npy", "truncated", "numpy.save"]),
    "header only": (ValueError, ["cannot be read as .npy", "truncated", "128 bytes", "numpy.save"]),
    "half the rows": (ValueError, ["cannot be read as .npy", "truncated", "608 bytes", "numpy.save"]),
    "unknown version": (ValueError, ["cannot be read as .npy", "numpy.save"]),
    "archive": (ValueError, ["is not a .npy file", "numpy.save"]),
    "1-D": (ValueError, ["2 dimensions", "(60,)"]),
    "strings": (ValueError, ["dtype <U1"]),
    "no rows": (ValueError, ["0 sample(s)", "(0, 4)"]),
    "no columns": (ValueError, ["0 feature(s)", "(4, 0)"]),
    "objects": (ValueError, ["Python objects", "never unpickled", "numeric array"]),
    "pickle": (ValueError, ["is not a .npy file", "numpy.save"]),
}


@pytest.fixture
def damaged(tmp_path, x, request):
    path = tmp_path / "x.npy"
    kind = request.param
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
        return path
    good = saved(path, x)
    written = {
        "empty": lambda: b"",
        "text": lambda: b"1,2,3\n4,5,6\n",
        "magic only": lambda: good[:6],
        "half a header": lambda: good[:60],
        "header only": lambda: good[:128],
        "half the rows": lambda: good[: 128 + x.nbytes // 2],
        "unknown version": lambda: good[:6] + b"\x09" + good[7:],
        "archive": lambda: (np.savez(tmp_path / "a.npz", x=x), (tmp_path / "a.npz").read_bytes())[1],
        "1-D": lambda: saved(path, x[:, 0]),
        "strings": lambda: saved(path, x.astype(np.int8).astype("U1")),
        "no rows": lambda: saved(path, x[:0]),
        "no columns": lambda: saved(path, x[:4, :0]),
        "objects": lambda: saved(path, np.full((60, 4), Bomb(tmp_path / "trace"), object)),
        "pickle": lambda: pickle.dumps(Bomb(tmp_path / "trace")),
    }[kind]()
    path.write_bytes(written)
    return path


@pytest.mark.parametrize("damaged", FILES, indirect=True)
@pytest.mark.parametrize("use", ["fit", "predict"])
def test_files_that_are_no_table_are_refused_by_name(km, damaged, use, request):
    error, parts = FILES[request.node.callspec.params["damaged"]]
    has(refusal(error, USES[use], km, damaged), str(damaged), *parts)


@pytest.mark.parametrize("damaged", ["objects", "pickle"], indirect=True)
def test_files_of_objects_are_never_unpickled(damaged):
    refusal(ValueError, KMeans(3).fit, damaged)
    assert not (damaged.parent / "trace").exists()


def test_the_trap_of_the_test_above_works(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["x.md", "x.txt", "x"])
def test_other_suffixes_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"whatever")
    has(refusal(ValueError, KMeans(3).fit, tmp_path / name), name, "a .npy file (numpy.save) is needed")


@pytest.mark.skipif(AS_ROOT, reason="root reads every file")
def test_a_file_without_permission_is_refused_as_such(tmp_path, x):
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "x.npy").chmod(0)
    has(refusal(PermissionError, KMeans(3).fit, tmp_path / "x.npy"), "x.npy")


# --------------------------------------------------------------------------- state


@pytest.mark.parametrize(
    "use",
    [
        lambda km, x: km.predict(x),
        lambda km, x: km.transform(x),
        lambda km, x: km.kneighbors(x),
        lambda km, x: km.score(x),
        lambda km, x: km.set_search(nprobe=2),
        lambda km, x: km.save("nowhere"),
        lambda km, x: km.get_feature_names_out(),
    ],
    ids=["predict", "transform", "kneighbors", "score", "set_search", "save", "get_feature_names_out"],
)
def test_using_an_estimator_before_fit_is_refused(x, use):
    has(refusal(NotFittedError, use, KMeans(3), x), "not fitted yet")


def with_nan(x):
    return np.where(np.arange(len(x))[:, None] == 5, np.nan, x)


FAILING_FITS = {
    "NaN": lambda km, x: km.fit(with_nan(x)),
    "NaN in a wider table": lambda km, x: km.fit(with_nan(np.hstack([x, x]))),
    "too few rows": lambda km, x: km.fit(x[:2]),
    "too few rows of a wider table": lambda km, x: km.fit(np.hstack([x, x])[:2]),
    "too few rows of a named table": lambda km, x: km.fit(pd.DataFrame(x[:2], columns=list("abcd"))),
    "bad weights of a wider table": lambda km, x: km.fit(np.hstack([x, x]), sample_weight=-np.ones(len(x))),
    "bad parameter": lambda km, x: km.set_params(tol=-1).fit(np.hstack([x, x])),
    "bad index": lambda km, x: km.set_params(index="nonsense").fit(np.hstack([x, x])),
    "bad start": lambda km, x: km.set_params(init=x[:2]).fit(np.hstack([x, x])),
    "unreadable file": lambda km, x: km.fit("missing.npy"),
    "callback that raises": lambda km, x: km.set_params(callback=lambda state: 1 // 0).fit(np.hstack([x, x])),
}


@pytest.mark.parametrize("failing", FAILING_FITS)
def test_a_failed_fit_leaves_a_fitted_estimator_usable(x, km, failing):
    expected = km.predict(x)
    with pytest.raises((ValueError, FileNotFoundError, ZeroDivisionError)):
        FAILING_FITS[failing](km, x)
    np.testing.assert_array_equal(km.predict(x), expected)


@pytest.mark.parametrize("failing", FAILING_FITS)
def test_a_failed_fit_leaves_a_new_estimator_unfitted(x, failing):
    km = KMeans(3)
    with pytest.raises((ValueError, FileNotFoundError, ZeroDivisionError)):
        FAILING_FITS[failing](km, x)
    refusal(NotFittedError, km.predict, x)


def test_a_failed_fit_leaves_the_feature_names(x):
    table = pd.DataFrame(x, columns=list("abcd"))
    km = KMeans(3, random_state=0).fit(table)
    refusal(ValueError, km.fit, with_nan(x))
    assert list(km.feature_names_in_) == list("abcd")


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_fit_that_fails_in_its_closing_pass_leaves_the_old_model(x, km, error, monkeypatch):
    centers, labels = km.cluster_centers_.copy(), km.labels_.copy()

    def fail(*args, **options):
        raise error

    monkeypatch.setattr(kmeans_closing, "labelled", fail)
    with pytest.raises(error):
        km.fit(x[:, ::-1] * 3)
    np.testing.assert_array_equal(km.cluster_centers_, centers)
    np.testing.assert_array_equal(km.labels_, labels)


def test_a_fit_that_fails_in_its_closing_pass_leaves_a_new_estimator_unfitted(x, monkeypatch):
    def fail(*args, **options):
        raise MemoryError

    monkeypatch.setattr(kmeans_closing, "labelled", fail)
    km = KMeans(3)
    refusal(MemoryError, km.fit, x)
    refusal(NotFittedError, km.predict, x)


def test_a_refused_fit_writes_nothing(tmp_path, x, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal(ValueError, KMeans(3).fit, with_nan(x))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_fit_gives_threads_back(x):
    import faiss

    before = faiss.omp_get_max_threads(), kernels.threads()
    refusal(ValueError, KMeans(3, n_jobs=1).fit, with_nan(x))
    assert (faiss.omp_get_max_threads(), kernels.threads()) == before


def test_a_failed_fit_gives_the_ctrl_c_handler_back(x):
    import signal

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        KMeans(3, callback=lambda state: 1 // 0).fit(x)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_failed_predict_leaves_the_estimator_usable(x, km):
    refusal(ValueError, km.predict, with_nan(x))
    np.testing.assert_array_equal(km.predict(x), km.labels_)


@pytest.mark.parametrize("trim", [0.0, 0.1])
@pytest.mark.parametrize("value", [1e-310, 1e308])
def test_weights_beyond_the_reach_of_float64_are_refused(blobs, value, trim):
    with pytest.raises(ValueError, match="sample_weight has values up to"):
        KMeans(5, trim=trim).fit(blobs[:200], sample_weight=np.full(200, value))


def test_weights_that_vanish_beside_the_others_count_as_none(blobs):
    x, weights = blobs[:200].copy(), np.ones(200)
    x[:9], weights[:9] = x[:9] + 1000, 1e-310  # a cluster by themselves
    some, none = (KMeans(5, init=x[:50:10], random_state=0).fit(x, sample_weight=w) for w in (weights, weights > 0.5))
    np.testing.assert_array_equal(some.cluster_centers_, none.cluster_centers_)
    assert weights[0] > 0  # the user's own stay as they are

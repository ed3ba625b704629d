"""Every method takes rows alike, whatever holds them in memory; what is missing, or too fine for float32, is said."""

import numpy as np
import pandas as pd
import pytest

from fastann import KMeans, PrototypeClassifier, dedup, evaluate, open_source, tune
from fastann.data.open import as_source

pa = pytest.importorskip("pyarrow")
pl = pytest.importorskip("polars")
ml_dtypes = pytest.importorskip("ml_dtypes")


@pytest.fixture(scope="module")
def x():
    """Rows that bfloat16 holds exactly, in three groups."""
    rng = np.random.default_rng(0)
    return (np.repeat(rng.integers(-40, 40, (3, 6)), 20, axis=0) + rng.integers(0, 3, (60, 6))).astype("f")


Y = np.repeat(["a", "b", "c"], 20)


def arrow(x, kind):
    offsets = np.arange(len(x) + 1) * x.shape[1]
    return {
        "list": lambda: pa.array(list(x)),
        "large": lambda: pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(x.ravel())),
        "fixed": lambda: pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1]),
        "tensor": lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(x),
    }[kind]()


def dataset(x):
    return pytest.importorskip("datasets").Dataset.from_dict({"name": [str(i) for i in range(len(x))], "emb": x})


def objects(x):
    column = np.empty(len(x), object)
    column[:] = list(x)
    return column


WIDE = [f"x{i}" for i in range(6)]
INPUTS = {
    "list of arrays": list,
    "lists": lambda x: x.tolist(),
    "array of objects": objects,
    "array of objects, 2-D": lambda x: objects(x)[:, None],
    "masked array without a mask": np.ma.asarray,
    "bfloat16": lambda x: x.astype(ml_dtypes.bfloat16),
    "pandas Series of arrays": lambda x: pd.Series(list(x)),
    "pandas Series of lists": lambda x: pd.Series(x.tolist(), index=range(7, 67)),
    "pandas Series of tuples": lambda x: pd.Series(list(map(tuple, x.tolist()))),
    "pandas Series of Arrow lists": lambda x: pd.Series(list(x), dtype=pd.ArrowDtype(pa.list_(pa.float32()))),
    "pandas DataFrame of one column": lambda x: pd.DataFrame({"emb": list(x)}),
    "pandas DataFrame": lambda x: pd.DataFrame(x, columns=WIDE),
    "polars Series of Array": pl.Series,
    "polars Series of List": lambda x: pl.Series(x.tolist()),
    "polars DataFrame of Array": lambda x: pl.DataFrame({"emb": x}),
    "polars DataFrame of List": lambda x: pl.DataFrame({"emb": x.tolist()}),
    "polars DataFrame": lambda x: pl.DataFrame(x, schema=WIDE),
    **{f"Arrow {kind}": lambda x, kind=kind: arrow(x, kind) for kind in ("list", "large", "fixed", "tensor")},
    "Arrow chunks": lambda x: pa.chunked_array([arrow(x[:7], "list"), arrow(x[7:], "list")]),
    "Arrow table of one column": lambda x: pa.table({"emb": arrow(x, "fixed")}),
    "Arrow batch of one column": lambda x: pa.RecordBatch.from_arrays([arrow(x, "list")], ["emb"]),
    "Arrow table": lambda x: pa.table({name: x[:, i] for i, name in enumerate(WIDE)}),
    "dataset": dataset,
    "column of a dataset": lambda x: dataset(x)["emb"],
    "column of a formatted dataset": lambda x: dataset(x).with_format("numpy")["emb"],
    "rows of a dataset": lambda x: dataset(x)[:]["emb"],
    "function": lambda x: lambda: (part for part in (x[:30], x[30:])),
    "function that gives frames": lambda x: lambda: (pl.DataFrame({"emb": part}) for part in (x[:30], x[30:])),
}


def streamed(model, rows, *y):
    return model.partial_fit(rows, *y).partial_fit(rows, *y)


def measured(km, rows):
    found = evaluate(km, rows, truth=Y)
    return found.values["ari"], found.values["inertia"]


METHODS = {
    "fit": lambda km, c, rows: KMeans(3, random_state=0).fit(rows).labels_,
    "fit_predict": lambda km, c, rows: KMeans(3, random_state=0).fit_predict(rows),
    "fit_transform": lambda km, c, rows: KMeans(3, random_state=0).fit_transform(rows),
    "partial_fit": lambda km, c, rows: streamed(KMeans(3, random_state=0), rows).cluster_centers_,
    "cosine": lambda km, c, rows: KMeans(3, metric="cosine", random_state=0).fit(rows).labels_,
    "a start that is called": lambda km, c, rows: KMeans(3, init=lambda x, k, rng: x[::20]).fit(rows).labels_,
    "predict": lambda km, c, rows: km.predict(rows),
    "transform": lambda km, c, rows: km.transform(rows),
    "kneighbors": lambda km, c, rows: km.kneighbors(rows, 2)[0],
    "score": lambda km, c, rows: km.score(rows),
    "classifier fit": lambda km, c, rows: PrototypeClassifier(random_state=0).fit(rows, Y).prototypes_,
    "classifier partial_fit": lambda km, c, rows: streamed(PrototypeClassifier(random_state=0), rows, Y).prototypes_,
    "classifier predict": lambda km, c, rows: c.predict(rows) == Y,
    "classifier predict_proba": lambda km, c, rows: c.predict_proba(rows),
    "classifier decision_function": lambda km, c, rows: c.decision_function(rows),
    "classifier kneighbors": lambda km, c, rows: c.kneighbors(rows, 2)[0],
    "classifier score": lambda km, c, rows: c.score(rows, Y),
    "evaluate": lambda km, c, rows: measured(km, rows),
    "dedup": lambda km, c, rows: dedup(km, rows, threshold=0.999).kept,
}


@pytest.fixture(scope="module")
def expected(x):
    km, c = KMeans(3, random_state=0).fit(x), PrototypeClassifier(random_state=0).fit(x, Y)
    return km, c, {name: method(km, c, x) for name, method in METHODS.items()}


@pytest.mark.filterwarnings("ignore:X .* feature names")
@pytest.mark.parametrize("name", INPUTS)
def test_every_method_takes_what_fit_takes(x, expected, name):
    km, c, right = expected
    for method, run in METHODS.items():
        if method == "a start that is called" and ("function" in name or ("dataset" in name and "rows" not in name)):
            continue  # it is given what was passed, where that is no array
        np.testing.assert_allclose(run(km, c, INPUTS[name](x)), right[method], rtol=1e-6, atol=1e-6, err_msg=method)


@pytest.mark.filterwarnings("ignore:X .* feature names")
@pytest.mark.parametrize("name", INPUTS)
def test_a_model_fitted_to_it_takes_arrays_and_the_other_way_round(x, name):
    rows = INPUTS[name](x)
    km = KMeans(3, random_state=0).fit(rows)
    named = name in ("pandas DataFrame", "polars DataFrame", "Arrow table")
    assert hasattr(km, "feature_names_in_") == named
    np.testing.assert_array_equal(km.predict(x), km.labels_)


def test_numbers_are_kept_in_their_type(x):
    for dtype in (np.float16, np.float32, np.float64, np.int8):
        assert as_source(pd.Series(list(x.astype(dtype)))).dtype == dtype
    assert as_source(x.astype(ml_dtypes.bfloat16)).stored == "bfloat16"


HOLES = {
    "None": lambda rows: rows[:7] + [None] + rows[8:],
    "NaN": lambda rows: rows[:7] + [np.nan] + rows[8:],
    "text": lambda rows: rows[:7] + ["[1, 2]"] + rows[8:],
    "shorter": lambda rows: rows[:7] + [rows[7][:5]] + rows[8:],
    "a masked value": lambda rows: rows[:7] + [np.ma.masked_equal(np.r_[rows[7][:5], -9999], -9999)] + rows[8:],
}


@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize("kind", ["pandas", "frame", "objects"])
def test_a_row_without_a_vector_is_named(x, hole, kind):
    rows = HOLES[hole](list(x))
    column = pd.Series(rows, dtype=object)
    given = {"pandas": column, "frame": column.to_frame("emb"), "objects": column.to_numpy()}[kind]
    for use in (KMeans(3).fit, KMeans(3).fit(x).predict):
        with pytest.raises(ValueError, match=r"row 7 of X (holds|has|is)|of whose values are masked"):
            use(given)


@pytest.mark.parametrize("kind", ["polars", "arrow"])
@pytest.mark.parametrize("hole", ["None", "shorter"])
def test_a_row_without_a_vector_is_named_in_columns_of_lists(x, hole, kind):
    rows = [None if row is None else list(map(float, row)) for row in HOLES[hole](list(x))]
    with pytest.raises(ValueError, match="row 7 of X"):
        KMeans(3).fit(pl.Series(rows) if kind == "polars" else pa.array(rows))


def test_a_frame_of_vectors_and_others_is_refused_by_name(x):
    columns = {"name": list(map(str, range(60))), "emb": x.tolist()}
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns)):
        with pytest.raises(ValueError, match=r"vectors in column 'emb', and 1 other columns.*X\['emb'\]"):
            KMeans(3).fit(frame)


def test_a_lazy_frame_is_refused(x):
    with pytest.raises(TypeError, match=r"LazyFrame.*X\.collect\(\)"):
        KMeans(3).fit(pl.DataFrame(x).lazy())


def test_options_are_refused_for_a_column_of_a_dataset(x):
    with pytest.raises(ValueError, match="column was given for a column of a dataset"):
        open_source(dataset(x)["emb"], column="emb")


# --------------------------------------------------------------------------- what is missing


MASKED = {
    "one value": np.ma.masked_array(np.ones((60, 6)), np.arange(360).reshape(60, 6) == 19),
    "a row": np.ma.masked_array(np.ones((60, 6)), np.repeat(np.arange(60) == 3, 6).reshape(60, 6)),
    "list of rows": [np.ma.masked_array(np.ones(6), [i == 3] * 6) for i in range(60)],
}


@pytest.mark.parametrize("name", MASKED)
def test_masked_rows_are_refused(x, expected, name):
    km, c, _ = expected
    uses = [KMeans(3).fit, KMeans(3).partial_fit, km.predict, km.transform, c.predict, lambda m: evaluate(km, m)]
    uses += [lambda m: tune(m, 3), lambda m: dedup(km, m), lambda m: c.fit(m, Y), lambda m: KMeans(3).fit(lambda: [m])]
    for use in uses:
        with pytest.raises(ValueError, match=r"is a masked array.*row 3 first.*leave such rows out.*filled"):
            use(MASKED[name])


def test_masked_weights_labels_and_centres_are_refused(x, expected):
    km = expected[0]
    mask = np.arange(60) == 5
    for use in (
        lambda: KMeans(3).fit(x, sample_weight=np.ma.masked_array(np.ones(60), mask)),
        lambda: PrototypeClassifier().fit(x, np.ma.masked_array(np.arange(60) % 3, mask)),
        lambda: evaluate(km, x, truth=np.ma.masked_array(np.arange(60) % 3, mask)),
        lambda: evaluate(np.ma.masked_array(np.arange(60) % 3, mask), x),
    ):
        with pytest.raises(ValueError, match=r"is a masked array.*row 5 first"):
            use()
    with pytest.raises(ValueError, match=r"init is a masked array.*row 1 first"):
        KMeans(3, init=np.ma.masked_array(x[:3], [[False], [True], [False]] * np.ones(6, bool))).fit(x)


MISSING = [None, np.nan, pd.NA, pd.NaT, np.float32("nan")]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_missing_labels_are_refused_by_row(x, expected, missing):
    km = expected[0]
    column = Y.astype(object)
    column[17] = missing
    for labels in (column, column.tolist(), pd.Series(column), pd.Series(column).astype("category")):
        with pytest.raises(ValueError, match="first in row 17"):
            PrototypeClassifier().fit(x, labels)
        with pytest.raises(ValueError, match=r"truth\[17\] is .*, which is no class.*leave such rows out"):
            evaluate(km, x, truth=labels)


def test_missing_labels_of_other_libraries_are_refused_by_row(x, expected):
    km = expected[0]
    words, numbers = [*Y], [*range(60)]
    words[17] = numbers[17] = None
    times = np.arange(60).astype("M8[D]")
    times[17] = "NaT"
    for labels in (
        pd.Series(words).astype("string"),
        pd.Series(numbers, dtype="Int64"),
        pl.Series(words),
        pl.Series(numbers),
        pa.array(words),
        times,
    ):
        with pytest.raises(ValueError, match="row 17"):
            PrototypeClassifier().fit(x, labels)
        with pytest.raises(ValueError, match=r"truth\[17\]"):
            evaluate(km, x, truth=labels)


def test_missing_numbers_are_refused_by_place(x):
    frame = pd.DataFrame(x).astype("Float32").astype(object)
    frame.iloc[7, 2] = pd.NA
    with pytest.raises(ValueError, match="row 7, column 2"):
        KMeans(3).fit(frame)


# --------------------------------------------------------------------------- names of columns


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "arrow"])
def test_columns_that_a_frame_lacks_are_named(x, make):
    columns = {name: x[:, i] for i, name in enumerate(WIDE)}
    km = KMeans(3, random_state=0).fit(make(columns))
    c = PrototypeClassifier(random_state=0).fit(make(columns), Y)
    lacking = make({name: column for name, column in columns.items() if name not in ("x1", "x4")})
    for use in (km.predict, km.transform, km.score, km.partial_fit, c.predict, c.predict_proba):
        with pytest.raises(ValueError, match=r"(?s)now missing.*- x1\n- x4"):
            use(lacking) if use != c.partial_fit else use(lacking, Y)
    with pytest.raises(ValueError, match="X has 5 features, but KMeans is expecting 6"):
        km.predict(x[:, :5])


# --------------------------------------------------------------------------- more digits than float32


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float64])
def test_large_numbers_are_taken_less_an_origin(dtype):
    """Nanoseconds of 2023, whose squares overflow float32, and whose last digits float64 cannot tell."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4, 600)
    ns = group[:, None] * 3_600_000_000_000 + rng.integers(0, 600_000_000_000, (600, 2))
    near = KMeans(4, n_init=3, random_state=0).fit(ns)
    given = (ns + 1_700_000_000_000_000_000).astype(dtype)
    far = KMeans(4, n_init=3, random_state=0).fit(given)
    np.testing.assert_array_equal(far.labels_, near.labels_)
    np.testing.assert_array_equal(far.predict(given), far.labels_)
    np.testing.assert_allclose(far.inertia_, near.inertia_, rtol=1e-4)
    assert evaluate(far, given, truth=group).values["ari"] == 1
    assert evaluate(group, given, truth=group).values["ari"] == 1
    classifier = PrototypeClassifier(metric="euclidean", random_state=0).fit(given, group)
    np.testing.assert_array_equal(classifier.predict(given), group)
    start = KMeans(4, init=far.cluster_centers_).fit(given)
    np.testing.assert_array_equal(start.labels_, far.labels_)


def test_integers_keep_digits_that_float64_has_not():
    """Clusters 1,000 ns apart, of 100 ns: at 1.7e18, float64 steps by 256."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), 100)
    given = 1_700_000_000_000_000_000 + group[:, None] * 1000 + rng.integers(0, 100, (400, 2))
    labels = KMeans(4, n_init=3, random_state=0).fit_predict(given)
    assert len(np.unique(group * 10 + labels)) == 4


def test_integers_too_far_from_each_other_are_refused():
    with pytest.raises(ValueError, match="row 1 holds values up to 9e"):
        KMeans(2).fit(np.array([[9 * 10**18], [-9 * 10**18], [1]]))


def fine(side, step, noise):
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(0, noise, (100, 2)) + [s * side + t * step, 0] for s in (-1, 1) for t in (0, 1)])


@pytest.mark.parametrize(("side", "step", "noise"), [(1e6, 0.2, 0.01), (1e5, 0.02, 0.002), (1e9, 100.0, 10.0)])
@pytest.mark.parametrize("use", ["fit", "partial_fit", "classifier"])
def test_rows_finer_than_float32_are_warned_of(side, step, noise, use):
    rows, y = fine(side, step, noise), np.repeat(np.arange(4), 100)
    model = PrototypeClassifier(metric="euclidean") if use == "classifier" else KMeans(4)
    with pytest.warns(UserWarning, match=r"float32.* is too coarse for these float64 rows.*one by one"):
        getattr(model.set_params(random_state=0), use.replace("classifier", "fit"))(rows, y)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_directions_finer_than_float32_are_warned_of():
    with pytest.warns(UserWarning, match="float32"):
        KMeans(4, metric="cosine", random_state=0).fit(fine(1e-9, 1e-10, 1e-11) + [1, 1])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_other_rows_are_not_warned_of(metric):
    """Nor are any in the rest of these tests, where a warning is an error."""
    rng = np.random.default_rng(0)
    for rows in (
        fine(10.0, 3.0, 1.0) + 50,
        fine(5e5, 5e3, 1e3) + [4e6, 6e5],  # metres of two cities
        np.repeat(rng.normal(size=(7, 3)), 30, axis=0),
        rng.integers(0, 2**31, (300, 3)),
        rng.lognormal(0, 4, (300, 4)),
        fine(1e6, 0.2, 0.01).astype(np.float32),
    ):
        KMeans(4, metric=metric, random_state=0).fit(rows)

"""Pickles of estimators: those of this version come back as they were, those of older ones say what to do."""

import io
import pickle

import joblib
import numpy as np
import pytest
from scipy import sparse

from fastann import KMeans, PrototypeClassifier

# Where estimators lay before they moved: what the pickles of that time name.
OLD = {"KMeans": "fastann.cluster.kmeans", "PrototypeClassifier": "fastann.classify.classifier"}


def old_pickle(name: str, protocol: int) -> bytes:
    """A fitted estimator as Python pickled it in older versions: its class, then its attributes."""
    if protocol < 2:  # copyreg._reconstructor(the class, object, None), and the state
        made = f"ccopy_reg\n_reconstructor\n(c{OLD[name]}\n{name}\nc__builtin__\nobject\nNtR"
        return (made + "(dVmetric\nVcosine\nsb.").encode()
    if protocol < 4:
        found = f"c{OLD[name]}\n{name}\n".encode()
    else:
        found = b"".join(pickle.SHORT_BINUNICODE + bytes([len(t)]) + t.encode() for t in (OLD[name], name))
        found += pickle.STACK_GLOBAL
    state = b"}\x8c\x06metric\x8c\x06cosines" if protocol >= 4 else b"}X\x06\0\0\0metricX\x06\0\0\0cosines"
    return pickle.PROTO + bytes([protocol]) + found + b")\x81" + state + b"b."


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", OLD)
@pytest.mark.parametrize("load", [pickle.loads, lambda data: joblib.load(io.BytesIO(data))], ids=["pickle", "joblib"])
def test_a_pickle_of_an_older_version_says_what_to_do(load, name, protocol):
    with pytest.raises(RuntimeError) as caught:
        load(old_pickle(name, protocol))
    for part in (f"this {name} was pickled by another version", "save(path)", f"fastann.{name}.load(path)"):
        assert part in str(caught.value)


def test_old_places_have_nothing_else():
    import fastann.classify.classifier
    import fastann.cluster.kmeans

    for module in (fastann.cluster.kmeans, fastann.classify.classifier):
        with pytest.raises(AttributeError, match="has no attribute 'Kmeans'"):
            module.Kmeans  # noqa: B018


def by_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {"pickle": lambda model: pickle.loads(pickle.dumps(model)), "joblib": by_joblib}
MODELS = {
    "k-means": lambda x, y: KMeans(5, random_state=0).fit(x),
    "k-means, sparse": lambda x, y: KMeans(5, metric="cosine", random_state=0).fit(sparse.csr_matrix(x)),
    "classifier": lambda x, y: PrototypeClassifier(random_state=0, dtype="bfloat16").fit(x, y),
    "classifier, sparse": lambda x, y: PrototypeClassifier(random_state=0).fit(sparse.csr_matrix(x), y),
    "stream": lambda x, y: PrototypeClassifier(random_state=0).partial_fit(x[:20], y[:20]),
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    return (rng.standard_normal((300, 6)) + 3 * np.eye(6)[y]).astype(np.float32), y


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("kind", MODELS)
def test_a_fitted_estimator_comes_back_as_it_was(rows, kind, copy):
    x, y = rows
    model = MODELS[kind](x, y)
    expected = model.predict(x)  # builds an index, which no pickle holds
    again = copy(model)
    np.testing.assert_array_equal(again.predict(x), expected)
    np.testing.assert_array_equal(again.kneighbors(x, 2)[0], model.kneighbors(x, 2)[0])
    assert again.get_params() == model.get_params()
    assert again.history_ == model.history_
    if "sparse" not in kind:  # and goes on as it would have
        for m in (model, again):
            m.partial_fit(x[:50], y[:50])
        np.testing.assert_array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("kind", [KMeans, PrototypeClassifier])
def test_an_estimator_that_is_not_fitted_comes_back_too(rows, kind, copy):
    model = kind(metric="cosine", random_state=3)
    again = copy(model)
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.fit(*rows).predict(rows[0]), model.fit(*rows).predict(rows[0]))

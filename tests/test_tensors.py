"""Tensors of torch as rows, labels and weights, and as answers. All of it needs torch, and skips without."""

import numpy as np
import pytest
from scipy import sparse
from test_classifier import bits, fitted, modes

from fastann import KMeans, PrototypeClassifier
from fastann.data.open import as_source
from fastann.data.source import dense

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:Sparse:UserWarning")  # torch's words of its own beta state


@pytest.fixture(scope="module")
def table():
    x, y = modes(n=400)
    return np.where(np.abs(x) < 0.5, 0, x).astype(np.float32), y


def whole(x):
    source = as_source(x)
    return dense(source.take(np.arange(source.n)))


HALVES = [torch.bfloat16, torch.float16]
LAYOUTS = {
    "csr": lambda t: t.to_sparse_csr(),
    "csc": lambda t: t.to_sparse_csc(),
    "coo": lambda t: t.to_sparse(),
    "strided": lambda t: t,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, *HALVES], ids=str)
def test_every_layout_and_precision_is_read_as_it_is(table, layout, kind):
    rows = torch.from_numpy(table[0]).to(kind)
    made, expected = LAYOUTS[layout](rows), rows.float().numpy()
    assert as_source(made).sparse == (layout != "strided")
    np.testing.assert_array_equal(whole(made), expected)
    made = LAYOUTS[layout](rows).requires_grad_()
    np.testing.assert_array_equal(whole(made), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_classifier_of_tensors_is_that_of_arrays(table, layout):
    x, y = table
    rows = LAYOUTS[layout](torch.from_numpy(x))
    model = fitted((rows, torch.from_numpy(y)))
    same = fitted((x if layout == "strided" else sparse.csr_matrix(x), y))
    assert bits(model) == bits(same)
    np.testing.assert_array_equal(model.predict(rows), same.predict(x))
    model.partial_fit(rows, torch.from_numpy(y), sample_weight=torch.ones(len(y)))
    assert model.score(rows, torch.from_numpy(y)) > 0.8


def test_repeated_entries_of_coo_add():
    made = torch.sparse_coo_tensor([[0, 0, 1], [2, 2, 0]], [1.0, 2.0, 5.0], (2, 3))
    np.testing.assert_array_equal(whole(made), [[0, 0, 3], [5, 0, 0]])


def test_a_layout_that_has_no_rows_is_refused():
    hybrid = torch.sparse_coo_tensor([[0, 1]], [[1.0, 2.0], [3.0, 4.0]], (2, 2))
    with pytest.raises(TypeError, match=r"X is a tensor of layout torch\.sparse_coo and shape \(2, 2\).*to_sparse_csr"):
        as_source(hybrid)


def test_centres_may_be_bfloat16_and_sparse_ones_are_refused(table):
    x = table[0]
    centres = torch.from_numpy(x[:4]).bfloat16()
    km = KMeans(4, init=centres, max_iter=1).fit(x)
    same = KMeans(4, init=centres.float().numpy(), max_iter=1).fit(x)
    np.testing.assert_array_equal(km.labels_, same.labels_)
    with pytest.raises(TypeError, match="Sparse data was passed as init"):
        KMeans(4, init=centres.float().to_sparse()).fit(x)


@pytest.mark.parametrize("kind", HALVES, ids=str)
def test_kmeans_takes_half_precision(table, kind):
    rows = torch.from_numpy(table[0]).to(kind)
    km = KMeans(4, random_state=0).fit(rows)
    np.testing.assert_array_equal(km.labels_, KMeans(4, random_state=0).fit(rows.float().numpy()).labels_)
    np.testing.assert_array_equal(km.predict(rows), km.labels_)


# --------------------------------------------------------------------------- answers

ANSWERS = {
    "predict": lambda m, x: m.predict(x),
    "predict_proba": lambda m, x: m.predict_proba(x),
    "predict_log_proba": lambda m, x: m.predict_log_proba(x),
    "decision_function": lambda m, x: m.decision_function(x),
    "distances": lambda m, x: m.kneighbors(x, 3)[0],
    "ids": lambda m, x: m.kneighbors(x, 3)[1],
    "ids alone": lambda m, x: m.kneighbors(x, 3, return_distance=False),
}


@pytest.mark.parametrize("given", ["tensor", "array"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_are_tensors_where_that_is_asked(table, answer, given):
    x, y = table
    model = fitted((x, y))
    expected = ANSWERS[answer](model, x)
    assert isinstance(ANSWERS[answer](model, torch.from_numpy(x)), np.ndarray)
    found = ANSWERS[answer](model.set_params(output="torch"), torch.from_numpy(x) if given == "tensor" else x)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert model.score(x, y) == fitted((x, y)).score(x, y)


def test_labels_that_no_tensor_holds_are_refused(table):
    x, y = table
    model = fitted((x, np.array(list("abcd"))[y]), output="torch")
    with pytest.raises(TypeError, match=r"hold numbers, but the labels are of dtype <U1.*output='numpy'"):
        model.predict(x)
    assert model.predict_proba(x).shape == (len(x), 4)
    assert model.score(x, np.array(list("abcd"))[y]) > 0.8


def test_two_classes_and_rejected_rows_are_tensors_too(table):
    x, y = table
    model = PrototypeClassifier(output="torch", reject_below=0.9, random_state=0).fit(x[y < 2], y[y < 2])
    assert model.decision_function(x).shape == (len(x),)
    assert -1 in model.predict(x).tolist()

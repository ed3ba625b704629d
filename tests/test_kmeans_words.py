"""What a user of FAISS or scikit-learn meets in KMeans: their words, and attributes that take an option to be there."""

import pickle
import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from fastann import KMeans, PrototypeClassifier
from fastann.estimators.foreign import KMEANS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "coming-from.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((300, 8), dtype=np.float32)


@pytest.fixture(scope="module")
def km(x):
    return KMeans(3, random_state=0).fit(x)


PARAMETERS = {
    "d": (3, "number of columns of the rows"),
    "k": (3, "KMeans(n_clusters=100)"),
    "niter": (25, "KMeans(max_iter=25)"),
    "nredo": (5, "KMeans(n_init=5)"),
    "seed": (1, "KMeans(random_state=0)"),
    "spherical": (True, "KMeans(metric='cosine')"),
    "gpu": (True, "KMeans(device='cuda')"),
    "max_points_per_centroid": (256, "KMeans(100, sample=256 * 100)"),
    "batch_size": (1024, "partial_fit(X)"),
}
ATTRIBUTES = {
    "train": "fit: km.fit(x)",
    "assign": "km.predict(x)",
    "centroids": "cluster_centers_",
    "obj": "[r.inertia for r in km.history_]",
    "iteration_stats": "history_",
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_of_another_name_is_told_ours(name):
    value, ours = PARAMETERS[name]
    told = rf"KMeans has no parameter '{name}', as (faiss.Kmeans|MiniBatchKMeans) has.*{re.escape(ours)}"
    with pytest.raises(TypeError, match=told):
        KMeans(**{name: value})
    with pytest.raises(ValueError, match=told):
        KMeans().set_params(**{name: value})


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_of_another_name_is_told_ours(km, name):
    told = rf"KMeans has no (method|attribute) '{name}', as faiss.Kmeans has.*{re.escape(ATTRIBUTES[name])}"
    with pytest.raises(AttributeError, match=told):
        getattr(km, name)


def test_what_is_advised_works(x, km):
    assert len(KMeans(100, sample=256 * 100).set_params(n_clusters=3).fit(x).cluster_centers_) == 3
    assert [r.inertia for r in km.history_]
    assert km.kneighbors(x, 1)[1][:, 0].tolist() == km.predict(x).tolist()


def test_the_columns_of_faiss_come_first_there_and_are_explained():
    with pytest.raises(
        TypeError, match=r"KMeans takes n_clusters by position.*faiss.Kmeans\(d, k\) is KMeans\(k\) here"
    ):
        KMeans(8, 3)
    with pytest.raises(TypeError, match=r"takes n_prototypes by position.*2 values without a name$"):
        PrototypeClassifier(8, 3)


def test_every_word_that_is_explained_is_on_the_page():
    assert set(KMEANS) == {*PARAMETERS, *ATTRIBUTES}
    assert not set(KMEANS) & set(KMeans().get_params())
    for word in KMEANS:
        assert any(line.startswith("|") and re.search(rf"\b{word}\b", line.split("|")[1]) for line in PAGE.splitlines())


def test_an_attribute_without_its_underscore_is_told_it(x, km):
    for name in ("labels", "inertia", "cluster_centers", "n_iter", "inlier_mask"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'; what a fit finds.*: {name}_$"):
            getattr(km, name)
    with pytest.raises(AttributeError, match=r"ends in an underscore: classes_$"):
        PrototypeClassifier().fit(x, np.arange(300) % 2).classes  # noqa: B018


def test_what_is_nowhere_is_a_plain_error(km):
    for model in (km, KMeans(3)):
        with pytest.raises(AttributeError, match=r"^'KMeans' object has no attribute 'labells'$"):
            model.labells  # noqa: B018
    with pytest.raises(TypeError, match="unexpected keyword argument 'maxiter'"):
        KMeans(maxiter=3)
    with pytest.raises(ValueError, match="Invalid parameter 'maxiter'"):
        KMeans().set_params(maxiter=3)


@pytest.mark.parametrize("name", ["margins_", "second_labels_"])
def test_margins_say_which_option_makes_them(x, km, name, tmp_path):
    with pytest.raises(AttributeError, match=rf"fitted without margins, so it has no {name}.*KMeans\(margins=True\)"):
        getattr(km, name)
    given = KMeans(3, margins=True, random_state=0).fit(x)
    assert len(getattr(given, name)) == 300
    given.save(tmp_path / "run", labels=False)
    with pytest.raises(AttributeError, match=f"saved without labels .*, so it has no {name}"):
        getattr(KMeans.load(tmp_path / "run"), name)


def test_names_of_columns_say_where_they_come_from(km):
    with pytest.raises(AttributeError, match=r"columns had no names.*a data frame has names"):
        km.feature_names_in_  # noqa: B018


@pytest.mark.parametrize("name", ["labels_", "margins_", "cluster_centers_", "feature_names_in_", "inlier_mask_"])
def test_a_model_that_is_not_fitted_says_so(name):
    with pytest.raises(AttributeError, match=f"'KMeans' object has no attribute '{name}': it is not fitted yet"):
        getattr(KMeans(3), name)


def test_models_are_copied_and_pickled_as_before(x, km):
    for copy in (deepcopy(km), pickle.loads(pickle.dumps(km))):
        assert copy.predict(x).tolist() == km.labels_.tolist()
    assert not hasattr(clone(km), "labels_")
    assert KMeans(4, max_iter=7).get_params() == KMeans(n_clusters=4, max_iter=7).get_params()

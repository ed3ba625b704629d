"""scikit-learn's own tests of its KMeans and MiniBatchKMeans, run on `fastann.KMeans`: its `fit` and its `partial_fit`.

They are those of the installed scikit-learn: its module is loaded with our classes under the names of its own. What is
left out stands in `EXCLUDED`, with the reason; where only the words of a message differ, `WORDS` has ours.
"""

import importlib.util
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import sklearn
import sklearn.cluster
from sklearn.base import clone

import fastann
from fastann.cluster.fit import Fit, Task
from fastann.cluster.memory import Memory
from fastann.cluster.space import space_of
from fastann.estimators.kmeans_parameters import starts

if not sklearn.__version__.startswith("1.9."):
    pytest.skip("these are the tests of scikit-learn 1.9", allow_module_level=True)

INSIDE = "of a function inside scikit-learn, which uses no estimator"
LOG = "of the lines that scikit-learn prints; ours is a progress bar"
MINIBATCH = "of a parameter that only MiniBatchKMeans has; a stream's batches come from its caller"
EXCLUDED = {  # name of a test, or the beginning of its name and parameters: why
    "test_relocate_empty_clusters": INSIDE,
    "test_minibatch_update_consistency": INSIDE,
    "test_minibatch_reassign": INSIDE,
    "test_k_means_function": INSIDE,
    "test_euclidean_distance": INSIDE,
    "test_inertia": INSIDE,
    "test_kmeans_plusplus_wrong_params": INSIDE,
    "test_kmeans_plusplus_output": INSIDE,
    "test_kmeans_plusplus_norms": INSIDE,
    "test_kmeans_plusplus_dataorder": INSIDE,
    "test_is_same_clustering": INSIDE,
    "test_kmeans_verbose": LOG,
    "test_minibatch_declared_convergence": LOG,
    "test_minibatch_kmeans_warning_init_size": MINIBATCH,
    "test_minibatch_kmeans_init_size": MINIBATCH,
    "test_minibatch_iter_steps": MINIBATCH,
    "test_kmeans_init_auto_with_initial_centroids[MiniBatchKMeans-random": (
        "there, n_init='auto' is 3 for a stream and 10 for a fit; here the first batch is clustered as `fit` does"
    ),
    "test_kmeans_init_auto_with_initial_centroids[MiniBatchKMeans-<lambda>": "as above",
    "test_warning_elkan_1_cluster": "both algorithms are the same search here, which a single cluster suits as well",
}
WORDS = {  # a message as scikit-learn has it: as we have it
    r"n_samples.* should be >= n_clusters": r"n_clusters=101 needs at least 101 rows, got n_samples=100",
    r"The shape of the initial centers .* does not match the number of clusters": (
        r"init has shape \(2, 5\), but n_clusters=8 and X has 5 features: shape \(8, 5\) is needed"
    ),
    r"The shape of the initial centers .* does not match the number of features of the data": (
        r"init has shape \(8, 2\), but n_clusters=8 and X has 5 features: shape \(8, 5\) is needed"
    ),
}


class KMeans(fastann.KMeans):
    """Ours with the defaults of scikit-learn's, and its dtype of centres, which here are float32."""

    def __init__(
        self,
        n_clusters=8,
        *,
        init="k-means++",
        n_init="auto",
        max_iter=300,
        tol=1e-4,
        verbose=0,
        random_state=None,
        copy_x=True,
        algorithm="lloyd",
        empty="farthest",
    ):
        super().__init__(
            n_clusters,
            init=init,
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            verbose=verbose,
            random_state=random_state,
            copy_x=copy_x,
            algorithm=algorithm,
            empty=empty,
        )

    def _source(self, X, name="X", *, reset=False):
        if reset:
            self._dtype = np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64
        return super()._source(X, name, reset=reset)

    def _centers(self):
        return fastann.KMeans.cluster_centers_.fget(self).astype(self._dtype)

    cluster_centers_ = property(_centers, fastann.KMeans.cluster_centers_.fset)

    @property
    def _n_init(self):
        return starts(self)

    def _init_centroids(self, X, x_squared_norms, init, sample_weight, n_centroids, random_state):
        source, space = self._source(X, reset=True), space_of(self.metric)
        plan = self._plan(source, n_centroids, "cpu")
        rest = {"n_init": 1, "empty": "keep", "device": "cpu", "seed": random_state.randint(2**31), "memory": Memory()}
        return Fit.begin(Task(source, sample_weight, n_centroids, space, plan, init, **rest)).work.centroids


class MiniBatchKMeans(KMeans):
    """A stream of two batches, each of which has all rows."""

    def __init__(
        self,
        n_clusters=8,
        *,
        init="k-means++",
        max_iter=100,
        batch_size=1024,
        verbose=0,
        random_state=None,
        init_size=None,
        n_init="auto",
    ):
        super().__init__(
            n_clusters, init=init, n_init=n_init, max_iter=max_iter, verbose=verbose, random_state=random_state
        )
        self.batch_size, self.init_size = batch_size, init_size

    def fit(self, X, y=None, sample_weight=None):
        stream = clone(self)
        for _ in range(2):
            stream.partial_fit(X, sample_weight=sample_weight)
        vars(self).update(vars(stream))
        return self


def raises(error, match=None):
    return pytest.raises(error, match=WORDS.get(match, match))


def theirs():
    spec = importlib.util.find_spec("sklearn.cluster.tests.test_k_means")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.multiple(sklearn.cluster, KMeans=KMeans, MiniBatchKMeans=MiniBatchKMeans):
        spec.loader.exec_module(module)
    module.pytest = SimpleNamespace(raises=raises, warns=pytest.warns, approx=pytest.approx)
    return {name: value for name, value in vars(module).items() if name.startswith("test_")}


globals().update(theirs())


@pytest.fixture(autouse=True)
def _left_out(request):
    name = request.node.name
    for start, reason in EXCLUDED.items():
        if name == start or name.startswith(f"{start}[") or ("[" in start and name.startswith(start)):
            pytest.skip(reason)


@pytest.fixture
def global_random_seed():
    return 42


@pytest.fixture(params=[np.float32, np.float64])
def global_dtype(request):
    return request.param


def test_every_exclusion_is_of_a_test():
    assert {name.partition("[")[0] for name in EXCLUDED} <= set(globals())

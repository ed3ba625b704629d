"""Every storage a user may pass gives the same float32 rows, without a copy where none is needed."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from fastann import KMeans, kernels
from fastann.data.limits import Limits
from fastann.data.open import as_source
from fastann.data.source import Centred, UnitNorm

FLOATS = ["float16", "float32", "float64", "longdouble", ">f2", ">f4", ">f8"]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i2", ">i8", "bool"]


@pytest.fixture
def grid(rng):
    """300 rows of small whole numbers, exact in every dtype but bool."""
    return rng.integers(0, 100, (300, 5))


def whole(source, rows=None):
    return np.concatenate([block for _, block in source.chunks(rows)])


def whole_view(source):
    ((_, block),) = source.chunks()
    return block


def peak_of_fit(data, chunk_bytes=Limits.chunk_bytes, **parameters):
    """Bytes that NumPy allocates at most during a fit, as a share of the data's."""
    km = KMeans(16, init="random", max_iter=2, random_state=0, **parameters)
    tracemalloc.start()
    try:
        km.fit(as_source(data, limits=Limits(chunk_bytes)))
        return tracemalloc.get_traced_memory()[1] / data.nbytes
    finally:
        tracemalloc.stop()


# --------------------------------------------------------------------------- dtypes and orders


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_every_dtype_gives_its_values(grid, dtype):
    stored = grid.astype(dtype)
    np.testing.assert_array_equal(whole(as_source(stored), 70), stored.astype(np.float32))


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_every_dtype_is_converted_to_native_c_ordered_float32(grid, dtype):
    block = whole(as_source(grid.astype(dtype)))
    assert (block.dtype, block.dtype.isnative, block.flags.c_contiguous) == (np.float32, True, True)


@pytest.mark.parametrize("dtype", [t for t in FLOATS + INTEGERS if t != "bool"])
def test_fit_gives_the_same_labels_for_every_dtype(grid, dtype):
    expected = KMeans(4, random_state=0).fit_predict(grid.astype(np.float32))
    np.testing.assert_array_equal(KMeans(4, random_state=0).fit_predict(grid.astype(dtype)), expected)


def test_fit_separates_booleans():
    x = np.repeat([[True, False, False], [False, True, True]], 20, axis=0)
    assert KMeans(2, random_state=0).fit(x).inertia_ == 0


LAYOUTS = {
    "C": lambda a: np.ascontiguousarray(a),
    "Fortran": np.asfortranarray,
    "every second row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "every second column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "rows backwards": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "columns of a wider table": lambda a: np.hstack([a, a])[:, : a.shape[1]],
    "one row broadcast": lambda a: np.broadcast_to(a[0], a.shape),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "matrix": lambda a: np.asmatrix(a),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_memory_layout_gives_its_values(grid, layout, dtype):
    stored = LAYOUTS[layout](grid.astype(dtype))
    np.testing.assert_array_equal(whole(as_source(stored), 70), np.asarray(stored, np.float32))


@pytest.mark.parametrize(
    "layout", ["Fortran", "every second row", "every second column", "rows backwards", "read-only"]
)
def test_fit_gives_the_same_labels_for_every_memory_layout(grid, layout):
    x = grid.astype(np.float32)
    expected = KMeans(4, random_state=0).fit_predict(x)
    np.testing.assert_array_equal(KMeans(4, random_state=0).fit_predict(LAYOUTS[layout](x)), expected)


# --------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
@pytest.mark.parametrize("name", ["x.npy", "with spaces.npy", "日本語 ünïcode.npy"])
def test_npy_path(tmp_path, grid, kind, name):
    np.save(tmp_path / name, grid)
    np.testing.assert_array_equal(whole(as_source(kind(tmp_path / name))), grid)


def test_npy_path_in_fortran_order(tmp_path, grid):
    np.save(tmp_path / "x.npy", np.asfortranarray(grid))
    np.testing.assert_array_equal(whole(as_source(tmp_path / "x.npy"), 70), grid)


def test_npy_path_is_mapped_not_read(tmp_path, grid):
    np.save(tmp_path / "x.npy", grid.astype(np.float32))
    assert isinstance(as_source(tmp_path / "x.npy").array, np.memmap)


def test_npy_path_gives_the_same_fit_as_the_array(tmp_path, grid):
    np.save(tmp_path / "x.npy", grid)
    km = KMeans(4, random_state=0).fit(tmp_path / "x.npy")
    np.testing.assert_array_equal(km.labels_, KMeans(4, random_state=0).fit_predict(grid))


def test_npy_path_works_in_predict(tmp_path, grid):
    np.save(tmp_path / "x.npy", grid)
    km = KMeans(4, random_state=0).fit(grid)
    np.testing.assert_array_equal(km.predict(str(tmp_path / "x.npy")), km.labels_)


def test_read_only_memmap_can_be_fitted(tmp_path, grid):
    np.save(tmp_path / "x.npy", grid.astype(np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = KMeans(4, random_state=0).fit_predict(grid.astype(np.float32))
    np.testing.assert_array_equal(KMeans(4, random_state=0).fit_predict(mapped), expected)


def test_fit_does_not_write_to_a_writable_memmap(tmp_path, grid):
    np.save(tmp_path / "x.npy", grid.astype(np.float32) + 1000)  # far from the origin: centred
    before = (tmp_path / "x.npy").read_bytes()
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    KMeans(4, random_state=0).fit(mapped)
    mapped.flush()
    assert (tmp_path / "x.npy").read_bytes() == before


# --------------------------------------------------------------------------- tensors and tables


class FakeTensor:
    """What fastann relies on of a torch tensor, so that the path is tested without torch."""

    def __init__(self, array, *, device="cuda:0", grad=True, dtype=None):
        self._array, self._device, self._grad = array, device, grad
        self.dtype = dtype or f"torch.{array.dtype}"
        self.shape = array.shape

    def __len__(self):
        return len(self._array)

    def detach(self):
        return FakeTensor(self._array, device=self._device, grad=False, dtype=self.dtype)

    def cpu(self):
        return FakeTensor(self._array, device="cpu", grad=self._grad, dtype=self.dtype)

    def __array__(self, dtype=None, copy=None):
        if self._device != "cpu" or self._grad:
            raise TypeError("can't convert a tensor on a GPU, or one that requires grad, to numpy")
        return self._array if dtype is None else self._array.astype(dtype)


def test_tensor_on_a_gpu_that_requires_grad_gives_its_values(grid):
    np.testing.assert_array_equal(whole(as_source(FakeTensor(grid))), grid)


def test_tensor_in_memory_is_not_copied(grid):
    x = grid.astype(np.float32)
    assert np.shares_memory(whole_view(as_source(FakeTensor(x))), x)


def test_tensor_can_be_fitted(grid):
    x = grid.astype(np.float32)
    km = KMeans(4, random_state=0).fit(FakeTensor(x))
    np.testing.assert_array_equal(km.labels_, KMeans(4, random_state=0).fit_predict(x))


def test_tensor_can_be_predicted(grid):
    x = grid.astype(np.float32)
    km = KMeans(4, random_state=0).fit(x)
    np.testing.assert_array_equal(km.predict(FakeTensor(x)), km.labels_)


def test_torch_tensor_gives_its_values(grid):
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(whole(as_source(torch.tensor(grid))), grid)


def test_torch_tensor_that_requires_grad_can_be_fitted(grid):
    torch = pytest.importorskip("torch")
    x = grid.astype(np.float32)
    km = KMeans(4, random_state=0).fit(torch.tensor(x, requires_grad=True))
    np.testing.assert_array_equal(km.labels_, KMeans(4, random_state=0).fit_predict(x))


TABLES = {
    "float32": lambda a: pd.DataFrame(a.astype(np.float32)),
    "int64": pd.DataFrame,
    "mixed": lambda a: pd.DataFrame(a).astype({0: "float32", 1: "int8", 2: "float64"}),
    "nullable": lambda a: pd.DataFrame(a).astype("Int64"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_data_frame_gives_its_values(grid, kind):
    np.testing.assert_array_equal(whole(as_source(TABLES[kind](grid))), grid)


def test_data_frame_is_not_changed_by_a_fit(grid):
    table = pd.DataFrame(grid.astype(np.float32) + 1000)
    before = table.copy(deep=True)
    KMeans(4, random_state=0).fit(table)
    pd.testing.assert_frame_equal(table, before)


def test_data_frame_gives_feature_names(grid):
    km = KMeans(4, random_state=0).fit(pd.DataFrame(grid, columns=list("abcde")))
    assert km.feature_names_in_.tolist() == list("abcde")


def test_data_frame_with_other_columns_is_refused_in_predict(grid):
    km = KMeans(4, random_state=0).fit(pd.DataFrame(grid, columns=list("abcde")))
    with pytest.raises(ValueError, match="feature names"):
        km.predict(pd.DataFrame(grid, columns=list("vwxyz")))


def test_nested_lists_give_their_values(grid):
    np.testing.assert_array_equal(whole(as_source(grid.tolist())), grid)


# --------------------------------------------------------------------------- chunks and take


@pytest.mark.parametrize("rows", [1, 7, 299, 300, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_chunks_of_any_size_cover_every_row_once(grid, rows, dtype):
    x = grid.astype(dtype)
    np.testing.assert_array_equal(whole(as_source(x), rows), x)


@pytest.mark.usefixtures("instructions")
def test_every_float16_is_converted_as_numpy_does():
    every = np.tile(np.arange(2**16, dtype=np.uint16).view(np.float16), 3).reshape(-1, 3)
    for block in (every, every[:100], every[::2], np.asfortranarray(every), every.astype(">f2")):
        expected = block.astype(np.float32)
        got = kernels.widened(block)
        assert got.flags.c_contiguous
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_chunks_have_the_size_asked_for(grid, rows):
    sizes = [len(block) for _, block in as_source(grid).chunks(rows)]
    assert sizes == [rows] * (300 // rows) + [300 % rows] * (300 % rows > 0)


def test_chunks_name_their_first_row(grid):
    assert [start for start, _ in as_source(grid).chunks(70)] == [0, 70, 140, 210, 280]


def test_converted_chunks_stay_below_their_limit_in_bytes(grid):
    assert max(block.nbytes for _, block in as_source(grid, limits=Limits(chunk_bytes=1000)).chunks()) == 1000


def test_a_row_wider_than_the_limit_is_a_chunk_of_its_own(grid):
    assert [len(block) for _, block in as_source(grid, limits=Limits(chunk_bytes=8)).chunks()] == [1] * 300


def test_a_view_has_the_limits_of_its_base(grid):
    base = as_source(grid, limits=Limits(chunk_bytes=1000))
    assert [len(block) for _, block in UnitNorm(Centred(base, np.zeros(5))).chunks()] == [50] * 6
    assert as_source(base) is base


def test_chunks_of_views_of_memory_have_no_more_rows_than_their_limit(grid):
    source = as_source(grid.astype(np.float32), limits=Limits(at_once=120))
    assert [len(block) for _, block in source.chunks()] == [120, 120, 60]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int16"])
def test_labels_do_not_depend_on_the_chunk_size(grid, dtype):
    x = grid.astype(dtype)
    expected = KMeans(4, random_state=0).fit_predict(x)
    small = as_source(x, limits=Limits(chunk_bytes=5 * 4 * 37))
    np.testing.assert_array_equal(KMeans(4, random_state=0).fit_predict(small), expected)


@pytest.mark.parametrize("indices", [[], [3], [5, 1, 4], [2, 2, 0, 2], [299, 0]], ids=str)
def test_take_gives_rows_in_the_order_asked_for(grid, indices):
    picks = np.array(indices, np.int64)
    np.testing.assert_array_equal(as_source(grid).take(picks), grid[picks])


@pytest.mark.parametrize("view", ["Centred", "UnitNorm"])
def test_take_of_a_view_gives_the_rows_of_its_chunks(grid, view):
    base = as_source(grid + 1)
    seen = Centred(base, grid.mean(axis=0)) if view == "Centred" else UnitNorm(base)
    np.testing.assert_array_equal(seen.take(np.array([9, 2, 9])), whole(seen)[[9, 2, 9]])


def test_take_is_a_copy(grid):
    x = grid.astype(np.float32)
    assert not np.shares_memory(as_source(x).take(np.arange(300)), x)


# --------------------------------------------------------------------------- memory


def test_float32_rows_come_as_one_view(grid):
    x = grid.astype(np.float32)
    assert np.shares_memory(whole_view(as_source(x)), x)


def test_float32_chunks_are_views(grid):
    x = grid.astype(np.float32)
    assert all(np.shares_memory(block, x) for _, block in as_source(x).chunks(7))


def test_float32_memmap_comes_as_one_view(tmp_path, grid):
    np.save(tmp_path / "x.npy", grid.astype(np.float32))
    source = as_source(tmp_path / "x.npy")
    assert np.shares_memory(whole_view(source), source.array)


def test_big_endian_float32_is_not_handed_out_as_it_is(grid):
    x = grid.astype(">f4")
    assert not np.shares_memory(next(as_source(x).chunks())[1], x)


@pytest.fixture(scope="module")
def forty_megabytes():
    return np.random.default_rng(0).standard_normal((160_000, 64), dtype=np.float32)


def test_fit_of_float32_never_copies_the_data(forty_megabytes):
    # Labels, distances, squared norms and cluster sums are about a tenth of rows this narrow.
    assert peak_of_fit(forty_megabytes) < 0.2


def test_fit_of_float16_never_casts_it_whole(forty_megabytes):
    # Whole in float32 would be 2.0; the limit on chunks is lowered so that a chunk is a small part of the data.
    assert peak_of_fit(forty_megabytes.astype(np.float16), 2**20) < 0.5


@pytest.mark.parametrize("kind", ["float64", "Fortran"])
def test_fit_of_converted_data_never_holds_it_whole(forty_megabytes, kind):
    data = forty_megabytes.astype(np.float64) if kind == "float64" else np.asfortranarray(forty_megabytes)
    assert peak_of_fit(data, 2**20) < 0.25


@pytest.mark.parametrize("kind", ["cosine", "centred"])
def test_fit_in_another_space_never_holds_the_data_whole(forty_megabytes, kind):
    data = forty_megabytes + 1000 if kind == "centred" else forty_megabytes
    assert peak_of_fit(data, 2**20, metric="cosine" if kind == "cosine" else "euclidean") < 0.25


# --------------------------------------------------------------------------- views


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "uint8", "bool", ">f4"])
def test_centred_subtracts_the_mean(grid, dtype):
    stored = grid.astype(dtype)
    mean = stored.mean(axis=0, dtype=np.float64)
    seen = whole(Centred(as_source(stored), mean), 70)
    np.testing.assert_allclose(seen, stored.astype(np.float64) - mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_centred_subtracts_before_float32_would_lose_the_digits(grid, dtype):
    stored = (grid + 10**9).astype(dtype)  # float32 steps by 64 up there
    np.testing.assert_array_equal(whole(Centred(as_source(stored), np.full(5, 1e9)), 70), grid)


def test_centred_takes_unsigned_rows_below_the_mean():
    seen = whole(Centred(as_source(np.array([[0], [200]], np.uint8)), np.array([100.0])))
    np.testing.assert_array_equal(seen, [[-100], [100]])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", ">f4"])
def test_unit_norm_gives_directions(rng, dtype):
    stored = (rng.integers(1, 100, (300, 5)) * rng.choice([-1, 1], (300, 5))).astype(dtype)
    wide = stored.astype(np.float64)
    expected = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    np.testing.assert_allclose(whole(UnitNorm(as_source(stored)), 70), expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-18, 1e-6, 1e6, 1e17])
def test_unit_norm_holds_over_the_range_of_float32(rng, scale):
    rows = rng.standard_normal((50, 5)) + 3
    seen = whole(UnitNorm(as_source((rows * scale).astype(np.float32))))
    np.testing.assert_allclose(seen, rows / np.linalg.norm(rows, axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("view", ["Centred", "UnitNorm"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_views_do_not_change_the_array(grid, view, dtype):
    x = (grid + 1).astype(dtype)
    before = x.copy()
    base = as_source(x)
    whole(Centred(base, x.mean(axis=0)) if view == "Centred" else UnitNorm(base))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_using_an_estimator_does_not_change_the_array(rng, metric, offset, dtype):
    x = (rng.standard_normal((200, 6)) + offset).astype(dtype)
    before = x.copy()
    km = KMeans(4, metric=metric, random_state=0).fit(x)
    km.predict(x), km.transform(x), km.score(x), km.kneighbors(x, 2)
    np.testing.assert_array_equal(x, before)


def test_weights_and_centres_given_are_not_changed(rng):
    x, weights = rng.standard_normal((200, 6)) + 1000, rng.random(200)
    start = x[:4].copy()
    kept = weights.copy(), start.copy()
    KMeans(4, init=start).fit(x, sample_weight=weights)
    np.testing.assert_array_equal(weights, kept[0])
    np.testing.assert_array_equal(start, kept[1])


def test_published_arrays_share_no_memory_with_the_input(rng):
    x = rng.standard_normal((200, 6)).astype(np.float32)
    start = x[:4].copy()
    km = KMeans(4, init=start, max_iter=1).fit(x)
    assert not np.shares_memory(km.cluster_centers_, start)


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e8])
def test_float64_rows_far_from_the_origin_are_clustered_like_those_near_it(rng, offset):
    x = np.repeat([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], 50, axis=0) + rng.standard_normal((150, 2))
    near = KMeans(3, init=x[[0, 50, 100]]).fit(x)
    far = KMeans(3, init=x[[0, 50, 100]] + offset).fit(x + offset)
    assert far.inertia_ == pytest.approx(near.inertia_, rel=1e-3)

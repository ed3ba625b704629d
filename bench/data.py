"""Rows to cluster: files that are shared, patches of photographs, and made-up ones, seeded; as files that runs load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from bench.harness import ROOT, Record, made, slug, task

SHARED = ROOT.parent / "shared/data"
FILES = {"wordnet": SHARED / "wordnet_117k_384.f16.npy", "tokens": SHARED / "tokens_300k_128.f16.npy"}
KNOWN = (
    "wordnet, tokens, patches, pixels, digits, mixture:N:D, sphere:N, blobs:N:D:GROUPS, uniform:N:D, onehot:N:D, "
    "repeats:N:D:DISTINCT or a .npy file"
)
BLOCK = 65_536  # rows made at once


def name_of(data: str) -> str:
    """Short name of a data set: a path's stem, or what was typed."""
    return Path(data).stem if data.endswith(".npy") else data


def read(data: str, rows: int | None = None) -> np.ndarray:
    """Read or make a data set as float32 [n, d]; with `rows`, that many, drawn with a fixed seed."""
    kind, *sizes = data.split(":")
    if data == "patches":
        from fastann.data.patches import patches

        x = patches()
    elif kind in MADE:
        x = MADE[kind](*map(int, sizes))
    else:
        x = np.load(FILES.get(data, data), mmap_mode="r")
    if rows is not None and rows < len(x):
        x = x[np.sort(np.random.default_rng(0).choice(len(x), rows, replace=False))]
    return np.ascontiguousarray(x, np.float32)


def prepared(data: str, cache: Path, rows: int | None = None) -> Path:
    """Have a data set as a float32 file, newer than what it is made of."""
    path = cache / f"{slug(name_of(data))}{'' if rows is None else f'-rows{rows}'}.f32.npy"
    source = Path(FILES.get(data, data))
    if path.exists() and source.exists() and source.stat().st_mtime > path.stat().st_mtime:
        path.unlink()
    return made(path, write, {"data": data, "rows": rows})


@task
def write(order: Record) -> Record:
    """Write a data set, whole or not at all."""
    path = Path(order["path"])
    part = path.with_suffix(".part.npy")
    np.save(part, read(order["data"], order["rows"]))
    part.replace(path)
    return {}


def half(path: Path) -> Path:
    """Name of the float16 copy of a float32 file."""
    return path.with_name(path.name.replace(".f32.npy", ".f16.npy"))


def write_half(path: Path) -> None:
    """Write the float16 copy of a float32 file, unless it is there."""
    copy, rows = half(path), np.load(path, mmap_mode="r")
    if not copy.exists() or copy.stat().st_mtime < path.stat().st_mtime:
        write_blocks(copy, rows.shape, np.float16, (rows[i : i + BLOCK] for i in range(0, len(rows), BLOCK)))


def write_blocks(path: Path, shape: tuple[int, int], dtype: Any, blocks: Iterator[np.ndarray]) -> None:
    """Write a .npy file block by block, whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        head = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, head)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)
    part.replace(path)


# --------------------------------------------------------------------- made-up rows


def mixture(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Rows of a Gaussian mixture whose sizes follow a power law: float32 [n, d], in random order.

    Component r of n / 100 (at most 4,096) has a size in proportion to 1 / r. Variance decays over the
    directions, as it does in embeddings, and components overlap.
    """
    rng = np.random.default_rng(seed)
    m = max(2, min(4096, n // 100))
    share = 1.0 / np.arange(1, m + 1)
    scale = (np.arange(1, d + 1) ** -0.5).astype(np.float32)
    means = rng.standard_normal((m, d), dtype=np.float32) * scale
    owner = rng.choice(m, size=n, p=share / share.sum())
    x = np.empty((n, d), np.float32)
    for i in range(0, n, BLOCK):
        part = owner[i : i + BLOCK]
        x[i : i + BLOCK] = means[part] + rng.standard_normal((len(part), d), dtype=np.float32) * (0.5 * scale)
    return x


def sphere(n: int) -> np.ndarray:
    """A mixture with sizes by a power law on the unit sphere, two directions a row: float32 [n, 384]."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((20_000, 384), dtype="f")
    share = np.arange(1, 20_001) ** -0.6
    x = centers[rng.choice(20_000, n, p=share / share.sum())]
    x += 0.9 * centers[rng.integers(20_000, size=n)]
    x += 0.5 * rng.standard_normal(x.shape, dtype="f")
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def blobs(n: int, d: int, groups: int) -> np.ndarray:
    """Clear groups of equal sizes: float32 [n, d]."""
    from sklearn.datasets import make_blobs

    return make_blobs(n, d, centers=groups, random_state=groups)[0].astype(np.float32)


def uniform(n: int, d: int) -> np.ndarray:
    """Rows without any structure: float32 [n, d]."""
    return np.random.default_rng(0).random((n, d), dtype=np.float32)


def onehot(n: int, d: int) -> np.ndarray:
    """Five categories a row, one of d / 5 each, of sizes by a power law: float32 [n, d] of zeros and ones."""
    rng, each = np.random.default_rng(0), d // 5
    share = np.cumsum(1 / np.arange(1, each + 1))
    x = np.zeros((n, d), np.float32)
    for field in range(5):
        x[np.arange(n), field * each + np.searchsorted(share, share[-1] * rng.random(n))] = 1
    return x


def repeats(n: int, d: int, distinct: int) -> np.ndarray:
    """Rows of a mixture, most of them many times: float32 [n, d]."""
    return mixture(distinct, d)[zipf(np.random.default_rng(0), distinct, n)]


def pixels() -> np.ndarray:
    """Pixels of two photographs, as segmentation of images clusters them: float32 [546560, 3]."""
    from sklearn.datasets import load_sample_images

    return np.concatenate([image.reshape(-1, 3) for image in load_sample_images().images]).astype(np.float32)


def digits() -> np.ndarray:
    """Handwritten digits: float32 [1797, 64]."""
    from sklearn.datasets import load_digits

    return load_digits().data.astype(np.float32)


MADE = {
    "mixture": mixture, "sphere": sphere, "blobs": blobs, "uniform": uniform, "onehot": onehot, "repeats": repeats,
    "pixels": pixels, "digits": digits,
}  # fmt: skip


def overlapping(n: int, d: int, seed: int, count: int = 4000) -> Iterator[np.ndarray]:
    """Yield blocks of float32 rows, n in all, of Gaussian clusters whose sizes fall as 1 / rank.

    Variance decays over the columns, as it does in embeddings, and clusters overlap. Every block has its own seed.
    """
    scale = (np.arange(1, d + 1) ** -0.5).astype(np.float32)
    centres = np.random.default_rng(seed).standard_normal((count, d), dtype=np.float32) * scale
    share = np.cumsum(1 / np.arange(1, count + 1))
    for i in range(-(-n // BLOCK)):
        rng = np.random.default_rng([seed, i])
        m = min(BLOCK, n - i * BLOCK)
        owner = np.searchsorted(share, share[-1] * rng.random(m))
        yield centres[owner] + rng.standard_normal((m, d), dtype=np.float32) * (0.5 * scale)


# --------------------------------------------------------------------- made-up documents

DRAWN = 66  # mean number of words in a document: about 60 distinct ones
OWN = 0.5  # share of these from the document's topic
TOPIC = 400  # words of a topic
DOCUMENTS = 8192  # documents made at once


def zipf(rng: np.random.Generator, words: int, size: int) -> np.ndarray:
    """Draw ranks whose share falls as 1 / (rank + 10), as if stop words had been left out: int64 [size]."""
    share = np.cumsum(1 / np.arange(10, words + 10))
    return np.searchsorted(share, share[-1] * rng.random(size))


def documents(n: int, d: int, seed: int) -> Any:
    """TF-IDF of made-up documents: float32 CSR [n, d], rows of unit norm, about 60 stored values each.

    Half of a document's words are from one topic of d / 100, the rest from all words; words, and the sizes of topics,
    follow a Zipf law.
    """
    rng = np.random.default_rng(seed)
    count = max(2, d // 100)
    topics = rng.integers(d, size=(count, min(TOPIC, d)))
    places = rng.permutation(d)
    blocks = []
    for i in range(0, n, DOCUMENTS):
        m = min(DOCUMENTS, n - i)
        lengths = rng.integers(DRAWN // 2, 3 * DRAWN // 2 + 1, size=m)
        row = np.repeat(np.arange(m), lengths)
        topic = np.repeat(zipf(rng, count, m), lengths)
        mine = topics[topic, zipf(rng, topics.shape[1], len(row))]
        column = np.where(rng.random(len(row)) < OWN, mine, places[zipf(rng, d, len(row))])
        blocks.append(sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), (m, d)))  # sums up copies
    x = sparse.vstack(blocks, format="csr")
    idf = 1 + np.log((1 + n) / (1 + np.bincount(x.indices, minlength=d)))
    x.data *= idf[x.indices].astype(np.float32)
    squares = np.add.reduceat(x.data.astype(np.float64) ** 2, x.indptr[:-1])  # no document is empty
    x.data /= np.repeat(np.sqrt(squares), np.diff(x.indptr)).astype(np.float32)
    x.sort_indices()
    return x


@task
def write_documents(order: Record) -> Record:
    """Write documents as .npz, whole or not at all."""
    path = Path(order["path"])
    part = path.with_suffix(".part.npz")
    sparse.save_npz(part, documents(order["n"], order["d"], seed=0), compressed=False)
    part.replace(path)
    return {}

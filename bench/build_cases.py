"""The fits by which `bench.builds` compares two builds of fastann, and the work on which it times them.

Runs in a process of one build, ``python -P build_cases.py TREE STEP ORDER``, and refuses to run if the fastann it
imports lies in another tree. It uses public names only: inner modules differ from build to build.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

Arrays = dict[str, Any]
COUNTS = ("iteration", "moved", "empty", "repaired", "rows", "looked", "searched")
RESULTS = (
    "labels_", "cluster_centers_", "distances_", "inertia_", "weights_", "second_labels_", "margins_", "ids_",
    "assignment_recall_", "assignment_recall_interval_", "n_iter_", "stop_reason_", "index_",
)  # fmt: skip
BEGUN = ["-k", "1500", "--max-iter", "9", "--seed", "3", "--quiet", "--checkpoint", "0"]

# --------------------------------------------------------------------- data


@lru_cache(maxsize=3)
def mixture(n: int, d: int, seed: int = 0, components: int = 300) -> np.ndarray:
    """Rows of overlapping Gaussians whose sizes fall as 1 / rank: float32 [n, d], in random order."""
    rng = np.random.default_rng([n, d, seed])
    scale = (np.arange(1, d + 1) ** -0.5).astype(np.float32)
    means = rng.standard_normal((components, d), dtype=np.float32) * scale
    share = 1 / np.arange(1, components + 1)
    owner = rng.choice(components, n, p=share / share.sum())
    return means[owner] + 0.5 * scale * rng.standard_normal((n, d), dtype=np.float32)


def documents(n: int, d: int, topics: int, words: int = 60) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Rows of unit norm with some stored values each, half of them of the row's topic: float32 CSR [n, d], topics."""
    rng = np.random.default_rng([n, d])
    owner = rng.integers(topics, size=n)
    common = (d * rng.random((n, words)) ** 3).astype(np.int64)
    mine = (owner[:, None] * 97 + (200 * rng.random((n, words)) ** 2).astype(np.int64)) % d
    columns = np.where(rng.random((n, words)) < 0.5, mine, common)
    x = sparse.csr_matrix((np.ones(n * words, "f4"), (np.repeat(np.arange(n), words), columns.ravel())), (n, d))
    x.data /= np.repeat(np.sqrt(np.add.reduceat(x.data**2, x.indptr[:-1])), np.diff(x.indptr))
    return x, owner


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def patches(stride: int = 1) -> np.ndarray:
    from fastann.data.patches import patches

    return patches(stride=stride)


def classes(n: int, d: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of classes that have two modes each: float32 [n, d], int64 [n]."""
    rng = np.random.default_rng([n, d, count])
    owner, mode = rng.integers(count, size=n), rng.integers(2, size=n)
    means = rng.standard_normal((count, 2, d), dtype=np.float32)
    return means[owner, mode] + 1.2 * rng.standard_normal((n, d), dtype=np.float32), owner


# --------------------------------------------------------------------- what a fit comes to


def clustered(km: Any, fresh: Any = None) -> Arrays:
    """Everything that a fitted KMeans publishes, and what it says of fresh rows."""
    out = {name: getattr(km, name) for name in RESULTS if getattr(km, name, None) is not None}
    out |= {name: str(out[name]) for name in ("stop_reason_", "index_")}
    out["history inertia"] = np.array([record.inertia for record in km.history_], np.float64)
    out["history counts"] = [[getattr(record, name) for name in COUNTS] for record in km.history_]
    out["history plans"] = [f"{record.index}: {record.plan}" for record in km.history_]
    if fresh is not None:
        out["predict"], out["transform"], out["score"] = km.predict(fresh), km.transform(fresh[:50]), km.score(fresh)
        out["kneighbors distances"], out["kneighbors"] = km.kneighbors(fresh, 3)
    return out


def classified(model: Any, fresh: Any) -> Arrays:
    """The same of a PrototypeClassifier."""
    found = model.prototypes_
    parts = ("data", "indices", "indptr") if sparse.issparse(found) else ()
    out: Arrays = {f"prototypes {part}": getattr(found, part) for part in parts} or {"prototypes": found}
    names = ("classes_", "prototype_labels_", "prototype_weights_", "scale_", "n_iter_")
    out |= {name: getattr(model, name) for name in names}
    out["index_"], verdict = str(model.index_), model.refinement_
    out["refinement_"] = "none" if verdict is None else str(dataclasses.astuple(verdict))
    numbers = ("rows", "objective", "shift", "merged", "active")
    out["history"] = np.array([[getattr(epoch, name) for name in numbers] for epoch in model.history_], np.float64)
    out["history phases"] = [epoch.phase for epoch in model.history_]
    out["predict"], out["proba"] = model.predict(fresh), model.predict_proba(fresh[:200])
    out["decision"] = model.decision_function(fresh[:200])
    out["kneighbors distances"], out["kneighbors"] = model.kneighbors(fresh, 2)
    return out


# --------------------------------------------------------------------- cases of k-means


def fit(x: Any, k: int, *, weighted: bool = False, **options: Any) -> Arrays:
    """Fit a KMeans, and use it on rows that lie near some of the data."""
    from fastann import KMeans

    if callable(x):
        x = x()
    weights = np.random.default_rng(1).integers(0, 4, x.shape[0]).astype(np.float64) if weighted else None
    km = KMeans(k, **{"random_state": 0, "n_jobs": THREADS} | options).fit(x, sample_weight=weights)
    return clustered(km, x[:1000:2] * 1.01)


def twice(x: np.ndarray, k: int) -> np.ndarray:
    """A start in which every centre stands twice, so that half of the clusters are empty."""
    return np.concatenate([x[: k // 2], x[: k // 2]])


def _fits() -> dict[str, Callable[[], Arrays]]:
    small, middle, wide = (partial(mixture, *shape) for shape in ((15_000, 32), (40_000, 64), (300_000, 32)))
    many = partial(mixture, 30_000, 16)
    text = lambda: documents(20_000, 3000, 80)[0]  # noqa: E731
    far = lambda: mixture(40_000, 64).astype(np.float64) + 1e4  # noqa: E731
    table: dict[str, tuple[Any, int, dict[str, Any]]] = {
        "flat": (small, 50, {"index": "flat"}),
        "flat, cosine, margins": (small, 50, {"index": "flat", "metric": "cosine", "margins": True}),
        "flat, weights": (small, 50, {"index": "flat", "weighted": True}),
        "flat, far from the origin": (far, 50, {"index": "flat", "max_iter": 6}),
        "flat, k-means||": (small, 300, {"index": "flat", "init": "k-means||"}),
        "flat, three starts": (small, 40, {"index": "flat", "n_init": 3}),
        "flat, size-aware": (small, 100, {"index": "flat", "candidates": 4, "size_aware": True}),
        "flat, one iteration in time": (small, 100, {"index": "flat", "time_limit": 1e-9}),
        "flat, few distinct rows": (lambda: np.repeat(mixture(15_000, 32)[:30], 20, axis=0), 50, {"index": "flat"}),
        "integers": (lambda: digits()[0].astype(np.uint8), 10, {"n_init": 2}),
        "ivf": (small, 256, {"index": "ivf:nlist=16,nprobe=4"}),
        "ivf, candidates": (small, 256, {"index": "ivf:nlist=16,nprobe=4", "candidates": 8}),
        "ivf, exact labels, margins": (small, 200, {"index": "ivf:nlist=16", "exact_labels": True, "margins": True}),
        "ivf, nprobe found": (small, 256, {"index": "ivf:nlist=16,nprobe=auto", "recall": 0.95}),
        "hnsw": (small, 256, {"index": "hnsw:m=16,ef_search=32"}),
        "cells": (small, 512, {"index": "cells:nlist=16,nprobe=4"}),
        "cells, nprobe found": (small, 512, {"index": "cells:nlist=16,nprobe=auto", "candidates": 6}),
        "factory": (small, 256, {"index": "factory:SQ8"}),
        "auto, few clusters": (partial(mixture, 300_000, 64), 32, {}),
        "auto": (middle, 256, {}),
        "auto, cosine": (middle, 300, {"metric": "cosine"}),
        "auto, margins, twice the effort": (middle, 300, {"margins": True, "effort": 2.0}),
        "auto, exact labels": (middle, 256, {"exact_labels": True}),
        "auto, weights": (middle, 256, {"weighted": True}),
        "auto, three starts": (middle, 256, {"n_init": 3, "max_iter": 4}),
        "auto, a sample": (middle, 300, {"sample": 0.9}),
        "auto, growing samples": (wide, 64, {}),
        "auto, far from the origin": (far, 256, {"max_iter": 6}),
        "auto, cells": (many, 4096, {}),
        "auto, cells, cosine, weights": (many, 4200, {"metric": "cosine", "weighted": True, "max_iter": 8}),
        "auto, cells, margins": (many, 5000, {"margins": True, "max_iter": 8}),
        "auto, patches": (partial(patches, 3), 100, {}),
        "sparse, flat": (text, 60, {"index": "flat"}),
        "sparse, flat, cosine, weights": (text, 60, {"index": "flat", "metric": "cosine", "weighted": True}),
        "sparse, auto": (text, 500, {}),
        "sparse, auto, margins, weights": (text, 500, {"margins": True, "weighted": True}),
    }
    for policy in ("split", "farthest", "keep"):
        table[f"flat, empty: {policy}"] = (small, 60, {"index": "flat", "empty": policy, "init": "twice"})
    table["auto, empty: split"] = (middle, 300, {"init": "twice"})
    table["auto, empty: farthest"] = (middle, 300, {"init": "twice", "empty": "farthest"})

    def run(x: Any, k: int, options: dict[str, Any]) -> Arrays:
        return fit(x, k, **options | ({"init": twice(x(), k)} if options.get("init") == "twice" else {}))

    return {name: partial(run, *given) for name, given in table.items()}


def streamed(**options: Any) -> Arrays:
    """Centres after batches of several sizes, down to one row."""
    from fastann import KMeans

    x, km, out = mixture(15_000, 32), KMeans(random_state=0, n_jobs=THREADS, **options), {}
    for i, (start, end) in enumerate(((0, 4000), (4000, 4001), (4001, 9000), (9000, 12_000), (12_000, 15_000))):
        km.partial_fit(x[start:end], sample_weight=np.arange(start, end) % 3 if i == 2 else None)
        out |= {f"batch {i} {name}": value for name, value in clustered(km, x[:200]).items()}
    return out


class Cut(BaseException):
    """Ends a fit as a crash would: nothing catches it."""


def stop(error: type[BaseException] | None, after: int) -> Callable[[Any], None]:
    """A callback that ends the fit after some iterations, by an exception or by killing the process."""
    left = iter(range(after))

    def watch(state: Any) -> None:
        if next(left, None) is None:
            if error is None:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                raise error

    return watch


def cut(data: Any, folder: Path, how: type[BaseException] | None, after: int = 3, **options: Any) -> Any:
    """Begin a fit with checkpoints that is cut off; return the estimator that goes on from there."""
    from fastann import KMeans

    given = {"random_state": 0, "n_jobs": THREADS, "checkpoint": folder, "checkpoint_seconds": 0} | options
    try:
        KMeans(**given, callback=stop(how, after)).fit(data)
    except (Cut, KeyboardInterrupt):
        return KMeans(**given)
    raise RuntimeError("the fit was done before it could be cut off")


def resumed(how: type[BaseException], **options: Any) -> Arrays:
    with tempfile.TemporaryDirectory() as folder:
        x = mixture(30_000, 12)
        return clustered(cut(x, Path(folder), how, **options).fit(x), x[:500])


def killed() -> Arrays:
    """Killed in a process of its own, from a float16 file whose remembered rows go to files too."""
    with tempfile.TemporaryDirectory() as folder:
        data, kept = Path(folder) / "rows.npy", Path(folder) / "checkpoints"
        np.save(data, mixture(40_000, 64).astype(np.float16))
        options = {"n_clusters": 256, "max_memory": "183MiB"}  # what it takes at least
        order = {"data": str(data), "folder": str(kept), "options": options}
        command = [sys.executable, "-P", __file__, TREE, "kill", json.dumps(order)]
        code = subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode
        if code != -signal.SIGKILL or not any(kept.iterdir()):
            raise RuntimeError(f"the fit was to be killed after a checkpoint, and ended with code {code}")
        from fastann import KMeans

        km = KMeans(**options, random_state=0, n_jobs=THREADS, checkpoint=kept, checkpoint_seconds=0).fit(str(data))
        return clustered(km, mixture(40_000, 64)[:500])


def formats() -> Arrays:
    """The same rows from files of every format whose library is there."""
    from safetensors.numpy import save_file

    from fastann import KMeans, open_source

    x = mixture(4000, 16)
    n, d = x.shape
    out: Arrays = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "shards").mkdir()
        np.save(folder / "shards/a.npy", x[:1500].astype(np.float16))
        np.save(folder / "shards/b.npy", x[1500:].astype(np.float16))
        np.column_stack([np.full(n, d, "<i4").view("<f4"), x]).astype("<f4").tofile(folder / "x.fvecs")
        (folder / "x.fbin").write_bytes(np.array([n, d], "<i4").tobytes() + x.tobytes())
        (x.view(np.uint32) >> 16).astype(np.uint16).tofile(folder / "x.raw")
        sparse.save_npz(folder / "x.npz", sparse.csr_matrix(np.maximum(x, 0)))
        save_file({"rows": x}, folder / "x.safetensors")
        found: dict[str, dict] = {"shards": {}, "x.fvecs": {}, "x.fbin": {}, "x.npz": {}, "x.safetensors": {}}
        found["x.raw"] = {"dtype": "bfloat16", "d": d}
        try:
            import pyarrow as pa
            from pyarrow import feather, parquet

            table = pa.table({"rows": list(x), "name": [f"row {i}" for i in range(n)]})
            parquet.write_table(table, folder / "x.parquet", row_group_size=900)
            feather.write_feather(table, folder / "x.feather", compression="uncompressed")
            found |= {file: {"column": "rows", "id_column": "name"} for file in ("x.parquet", "x.feather")}
        except ImportError:
            pass
        try:
            import h5py

            with h5py.File(folder / "x.h5", "w") as file:
                file["rows"] = x
            found["x.h5"] = {}
        except ImportError:
            pass
        for file, options in found.items():
            source = str(folder / file)
            km = KMeans(20, random_state=0, n_jobs=THREADS, max_iter=5)
            km.fit(open_source(source, **options) if options else source)
            out |= {f"{file} {name}": value for name, value in clustered(km).items()}
    return out


def written() -> Arrays:
    """What is in a run directory, in exports and in a classifier's folder, byte by byte; of JSON, the names."""
    from fastann import KMeans, PrototypeClassifier, export

    x, y = digits()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        km = KMeans(10, random_state=0, n_jobs=THREADS, margins=True).fit(x)
        km.save(folder / "run")
        PrototypeClassifier(random_state=0, n_jobs=THREADS).fit(x, y).save(folder / "classes")
        for format in ("csv", "npy", "faiss", "faiss-ivf"):
            export(km, folder / f"export-{format}", format)

        def names(value: Any, place: str = "") -> list[str]:
            if isinstance(value, dict):
                return [name for key in value for name in names(value[key], f"{place}.{key}")]
            return [place]

        out: Arrays = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                whole = path.read_bytes()
                json_file = path.suffix == ".json"
                out[str(path.relative_to(folder))] = (
                    names(json.loads(whole)) if json_file else np.frombuffer(whole, "u1")
                )
        return out


def around() -> Arrays:
    """De-duplication and evaluation of a clustering."""
    from fastann import KMeans, dedup, evaluate

    x = mixture(6000, 32)
    x = np.concatenate([x, x[:1500] + 0.02 * mixture(1500, 32)])
    km = KMeans(40, metric="cosine", random_state=0, n_jobs=THREADS).fit(x)
    out: Arrays = {}
    for keep in ("central", "outlying", "first"):
        found = dedup(km, x, threshold=0.95, keep=keep, n_jobs=THREADS)
        out |= {f"{keep} {name}": getattr(found, name) for name in ("kept", "duplicate_of", "similarity", "unchecked")}
    said = evaluate(km, x, sample=2000, retrieval=True, truth=np.arange(len(x)) % 7)
    out |= {"evaluation": said.summary(), "sizes": said.sizes, "retrieval": np.array(said.retrieval)}
    return out | {f"clusters {name}": np.asarray(value) for name, value in said.clusters.items()}


def said() -> Arrays:
    """Help of every command, and what is said to parameters and data that make no sense."""
    from click.testing import CliRunner

    from fastann import IVF, KMeans, PrototypeClassifier, open_source, parse_index
    from fastann.cli import main

    def texts(command: Any, words: list[str]) -> Arrays:
        out = {" ".join(["fastann", *words]): CliRunner().invoke(main, [*words, "--help"]).output}
        for name, below in getattr(command, "commands", {}).items():
            out |= texts(below, [*words, name])
        return out

    x = np.arange(40.0).reshape(20, 2)
    bad: dict[str, Callable[[], Any]] = {
        "nan": lambda: KMeans(2).fit(np.where(x == 3, np.nan, x)),
        "rows": lambda: KMeans(50).fit(x),
        "columns": lambda: KMeans(2).fit(x).predict(x[:, :1]),
        "one dimension": lambda: KMeans(2).fit(x[0]),
        "metric": lambda: KMeans(2, metric="l2").fit(x),
        "index": lambda: parse_index("ivf:nprobes=3"),
        "recall": lambda: KMeans(2, recall=0.9).fit(x),
        "nprobe": lambda: IVF(nprobe=0),
        "search": lambda: KMeans(2).fit(x).set_search(nprobe=3),
        "empty": lambda: KMeans(2, empty="drop").fit(x),
        "init": lambda: KMeans(2, init=x[:3]).fit(x),
        "weights": lambda: KMeans(2).fit(x, sample_weight=-np.ones(20)),
        "device": lambda: KMeans(2, device="tpu").fit(x),
        "zero": lambda: KMeans(2, metric="cosine").fit(np.zeros((5, 2))),
        "sparse": lambda: KMeans(2, index="ivf").fit(sparse.csr_matrix(x)),
        "large": lambda: KMeans(2).fit(x * 1e30),
        "file": lambda: open_source("nowhere.npy"),
        "load": lambda: KMeans.load("nowhere"),
        "classes": lambda: PrototypeClassifier().fit(x, np.zeros(20)),
        "refine": lambda: PrototypeClassifier(refine="yes").fit(x, np.arange(20) % 2),
        "not fitted": lambda: PrototypeClassifier().predict(x),
    }
    out = texts(main, []) | {"fastann indexes": CliRunner().invoke(main, ["indexes"]).output}
    for name, call in bad.items():
        try:
            out[f"refused: {name}"] = f"not at all: {call()}"
        except Exception as error:
            out[f"refused: {name}"] = f"{type(error).__name__}: {error}"
    return out


# --------------------------------------------------------------------- cases of classifiers


def learn(data: Callable[[], tuple[Any, np.ndarray]], batch: int = 0, **options: Any) -> Arrays:
    """Fit a PrototypeClassifier on three quarters of the rows, whole or in batches, and use it on all."""
    from fastann import PrototypeClassifier

    x, y = data()
    end = 3 * x.shape[0] // 4
    model = PrototypeClassifier(**{"random_state": 0, "n_jobs": THREADS} | options)
    if not batch:
        model.fit(x[:end], y[:end])
    for start in range(0, end if batch else 0, batch or 1):
        part = slice(start, min(end, start + batch))
        model.partial_fit(x[part], y[part])
    return classified(model, x[end - 500 :])


def _classifiers() -> dict[str, Callable[[], Arrays]]:
    dense, text = partial(classes, 9000, 48, 60), partial(documents, 8000, 3000, 40)
    table: dict[str, tuple[Any, int, dict[str, Any]]] = {
        "softmax": (digits, 0, {"refine": "softmax"}),
        "auto": (dense, 0, {}),
        "euclidean": (dense, 0, {"metric": "euclidean", "refine": "softmax", "init": "random"}),
        "soft, linear": (dense, 0, {"assignment": "soft", "refine": "none"}),
        "soft, softmax": (dense, 0, {"assignment": "soft", "scores": "softmax", "metric": "euclidean"}),
        "sizes chosen, merged": (dense, 0, {"n_prototypes": "auto", "relative_merge": 0.6, "min_weight": 3.0}),
        "float16, truncated": (digits, 0, {"dtype": "float16", "truncation_threshold": 0.02, "reject_below": 0.8}),
        "bfloat16": (digits, 0, {"dtype": "bfloat16", "shrinkage": 2.0}),
        "strings": (lambda: (digits()[0], digits()[1].astype(str)), 0, {"n_prototypes": 1, "refine": "none"}),
        "many classes": (partial(classes, 24_000, 24, 2500), 0, {"refine": "none"}),
        "stream": (dense, 700, {}),
        "stream, row by row": (lambda: tuple(part[:400] for part in digits()), 1, {"metric": "euclidean"}),
        "stream, float16": (digits, 100, {"dtype": "float16"}),
        "sparse": (text, 0, {}),
        "sparse, softmax, truncated": (text, 0, {"refine": "softmax", "truncation_threshold": 0.01}),
        "sparse, soft": (text, 0, {"assignment": "soft", "refine": "none", "metric": "euclidean"}),
        "sparse, stream": (text, 500, {}),
    }
    return {f"classifier, {name}": partial(learn, x, batch, **given) for name, (x, batch, given) in table.items()}


def cases() -> dict[str, Callable[[], Arrays]]:
    """All that is compared, by name."""
    return {
        **_fits(),
        "stream": partial(streamed, n_clusters=40),
        "stream, cosine": partial(streamed, n_clusters=40, metric="cosine"),
        "stream, ivf, decay": partial(streamed, n_clusters=200, index="ivf:nlist=8", decay=0.9),
        "cut off, flat": partial(resumed, Cut, n_clusters=80, index="flat", max_iter=8),
        "cut off, auto": partial(resumed, Cut, n_clusters=1500, max_iter=9),
        "cut off by Ctrl-C, ivf": partial(resumed, KeyboardInterrupt, n_clusters=100, index="ivf:nprobe=auto"),
        "cut off, second start": partial(resumed, Cut, after=6, n_clusters=1500, max_iter=4, n_init=2, metric="cosine"),
        "killed, from a file": killed,
        "files": formats,
        "run directories": written,
        "dedup and evaluate": around,
        "texts": said,
        **_classifiers(),
    }  # fmt: skip


# --------------------------------------------------------------------- what one build leaves and another finds


def leave(folder: Path) -> None:
    """Save models, pickle them, and begin two fits that are cut off, one by the command line."""
    from fastann import KMeans, PrototypeClassifier

    x, y = digits()
    np.save(folder / "rows.npy", mixture(40_000, 12))
    km = KMeans(300, index="ivf:nlist=8", margins=True, random_state=0, n_jobs=THREADS).fit(str(folder / "rows.npy"))
    km.save(folder / "run")
    model = PrototypeClassifier(random_state=0, n_jobs=THREADS).fit(x, y)
    model.save(folder / "classes")
    for name, estimator in (("KMeans", km), ("PrototypeClassifier", model)):
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(estimator))
    cut(mixture(30_000, 12), folder / "checkpoints", Cut, n_clusters=1500, max_iter=9)
    command = ["fit", str(folder / "rows.npy"), *BEGUN, "--out", str(folder / "begun"), "--jobs", str(THREADS)]
    child = subprocess.Popen([sys.executable, "-P", "-m", "fastann.cli", *command], stdout=subprocess.DEVNULL)
    while child.poll() is None and not any(p.name >= "000003" for p in (folder / "begun/checkpoints").glob("0*")):
        time.sleep(0.005)
    child.kill()
    if child.wait() != -signal.SIGKILL:
        raise RuntimeError("`fastann fit` was done before it could be killed")


def find(folder: Path) -> dict[str, Callable[[], Arrays]]:
    """What the same or another build makes of what was left."""
    from fastann import KMeans, PrototypeClassifier

    (x, y), rows = digits(), mixture(40_000, 12)

    def going_on() -> Arrays:
        model = PrototypeClassifier.load(folder / "classes")
        return classified(model.partial_fit(x[:300] + 0.5, y[:300]), x[:500])

    def resume() -> Arrays:
        command = ["fit", "--resume", str(folder / "begun"), "--quiet", "--jobs", str(THREADS)]
        subprocess.run([sys.executable, "-P", "-m", "fastann.cli", *command], check=True, stdout=subprocess.DEVNULL)
        return clustered(KMeans.load(folder / "begun"), rows[:500])

    def checkpoints() -> Arrays:
        km = KMeans(1500, max_iter=9, checkpoint=folder / "checkpoints", random_state=0, n_jobs=THREADS)
        return clustered(km.fit(mixture(30_000, 12)), rows[:500])

    def unpickled(name: str) -> Arrays:
        try:
            model = pickle.loads((folder / f"{name}.pickle").read_bytes())
        except Exception as error:
            return {"refused": f"{type(error).__name__}: {error}"}
        return clustered(model, rows[:500]) if name == "KMeans" else classified(model, x[:500])

    return {
        "found: run": lambda: clustered(KMeans.load(folder / "run"), rows[:500]),
        "found: stream after a run": lambda: clustered(KMeans.load(folder / "run").partial_fit(rows[:999]), rows[:500]),
        "found: classifier": lambda: classified(PrototypeClassifier.load(folder / "classes"), x[:500]),
        "found: stream after a classifier": going_on,
        "found: checkpoints": checkpoints,
        "found: a killed `fastann fit`": resume,
        "found: pickled KMeans": lambda: unpickled("KMeans"),
        "found: pickled PrototypeClassifier": lambda: unpickled("PrototypeClassifier"),
    }


def record(todo: dict[str, Callable[[], Arrays]], wanted: list[str], out: Path) -> None:
    """Run cases whose name contains one of `wanted` (all, if there is none); each leaves arrays in a file.

    Warnings are part of a result, and so is an error, which the comparison counts as a failure.
    """
    for number, (name, case) in enumerate(todo.items()):
        if wanted and not any(part in name for part in wanted):
            continue
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                found = case()
            except ImportError as error:
                found = {"skipped": str(error)}
            except Exception as error:
                found = {"failed": f"{type(error).__name__}: {error}"}
        users = [f"{w.category.__name__}: {w.message}" for w in heard if issubclass(w.category, UserWarning)]
        arrays = {key: np.asarray(value) for key, value in (found | {"warnings": users}).items()}
        with open(out / f"{number:03d}.pickle", "wb") as file:
            pickle.dump((name, arrays), file)


# --------------------------------------------------------------------- work that is timed


@dataclasses.dataclass(frozen=True)
class Timed:
    """What is timed: a kind of work on some data.

    `file` is where the real rows lie in a folder of data; `make` makes some of the same shape up. Divided by
    `--shrink`, sizes show that everything works.
    """

    work: str
    make: Callable[[int], Any]
    file: str | None = None
    k: int = 0
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def unit(n: int, d: int, shrink: int) -> np.ndarray:
    x = mixture(n // shrink, d, components=4000)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def made_classes(shrink: int) -> dict[str, np.ndarray]:
    x, y = classes(20_000 // shrink, 384, 150)
    return {"x_train": x, "y_train": y}


EXACT = {"index": "flat", "init": "random", "max_iter": 10, "tol": 0}
PHOTO: dict[str, Any] = {"make": lambda shrink: patches()[::shrink]}
SENTENCES: dict[str, Any] = {"make": partial(unit, 117_659, 384), "file": "wordnet_117k_384.f16.npy"}
TOKENS: dict[str, Any] = {"make": partial(unit, 300_000, 128), "file": "tokens_300k_128.f16.npy"}
CLASSES: dict[str, Any] = {"make": made_classes, "file": "clinc150_minilm384.npz"}
TIMED = {
    "patches, 16": Timed("fit", **PHOTO, k=16),
    "patches, 100": Timed("fit", **PHOTO, k=100),
    "patches, 1,000": Timed("fit", **PHOTO, k=1000),
    "patches, 8,192": Timed("fit", **PHOTO, k=8192),
    "sentences, 1,024": Timed("fit", **SENTENCES, k=1024),
    "tokens, 8,192": Timed("fit", **TOKENS, k=8192),
    "patches, 100, flat, 10 iterations": Timed("fit", **PHOTO, k=100, options=EXACT),
    "sentences, 1,024, flat, 10 iterations": Timed("fit", **SENTENCES, k=1024, options=EXACT),
    "predict sentences, 16,384": Timed("predict", **SENTENCES, k=16_384),
    "sparse, 100, flat, 10 iterations": Timed(
        "fit", lambda shrink: documents(20_000 // shrink, 20_000, 200)[0], k=100, options=EXACT
    ),
    "40 small fits and predictions": Timed("small fits", lambda shrink: digits()[0]),
    "stream, 200 batches of 1,000": Timed("stream", **TOKENS, k=100),
    "classifier": Timed("classify", **CLASSES),
    "classifier, sparse": Timed("classify sparse", lambda shrink: documents(12_000 // shrink, 9000, 150)),
    "classifier, 1,000 batches of 16": Timed("classify stream", **CLASSES),
}


def prepare(name: str, folder: Path, shrink: int, real: str | None) -> None:
    """Write the rows of a case, real ones if there is a folder of such, made-up ones else."""
    case = TIMED[name]
    if real is None or case.file is None:
        x = case.make(shrink)
    elif case.file.endswith(".npz"):
        with np.load(Path(real) / case.file) as held:
            x = {part: held[part][::shrink] for part in ("x_train", "y_train")}
    else:
        x = np.load(Path(real) / case.file)[::shrink]
    if isinstance(x, dict):
        order = np.random.default_rng(0).permutation(len(x["y_train"]))  # by class as they come: the last are unseen
        x = (x["x_train"][order].astype(np.float32), x["y_train"][order])
    x = x.astype(np.float32) if isinstance(x, np.ndarray) else x
    with open(folder / "rows.pickle", "wb") as file:
        pickle.dump(x, file, protocol=5)


def measure(name: str, folder: Path, shrink: int) -> dict[str, float | None]:
    """Seconds of a case in this process, which is warm, and inertia per row, or accuracy, of what came of it."""
    from fastann import KMeans, PrototypeClassifier

    with open(folder / "rows.pickle", "rb") as file:
        x = pickle.load(file)
    case, given = TIMED[name], {"random_state": 0, "n_jobs": THREADS}
    k = max(2, case.k // shrink)

    def fit(rows: Any, k: int, **more: Any) -> float:
        return KMeans(k, **given | case.options | more).fit(rows).inertia_ / rows.shape[0]

    def few_times(rows: Any, times: int) -> float:
        done = [KMeans(10, **given | {"random_state": seed}).fit(rows) for seed in range(times)]
        return sum(-km.score(rows) / len(rows) for km in done) / times

    def stream(rows: Any, batches: int) -> float:
        km = KMeans(k, **given)
        for i in range(batches):
            start = 1000 * i % max(1, len(rows) - 1000)
            km.partial_fit(rows[start : start + 1000])
        return -km.score(rows[:5000]) / len(rows[:5000])

    def classify(rows: Any, labels: np.ndarray) -> float:
        end = 4 * rows.shape[0] // 5
        return PrototypeClassifier(**given).fit(rows[:end], labels[:end]).score(rows[end:], labels[end:])

    def classify_stream(rows: Any, labels: np.ndarray, batches: int) -> float:
        model = PrototypeClassifier(**given)
        for i in range(batches):
            start = 16 * i % max(1, len(rows) - 1016)
            model.partial_fit(rows[start : start + 16], labels[start : start + 16])
        return model.score(rows[-1000:], labels[-1000:])

    work: Callable[[], float | None]
    if case.work == "fit":  # a smaller fit loads, and compiles, all that the fit will use
        few = min(k, 4096)
        n = max(4 * few, 16_384, min(200_000, 2**30 // (few * x.shape[1]) + 1))
        fit(x[:n], few, max_iter=3)
        work = partial(fit, x, k)
    elif case.work == "predict":
        few = max(2, min(k, len(x) // 2))
        km = KMeans(few, **given, init=x[:few], max_iter=1, sample=min(len(x), 2 * few)).fit(x)
        km.predict(x[:1000])

        def work() -> None:
            for _ in range(3):
                km.predict(x)
    elif case.work == "small fits":
        few_times(x, 1)
        work = partial(few_times, x, 40 // shrink or 1)
    elif case.work == "stream":
        stream(x, 3)
        work = partial(stream, x, 200 // shrink or 1)
    elif case.work == "classify stream":
        classify_stream(*x, 3)
        work = partial(classify_stream, *x, 1000 // shrink or 1)
    else:
        classify(x[0][:2000], x[1][:2000])
        work = partial(classify, *x)
    gc.collect()
    clock = time.perf_counter()
    quality = work()
    return {"seconds": time.perf_counter() - clock, "quality": quality}


def main() -> None:
    """One step of `bench.builds`, in this process."""
    global TREE, THREADS
    TREE, step, order = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    THREADS = int(os.environ["OMP_NUM_THREADS"])
    import fastann

    (home,) = list(fastann.__path__)[:1]  # without the tree, what is left of an installation has no file
    if Path(home).resolve().parent != Path(TREE).resolve():
        sys.exit(f"fastann was imported from {home}, which does not lie in {TREE}")
    if step == "same":
        record(cases(), order["cases"], Path(order["out"]))
    elif step == "leave":
        leave(Path(order["folder"]))
    elif step == "find":
        record(find(Path(order["folder"])), [], Path(order["out"]))
    elif step == "kill":
        cut(order["data"], Path(order["folder"]), None, **order["options"])
    elif step == "prepare":
        prepare(order["case"], Path(order["folder"]), order["shrink"], order["real"])
    elif step == "time":
        print(json.dumps(measure(order["case"], Path(order["folder"]), order["shrink"])))


if __name__ == "__main__":
    main()

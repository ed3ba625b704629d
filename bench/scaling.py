"""How the automatic engine's time grows with k and n, where it spends it, and how fast its model predicts.

python -m bench.scaling [--data FILE.npy] [--rows 250000]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from fastann import KMeans
from fastann.index.own import FlatIndex


def data(path: str | None, rows: int) -> np.ndarray:
    """Rows of a file, or a power-law mixture on the unit sphere: float32 [rows, 384]."""
    if path is not None:
        return np.load(path)[:rows].astype(np.float32)
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((20_000, 384), dtype="f")
    share = np.arange(1, 20_001) ** -0.6
    x = centers[rng.choice(20_000, rows, p=share / share.sum())]
    x += 0.9 * centers[rng.integers(20_000, size=rows)]
    x += 0.5 * rng.standard_normal(x.shape, dtype="f")
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def timed(x: np.ndarray, k: int) -> tuple[float, KMeans]:
    """Seconds of a fit, and the model."""
    clock = time.perf_counter()
    km = KMeans(k, random_state=0).fit(x)
    return time.perf_counter() - clock, km


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    parser.add_argument("--rows", type=int, default=250_000)
    args = parser.parse_args()
    x = data(args.data, args.rows)
    for k in (1500, 4200):
        timed(x[:30_000], k)  # compile
    before = 0.0
    print(f"k at {len(x):,} x {x.shape[1]}: seconds (iterations), ratio to half the k, seconds by phase")
    for k in (1024, 2048, 4096, 8192, 16384, 32768):
        seconds, km = timed(x, k)
        phases = {p: round(sum(r.seconds[p] for r in km.history_), 2) for p in ("build", "assign", "update")}
        ratio = f"{seconds / before:.2f}x" if before else ""
        print(f"{k:6}  {seconds:6.2f} ({km.n_iter_})  {ratio:6} {phases}, recall {km.assignment_recall_:.4f}")
        before = seconds
        if k == 16384:
            predicting(km, x[:50_000])
    before = 0.0
    print("n at k=4,096: seconds, ratio to half the n")
    for n in (len(x) // 8, len(x) // 4, len(x) // 2, len(x)):
        seconds, km = timed(x[:n], 4096)
        print(f"{n:8}  {seconds:6.2f} ({km.n_iter_})  {f'{seconds / before:.2f}x' if before else ''}")
        before = seconds


def predicting(km: KMeans, x: np.ndarray) -> None:
    """Predict through the model's index, and by flat search with FAISS and with this package."""
    import faiss

    km.predict(x[:2000])
    clock = time.perf_counter()
    labels = km.predict(x)
    ours = time.perf_counter() - clock
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(km.cluster_centers_)
    clock = time.perf_counter()
    index.search(x, 1)
    flat = time.perf_counter() - clock
    clock = time.perf_counter()
    exact = FlatIndex(km.cluster_centers_).search(x, 1)[0][:, 0]
    own = time.perf_counter() - clock
    print(
        f"        predict: {flat / ours:.1f}x faster than faiss.IndexFlatL2 and {own / ours:.1f}x than this package's "
        f"flat search, recall@1 {(labels == exact).mean():.4f}"
    )


if __name__ == "__main__":
    main()

"""Exact assignment against faiss.Kmeans: the same iterations on all rows, each run in its own process.

python -m bench.flat [--repeats 5] [--wordnet FILE.npy]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ITERATIONS = 10


def load(name: str) -> np.ndarray:
    if name == "patches":
        from fastann.data.patches import patches

        return patches()
    return np.load(name).astype(np.float32)


def run(method: str, data: str, k: int, seed: int) -> dict:
    """Time one method, warm, in this process; inertia is recomputed in float64 over all rows."""
    x = load(data)
    start = np.ascontiguousarray(x[np.random.default_rng(seed).choice(len(x), k, replace=False)])

    def fastann(rows: np.ndarray, iterations: int) -> np.ndarray:
        from fastann import KMeans

        return KMeans(k, index="flat", init=start, max_iter=iterations, tol=0).fit(rows).cluster_centers_

    def faiss(rows: np.ndarray, iterations: int) -> np.ndarray:
        import faiss

        km = faiss.Kmeans(rows.shape[1], k, niter=iterations, max_points_per_centroid=10**9, seed=seed)
        km.train(rows, init_centroids=start)
        return km.centroids

    fit = {"fastann": fastann, "faiss": faiss}[method]
    fit(x[: 4 * k], 1)
    clock = time.perf_counter()
    centers = fit(x, ITERATIONS)
    seconds = time.perf_counter() - clock
    return {"method": method, "data": data, "k": k, "seed": seed, "seconds": seconds, "inertia": inertia(x, centers)}


def inertia(x: np.ndarray, centers: np.ndarray) -> float:
    """Mean squared distance to the nearest centre, float64."""
    c = centers.astype(np.float64)
    total = 0.0
    for i in range(0, len(x), 4096):
        block = x[i : i + 4096].astype(np.float64)
        near = ((c * c).sum(1) - 2 * block @ c.T).argmin(1)
        total += ((block - c[near]) ** 2).sum()
    return total / len(x)


def main() -> None:
    """Interleave the methods and print the ratio of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--wordnet", default="../shared/data/wordnet_117k_384.f16.npy")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        method, data, k, seed = args.one
        print(json.dumps(run(method, data, int(k), int(seed))))
        return
    cases = [("patches", 100)] + ([(args.wordnet, 1024)] if Path(args.wordnet).exists() else [])
    for data, k in cases:
        seconds: dict[str, list[float]] = {"fastann": [], "faiss": []}
        quality: dict[str, list[float]] = {"fastann": [], "faiss": []}
        for seed in range(args.repeats):
            for method in seconds:
                command = [sys.executable, "-m", "bench.flat", "--one", method, data, str(k), str(seed)]
                record = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                seconds[method].append(record["seconds"])
                quality[method].append(record["inertia"])
        ratio = [b / a for a, b in zip(seconds["fastann"], seconds["faiss"], strict=True)]
        print(
            f"{Path(data).name}, k={k}, {ITERATIONS} iterations: fastann "
            f"{statistics.median(seconds['fastann']):.2f} s, faiss.Kmeans {statistics.median(seconds['faiss']):.2f} s, "
            f"{statistics.median(ratio):.2f}x faster (pairs {min(ratio):.2f} to {max(ratio):.2f}), mean inertia "
            f"{np.mean(quality['fastann']):.5f} and {np.mean(quality['faiss']):.5f}"
        )


if __name__ == "__main__":
    main()

"""Rows that belong nowhere: trimmed k-means beside scikit-learn's detectors of outliers.

python -m bench outliers [--parts planted,example,clean,share,reject,speed] [--seeds 20] [--small]

planted: mixtures with 5%, 10% and 20% of outliers, uniform, in a far cluster, or of heavy tails. All methods are told
the share. F1 of the rows found, and errors of centres as a multiple of those of k-means on the clean rows.
example: 9,500 standard normal rows and 500 five times as wide, of 128 columns, beside robust scaling with an envelope.
clean: no outliers; what trim=0.05 costs in inertia of the rows that stay, and in time beside the automatic mode.
share: the share that trim="auto" finds. reject: rows of the same law that reject=0.99 rejects. speed: seconds beside
LocalOutlierFactor.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from bench.harness import (
    Record,
    about,
    do,
    done,
    grouped,
    markdown,
    median,
    middle,
    names,
    parsed,
    parser,
    publish,
    reasons,
    run_all,
    task,
)

KINDS, SHARES, COLUMNS = ("uniform", "far", "heavy"), (0.05, 0.1, 0.2), (2, 32, 384)
K, ROWS = 5, 2000
SMALL = {"seeds": 1, "columns": "2", "rows": 300, "many": 3000}


# --------------------------------------------------------------------- rows


def centres_of(d: int, rng: np.random.Generator) -> np.ndarray:
    """Five centres at least eight deviations from each other."""
    while True:
        centres = rng.standard_normal((K, d)) * max(6.0, 12 / np.sqrt(d))
        gaps = np.linalg.norm(centres[:, None] - centres, axis=2) + 1e9 * np.eye(K)
        if gaps.min() > 8:
            return centres


def planted(kind: str, share: float, d: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (float32 [n, d]), which are outliers, and the centres of the others."""
    rng = np.random.default_rng([seed, d])
    centres, m = centres_of(d, rng), round(share * n)
    x = centres[rng.integers(K, size=n)] + rng.standard_normal((n, d))
    if kind == "uniform":
        low, high = x.min(axis=0), x.max(axis=0)
        x[:m] = rng.uniform(low - (high - low), high + (high - low), (m, d))
    elif kind == "far":
        way = rng.standard_normal(d)
        reach = 4 * np.linalg.norm(centres - centres.mean(axis=0), axis=1).max()
        x[:m] = centres.mean(axis=0) + reach * way / np.linalg.norm(way) + rng.standard_normal((m, d))
    elif kind == "heavy":
        x[:m] = centres[rng.integers(K, size=m)] + 8 * rng.standard_t(2, (m, d))
    order = rng.permutation(n)
    return x[order].astype(np.float32), (np.arange(n) < m)[order], centres


def error(found: np.ndarray, centres: np.ndarray) -> float:
    """Root of the summed squared distances of centres to those they are matched with."""
    square = ((centres[:, None] - found[None]) ** 2).sum(axis=2)
    return float(np.sqrt(square[linear_sum_assignment(square)].sum()))


def f1(truth: np.ndarray, found: np.ndarray) -> float:
    """Harmonic mean of precision and recall."""
    return float(2 * (truth & found).sum() / max(1, truth.sum() + found.sum()))


# --------------------------------------------------------------------- what is measured


def detectors(share: float, seed: int) -> dict[str, Any]:
    """scikit-learn's, told the share."""
    from sklearn.covariance import EllipticEnvelope
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor

    return {
        "envelope": EllipticEnvelope(contamination=share, random_state=seed),
        "forest": IsolationForest(contamination=share, random_state=seed),
        "factor": LocalOutlierFactor(contamination=share),
    }


def measure_planted(order: Record) -> Record:
    """Find planted rows by all methods."""
    from fastann import KMeans

    share, seed = order["share"], order["seed"]
    x, truth, centres = planted(order["kind"], share, order["columns"], order["rows"], seed)
    clean, plain = (KMeans(K, random_state=seed).fit(rows) for rows in (x[~truth], x))
    trimmed = KMeans(K, trim=share, random_state=seed).fit(x)
    twice = KMeans(K, outlier_threshold=2.0, random_state=seed).fit(x)
    found = {"trimmed": ~trimmed.inlier_mask_, "threshold": ~twice.inlier_mask_}
    for name, detector in detectors(share, seed).items():
        if name != "envelope" or order["columns"] <= order["rows"] // 5:
            found[name] = detector.fit_predict(x) == -1
    least = error(clean.cluster_centers_, centres)
    return {
        **{name: f1(truth, rows) for name, rows in found.items()},
        "centres": error(trimmed.cluster_centers_, centres) / least,
        "plain": error(plain.cluster_centers_, centres) / least,
    }


def measure_example(order: Record) -> Record:
    """Find the wide rows of the example, by trimmed k-means and by the usual recipe."""
    from fastann import robust_pipeline

    rng = np.random.default_rng(order["seed"])
    n = order["rows"] * 5
    m = n // 20
    x = rng.standard_normal((n, 8 if order["small"] else 128), dtype=np.float32)
    x[:m] *= 5
    truth, out = np.arange(n) < m, {}
    for name, envelope in (("trimmed", False), ("recipe", True)):
        began = time.perf_counter()
        model = robust_pipeline(8, contamination=0.05, envelope=envelope, random_state=order["seed"]).fit(x)
        out |= {name: f1(truth, ~model.inlier_mask_), f"{name}_seconds": time.perf_counter() - began}
    return out


def measure_clean(order: Record) -> Record:
    """Fit rows without outliers, with and without trimming; fits take turns, and the median of five is taken.

    Seconds of the processor tell more than those of the clock where the machine is busy.
    """
    from fastann import KMeans

    seed = order["seed"]
    rng = np.random.default_rng(seed)
    k = 100
    centres = 4 * rng.standard_normal((k, 32))
    x = (centres[rng.integers(k, size=order["many"])] + rng.standard_normal((order["many"], 32))).astype(np.float32)
    seconds: dict[float, list[tuple[float, float]]] = {0.0: [], 0.05: []}
    models = {}
    for _ in range(1 + 5):
        for trim, spent in seconds.items():
            began, busy = time.perf_counter(), time.process_time()
            models[trim] = KMeans(k, trim=trim, random_state=seed).fit(x)
            spent.append((time.perf_counter() - began, time.process_time() - busy))
    plain, trimmed = (np.median(spent[1:], axis=0) for spent in seconds.values())
    inside = models[0.05].inlier_mask_
    square = [float((models[trim].distances_[inside].astype(float) ** 2).sum()) for trim in seconds]
    clock, processor = (trimmed / plain).tolist()
    return {"inertia": square[1] / square[0] - 1, "time": clock, "busy": processor, "plain_seconds": float(plain[0])}


def measure_share(order: Record) -> Record:
    """Have the share found."""
    from fastann import KMeans

    x, truth, _ = planted(order["kind"], order["share"], order["columns"], order["rows"], order["seed"])
    with_outliers, without = (KMeans(K, trim="auto", random_state=order["seed"]).fit(r) for r in (x, x[~truth]))
    return {"off": abs(with_outliers.trim_ - order["share"]), "clean": without.trim_}


def measure_reject(order: Record) -> Record:
    """Reject fresh rows of the same law."""
    from fastann import KMeans

    d, seed = order["columns"], order["seed"]
    x, _, _ = planted("none", 0.0, d, order["rows"] + (2000 if order["small"] else 100_000), seed)
    km = KMeans(K, random_state=seed).fit(x[: order["rows"]])
    return {"rejected": float((km.predict(x[order["rows"] :], reject=0.99) == -1).mean())}


def measure_speed(order: Record) -> Record:
    """Seconds of trimmed k-means and of LocalOutlierFactor on the same rows."""
    from sklearn.neighbors import LocalOutlierFactor

    from fastann import KMeans

    x, truth, _ = planted("uniform", 0.05, 32, order["many"], order["seed"])
    KMeans(K, trim=0.05, random_state=0).fit(x[:2000])
    began = time.perf_counter()
    mine = ~KMeans(K, trim=0.05, random_state=order["seed"]).fit(x).inlier_mask_
    between = time.perf_counter()
    theirs = LocalOutlierFactor(contamination=0.05, n_jobs=order["threads"]).fit_predict(x) == -1
    ended = time.perf_counter()
    ratio = (between - began) / (ended - between)
    return {"ratio": ratio, "seconds": between - began, "trimmed": f1(truth, mine), "factor": f1(truth, theirs)}


PARTS = {
    "planted": measure_planted,
    "example": measure_example,
    "clean": measure_clean,
    "share": measure_share,
    "reject": measure_reject,
    "speed": measure_speed,
}
ONE = {"planted": 0, "example": 5, "clean": 3, "share": 0, "reject": 0, "speed": 1}  # seeds at most; 0: as asked for


@task
def one(order: Record) -> Record:
    """Do one run: that of the order's part."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")
        return PARTS[order["part"]](order)


def orders(args: argparse.Namespace) -> Iterator[tuple[str, Record]]:
    """All runs."""
    where = about(args) | {"rows": args.rows, "many": args.many}
    columns = [int(d) for d in args.columns.split(",")]
    for part in args.parts:
        kinds, shares = (KINDS, SHARES) if part in ("planted", "share") else (("none",), (0.0,))
        wide = columns if part in ("planted", "share", "reject") else [0]
        for seed in range(min(args.seeds, ONE[part] or args.seeds)):
            for kind, share, d in ((kind, share, d) for kind in kinds for share in shares for d in wide):
                order = {"part": part, "kind": kind, "share": share, "columns": d, "seed": seed}
                yield f"{part}_{kind}_{share:g}_d={d}_seed={seed}", order | where


# --------------------------------------------------------------------- report

SHOWN = {"trimmed": "trimmed", "threshold": "2 x mean", "envelope": "envelope", "forest": "forest", "factor": "factor"}


def report_planted(records: list[Record]) -> str:
    """F1 of all methods, and errors of centres."""
    lines = []
    for (kind, share, d), rows in grouped(records, "kind", "share", "columns").items():
        cells = [middle([r for r in rows if name in r], name, "{:.3f}".format) for name in SHOWN]
        ratios = [middle(rows, name, "{:.3f}".format) for name in ("centres", "plain")]
        lines.append([f"{kind}, {share:.0%}, {d} columns", *cells, *ratios])
    head = ["outliers", *(f"F1 {shown}" for shown in SHOWN.values()), "centres, trimmed", "centres, plain"]
    best = sum(r["trimmed"] >= max(r.get(name, 0) for name in ("envelope", "forest", "factor")) for r in records)
    close = sum(r["centres"] <= 1.05 for r in records)
    told = f"Trimmed finds at least as many as the best detector in {best} of {len(records)} runs, and its centres are "
    return f"{markdown(head, lines)}\n\n{told}within 1.05 of those of the clean rows in {close}."


def report_rest(part: str, records: list[Record]) -> str:
    """A sentence on each of the other parts."""
    if part == "share":
        near, zero = (sum(r[name] <= most for r in records) for name, most in (("off", 0.02), ("clean", 0)))
        return f"The share found is within 2 points in {near} of {len(records)}, and 0 without outliers in {zero}."
    if part == "example":
        found = [
            f"{name}: F1 {middle(records, name)}, {middle(records, f'{name}_seconds')} s"
            for name in ("trimmed", "recipe")
        ]
        return "; ".join(found)
    if part == "clean":
        rise = middle(records, "inertia", "{:.2%}".format)
        ratio, busy = (middle(records, name, "{:.2f}".format) for name in ("time", "busy"))
        told = f"inertia of the rows that stay {rise} higher, {ratio} times as long, {busy} of the processor's seconds"
        return f"trim=0.05 on rows without outliers: {told}."
    if part == "reject":
        rejected = np.array([r["rejected"] for r in records])
        near = int((np.abs(rejected - 0.01) <= 0.003).sum())
        told = f"{rejected.mean():.2%} in the mean, 0.7% to 1.3% in {near} of {len(records)} runs"
        return f"Rejected at 0.99: {middle(records, 'rejected', '{:.2%}'.format)}; {told}."
    return f"{median(records, 'ratio'):.3f} times the seconds of LocalOutlierFactor on {records[0]['many']:,} rows."


def report(args: argparse.Namespace, records: list[Record]) -> None:
    """Print tables from the JSON files alone, and write them beside these."""
    parts = []
    for part, rows in grouped(records, "part").items():
        ended = done(rows)
        text = "" if not ended else report_planted(ended) if part == "planted" else report_rest(part, ended)
        parts.append("\n\n".join(filter(None, [f"## {part}", text, reasons(lambda r: r["part"], rows)])))
    publish(args.out, records, "# Outliers", parts)


def main(argv: list[str]) -> None:
    """Command line."""
    options = parser("outliers", __doc__, seeds=20)
    options.add_argument("--parts", default=",".join(PARTS), help=f"by commas, of {', '.join(PARTS)}")
    options.add_argument("--columns", default=",".join(map(str, COLUMNS)), help="by commas")
    options.add_argument(
        "--rows", type=int, default=ROWS, help="of planted, share and reject; five times that in example"
    )
    options.add_argument("--many", type=int, default=100_000, help="rows of clean and speed")
    args = parsed("outliers", options, argv, SMALL)
    args.parts = names(args.parts, PARTS, "part")
    do(args, lambda args: run_all(one, orders(args), args, lambda record: "done"), report)

"""How far rows are from their centres: the tail of the distances, the farthest rows, and planted outliers found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks
from fastann.quality.metrics import Clusters, Findings

LEVELS = (0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 1.0)  # shares of the rows that the tail is told at
FARTHEST = 20  # rows listed


def planted(given: Any, n: int) -> np.ndarray:
    """Which rows are known to be outliers, bool [n], from an array of booleans or of 0 and 1, or a .npy file of such.

    Raises
    ------
    ValueError, FileNotFoundError
        If that is something else, or of another length.
    """
    if isinstance(given, str | os.PathLike):
        given = checks.npy_file(Path(given).expanduser())
    mask = np.asarray(checks.unmasked(given, "outliers"))
    if mask.shape != (n,) or mask.dtype.kind not in "biu" or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"outliers have dtype {mask.dtype} and shape {mask.shape}; True (or 1) for each row that is one, else "
            f"False, of shape ({n},), is needed"
        )
    return mask.astype(bool)


def check_planted(model: Any) -> None:
    """Refuse what says nothing of outliers."""
    if model is None or model.clustering_.outliers is None:
        what = "labels say" if model is None else "this model says"
        raise ValueError(
            f"outliers are compared with the rows that a fit leaves out, of which {what} nothing; pass a "
            "fastann.KMeans that was fitted with trim or outlier_threshold"
        )


def measure_outliers(
    c: Clusters, own: np.ndarray, model: Any, truth: np.ndarray | None, out: Findings
) -> dict[str, Any]:
    """The tail of the distances of rows to their centres, and how well known outliers are found.

    Parameters
    ----------
    c : Clusters
    own : float64 [n]
        Squared L2 distances of the rows to their centres.
    model : KMeans or None
    truth : bool [n] or None
        Rows that are outliers.
    out : Findings

    Returns
    -------
    dict
        ``levels`` and the ``distances`` that these shares of the rows are within; ``threshold`` of the model or None;
        ``rows``, the farthest ones by number, ``ids`` by name or number, ``far``, how far, and ``clusters``.
    """
    distances = np.asarray(c.space.distance(own))
    threshold = None if model is None or model.clustering_.outliers is None else float(model.threshold_)
    if threshold is not None:
        found = distances.astype(np.float32) > threshold
        out.put("left_out", found.mean())
        if found.any() and not found.all():
            kept = own[~found].mean()
            out.notes.append(f"The inertia a row is the mean of all rows; of those not left out it is {kept:.5g}.")
        if truth is not None:
            right = float((found & truth).sum())
            out.put("outlier_recall", right / truth.sum() if truth.any() else np.nan)
            out.put("outlier_precision", right / found.sum() if found.any() else np.nan)
            for name in ("outlier_recall", "outlier_precision"):
                if np.isnan(out.values[name]):
                    del out.values[name]
            if not (truth.any() and found.any()):
                which = "known" if not truth.any() else "found"
                out.notes.append(f"No outlier is {which}, so there is no share of them.")
    count = min(FARTHEST, len(distances))
    far = np.argpartition(-distances, count - 1)[:count]
    far = far[np.argsort(-distances[far], kind="stable")]
    ids = c.view.ids()
    return {
        "levels": list(LEVELS),
        "distances": np.quantile(distances, LEVELS).tolist(),
        "threshold": threshold if threshold is not None and np.isfinite(threshold) else None,
        "rows": far.tolist(),
        "ids": (far if ids is None else ids[far]).tolist(),
        "far": distances[far].tolist(),
        "clusters": c.used[c.labels[far]].tolist(),
    }

"""Rows and centroids in two or three dimensions, for a map."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastann.quality.metrics import LIMITS, Clusters, Limits, draw

METHODS, COMPONENTS = ("pca", "tsne", "umap"), (2, 3)


def draw_map(
    c: Clusters, picks: np.ndarray, method: str, seed: int, limits: Limits = LIMITS, components: int = 2
) -> dict[str, Any]:
    """Place some of the rows at `picks`, and the centroids of the largest clusters; plain lists.

    Each place has as many numbers as `components`.

    Returns
    -------
    dict
        ``method``; ``points`` and ``labels``, the cluster of each; ``centroids``, ``clusters`` and ``sizes``;
        ``explained``, the shares of variance that the axes of PCA hold.
    """
    rows = picks[draw(len(picks), limits.map_rows, np.random.default_rng([seed, 5]))]
    largest = np.sort(np.argsort(-c.sizes, kind="stable")[: limits.map_centroids])
    x, centroids = c.take(rows).astype(np.float64), c.centroids[largest].astype(np.float64)
    if method == "pca":
        lengths = _lengths(c, rows, x)[largest, None] if c.space.unit else 1.0
        places, explained = _pca(x, centroids, lengths, components, seed)
    else:
        places, explained = _EMBED[method](np.vstack([x, centroids]), components, seed), []
    return {
        "method": method,
        "points": places[: len(x)].tolist(),
        "labels": c.used[c.labels[rows]].tolist(),
        "centroids": places[len(x) :].tolist(),
        "clusters": c.used[largest].tolist(),
        "sizes": c.sizes[largest].tolist(),
        "explained": explained,
    }


def _lengths(c: Clusters, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Lengths of the means of unit rows, cluster by cluster: float64 [u]; that of all for a cluster without a row.

    Centroids of length 1 would be drawn outside of the clouds whose middles they are.
    """
    own = c.labels[rows]
    cosines = np.einsum("ij,ij->i", x, c.centroids[own])
    counts = np.bincount(own, minlength=len(c.used))
    sums = np.bincount(own, cosines, minlength=len(c.used))
    return np.where(counts > 0, sums / np.maximum(counts, 1), cosines.mean())


def _pca(
    x: np.ndarray, centroids: np.ndarray, lengths: Any, components: int, seed: int
) -> tuple[np.ndarray, list[float]]:
    """Axes of the centroids where there are ten or more, else of the rows; centroids are drawn `lengths` long."""
    from sklearn.decomposition import PCA

    seen = centroids if len(centroids) >= 10 else x
    places, explained = np.zeros((len(x) + len(centroids), components)), [0.0] * components
    if np.ptp(seen, axis=0).any():
        pca = PCA(min(components, *seen.shape), random_state=seed).fit(seen)
        places[:, : pca.n_components_] = pca.transform(np.vstack([x, centroids * lengths]))
        explained[: pca.n_components_] = pca.explained_variance_ratio_.tolist()
    return places, explained


def _tsne(x: np.ndarray, components: int, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    start = "pca" if min(x.shape) >= components else "random"
    tsne = TSNE(components, perplexity=min(30.0, (len(x) - 1) / 3), init=start, random_state=seed)
    places: np.ndarray = tsne.fit_transform(x)
    return places


def _umap(x: np.ndarray, components: int, seed: int) -> np.ndarray:
    few = len(x) <= components + 1  # of which it finds no spectrum to start from
    reducer = umap().UMAP(
        n_neighbors=min(15, len(x) - 1),
        n_components=components,
        init="random" if few else "spectral",
        random_state=seed,
        n_jobs=1,
    )
    places: np.ndarray = reducer.fit_transform(x)
    return places


_EMBED = {"tsne": _tsne, "umap": _umap}


def umap() -> Any:
    """The module of umap-learn, or an error that says how to install it."""
    try:
        import umap as module
    except ImportError as error:
        raise ImportError(
            f"projection='umap' needs umap-learn ({error}); pip install 'fastann[umap]' (or pip install umap-learn), "
            "or use projection='pca' or 'tsne'"
        ) from error
    return module

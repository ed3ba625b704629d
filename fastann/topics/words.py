"""Class-based TF-IDF: how telling a word is of a cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse


def counts_by_cluster(texts: list[str], labels: np.ndarray, k: int, vectorizer: Any) -> tuple[Any, np.ndarray]:
    """How often each cluster has each word: CSR float64 [k, words], and the words."""
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        raise ValueError(
            "the texts hold no words, or stop words only; pass texts with words, stop_words=None, or a vectorizer of "
            "yours"
        ) from None
    n = len(texts)
    member = sparse.csr_matrix((np.ones(n), (labels, np.arange(n))), (k, n))
    return sparse.csr_matrix(member @ counts, dtype=np.float64), vectorizer.get_feature_names_out()


def class_tfidf(counts: Any) -> Any:
    """Score words by cluster, as BERTopic does (Grootendorst, 2022): CSR float64 [k, words].

    A word's share in the words of its cluster, times log(1 + A / f), where f is how often all clusters have it and A
    how many words a cluster with words has on average.
    """
    words = np.asarray(counts.sum(axis=1)).ravel()
    average = words.sum() / max(1, np.count_nonzero(words))
    often = np.asarray(counts.sum(axis=0)).ravel()
    rarity = np.log1p(average / np.maximum(often, 1))
    share = np.divide(1.0, words, out=np.zeros_like(words), where=words > 0)
    return sparse.csr_matrix(sparse.diags_array(share) @ counts @ sparse.diags_array(rarity))


def most_telling(scores: Any, words: np.ndarray, m: int) -> list[list[tuple[str, float]]]:
    """The m words of highest score of each cluster, the highest first, those as high by alphabet; fewer if it has."""
    found = []
    for start, end in zip(scores.indptr, scores.indptr[1:], strict=False):
        own, ids = scores.data[start:end], scores.indices[start:end]
        best = np.lexsort((ids, -own))[:m]  # a vectorizer's words are in alphabetical order
        found.append([(str(words[ids[i]]), float(own[i])) for i in best if own[i] > 0])
    return found

"""Name clusters by the texts of their rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks
from fastann.data.identity import checksum
from fastann.data.texts import read_texts
from fastann.quality.given import model_of
from fastann.runs.members import Members
from fastann.topics.result import Description
from fastann.topics.words import class_tfidf, counts_by_cluster, most_telling


def describe(
    clustering: Any,
    texts: Any,
    *,
    column: str | None = None,
    words: int = 10,
    rows: int = 3,
    stop_words: Any = "english",
    vectorizer: Any = None,
) -> Description:
    """Name every cluster by its most telling words, and show the rows nearest to its centre.

    Words are scored by class-based TF-IDF, as in BERTopic (Grootendorst, 2022): how often a cluster has a word, against
    how often all have it. No model is needed, and the rows are not read again.

    Parameters
    ----------
    clustering : KMeans, or path of a run directory
        Fitted to the rows that the texts are of, and saved with labels.
    texts : sequence of str, or path, pattern or folder
        One text a row, in the order of the rows; missing ones are empty. Files are ``.parquet``, ``.csv``, ``.tsv``,
        ``.jsonl`` or ``.txt``, with a text a line.
    column : str or None, default=None
        Column of a table of `texts`; None is its only one, or the one named "text".
    words : int, default=10
        Words of a cluster at most; its name is the first three.
    rows : int, default=3
        Nearest rows of a cluster that are listed, at most.
    stop_words : {"english"}, list of str or None, default="english"
        Words that name nothing: scikit-learn's English ones, yours, or none. Pass None for other languages; words that
        all clusters use score low all the same.
    vectorizer : CountVectorizer or None, default=None
        What makes words of texts, in place of ``CountVectorizer(stop_words=stop_words)``: for n-grams, other alphabets
        or tokenizers. It is fitted.

    Returns
    -------
    Description

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        If the texts are not as many as the rows, hold no words, or an argument makes no sense.
    ImportError
        If a library is missing that reads a file.

    Examples
    --------
    >>> import numpy as np
    >>> from fastann import KMeans, describe
    >>> texts = ["red apple", "green apple", "fast car", "slow car"]
    >>> x = np.array([[0.0, 0.1], [0.1, 0.0], [5.0, 5.1], [5.1, 5.0]])
    >>> sorted(describe(KMeans(2, random_state=0).fit(x), texts, words=1).names)
    ['apple', 'car']
    """
    from sklearn.feature_extraction.text import CountVectorizer

    checks.integer(words, "words", 1)
    checks.integer(rows, "rows", 1)
    model = model_of(clustering)
    if model is None:
        raise TypeError(
            f"clustering must be a fitted fastann.KMeans or a run directory, got {type(clustering).__name__}; fit one"
        )
    if vectorizer is None:
        vectorizer = CountVectorizer(stop_words=stop_words)
    elif not (hasattr(vectorizer, "fit_transform") and hasattr(vectorizer, "get_feature_names_out")):
        raise TypeError(f"vectorizer must be like scikit-learn's CountVectorizer, got {vectorizer!r}")
    labels, distances = model.clustering_.rows.needed("a description")
    given = read_texts(texts, column)
    if len(given) != len(labels):
        raise ValueError(f"there are {len(given):,} texts for {len(labels):,} rows; give one per row, in their order")
    k = len(model.cluster_centers_)
    counts, vocabulary = counts_by_cluster(given, labels, k, vectorizer)
    telling = most_telling(class_tfidf(counts), vocabulary, words)
    nearest = [[int(row) for row in own if row >= 0] for own in Members.of(labels, distances, k).first(rows)]
    return Description(
        n=len(labels),
        sizes=np.bincount(labels, minlength=k).tolist(),
        words=[[word for word, _ in own] for own in telling],
        scores=[[score for _, score in own] for own in telling],
        rows=nearest,
        texts=[[given[row] for row in own] for own in nearest],
        centers=checksum(model.cluster_centers_),
        run=Path(clustering).expanduser() if isinstance(clustering, str | os.PathLike) else None,
    )

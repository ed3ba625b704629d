"""
What clusters of texts are about
================================

The first paragraphs of some hundred docstrings, as TF-IDF in fifty dimensions: clusters are named by class-based
TF-IDF, without a model.
"""

import inspect

import numpy
import scipy.signal
import scipy.stats
import sklearn.metrics
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from fastann import KMeans, describe, plot

texts = []
for module in (numpy, numpy.linalg, numpy.random, scipy.signal, scipy.stats, sklearn.metrics):
    for name in dir(module):
        text = inspect.getdoc(getattr(module, name)) if not name.startswith("_") else None
        texts += [" ".join(text.split("\n\n")[:2])] if text and len(text) > 100 else []
print(len(texts))

vectors = TfidfVectorizer(stop_words="english", min_df=2, sublinear_tf=True).fit_transform(texts)
x = TruncatedSVD(50, random_state=0).fit_transform(vectors)
km = KMeans(12, metric="cosine", random_state=0).fit(x)

found = describe(km, texts)
print(found.summary())

# %%
# Their names on a map.

ax = plot.clusters(km, x, names=found.names)
ax.figure.set_size_inches(10, 6)

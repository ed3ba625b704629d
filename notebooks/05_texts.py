# %% [markdown]
# # Texts by their words
#
# Documents as TF-IDF: sparse rows of thousands of columns, which stay sparse. Clusters are named by the words that tell
# them from the others, without a model. The corpus is at hand wherever this runs: what the functions of NumPy, SciPy
# and scikit-learn say of themselves.

# %%
import importlib
import inspect
import os
import re
import time

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from fastann import KMeans, describe, evaluate, plot

SMALL = "FASTANN_SMALL" in os.environ  # the tests run this notebook on less data
subjects = ["numpy.linalg", "numpy.random", "scipy.signal", "scipy.stats", "scipy.optimize", "sklearn.metrics"]
if not SMALL:
    subjects += [
        "numpy",
        "scipy.sparse",
        "scipy.special",
        "scipy.ndimage",
        "scipy.spatial.distance",
        "sklearn.datasets",
    ]

texts, modules = [], []
for number, subject in enumerate(subjects):
    module = importlib.import_module(subject)
    for name in sorted(getattr(module, "__all__", dir(module))):
        text = inspect.getdoc(getattr(module, name, None)) or ""
        text = re.split(r"\n(?:Examples|References)\n", text)[0]
        if len(text) > 200 and text not in texts:
            texts.append(text)
            modules.append(number)
print(f"{len(texts):,} texts of {len(subjects)} modules; the first begins: {texts[0][:60]!r}")

# %%
words = TfidfVectorizer(stop_words="english", min_df=3, max_df=0.4, sublinear_tf=True, token_pattern=r"[A-Za-z]{3,}")
x = words.fit_transform(texts).astype(np.float32)
print(
    f"{x.shape[0]:,} x {x.shape[1]:,}, {x.nnz / x.shape[0]:.0f} words a text: {x.nnz / np.prod(x.shape):.1%} is not 0"
)

k = 8 if SMALL else 20
began = time.perf_counter()
km = KMeans(k, metric="cosine", random_state=0).fit(x)
print(f"{time.perf_counter() - began:.2f} s")
print(km.summary())

# %% [markdown]
# ## Key words
#
# A word is telling if it is frequent in a cluster and rare elsewhere (class-based TF-IDF).

# %%
described = describe(km, texts, words=5)
for size, named, near in sorted(zip(described.sizes, described.words, described.texts, strict=True), reverse=True):
    print(f"{size:4d}  {', '.join(named):50s}  {near[0].splitlines()[0][:30]}")

# %% [markdown]
# ## A map
#
# The two main directions of the centres, with the names of the largest clusters.

# %%
dense = TruncatedSVD(50, random_state=0).fit_transform(x).astype(np.float32)
again = KMeans(k, metric="cosine", random_state=0).fit(dense)
ax = plot.clusters(again, dense, names=describe(again, texts).names)
ax.figure.set_size_inches(8, 5)

# %% [markdown]
# ## Do clusters know the modules?
#
# No text was told where it comes from. Adjusted mutual information is 0 for clusters at random and 1 for those that are
# the modules.

# %%
sparse_found = evaluate(km, x, truth=modules)
dense_found = evaluate(again, dense, truth=modules)
print(f"sparse: AMI {sparse_found.values['ami']:.3f}, purity {sparse_found.values['purity']:.3f}")
print(f"in 50 dimensions: AMI {dense_found.values['ami']:.3f}, purity {dense_found.values['purity']:.3f}")

# %%
found = {
    "texts": len(texts),
    "columns": x.shape[1],
    "AMI, sparse": sparse_found.values["ami"],
    "purity, sparse": sparse_found.values["purity"],
    "AMI, 50 dimensions": dense_found.values["ami"],
    "clusters with words": sum(map(bool, described.names)),
}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - Rows of thousands of columns are clustered as they are, sparse, within a second or so.
# - Key words say at a glance what a cluster is about, and the nearest text is an example of it.
# - Clusters agree with modules in good part, not wholly: some modules have several subjects, and some share one.
#
# ## What if
#
# - words differ and the meaning is the same? Embeddings of a model in place of TF-IDF; `describe` works with those too.
# - names should have phrases? `describe(km, texts, vectorizer=CountVectorizer(ngram_range=(1, 2)))`.
# - a text came in tomorrow? `km.predict(words.transform([text]))`.

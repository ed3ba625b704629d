# %% [markdown]
# # Near-duplicates of a corpus
#
# Copies with small changes waste training and fill the results of searches. `fastann.dedup` finds them by the cosine of
# embeddings, through clusters, so that not all pairs are compared. The corpus is made up here, so that the copies are
# known.

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from fastann import KMeans, dedup

SMALL = "FASTANN_SMALL" in os.environ  # the tests run this notebook on less data
originals, copies = (600, 150) if SMALL else (8000, 2000)
rng = np.random.default_rng(0)

# %% [markdown]
# Texts are thirty words of a made-up language, in which subjects have words of their own. A copy drops a word, adds one
# and changes the order: equal to no other line, and about the same to a reader.

# %%
syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
words = np.array(sorted({"".join(rng.choice(syllables, 3)) for _ in range(4000)}))
subjects = [rng.choice(words, 150, replace=False) for _ in range(40)]


def changed(text):
    """A near-copy of a text."""
    parts = rng.permutation(text.split())[1:]
    return " ".join([*parts, rng.choice(words)])


texts = [" ".join(rng.choice(subjects[i % 40], 30)) for i in range(originals)]
source = rng.choice(originals, copies, replace=False)
texts += [changed(texts[i]) for i in source]
print(texts[source[0]], texts[originals], sep="\n")
print(f"{len(texts):,} texts, {len(set(texts)):,} of them different to the letter")

# %%
sparse = TfidfVectorizer().fit_transform(texts)
x = TruncatedSVD(128, random_state=0).fit_transform(sparse).astype(np.float32)
km = KMeans(16 if SMALL else 80, metric="cosine", random_state=0).fit(x)
began = time.perf_counter()
result = dedup(km, x, threshold=0.9)
seconds = time.perf_counter() - began
print(result.sentence)

# %% [markdown]
# The threshold decides. A pair counts as found if one of its two texts is dropped for the other.

# %%
planted = {(int(i), originals + j) for j, i in enumerate(source)}
thresholds = [0.8, 0.9, 0.95] if SMALL else [0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975]
recalls, precisions = [], []
for threshold in thresholds:
    told = dedup(km, x, threshold=threshold)
    pairs = {tuple(sorted(map(int, pair))) for pair in zip(told.dropped, told.duplicate_of, strict=True)}
    recalls.append(len(pairs & planted) / len(planted))
    precisions.append(len(pairs & planted) / max(1, len(pairs)))
    print(f"threshold {threshold:.3f}: {len(pairs):,} found, recall {recalls[-1]:.3f}, precision {precisions[-1]:.3f}")
figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(thresholds, recalls, "o-", color="#0072b2", label="recall: planted copies that are found")
ax.plot(thresholds, precisions, "s-", color="#d55e00", label="precision: dropped texts that are planted copies")
ax.set(xlabel="threshold")
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
plt.show()

# %% [markdown]
# ## Is anything missed between clusters?
#
# Comparing every text with every other, in one product of matrices, says how many texts have another at the threshold.

# %%
unit = x / np.linalg.norm(x, axis=1, keepdims=True)
kept = unit[result.kept]
close = 0
for at in range(0, len(kept), 2000):
    products = kept[at : at + 2000] @ kept.T
    products[np.arange(len(products)), at + np.arange(len(products))] = 0
    close = max(close, products.max())
print(f"the most alike of the kept texts: {close:.6f}, below the threshold of 0.9")
print(f"rows not compared with all they might equal: {result.unchecked}")

# %%
best = int(np.argmax(np.minimum(recalls, precisions)))
found = {
    "rows": len(texts),
    "copies": copies,
    "dropped": len(result.dropped),
    "best threshold": thresholds[best],
    "recall there": recalls[best],
    "precision there": precisions[best],
    "most alike kept": close,
    "unchecked": result.unchecked,
    "seconds": seconds,
}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - No copy is equal to the letter, and at a good threshold nearly all of them are found, with hardly any other text.
# - Below it, subjects look like copies, and a copy may be dropped for another text than the one it was made of.
# - No two kept texts reach the threshold: pairs across the borders of clusters are compared too.
#
# ## What if
#
# - copies were translations, or said the same in other words? Words do not show that; take embeddings of sentences.
# - the most typical text is not what should stay? `keep="first"` or `keep="outlying"`.
# - the rows lie in a file? Fit on its path, and call `dedup(km)`.

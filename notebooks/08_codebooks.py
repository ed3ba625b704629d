# %% [markdown]
# # Codebooks for search
#
# The cells of an inverted file are clusters. Here: how their quality tells in recall, `fastann.export` to FAISS, and
# search of documents by many vectors each, as ColBERT does.

# %%
import os
import tempfile
import time
from pathlib import Path

import faiss
import matplotlib.pyplot as plt
import numpy as np

from fastann import KMeans, export
from fastann.data.patches import patches

SMALL = "FASTANN_SMALL" in os.environ  # the tests run this notebook on less data
rng = np.random.default_rng(0)
x = rng.permutation(patches(stride=10 if SMALL else 4))
queries, x = x[:500], x[500:]
n, d = x.shape
k = 64 if SMALL else 512
truth = faiss.IndexFlatL2(d)
truth.add(x)
nearest = truth.search(queries, 10)[1]
print(f"{n:,} rows, {len(queries)} queries, {k} cells")

# %% [markdown]
# ## Three codebooks
#
# Rows at random, FAISS's own training, and fastann. Each is the coarse quantiser of the same inverted file.


# %%
def recalls(index):
    """recall@10 for each nprobe."""
    out = []
    for probes in nprobes:
        index.nprobe = probes
        hits = index.search(queries, 10)[1]
        out.append(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(hits, nearest, strict=True)]))
    return out


nprobes = [1, 2, 4, 8, 16]
curves, seconds = {}, {}

coarse = faiss.IndexFlatL2(d)
coarse.add(x[:k])
random = faiss.IndexIVFFlat(coarse, d, k)
random.is_trained = True
random.add(x)
curves["random rows"], seconds["random rows"] = recalls(random), 0.0

began = time.perf_counter()
theirs = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, k)
theirs.cp.min_points_per_centroid = 1
theirs.train(x)
seconds["FAISS"] = time.perf_counter() - began
theirs.add(x)
curves["FAISS"] = recalls(theirs)

began = time.perf_counter()
km = KMeans(k, random_state=0).fit(x)
seconds["fastann"] = time.perf_counter() - began
path = Path(tempfile.mkdtemp()) / "cells.faiss"
export(km, path, "faiss-ivf")
ours = faiss.read_index(str(path))
ours.add(x)
curves["fastann"] = recalls(ours)

# %%
figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
for (name, values), colour in zip(curves.items(), ("#999999", "#d55e00", "#0072b2"), strict=True):
    sizes = {"random rows": random, "FAISS": theirs, "fastann": ours}[name].invlists
    counts = np.array([sizes.list_size(i) for i in range(k)])
    uneven = k * (counts**2).sum() / counts.sum() ** 2
    print(f"{name:12s} {seconds[name]:5.2f} s, imbalance {uneven:.2f}, recall@10", *(f"{v:.3f}" for v in values))
    ax.plot(nprobes, values, "o-", color=colour, label=name)
ax.set(xscale="log", xlabel="nprobe", ylabel="recall@10")
ax.set_xticks(nprobes, [str(probes) for probes in nprobes])
ax.legend()

# %% [markdown]
# The fit is an inverted file itself, without FAISS's:

# %%
recall = km.search_recall(queries, 10, probe=4, rows=x)
print(recall)

# %% [markdown]
# ## Many vectors a document
#
# ColBERT has a vector for each word. A document scores by the sum, over the words of the query, of the best cosine
# with one of its own (MaxSim). To score all documents by their vectors is slow. PLAID (Santhanam et al., 2022) first
# takes the centre of its cluster for each vector: one look into a table, and only the best by that are scored by
# vectors. These are made up here: words of subjects and others, with noise.

# %%
documents, length, width = (400, 20, 32) if SMALL else (5000, 40, 64)
meanings = rng.standard_normal((600, width)).astype(np.float32)
subject = rng.integers(0, 600, (documents // 20, 8))  # words that documents of one subject share
own = rng.integers(0, 600, (documents, length))
common = rng.random((documents, length)) < 0.4
picks = np.take_along_axis(subject[np.arange(documents) % len(subject)], rng.integers(0, 8, (documents, length)), 1)
vectors = meanings[np.where(common, picks, own)] + 0.5 * rng.standard_normal((documents, length, width))
vectors = (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)
asked = rng.choice(documents, 50, replace=False)
words = vectors[asked][:, :8] + 0.5 / width**0.5 * rng.standard_normal((50, 8, width)).astype(np.float32)
flat = vectors.reshape(-1, width)

cells = KMeans(128 if SMALL else 1024, metric="cosine", random_state=0).fit(flat)
code = cells.labels_.reshape(documents, length)
centres = cells.cluster_centers_


def maxsim(query, among):
    """Score of each document."""
    return (vectors[among] @ query.T).max(axis=1).sum(axis=1)


everything = np.arange(documents)
best = [everything[np.argsort(-maxsim(query, everything))[:10]] for query in words]
colbert = {}
for share in (0.01, 0.02, 0.05, 0.1, 0.2):
    hits = []
    for query, right in zip(words, best, strict=True):
        by_cell = query @ centres.T  # the cosine of each word of the query with each centre
        rough = by_cell[:, code].max(axis=2).sum(axis=0)
        among = np.argsort(-rough)[: max(10, int(share * documents))]
        top = among[np.argsort(-maxsim(query, among))[:10]]
        hits.append(len(set(top) & set(right)) / 10)
    colbert[share] = np.mean(hits)
    print(f"{share:.0%} of documents scored by their vectors: recall@10 {colbert[share]:.3f}")

# %%
found = {
    "recall, random, nprobe=4": curves["random rows"][2],
    "recall, FAISS, nprobe=4": curves["FAISS"][2],
    "recall, fastann, nprobe=4": curves["fastann"][2],
    "recall, fastann, nprobe=16": curves["fastann"][4],
    "recall, own search, probe=4": recall.value,
    "recall, documents, 5% scored": colbert[0.05],
    "recall, documents, 20% scored": colbert[0.2],
}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - Trained cells find more than rows at random for the same `nprobe`; between trainings the difference is small.
# - What FAISS reads from `export` finds what the fit's own `search` finds.
# - For documents, the clusters of their words alone choose one in twenty, among which are most of the best.
#
# ## What if
#
# - cells are to be of like size? Compare the imbalance above: a query looks at more rows where it is large.
# - vectors themselves are too many to keep? Keep the code and the rest, `x - centre`, in two bits a column.
# - recall has to be 0.99? `km.probe_for(queries, 10, recall=0.99, rows=x)` says how many clusters that takes.

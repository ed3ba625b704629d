# %% [markdown]
# # Codebooks for search
#
# The cells of an inverted file are clusters. Here: what they find and at what price, `fastann.export` to FAISS, and
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
# ## Four codebooks
#
# Rows at random, FAISS's own training, and fastann from its own start and from a random one. Each is the
# coarse quantiser of the same inverted file.


# %%
def recalls(index):
    """recall@10 for each nprobe, and the share of rows that was looked at."""
    sizes = np.array([index.invlists.list_size(cell) for cell in range(k)])
    out = []
    for probes in nprobes:
        index.nprobe = probes
        hits = index.search(queries, 10)[1]
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(hits, nearest, strict=True)])
        out.append((recall, sizes[index.quantizer.search(queries, probes)[1]].sum(axis=1).mean() / n))
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

fits = {}
folder = Path(tempfile.mkdtemp())
for name, init in {"fastann": "auto", "fastann, init=random": "random"}.items():
    began = time.perf_counter()
    fits[name] = KMeans(k, init=init, random_state=0).fit(x)
    seconds[name] = time.perf_counter() - began
    export(fits[name], folder / f"{init}.faiss", "faiss-ivf")
    ours = faiss.read_index(str(folder / f"{init}.faiss"))
    ours.add(x)
    curves[name] = recalls(ours)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
for (name, values), colour in zip(curves.items(), ("#999999", "#d55e00", "#0072b2", "#009e73"), strict=True):
    found_there, looked_at = zip(*values, strict=True)
    print(f"{name:20s} {seconds[name]:5.2f} s  recall@10", *(f"{recall:.3f}" for recall in found_there))
    print(" " * 24, "share of rows", *(f"{share:.3f}" for share in looked_at))
    left.plot(nprobes, found_there, "o-", color=colour, label=name)
    right.plot(looked_at, found_there, "o-", color=colour)
left.set(xscale="log", xlabel="nprobe", ylabel="recall@10")
left.minorticks_off()
left.set_xticks(nprobes, [str(probes) for probes in nprobes])
left.legend()
right.set(xscale="log", xlabel="share of rows that a query is compared with")
plt.show()

# %% [markdown]
# The fit is an inverted file itself, without FAISS's:

# %%
recall = fits["fastann"].search_recall(queries, 10, probe=4, rows=x)
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
vectors = meanings[np.where(common, picks, own)] + 0.6 * rng.standard_normal((documents, length, width))
vectors = (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)
asked = rng.choice(documents, 50, replace=False)
words = vectors[asked][:, :8] + 1.0 / width**0.5 * rng.standard_normal((50, 8, width)).astype(np.float32)
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
for count in (10, 20, 40, 100, 200):
    hits = []
    for query, right in zip(words, best, strict=True):
        by_cell = query @ centres.T  # the cosine of each word of the query with each centre
        rough = by_cell[:, code].max(axis=2).sum(axis=0)
        among = np.argsort(-rough)[:count]
        top = among[np.argsort(-maxsim(query, among))[:10]]
        hits.append(len(set(top) & set(right)) / 10)
    colbert[count] = np.mean(hits)
    print(f"{count:3d} of {documents:,} documents scored by their vectors: recall@10 {colbert[count]:.3f}")

# %%
found = {
    "recall, random, nprobe=4": curves["random rows"][2][0],
    "recall, FAISS, nprobe=4": curves["FAISS"][2][0],
    "recall, fastann, nprobe=4": curves["fastann"][2][0],
    "recall, fastann, nprobe=16": curves["fastann"][4][0],
    "share of rows, FAISS, nprobe=4": curves["FAISS"][2][1],
    "share of rows, fastann, nprobe=4": curves["fastann"][2][1],
    "recall, init=random, nprobe=4": curves["fastann, init=random"][2][0],
    "share of rows, init=random, nprobe=4": curves["fastann, init=random"][2][1],
    "inertia, init=random": fits["fastann, init=random"].inertia_ / fits["fastann"].inertia_,
    "recall, own search, probe=4": recall.value,
    "recall, 20 documents scored": colbert[20],
    "recall, 200 documents scored": colbert[200],
}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - The lowest inertia is not the best codebook. fastann's own start ends lower, with small clusters where rows are few
#   and large ones where they are many; queries come where rows are many, and are compared with more of them.
# - `init="random"` puts centres where rows are: at the same recall a query looks at as few rows as in FAISS's cells.
#   For the lists of an inverted file it is the better choice here.
# - What FAISS reads from `export` finds what the fit's own `search` finds.
# - The clusters of their words alone choose 40 of 5,000 documents, among which are nine in ten of the best.
#
# ## What if
#
# - rows lie as evenly as queries do? Then both starts should end alike: try made-up rows.
# - vectors themselves are too many to keep? Keep the code and the rest, `x - centre`, in two bits a column.
# - recall has to be 0.99? `fits["fastann"].probe_for(queries, 10, recall=0.99, rows=x)` says how many clusters
#   that takes.

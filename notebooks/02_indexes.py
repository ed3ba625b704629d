# %% [markdown]
# # Which index?
#
# An index finds near vectors without looking at all of them, and may miss some. Here: what each kind costs and finds,
# what `nlist`, `nprobe` and `ef` do, what dimensions do to trees, and what an index means for k-means.

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np

from fastann import KMeans, build_index
from fastann.data.patches import patches

SMALL = "FASTANN_SMALL" in os.environ  # the tests run this notebook on less data
x = patches(stride=12 if SMALL else 5)
rng = np.random.default_rng(0)
queries = x[rng.choice(len(x), 200 if SMALL else 300, replace=False)]
queries = queries + rng.normal(0, 0.02, queries.shape).astype(np.float32)
print(f"{len(x):,} rows of {x.shape[1]} columns, {len(queries)} queries, ten neighbours each")


def timed(work):
    """Milliseconds a query: the best of three times."""
    best = np.inf
    for _ in range(1 if SMALL else 3):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return 1000 * best / len(queries)


# %% [markdown]
# ## Kinds
#
# - **Flat** compares with all rows, and is exact.
# - **IVF** sorts rows into `nlist` cells, and looks into the `nprobe` nearest.
# - **HNSW** walks along a graph of near rows, and keeps `ef_search` candidates.
# - **PQ** keeps codes of a few bytes in place of rows (here in cells): small, and inexact even where it looks.
# - **LSH** compares bits of random projections, then ranks the `rerank` best by their distance.
# - **Trees** cut space in halves; exact.

# %%
nlist = 32 if SMALL else 128
curves = {
    "flat": ("flat", [{}]),
    "ivf": (f"ivf:nlist={nlist}", [{"nprobe": count} for count in (1, 2, 4, 8, 16, 32)]),
    "hnsw": ("hnsw:m=16", [{"ef_search": count} for count in (10, 20, 40, 80, 160)]),
    "lsh": ("lsh:bits=64" if SMALL else "lsh:bits=256", [{"rerank": count} for count in (16, 64, 256)]),
    "kd_tree": ("kd_tree", [{}]),
    "ball_tree": ("ball_tree", [{}]),
}
measured = {}
for name, (spec, settings) in curves.items():
    began = time.perf_counter()
    index = build_index(x, spec, random_state=0)
    built = time.perf_counter() - began
    for options in settings:
        if options:
            index.set_search(**options)
        recall = index.measure(queries, 10).value
        measured.setdefault(name, []).append((timed(lambda index=index: index.search(queries, 10)), recall, options))
    print(f"{name:10s} built in {built:6.2f} s")
for probes in (1, 4, 16):
    index = build_index(x, f"factory:IVF{nlist},PQ48x4;nprobe={probes}", random_state=0)
    recall = index.measure(queries, 10).value
    measured.setdefault("pq", []).append((timed(lambda index=index: index.search(queries, 10)), recall, {}))

# %%
figure, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
colours = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
for (name, points), colour in zip(measured.items(), colours, strict=True):
    ax.plot(*zip(*[(ms, recall) for ms, recall, _ in points], strict=True), "o-", color=colour, label=name)
ax.plot(*measured["flat"][0][:2], "*", color="black", markersize=12, zorder=5)
ax.set(xscale="log", xlabel="milliseconds a query", ylabel="recall@10")
ax.legend()
plt.show()

# %% [markdown]
# ## nlist and nprobe
#
# More cells are smaller, so that one has fewer rows to look at but also a smaller chance to hold the neighbours. For
# the same share of rows that are looked at, `nprobe / nlist`, more cells find more: they follow the rows more closely.
# The price is a longer search for the cells themselves, and a longer building.

# %%
table = {}
for cells in (16, 64) if SMALL else (32, 128, 512):
    index = build_index(x, f"ivf:nlist={cells}", random_state=0)
    for share in (1 / 16, 1 / 4, 1):
        index.set_search(nprobe=max(1, int(cells * share)))
        table[cells, share] = index.measure(queries, 10).value
        print(f"nlist={cells:4d} nprobe={int(cells * share):4d}: recall@10 {table[cells, share]:.3f}")

# %% [markdown]
# `tune` finds the least effort that reaches a recall, with its whole 95% interval:

# %%
index = build_index(x, f"ivf:nlist={nlist}", random_state=0).tune(0.9, queries, m=10)
tuned = index.measure(queries, 10)
print(index, tuned)

# %% [markdown]
# ## Dimensions
#
# Trees rule out a half when no near row can lie there. In many dimensions nearly nothing can be ruled out.

# %%
dims = (2, 8, 32) if SMALL else (2, 4, 8, 16, 32)
n = 3_000 if SMALL else 20_000
slower = {}
for d in dims:
    points = rng.random((n, d), dtype=np.float32)
    asked = rng.random((len(queries), d), dtype=np.float32)
    took = {}
    for name in ("flat", "kd_tree"):
        index = build_index(points, name)
        index.search(asked[:5], 10)
        took[name] = timed(lambda index=index, asked=asked: index.search(asked, 10))
    slower[d] = took["kd_tree"] / took["flat"]
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.plot(list(slower), list(slower.values()), "o-", color="#0072b2")
ax.axhline(1, color="0.6", linestyle="--")
ax.set(xscale="log", yscale="log", xlabel="dimensions", ylabel="time of the kd-tree / of flat")
ax.minorticks_off()
ax.set_xticks(dims, [str(d) for d in dims])
plt.show()

# %% [markdown]
# ## In k-means
#
# The rows are the queries there, and the centres what is searched. Labels may then be wrong; fastann measures how many
# are the nearest centre.

# %%
k = 64 if SMALL else 512
start = x[rng.choice(len(x), k, replace=False)]
fits = {}
for spec in ("flat", "ivf:nlist=16,nprobe=4", "hnsw:m=8,ef_search=32", "auto"):
    began = time.perf_counter()
    km = KMeans(k, index=spec, init=start, max_iter=5, random_state=0).fit(x)
    fits[spec] = km
    took = time.perf_counter() - began
    print(f"{spec:24s} {took:5.2f} s  inertia {km.inertia_:9.1f}  recall of labels {km.assignment_recall_:.4f}")

# %%
found = {
    "recall, flat": measured["flat"][0][1],
    "recall, kd_tree": measured["kd_tree"][0][1],
    "recall, ivf, nprobe=1": measured["ivf"][0][1],
    "recall, ivf, most": measured["ivf"][-1][1],
    "recall, hnsw, most": measured["hnsw"][-1][1],
    "recall, pq, most": measured["pq"][-1][1],
    "recall, lsh, most": measured["lsh"][-1][1],
    "recall, tuned": tuned.value,
    "kd_tree / flat, fewest dimensions": slower[dims[0]],
    "kd_tree / flat, most dimensions": slower[dims[-1]],
    "inertia, ivf / flat": fits["ivf:nlist=16,nprobe=4"].inertia_ / fits["flat"].inertia_,
}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - Flat and trees find everything. Trees keep up with flat in two dimensions, where queries come many
#   at once, and are many times slower in sixteen.
# - IVF and HNSW trade recall for time by one number each; the best setting depends on the recall that is wanted, and
#   `tune` finds it.
# - PQ reaches a limit that no `nprobe` lifts, as distances of codes are rounded: its gain is memory.
# - k-means forgives a few wrong labels: the inertia through an index is about that of exact iterations.
#
# ## What if
#
# - queries come one at a time? Time `index.search(queries[:1], 10)`: flat then loses what it gains from many at once.
# - PQ's codes were ranked again by true rows? Try `"factory:IVF128,PQ48x4,RFlat"`.
# - the rows were text embeddings? Pass `metric="cosine"`, and measure again: no figure here is a law.

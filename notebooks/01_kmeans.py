# %% [markdown]
# # K-means, from the textbook to fastann
#
# The same algorithm four times, from the same start: a few lines of NumPy, scikit-learn, FAISS, and fastann's automatic
# mode. Rows are patches of two photographs: 8 x 8 pixels of three colours, 192 numbers each.

# %%
import os
import time

import faiss
import matplotlib.pyplot as plt
import numpy as np
import sklearn.cluster

from fastann import KMeans, plot
from fastann.data.patches import patches

SMALL = "FASTANN_SMALL" in os.environ  # the tests run this notebook on less data
x = patches(stride=10 if SMALL else 4)
n, d = x.shape
k = 64 if SMALL else 1024
iterations = 10
start = x[np.random.default_rng(0).choice(n, k, replace=False)]
print(f"n = {n:,} rows, d = {d} columns, k = {k:,} clusters: {n * k * d:.1e} multiplications an iteration")

# %% [markdown]
# ## The textbook
#
# Two steps in turn: every row goes to its nearest centre, and every centre to the mean of its rows. Written out,
# $|x - c|^2 = |x|^2 - 2 x \cdot c + |c|^2$, so that one product of matrices has all distances, and $|x|^2$ does not
# matter for which is the least.


# %%
def nearest(x, centres, at_once=4096):
    """Number of the nearest centre of each row, some rows at a time."""
    lengths = (centres**2).sum(1)
    parts = [(lengths - 2 * x[i : i + at_once] @ centres.T).argmin(1) for i in range(0, len(x), at_once)]
    return np.concatenate(parts)


def means(x, labels, before):
    """Mean row of each cluster; the centre of an empty one stays."""
    order = np.argsort(labels, kind="stable")
    used, first = np.unique(labels[order], return_index=True)
    centres = before.copy()
    centres[used] = np.add.reduceat(x[order], first) / np.diff(np.append(first, len(x)))[:, None]
    return centres


def inertia(x, centres):
    """Sum of squared distances to the nearest centres, in float64."""
    labels = nearest(x, centres)
    return ((x - centres[labels]).astype(np.float64) ** 2).sum()


search = update = 0.0
centres = start
for _ in range(iterations):
    began = time.perf_counter()
    labels = nearest(x, centres)
    between = time.perf_counter()
    centres = means(x, labels, centres)
    search, update = search + between - began, update + time.perf_counter() - between
seconds = {"NumPy": search + update}
ends = {"NumPy": inertia(x, centres)}
print(f"searching {search:.2f} s, means {update:.2f} s: searching is {search / (search + update):.0%} of it")

# %% [markdown]
# ## Three libraries
#
# Each does ten iterations from the same centres. What is timed includes the labels of all rows. Seconds are those of
# the machine that ran this, two cores that others used too: large ratios mean something, small ones nothing.

# %%
began = time.perf_counter()
theirs = sklearn.cluster.KMeans(k, init=start, n_init=1, max_iter=iterations, tol=0).fit(x)
seconds["scikit-learn"] = time.perf_counter() - began
ends["scikit-learn"] = inertia(x, theirs.cluster_centers_)

began = time.perf_counter()
trained = faiss.Kmeans(d, k, niter=iterations, min_points_per_centroid=1, max_points_per_centroid=n)
trained.train(x, init_centroids=start)
trained.index.search(x, 1)
seconds["FAISS"] = time.perf_counter() - began
ends["FAISS"] = inertia(x, trained.centroids)

KMeans(8, max_iter=1).fit(x[:100])  # loads what is loaded once
fits = {}
for name, index in {"fastann, exact": "flat", "fastann, automatic": "auto"}.items():
    began = time.perf_counter()
    fits[name] = KMeans(k, init=start, index=index, max_iter=iterations, tol=0, random_state=0).fit(x)
    seconds[name] = time.perf_counter() - began
    ends[name] = inertia(x, fits[name].cluster_centers_)

for name in seconds:
    print(f"{name:20s} {seconds[name]:6.2f} s   inertia {ends[name]:10.1f}   {ends[name] / ends['NumPy'] - 1:+.2%}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
left.barh(list(seconds), list(seconds.values()), color="#0072b2")
left.set(xlabel="seconds")
left.invert_yaxis()
right.plot([value / ends["NumPy"] for value in ends.values()], list(ends), "o", color="#d55e00")
right.set(xlabel="inertia, of that of NumPy", xlim=(0.95, 1.02), yticks=[])
right.invert_yaxis()
plt.show()

# %% [markdown]
# ## Where the time goes
#
# The textbook does $n k d$ multiplications an iteration. Doubling any of the three doubles the time of the search, once
# it is large; the dashed line is exact proportion. The automatic mode remembers near centres of every row, and computes
# fewer distances the fewer rows move.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
halves = np.array([0.25, 0.5, 1.0])
whole = {"n": n, "k": k, "d": d}
for name, colour in {"n": "#0072b2", "k": "#d55e00", "d": "#009e73"}.items():
    taken = []
    for share in halves:
        rows = np.ascontiguousarray(x[: int(n * share) if name == "n" else n, : int(d * share) if name == "d" else d])
        some = start[: int(k * share) if name == "k" else k, : rows.shape[1]]
        began = time.perf_counter()
        nearest(rows, some)
        taken.append(time.perf_counter() - began)
    left.plot(halves, taken, "o-", color=colour, label=f"share of {name} = {whole[name]:,}")
left.plot(halves, halves * taken[-1], "--", color="0.6")
left.set(xlabel="share", ylabel="seconds of one search", xscale="log", yscale="log")
left.minorticks_off()
left.set_xticks(halves, [f"{share:g}" for share in halves])
left.legend()
plot.convergence(fits, against="seconds", ax=right)
plt.show()

# %%
print(fits["fastann, automatic"].summary())

# %%
found = {f"seconds, {name}": value for name, value in seconds.items()}
found |= {f"inertia, {name}": value / ends["NumPy"] for name, value in ends.items()}
found["share of searching"] = search / (search + update)
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - Most time of the textbook goes into the search, and that is proportional to n, k and d.
# - Exact implementations end in the same inertia, up to rounding and empty clusters: they differ in time.
# - The automatic mode is the fastest here, as it does not look at all rows in every iteration, and ends lower after as
#   many of them: centres are updated several times an iteration, and the sizes of clusters are weighed too.
#
# ## What if
#
# - there are only ten clusters? Then exact passes are fast, and the automatic mode takes them: set `k = 10`.
# - the start were better? Leave `init` out: fastann's own start needs fewer iterations.
# - the rows were all at one spot, or came in clear groups? Then bounds hold sooner, and the gap grows.

"""
How the automatic mode works, in three pictures
===============================================

What :doc:`its page </how-it-works>` says in words. Every row remembers its nearest centroids, and a bound on how far
they moved: while the bound holds, the row cannot change its cluster, and is not read.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator
from scipy.spatial import Voronoi, voronoi_plot_2d

from fastann import IVF, KMeans
from fastann.data.patches import patches

# %%
# **Bounds.** The first iteration searches all rows among all 512 centroids, as vanilla k-means does in every iteration.
# From then on about one row in twenty is searched, that whose bound fails; half of the rows, later a quarter, are
# compared with the eight candidates that they remember; all others are not read.

x = patches(stride=4)
km = KMeans(512, random_state=0).fit(x)
figure, ax = plt.subplots(layout="constrained")
at = [record.iteration for record in km.history_]
for name, colour, told in (
    ("looked", "#0072b2", "compared with eight candidates"),
    ("searched", "#d55e00", "searched among all"),
):
    shares = [getattr(record, name) / record.rows for record in km.history_]
    ax.plot(at, shares, "o-", color=colour, label=told)
ax.set(xlabel="iteration", ylabel="share of the rows", ylim=(0, None))
ax.xaxis.set_major_locator(MaxNLocator(integer=True))
ax.legend()

# %%
# **Cells.** A search looks at the centroids in the cells nearest to a row. Here are 400 centroids in 20 cells; for the
# row that the star marks, the four nearest cells are searched, and the other centroids are not.

rng = np.random.default_rng(0)
centroids = KMeans(400, random_state=0).fit(rng.normal(size=(20_000, 2))).cluster_centers_
coarse = KMeans(20, random_state=0).fit(centroids)
row = np.array([[0.4, 0.3]], "f")
probed = coarse.kneighbors(row, 4)[1][0]
figure, ax = plt.subplots(layout="constrained")
voronoi_plot_2d(Voronoi(coarse.cluster_centers_), ax=ax, show_points=False, show_vertices=False, line_colors="#6b6b6b")
seen = np.isin(coarse.labels_, probed)
ax.plot(*centroids[~seen].T, ".", color="#c4c4c4", label=f"{(~seen).sum()} centroids left out")
ax.plot(*centroids[seen].T, ".", color="#0072b2", label=f"{seen.sum()} centroids compared")
ax.plot(*row.T, "*", color="#d55e00", ms=14, label="a row")
ax.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
ax.legend(loc="upper right")

# %%
# **What a search misses.** The more cells are searched, the more rows find their nearest centroid.

exact = KMeans.from_centers(km.cluster_centers_)
right = exact.predict(x[:5000])
searched = KMeans.from_centers(km.cluster_centers_, index=IVF(nlist=32))
figure, ax = plt.subplots(layout="constrained")
probes = [1, 2, 4, 8, 16, 32]
ax.plot(
    probes, [(searched.set_search(nprobe=n).predict(x[:5000]) == right).mean() for n in probes], "o-", color="#0072b2"
)
ax.set(xscale="log", xticks=probes, xticklabels=probes, xlabel="cells searched, of 32", ylabel="recall@1")
ax.minorticks_off()

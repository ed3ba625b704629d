"""
A first clustering
==================

Rows in forty overlapping groups: how they fall into clusters, how large these are, and how well they part.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastann import KMeans, plot

rng = np.random.default_rng(0)
groups = rng.normal(scale=3, size=(40, 16))
x = np.concatenate([rng.normal(group, size=(rng.integers(50, 400), 16)) for group in groups])

km = KMeans(n_clusters=40, random_state=0).fit(x)
print(km.summary())

# %%
# The map shows rows and centres in the two main directions of the centres. Near clusters have different colours.

plot.clusters(km, x)

# %%
# How many clusters have how many rows, and the silhouettes of the largest clusters.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
plot.sizes(km, ax=left)
plot.silhouette(km, x, ax=right)

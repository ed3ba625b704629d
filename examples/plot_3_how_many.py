"""
How many clusters?
==================

The inertia falls with every further cluster, and often there is no bend to read a number from. Silhouettes, and what
one knows of the data, say more: digits have ten classes, some of them written in two ways.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from fastann import KMeans, evaluate, plot

x, numerals = load_digits(return_X_y=True)
fits = [KMeans(k, random_state=0).fit(x) for k in (2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32)]

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
plot.elbow(fits, ax=left)
found = [evaluate(km, x, truth=numerals).values for km in fits]
ks = [len(km.cluster_centers_) for km in fits]
right.plot(ks, [values["silhouette"] for values in found], "o", color="#0072b2", label="silhouette")
right.plot(ks, [values["ami"] for values in found], "s", color="#d55e00", label="agreement with the numerals")
right.set(xlabel="clusters", ylim=(0, 1))
right.legend()

# %%
# Silhouettes of ten clusters.

plot.silhouette(fits[4], x)

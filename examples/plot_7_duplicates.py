"""
Near-duplicates
===============

Digits that are as good as the same: `fastann.dedup` keeps one of each, and says which one stands for the others.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from fastann import KMeans, dedup

x = load_digits().data
km = KMeans(40, metric="cosine", random_state=0).fit(x)
found = dedup(km, x, threshold=0.98)
print(found.sentence)

# %%
# Those most alike: dropped rows above, the kept rows that stand for them below.

figure, axes = plt.subplots(2, 8, figsize=(10, 3), layout="constrained")
for i, at in enumerate(np.argsort(-found.similarity)[:8]):
    for ax, row in zip(axes[:, i], (found.dropped[at], found.duplicate_of[at]), strict=True):
        ax.imshow(x[row].reshape(8, 8), cmap="gray_r")
        ax.axis("off")
    axes[0, i].set_title(f"{found.similarity[at]:.4f}")

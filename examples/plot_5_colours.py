"""
A photograph in few colours
===========================

Pixels are rows of three numbers; each is drawn in the colour of its centre.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_sample_image

from fastann import KMeans

photograph = load_sample_image("china.jpg")
pixels = photograph.reshape(-1, 3)

figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
axes[0, 0].imshow(photograph)
axes[0, 0].set_title(f"{len(pixels):,} pixels")
for k, ax in zip((4, 16, 64), axes.flat[1:], strict=True):
    km = KMeans(k, random_state=0).fit(pixels)
    ax.imshow(km.cluster_centers_[km.labels_].round().astype("uint8").reshape(photograph.shape))
    ax.set_title(f"{k} colours, squared error {km.inertia_ / len(pixels):.0f} a pixel")
for ax in axes.flat:
    ax.axis("off")

# %% [markdown]
# # Segments of photographs
#
# Pixels are rows: three numbers of colour, or five with the position. K-means then cuts a photograph into areas of like
# colour, which lie together only if position counts.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats
from scipy import ndimage
from sklearn.datasets import load_sample_image

from fastann import KMeans, plot

set_matplotlib_formats("jpeg", pil_kwargs={"quality": 85})  # photographs are smaller so
SMALL = "FASTANN_SMALL" in os.environ  # the tests run this notebook on less data
step = 8 if SMALL else 2
photographs = {name: load_sample_image(f"{name}.jpg")[::step, ::step] for name in ("china", "flower")}
print({name: photograph.shape for name, photograph in photographs.items()})

# %% [markdown]
# ## How many colours?
#
# The error falls with every further one; it says how much is lost, not where to stop.

# %%
pixels = photographs["china"].reshape(-1, 3).astype(np.float32) / 255
counts = [2, 3, 4, 6, 8, 12, 16]
ax = plot.elbow([KMeans(k, random_state=0).fit(pixels) for k in counts])
ax.figure.set_size_inches(6, 3)

# %% [markdown]
# ## Colour, and colour with position
#
# Positions are numbers in the same rows, so their unit decides how much they count against colours: below, the width
# of the photograph is as much as half of the way from black to white, then as much as eight times that way.


# %%
def rows_of(photograph, weight):
    """Pixels as rows: colours from 0 to 1, and the position, with the width as `weight`."""
    height, width = photograph.shape[:2]
    down, right = np.mgrid[:height, :width] / width * weight
    rows = np.dstack([photograph / 255, down, right]) if weight else photograph / 255
    return rows.reshape(height * width, -1).astype(np.float32)


def segmented(photograph, k, weight):
    """Labels as a picture, and the photograph with the mean colour of each segment."""
    km = KMeans(k, random_state=0).fit(rows_of(photograph, weight))
    shape = photograph.shape[:2]
    return km.labels_.reshape(shape), km.cluster_centers_[km.labels_, :3].reshape(*shape, 3)


def fragments(labels):
    """How many connected pieces the segments are in."""
    return sum(ndimage.label(labels == label)[1] for label in np.unique(labels))


k = 8
settings = {"colour": (k, 0), "some position": (k, 0.5), "much position": (25 * k, 8)}
figure, axes = plt.subplots(2, 4, figsize=(11, 4.2), layout="constrained")
pieces, errors = {}, {}
for line, (name, photograph) in zip(axes, photographs.items(), strict=True):
    line[0].imshow(photograph)
    line[0].set_title(f"{photograph.shape[0] * photograph.shape[1]:,} pixels", fontsize=9)
    for ax, (how, (count, weight)) in zip(line[1:], settings.items(), strict=True):
        labels, picture = segmented(photograph, count, weight)
        pieces[name, how] = fragments(labels)
        errors[name, how] = ((picture - photograph / 255) ** 2).mean() ** 0.5
        ax.imshow(picture.clip(0, 1))
        ax.set_title(f"{count}, {how}: {pieces[name, how]:,} pieces", fontsize=9)
for ax in axes.flat:
    ax.axis("off")
plt.show()

# %% [markdown]
# ## Borders
#
# Many small segments of position and colour are superpixels (as of SLIC): their borders follow those of things. The
# photograph is smoothed first, since borders would otherwise follow single leaves.

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
for ax, (name, photograph) in zip(axes, photographs.items(), strict=True):
    labels, _ = segmented(ndimage.gaussian_filter(photograph, (2, 2, 0)), 200, 4)
    pieces[name, "superpixels"] = fragments(labels)
    border = np.zeros(labels.shape, bool)
    border[:-1] |= labels[:-1] != labels[1:]
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    ax.imshow(np.where(border[..., None], np.uint8(255), photograph))
    ax.axis("off")
plt.show()

# %%
found = {f"pieces, {name}, {how}": value for (name, how), value in pieces.items()}
found |= {f"error, {name}, {how}": value for (name, how), value in errors.items()}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - Eight colours show the photographs well, but fall into thousands of pieces: colour alone knows no neighbourhood.
# - Some position, with as many segments, makes a third fewer pieces or more, and shows colours less well.
# - Superpixels of a smoothed photograph are hardly more pieces than segments.
# - The weight of the position is a choice of the unit of columns, which is what k-means goes by.
#
# ## What if
#
# - colours were as the eye sees them? Convert to CIELAB first: equal distances there look about equal.
# - one wanted the segments of many photographs to mean the same? Fit on the pixels of all, and `predict` each.
# - the photograph were a film? Add the time as a sixth column.

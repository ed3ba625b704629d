# %% [markdown]
# # Larger than memory, and cut off
#
# A fit takes the path of a file, reads it chunk by chunk, and keeps within `max_memory`. With a folder for checkpoints
# it goes on after a crash, and ends where it would have ended.

# %%
import os
import re
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from fastann import KMeans

SMALL = "FASTANN_SMALL" in os.environ  # the tests run this notebook on less data
n, d, k = (20_000, 32, 100) if SMALL else (2_000_000, 64, 500)
folder = Path(tempfile.mkdtemp())
path = folder / "rows.npy"

# %% [markdown]
# ## A file, written piece by piece
#
# Half precision, as embeddings are often kept; no array of all rows is ever made.

# %%
rng = np.random.default_rng(0)
groups = rng.normal(scale=2, size=(2 * k, d))
file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n, d))
for at in range(0, n, 10_000):
    file[at : at + 10_000] = groups[rng.integers(0, 2 * k, 10_000)] + rng.normal(size=(10_000, d))
file.flush()
del file
print(f"{path.stat().st_size / 1e6:.1f} MB, {4 * n * d / 1e6:.1f} MB as float32")

# %% [markdown]
# ## Within a limit
#
# Too little is refused, and the message says how much is needed, whatever the number of rows. With just that, less than
# the file has, what the fit remembers of each row goes to files. The result is the same to the bit.

# %%
options = {"n_clusters": k, "max_iter": 8, "effort": 100, "tol": 0, "init": "random", "random_state": 0}  # all eight
try:
    KMeans(max_memory="1MiB", **options).fit(path)
    refused = ""
except ValueError as error:
    refused = str(error)
print("1 MiB:", refused)
limit = int(re.search(r"at least (\d+)", refused).group(1))
fits, seconds = {}, {}
for name, most in {"as much as is free": None, f"{limit / 2**20:.0f} MiB": limit}.items():
    began = time.perf_counter()
    fits[name] = KMeans(max_memory=most, temp_folder=folder, **options).fit(path)
    seconds[name] = time.perf_counter() - began
    print(f"max_memory {name}: {seconds[name]:.1f} s, inertia {fits[name].inertia_:.1f}")
free, limited = fits.values()
same = np.array_equal(free.cluster_centers_, limited.cluster_centers_)
print("the same centres to the bit:", same)

# %% [markdown]
# ## Cut off, and gone on
#
# A callback plays the crash: it raises an error in the fourth iteration, before that is written. The same call then
# goes on from the last checkpoint, after the third.


# %%
class Crash(Exception):
    """As if the machine had failed."""


done = []


def crash(state):
    """Raise in the fourth iteration."""
    done.append(state.record.iteration)
    if state.record.iteration == 4:
        raise Crash


def watch(state):
    """Take note of iterations."""
    after.append(state.record.iteration)


after = []
resumed = {"checkpoint": folder / "checkpoints", "checkpoint_seconds": 0, **options}
try:
    KMeans(callback=crash, **resumed).fit(path)
except Crash:
    print("cut off in the last of iterations", done)
again = KMeans(callback=watch, **resumed).fit(path)
print("then did iterations", after)
equal = np.array_equal(again.cluster_centers_, free.cluster_centers_)
print("the same centres as without a crash, to the bit:", equal)

# %%
figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot([r.iteration for r in free.history_], [r.inertia for r in free.history_], "-", color="0.6", label="in one go")
ax.plot(
    [r.iteration for r in again.history_], [r.inertia for r in again.history_], "o", color="#0072b2", label="resumed"
)
ax.axvline(3.5, color="#d55e00", linestyle="--", label="the crash")
ax.set(xlabel="iteration", ylabel="inertia")
ax.legend()
plt.show()

# %% [markdown]
# ## On disk
#
# A run directory has the centres, the label of each row and where the rows lie. The labels of a fit by the automatic
# mode may miss the nearest centre of a few rows, which `predict` then finds: recalls say how many. With
# `exact_labels=True` the fit finds them too.

# %%
again.save(folder / "run")
loaded = KMeans.load(folder / "run")
labels = loaded.predict(path)
right = float((labels == again.labels_).mean())
print(sorted(p.name for p in (folder / "run").iterdir()))
print(f"labels as before: {right:.2%}")
print(f"recall of the labels of the fit {loaded.assignment_recall_:.4f}, of predict {loaded.predict_recall_:.4f}")
print("checkpoints are left:", any((folder / "checkpoints").glob("*")))

# %%
found = {
    "same within a limit": same,
    "same after a crash": equal,
    "iterations before the crash": len(done),
    "iterations after it": len(after),
    "refusal says what is needed": "max_memory" in refused,
    "labels as before": right,
    "MB of the file": path.stat().st_size / 1e6,
}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - Less memory than the rows take makes a fit slower or not, and never another; too little is refused, with what is
#   needed.
# - After a crash only what came since the last checkpoint is done again.
#
# ## What if
#
# - the file were 20 GB? The same call; `fastann.estimate` says beforehand how long it will take.
# - a first look is enough? `sample=100_000` trains on so many rows, and labels all.
# - the file changed in between? Its checksum would differ, and the checkpoint would be refused.

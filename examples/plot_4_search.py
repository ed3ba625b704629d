"""
What approximation costs, and what it buys
==========================================

Every iteration may find the nearest centres through an index. A sweep fits with each setting in a process of its own,
and compares time and inertia with exact fits.
"""

import tempfile

from fastann import plot, sweep
from fastann.data.patches import patches

x = patches(stride=5)
indexes = ["flat", "auto", "cells:nprobe=1|4", "ivf:nprobe=1"]
result = sweep(x, 2048, indexes, seeds=1, max_iter=5, out=tempfile.mkdtemp() + "/sweep")
print(result.table())

# %%
# Settings that no other beats in both are joined. ``fastann report`` writes the same as a page.

plot.frontier(result)

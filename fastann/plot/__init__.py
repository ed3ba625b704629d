"""Plots of clusterings and studies with matplotlib: each function draws on axes and returns them.

In the manner of scikit-learn's displays: pass `ax` to draw into a figure of yours, or leave it out for a new one.
Colours can be told apart by the colour-blind, and methods by their markers too. matplotlib comes with
``pip install "fastann[report]"``, and is loaded by the first plot.
"""

from fastann.plot.clusterings import clusters, convergence, silhouette, sizes
from fastann.plot.studies import elbow, frontier

__all__ = ["clusters", "convergence", "elbow", "frontier", "silhouette", "sizes"]

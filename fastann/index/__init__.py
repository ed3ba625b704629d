"""Indexes over centroids: what users write, what it builds, how good it is."""

"""The engine: indexes over centroids, the passes that assign rows to them, and the one Lloyd loop."""

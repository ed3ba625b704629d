"""Passes over rows: each owns its rows and gives them to centroids."""

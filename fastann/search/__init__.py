"""Nearest rows: through any index over the rows themselves, or through the clusters of a fit."""

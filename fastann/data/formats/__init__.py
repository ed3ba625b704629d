"""File formats, a module per family."""

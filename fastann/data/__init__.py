"""Anything readable as rows of numbers, seen as chunks of float32; `open` is the door to all of it."""

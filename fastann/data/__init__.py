"""Anything readable as rows of numbers, seen as chunks of float32."""

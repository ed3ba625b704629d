"""Benchmarks. Peers live here only."""

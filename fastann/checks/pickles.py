"""Pickles that another version of fastann wrote."""

from __future__ import annotations


def needs_this_version(name: str) -> str:
    """What to do with the pickle of an estimator by a version whose class lay elsewhere."""
    return (
        f"this {name} was pickled by another version of fastann; load it with that version and keep it with "
        f"save(path), which fastann.{name}.load(path) reads"
    )

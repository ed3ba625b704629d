"""From strings to specs: ``parse_index("ivf:nlist=64,nprobe=8")``; ``str(spec)`` is the way back."""

from difflib import get_close_matches
from typing import Any

from fastann.index.base import Spec
from fastann.index.spec import ALIASES, SPECS


def parse_index(text: Any) -> Spec:
    """Turn ``"ivf:nlist=64,nprobe=8"`` into ``IVF(nlist=64, nprobe=8)``; a spec is returned as it is.

    Parameters
    ----------
    text : str or spec
        A name, and options after a colon.

    Returns
    -------
    spec

    Raises
    ------
    TypeError
        If it is neither a string nor a spec.
    ValueError
        For an unknown index or option; the message lists the valid ones.
    """
    if isinstance(text, Spec):
        return text
    if not isinstance(text, str):
        names = ", ".join(f"fastann.{spec.__name__}" for spec in SPECS.values())
        raise TypeError(f"index must be 'auto', a string or one of {names}, got {text!r}")
    name, _, options = text.partition(":")
    name = ALIASES.get(name, name)
    if name not in SPECS:
        known = ", ".join(map(repr, (*SPECS, *ALIASES)))
        raise ValueError(f"unknown index {name!r}; the indexes are 'auto', {known}{_meant(text)}")
    return SPECS[name].parsed(options)


def _meant(text: str) -> str:
    """What an unknown index may have been meant as: a string of FAISS's factory, options after a comma, a name."""
    first = text.replace(":", ",").split(",")[0]
    if "=" not in text and any(char.isupper() for char in text) and first.lower() not in SPECS:
        return f". FAISS's own strings are 'factory:{text}'"
    close = get_close_matches(first.lower(), [*SPECS, *ALIASES], 1)
    if not close:
        return ""
    options = text[len(first) + 1 :]
    return f". Did you mean {close[0] + (':' + options if options else '')!r}?"

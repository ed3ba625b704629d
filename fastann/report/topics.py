"""Words and texts of clusters, for the table of clusters in a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastann import records

DESCRIPTION = "description.json"  # in a run directory
KIND = "description"
LONGEST = 140  # characters of a text that a table shows


def read(folder: Path, centers: int) -> dict[str, Any] | None:
    """Read the description in a run directory; None if there is none, or it is of other centres.

    Raises
    ------
    fastann.records.RecordError
        If it cannot be read, or is something else.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        return None
    content = records.read_json(path)
    if content.get("kind") != KIND or not all(isinstance(content.get(name), list) for name in ("words", "texts")):
        raise records.RecordError(f"{path} is no description of clusters; describe the run again")
    return content if content.get("centers") == centers else None


def names(content: dict[str, Any] | None) -> list[str]:
    """Names of all clusters, by number; none without a description."""
    given = (content or {}).get("names")
    return list(map(str, given)) if isinstance(given, list) else []


def columns(content: dict[str, Any], clusters: list[int]) -> dict[str, list[str]]:
    """Key words and the nearest row's text of some clusters, by number."""
    words, texts = content["words"], content["texts"]
    there = [j if j < min(len(words), len(texts)) else None for j in clusters]
    return {
        "words": ["" if j is None else ", ".join(map(str, words[j])) for j in there],
        "nearest_text": ["" if j is None else _shortened(texts[j]) for j in there],
    }


def _shortened(texts: Any) -> str:
    text = " ".join(str(texts[0]).split()) if texts else ""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."

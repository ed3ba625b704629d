"""What tells a run directory from other folders, and a finished run from one that is not."""

import json
import os
from pathlib import Path
from typing import Any

SCHEMA = 2
READS = (1, 2)  # 1 had labels and distances only, and no status
MANIFEST = "manifest.json"
CENTROIDS = "centroids.safetensors"
CHECKPOINTS = "checkpoints"
OLD = ".old"  # ends the name of the folder that a run lies in while another takes its place
RUNNING, COMPLETE = "running", "complete"


class RunError(ValueError):
    """A run directory that cannot be read: missing, altered, unfinished, or of another version."""


def peek(folder: Path, name: str) -> dict[str, Any]:
    """A manifest of ours, of that name, without any check; {} if there is none."""
    try:
        record = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("schema"), int) else {}


def is_running(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a run directory that was begun and not finished."""
    return peek(Path(path), MANIFEST).get("status") == RUNNING


def unfinished(run: Path) -> str:
    """Say that a run is not finished, and what to do about it."""
    return f"{run} is an unfinished run; go on with it by 'fastann fit --resume {run}'"

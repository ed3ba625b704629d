"""Reports: a study, a fit or an evaluation as one page of HTML that needs nothing but itself.

This package is a function, too: ``fastann.report(folder)`` is `build`.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from fastann import records, storage

EVALUATION = "evaluation.json"
REPORT = "report.html"


def build(folder: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` into a folder, from what lies there alone.

    Parameters
    ----------
    folder : path
        Of a sweep or benchmark (``study.json`` and ``runs/``), of a fit (a run directory) or a classifier, of an
        evaluation (``evaluation.json``), or of the last two in one.

    Returns
    -------
    Path
        Of the page. The same records give the same bytes.

    Raises
    ------
    fastann.records.RecordError
        If the folder is none of these, cannot be read, or has nothing to report.
    ImportError
        If jinja2 or matplotlib is missing.
    """
    folder = Path(folder)
    names = (records.STUDY, storage.MANIFEST, EVALUATION)
    found = [name for name in names if (folder / name).is_file()]
    if not found:
        what = f"has none of {', '.join(names)}" if folder.is_dir() else "is not a folder"
        raise records.RecordError(f"{folder} {what}; give the folder of a sweep, a benchmark, a fit or an evaluation")
    check_libraries()
    from fastann.report import evaluations, html, runs, studies

    def read() -> html.Page:
        evaluation = evaluations.read(folder / EVALUATION) if (folder / EVALUATION).is_file() else None
        return runs.page(folder, evaluation) if storage.MANIFEST in found else evaluations.page(evaluation or {})

    # A run that another takes the place of has an evaluation of its own.
    page = studies.page(folder) if found[0] == records.STUDY else storage.steady(folder, read, throughout=True)
    path = folder / REPORT
    storage.write_text(path, html.render(page))
    return path


def check_libraries() -> None:
    """Refuse, with what to install, where the libraries that write reports are missing."""
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise ImportError(f'reports need {" and ".join(missing)}; install with: pip install "fastann[report]"')


class _Callable(ModuleType):
    def __call__(self, folder: str | os.PathLike[str]) -> Path:
        return build(folder)


sys.modules[__name__].__class__ = _Callable

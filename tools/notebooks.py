"""Notebooks from their sources: `python tools/notebooks.py [NAME ...]` executes them and writes them anew.

A source, `notebooks/NAME.py`, has cells between lines of `# %%`; those of `# %% [markdown]` are comments. The notebook
beside it is the same with its outputs. It ends with a dictionary `found` of its main numbers, which tests look at.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
SMALL = "FASTANN_SMALL"  # set in the kernel's environment, notebooks take less data


def made(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source, not executed."""
    cells: list[nbformat.NotebookNode] = []
    for part in f"\n{source.read_text(encoding='utf-8')}".split("\n# %%")[1:]:
        kind, _, text = part.partition("\n")
        text = text.strip("\n")
        if kind.strip() == "[markdown]":
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.split("\n"))
            cells.append(nbformat.v4.new_markdown_cell(text, id=f"cell-{len(cells)}"))
        else:
            cells.append(nbformat.v4.new_code_cell(text, id=f"cell-{len(cells)}"))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def executed(notebook: nbformat.NotebookNode, *, small: bool = False) -> dict[str, float]:
    """Execute a notebook in a kernel and a folder of its own; outputs go into it, and `found` is returned."""
    environment = {name: value for name, value in os.environ.items() if name != SMALL} | ({SMALL: "1"} if small else {})
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "found.json"
        last = f"import json; open({str(target)!r}, 'w').write(json.dumps(found, default=float)); None"
        notebook.cells.append(nbformat.v4.new_code_cell(last))
        client = NotebookClient(
            notebook,
            timeout=600,
            record_timing=False,
            coalesce_streams=True,  # what is printed is one output, however the kernel's buffer was cut
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=40"],  # not that it listens to this machine
        )
        environment["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm would like widgets
        client.execute(env=environment)
        notebook.cells.pop()
        notebook.metadata.pop("language_info", None)  # the version of Python that happened to be there
        found: dict[str, float] = json.loads(target.read_text(encoding="utf-8"))
        return found


def main(names: list[str]) -> None:
    """Write the notebooks of some sources, or of all."""
    for source in sorted(FOLDER.glob("*.py")):
        if not names or source.stem in names:
            start = time.perf_counter()
            notebook = made(source)
            found = executed(notebook)
            target = source.with_suffix(".ipynb")
            nbformat.write(notebook, target)
            print(f"{source.stem}: {time.perf_counter() - start:.0f} s, {target.stat().st_size / 1000:.0f} kB, {found}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What came of describing clusters: names, words, nearest rows; as lines, as a table, in a run directory."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastann import records, storage
from fastann.report.topics import DESCRIPTION, KIND
from fastann.storage import tables

NAMED = 3  # words of a name
CLUSTERS = "clusters.csv"  # of a run directory
SHOWN = 60  # characters of a text on a line


@dataclass(frozen=True)
class Description:
    """Clusters by their words and nearest rows; each list has an entry for each of the k clusters.

    Attributes
    ----------
    n : int
        Rows.
    sizes : list of int
        Rows of each cluster.
    words : list of list of str
        The most telling words, the most telling first; none of a cluster without words.
    scores : list of list of float
        Their class-based TF-IDF.
    rows : list of list of int
        Numbers of the rows nearest to the centre, nearest first.
    texts : list of list of str
        Their texts.
    centers : int
        CRC-32 of the model's centres, which tells what run it is of.
    run : Path or None
        The run directory that was described.
    """

    n: int
    sizes: list[int]
    words: list[list[str]]
    scores: list[list[float]]
    rows: list[list[int]]
    texts: list[list[str]]
    centers: int
    run: Path | None = None

    @property
    def names(self) -> list[str]:
        """A name for each cluster: its three most telling words; "" where it has none."""
        return [", ".join(words[:NAMED]) for words in self.words]

    def columns(self) -> dict[str, list[Any]]:
        """Columns of a table with a line for each cluster: cluster, size, name, words, rows, texts.

        Words are separated by blanks, rows too, texts by line breaks. ``pandas.DataFrame(found.columns())`` is a frame.
        """
        return {
            "cluster": list(range(len(self.sizes))),
            "size": self.sizes,
            "name": self.names,
            "words": [" ".join(words) for words in self.words],
            "rows": [" ".join(map(str, rows)) for rows in self.rows],
            "texts": ["\n".join(texts) for texts in self.texts],
        }

    def summary(self, clusters: int = 20) -> str:
        """Lines for a terminal: size, name and nearest text of the largest clusters.

        Parameters
        ----------
        clusters : int, default=20
            How many clusters at most.
        """
        order = sorted(range(len(self.sizes)), key=lambda j: -self.sizes[j])[:clusters]
        named = {j: self.names[j] or "(no words)" for j in order}
        width = max(map(len, named.values()), default=0)
        lines = [f"{'cluster':>7}  {'rows':>9}  {'name':<{width}}  nearest row"]
        for j in order:
            text = " ".join(self.texts[j][0].split()) if self.texts[j] else ""
            text = text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
            lines.append(f"{j:>7}  {self.sizes[j]:>9,}  {named[j]:<{width}}  {text}".rstrip())
        left = len(self.sizes) - len(order)
        return "\n".join([*lines, *([f"and {left:,} more"] if left else [])])

    def save(self, path: str | os.PathLike[str] | None = None, *, force: bool = False) -> Path:
        """Write a table, or into the run directory that was described.

        A run gets the columns name and words in its ``clusters.csv``, and ``description.json``, which reports show; a
        later `save` replaces both.

        Parameters
        ----------
        path : path or None, default=None
            A ``.csv`` or ``.parquet`` file; None is the run directory.
        force : bool, default=False
            Replace an existing file.

        Returns
        -------
        Path
            Of the file or folder.

        Raises
        ------
        FileExistsError
            If the file exists and `force` is not given.
        ValueError
            If there is no run directory, it holds other centres by now, or the file is of another kind.
        """
        if path is None:
            return self._into_run()
        target = Path(path)
        check_table(target, force=force)
        tables.write(target, self.columns(), target.suffix.removeprefix("."))
        return target

    def _into_run(self) -> Path:
        from fastann.data.identity import checksum

        if self.run is None:
            raise ValueError(
                "the model that was described is no run directory; pass the path of a .csv or .parquet file, or save "
                "the model and describe its path"
            )
        if checksum(storage.read_run(self.run)[1]["centroids"]) != self.centers:
            raise ValueError(f"{self.run} holds other centres than those that were described; describe it again")
        content = records.plain({"schema": records.SCHEMA, "kind": KIND, **asdict(self), "names": self.names})
        del content["run"]
        files = {DESCRIPTION: (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()}
        table = self.run / CLUSTERS
        if table.is_file():  # runs of schema 1 have none
            files[CLUSTERS] = self._added(table.read_text(encoding="utf-8"))
        storage.amend_files(self.run, files)
        return self.run

    def _added(self, table: str) -> bytes:
        """The table of clusters of a run with names and words, in place of those that it may have."""
        head, *lines = csv.reader(io.StringIO(table, newline=""))
        more = {"name": self.names, "words": [" ".join(words) for words in self.words]}
        kept = [i for i, name in enumerate(head) if name not in more]
        columns: dict[str, Any] = {head[i]: [line[i] for line in lines] for i in kept}
        file = io.BytesIO()
        tables.write_csv(file, columns | more)
        return file.getvalue()


def check_table(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Refuse a path that `Description.save` must not replace, or could not write."""
    target = Path(path)
    if target.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{target} has the suffix {target.suffix!r}; give a name that ends in .csv or .parquet")
    tables.check_format(target, target.suffix.removeprefix("."))
    storage.check_file(target, force=force)

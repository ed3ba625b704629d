"""The table of capabilities: every line's expression is true, or its test exists."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import fastann
from fastann.cli import main
from fastann.index.faiss import faiss

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "capabilities.md"


def lines(text):
    """Lines of the page's tables, without what is in comments: three cells each."""
    for line in re.sub(r"<!--.*?-->", "", text, flags=re.S).splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0] not in ("asked for", "---"):
            yield cells


ROWS = list(lines(PAGE.read_text(encoding="utf-8")))
TESTS = [cells for cells in ROWS if "::" in cells[2]]
TRUE = [cells for cells in ROWS if "::" not in cells[2]]


def test_the_page_is_read():
    assert len(ROWS) == len(TESTS) + len(TRUE) > 80
    assert {len(cells) for cells in ROWS} == {3}
    asked = [cells[0] for cells in ROWS]
    assert len(set(asked)) == len(asked)
    assert list(lines("| a | `b\\|c` | `d` |\n<!--\n| hidden | b | c |\n-->\n")) == [["a", "`b|c`", "`d`"]]


@pytest.mark.parametrize("cells", TESTS, ids=lambda cells: cells[0])
def test_the_test_of_a_line_exists(cells):
    path, name = re.fullmatch(r"`(tests/test_\w+\.py)::(test_\w+)`", cells[2]).groups()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.fixture(scope="module")
def scope():
    """What the expressions of the page may use, beside everything public."""
    from scipy.sparse import csr_matrix, issparse
    from sklearn.metrics import silhouette_score
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(8), 100)
    x = (rng.standard_normal((8, 16)) * 3)[y] + rng.standard_normal((800, 16)) * 0.7
    order = rng.permutation(800)
    x, y = x[order].astype(np.float32), y[order]
    far = np.concatenate([x[:7], np.full((1, 16), 1000, np.float32)])
    known = {name: getattr(fastann, name) for name in fastann.__all__} | {"np": np, "x": x, "y": y, "far": far}
    known |= {"csr_matrix": csr_matrix, "issparse": issparse, "silhouette_score": silhouette_score}
    known |= {
        "Pipeline": Pipeline,
        "StandardScaler": StandardScaler,
        "read_index": lambda p: faiss().read_index(str(p)),
    }
    known |= {"cli": main, "raises": _raises}
    known["km"] = fastann.KMeans(8, random_state=0).fit(x)
    known["flat"] = fastann.KMeans(40, index="flat", random_state=0).fit(x)
    known["c"] = fastann.PrototypeClassifier(2, random_state=0).fit(x, y)
    known["pixels"] = rng.integers(0, 256, (2400, 3)).astype(np.uint8)
    known["nearest"] = lambda x, c: ((x[:, None].astype(float) - c) ** 2).sum(2).argmin(1)
    return known


def _raises(kind, function):
    with pytest.raises(kind):
        function()
    return True


def _recall(scope):
    """Share of the rows for which an index over 100 of them finds the nearest."""
    x, nearest = scope["x"], scope["nearest"]
    truth = nearest(x, x[:100])

    def recall(index):
        found = fastann.KMeans.from_centers(x[:100], index=index).predict(x)
        return float((found == truth).mean())

    return recall


@pytest.mark.filterwarnings("ignore:.*recall.*")
@pytest.mark.parametrize("cells", TRUE, ids=lambda cells: cells[0])
def test_the_expression_of_a_line_is_true(cells, scope, tmp_path):
    def written(name, write):
        write(tmp_path / name)
        return tmp_path / name

    tools = {
        "recall": _recall(scope),
        "folder": lambda: tmp_path / "study",
        "save": lambda name, array: written(name, lambda path: np.save(path, array)),
        "saved": lambda model: written("run", model.save),
        "loaded": lambda model: type(model).load(written("run", model.save)),
        "exported": lambda model, format: written("file", lambda path: fastann.export(model, path, format)),
    }
    (expression,) = re.fullmatch(r"`(.*)`", cells[2]).groups()
    assert eval(expression, scope | tools)

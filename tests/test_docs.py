"""The site: every public name has a page, every parameter a meaning, every example runs."""

import ast
import doctest
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import fastann
from fastann import plot
from fastann.cli import main

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
OBJECTS = {name: getattr(fastann, name) for name in fastann._HOME}
OBJECTS |= {f"plot.{name}": getattr(plot, name) for name in plot.__all__} | {"report.build": fastann.report.build}


def own(member):
    """Whether a member is documented: neither scikit-learn's, nor what the engine asks of indexes."""
    home = getattr(member, "__module__", None) or ""
    return home.startswith("fastann.") and not home.startswith("fastann.index.")


def members(value):
    """The public methods of a class that are this package's, with those that a subclass overrides."""
    for name in dir(value):
        member = inspect.getattr_static(value, name)
        member = getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(member) and own(member):
            yield name, member


FUNCTIONS = OBJECTS | {
    f"{name}.{method}": member
    for name, value in OBJECTS.items()
    if inspect.isclass(value)
    for method, member in members(value)
}


def test_every_public_name_has_a_page():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   ([\w.]+)$", text, flags=re.M)
    assert sorted(listed) == sorted(OBJECTS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_has_a_meaning(name):
    docscrape = pytest.importorskip("numpydoc.docscrape", reason="reading docstrings needs numpydoc: the extra docs")
    value = FUNCTIONS[name]
    doc = inspect.getdoc(value)
    assert doc, name
    if inspect.isclass(value) and (issubclass(value, Exception) or hasattr(value, "__members__")):
        return
    parsed = docscrape.NumpyDocString(doc)
    described = {}
    for part in ("Parameters", "Attributes"):
        for parameter in parsed[part]:
            meaning = " ".join(parameter.desc).strip() or ("ignored" if "ignored" in parameter.type else "")
            described |= {one.strip().lstrip("*"): meaning for one in parameter.name.split(",")}
    signature = inspect.signature(value)
    for parameter in signature.parameters.values():
        if parameter.name not in ("self", "cls"):
            inline = re.search(rf"`{parameter.name}`", " ".join([*parsed["Summary"], *parsed["Extended Summary"]]))
            assert described.get(parameter.name) or inline, f"{name} does not say what {parameter.name} means"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_defaults_are_those_that_are_told(name):
    told = re.findall(r"^(\w+) : .*?default=(\"[^\"]*\"|[\w.+-]+)$", inspect.getdoc(FUNCTIONS[name]), flags=re.M)
    taken = inspect.signature(FUNCTIONS[name]).parameters if told else {}
    for parameter, default in told:
        if parameter in taken:
            assert taken[parameter].default == ast.literal_eval(default), f"{name}: {parameter}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples_of_docstrings_are_true(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = FUNCTIONS[name]
    found = doctest.DocTestFinder(recurse=False).find(value, name, module=importlib.import_module(value.__module__))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in found:
        said = []
        assert not runner.run(test, out=said.append).failed, "".join(said)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.slow
def test_an_example_of_the_gallery_draws(path, tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib", reason="plots need matplotlib")
    pytest.importorskip("PIL", reason="photographs need Pillow")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    text = path.read_text(encoding="utf-8")
    exec(compile(text, path, "exec"), {"__name__": "__main__"})
    drawn = [ax for number in pyplot.get_fignums() for ax in pyplot.figure(number).axes]
    assert drawn
    assert all(ax.lines or ax.patches or ax.images for ax in drawn)
    pyplot.close("all")


def test_the_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(line.split(": ", 1) for line in text.splitlines() if re.match(r"\w[\w-]*: \S", line))
    assert fields["version"] == fastann.__version__
    assert fields["license"] == "MIT"
    assert {"cff-version", "message", "title", "type"} <= set(fields)
    assert "authors:" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_commands(shell):
    from click.shell_completion import get_completion_class

    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert f"_FASTANN_COMPLETE={shell}_source fastann" in page
    completion = get_completion_class(shell)(main, {}, "fastann", "_FASTANN_COMPLETE")
    assert f"_FASTANN_COMPLETE={shell}_complete" in completion.source()
    assert {item.value for item in completion.get_completions([], "des")} == {"describe"}
    assert "--texts" in {item.value for item in completion.get_completions(["describe"], "--te")}


def test_the_version_is_said():
    done = subprocess.run([sys.executable, "-m", "fastann", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fastann, version {fastann.__version__}\n"


@pytest.fixture
def broken(monkeypatch):
    """What `tools/links.py` finds in a site."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("links").broken


def test_broken_links_are_found(tmp_path, broken):
    (tmp_path / "a.html").write_text('<p id="here"></p><a href="b.html#there"></a><a href="c.html"></a>')
    (tmp_path / "b.html").write_text('<p id="other"></p><a href="a.html#here"></a><a href="https://x.y/z"></a>')
    assert broken(tmp_path) == ["a.html: b.html#there has no such place", "a.html: c.html is not there"]


def test_directives_that_a_page_shows_as_text_are_found(tmp_path, broken):
    (tmp_path / "a.html").write_text("<p>.. autoclass:: KMeans\n:members:</p><pre>.. note:: this is code</pre>")
    (tmp_path / "b.html").write_text("<p>All is well ... really:: yes</p>")
    assert broken(tmp_path) == ["a.html: shows '.. autoclass:: KMeans' as text"]


def conf():
    """What the configuration of the site defines."""
    scope: dict = {"__file__": str(ROOT / "docs" / "conf.py")}
    source = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    exec(compile(source, ROOT / "docs" / "conf.py", "exec"), scope)
    return scope


def test_every_notebook_has_a_card_with_a_picture_and_a_sentence(tmp_path):
    conf()["copy_notebooks"](SimpleNamespace(srcdir=tmp_path))
    page = (tmp_path / "notebooks" / "index.md").read_text(encoding="utf-8")
    stems = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert re.findall(r"^:link: (.+)$", page, flags=re.M) == stems
    assert page.split(":hidden:")[1].split("```")[0].split() == stems
    pictures = re.findall(r"^:img-top: (.+)$", page, flags=re.M)
    assert [Path(picture).stem for picture in pictures] == stems
    heads = {"png": b"\x89PNG", "jpg": b"\xff\xd8\xff"}
    for picture in pictures:
        assert (tmp_path / "notebooks" / picture).read_bytes().startswith(heads[picture[-3:]])
    cards = re.findall(r"^:::\{grid-item-card\} (.+?)\n.*?\n\n(.+?)\n:::$", page, flags=re.M | re.S)
    assert [len(sentence.split()) > 3 and sentence[-1] in ".?" for _, sentence in cards] == [True] * len(stems)


def test_a_card_has_the_first_sentence_and_the_last_picture():
    outputs = [{"data": {"image/png": "b2xk"}}, {"data": {"image/jpeg": "bmV3"}}, {"text": "3"}]
    cells = [{"source": ["# A title\n", "\n", "First: one\n", "of `fastann.plot`. Second."]}, {"outputs": outputs}]
    assert conf()["gist"]({"cells": cells}) == ("A title", "First: one of `fastann.plot`.", b"new", "jpg")


def test_links_of_pages_lead_where_their_targets_are_on_the_site():
    docs, led = ROOT / "docs", conf()["led"]
    text = "[a](../bench/README.md#classifiers) [b](files.md) [c](README.md) [d](../LICENSE)"
    assert led(text, docs / "limits.md", docs) == "[a](project/benchmarks.md#classifiers) [b](files.md) [c](index.md) d"
    assert led("[a](../examples/plot_1_clusters.py)", docs / "x.md", docs) == "[a](gallery/plot_1_clusters.rst)"
    made = docs / "project"
    assert led("[a](docs/files.md) [b](CHANGELOG.md)", ROOT / "README.md", made) == "[a](../files.md) [b](changelog.md)"
    if not (ROOT / "notebooks").exists():
        pytest.skip("the notebooks are not here: a source distribution has none")
    notebooks = "[a](../notebooks) [b](../notebooks/05_texts.ipynb#a-map)"
    assert led(notebooks, docs / "x.md", docs) == "[a](notebooks/index.md) [b](notebooks/05_texts.ipynb#a-map)"

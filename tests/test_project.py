"""The project keeps its own rules: layering, lazy imports, pages whose code runs, commands that are documented."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastann
from fastann.cli import main

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fastann"
# What users read; every block of Python and every command in it runs.
PAGES = {str(path.relative_to(ROOT)): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}

# The rooms, top to bottom: a module imports from its own room and from those below; rooms of one line do not meet.
ROOMS = [
    ["__main__"],
    ["cli"],
    ["__init__"],
    ["plot", "topics"],
    ["study", "quality", "duplicates"],
    ["estimators"],
    ["runs"],
    ["report", "classify", "search"],
    ["cluster"],
    ["records", "versions", "index"],
    ["storage", "data"],
    ["kernels", "checks"],
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
# FAISS searches in one room: nobody else knows of it.
HOMES = {"faiss": "index.faiss"}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


NAMES = {name for name, _ in modules()}
PUBLIC = {f"fastann.{name}": f"{home}.{name}" for name, home in fastann._HOME.items()}


def room(name):
    return name.split(".")[1] if "." in name else "__init__"


def arrows():
    """Every import of one module of the package by another, those inside functions too."""
    for name, tree in modules():
        for target in imports(tree):
            if target in PUBLIC:  # by its public name: an import of the package itself
                yield name, "fastann"
            while target not in NAMES and "." in target:
                target = target.rpartition(".")[0]
            if target in NAMES and target not in ("fastann", name):
                yield name, target


def test_every_room_has_its_place():
    assert {room(name) for name in NAMES} == set(LEVEL)


def test_imports_point_downward():
    up = {
        f"{name} -> {target}"
        for name, target in arrows()
        if room(name) != room(target)
        and not (room(name) != "__init__" and target == "fastann")
        and LEVEL[room(target)] <= LEVEL[room(name)]
    }
    up |= {
        f"{name} -> {target}"
        for name, target in arrows()
        if target == "fastann" and LEVEL[room(name)] > LEVEL["__init__"]
    }
    assert not up, "\n".join(sorted(up))


def test_no_circle_of_files():
    below = {}
    for name, target in arrows():
        if not name.startswith(f"{target}."):  # a package is loaded with what it holds
            below.setdefault(name, set()).add(target)
    state = {}

    def visit(name, path):
        assert state.get(name) != "open", " -> ".join([*path, name])
        if name not in state:
            state[name] = "open"
            for target in sorted(below.get(name, ())):
                visit(target, [*path, name])
            state[name] = "done"

    for name in sorted(below):
        visit(name, [])


@pytest.mark.parametrize(("library", "home"), HOMES.items())
def test_heavy_libraries_have_one_home(library, home):
    users = {name for name, tree in modules() if any(t.split(".")[0] == library for t in imports(tree))}
    assert users
    assert all(name.startswith(f"fastann.{home}") for name in users), users


def test_only_spaces_know_metrics_by_name():
    pattern = re.compile(r"metric\"?\]? *[!=]= *|[!=]= *[\"'](cosine|euclidean)")
    for path in PACKAGE.rglob("*.py"):
        if path != PACKAGE / "cluster" / "space.py":
            found = pattern.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path}: {found and found.group()}"


def test_public_names_exist_and_are_documented():
    for name in fastann.__all__:
        value = getattr(fastann, name)
        assert name == "__version__" or value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Kmeans'"):
        fastann.Kmeans  # noqa: B018


def test_type_checkers_see_every_public_name():
    assert (PACKAGE / "py.typed").is_file()
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        seen |= {alias.asname: node.module for alias in node.names if alias.asname == alias.name}  # "as": exported
    assert seen == fastann._HOME


def test_a_report_of_a_run_does_not_load_faiss(tmp_path):
    fastann.KMeans(4, random_state=0).fit(np.random.default_rng(0).standard_normal((200, 8))).save(tmp_path / "run")
    code = """
import sys
from fastann import report
report.build(sys.argv[1])
loaded = {"faiss", "sklearn", "pyarrow"} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def blocks(text):
    """Blocks of code in the order in which they are read: language and content."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.S | re.M)


@pytest.mark.parametrize("page", [name for name, text in TEXTS.items() if blocks(text)])
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """In the order in which it is read, and in one folder: a command takes what Python saved before it."""
    from click.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    np.save("vectors.npy", np.random.default_rng(0).standard_normal((6000, 32)).astype(np.float16))
    scope: dict = {}
    for language, block in blocks(TEXTS[page]):
        assert language in ("python", "bash"), language
        if language == "python":
            exec(compile(block, page, "exec"), scope)
            continue
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "fastann":
                result = CliRunner().invoke(main, words[1:])
                assert result.exit_code == 0, f"{line}\n{result.output}"
            else:  # installing is not for a test
                assert words[:2] in ([], ["pip", "install"]) or words[0] == "make", line


def test_readme_shows_python_and_commands():
    shown = [language for language, _ in blocks(TEXTS["README.md"])]
    assert {"python", "bash"} <= set(shown)


def test_every_command_is_on_a_page_and_has_help():
    from click.testing import CliRunner

    text = "\n".join(TEXTS.values())
    for name, command in main.commands.items():
        assert command.help, name
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0
        assert f"fastann {name}" in text or f"make {name}" in text, name


@pytest.mark.parametrize("page", [*PAGES, "ARCHITECTURE.md", "CHANGELOG.md", "bench/README.md"])
def test_links_between_pages_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_every_page_of_docs_is_listed():
    listed = re.findall(r"\]\(([\w-]+\.md)\)", TEXTS["docs/README.md"])
    assert {f"docs/{name}" for name in listed} | {"README.md", "docs/README.md"} == set(PAGES)


def test_architecture_is_that_of_the_code():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert " > ".join(", ".join(rooms) for rooms in ROOMS) in " ".join(text.split())
    for name in re.findall(r"`((?:\w+/)*\w+\.pyi?)`", text):
        assert (PACKAGE / name).exists() or (ROOT / name).exists(), name


def test_every_module_says_what_it_is_for():
    for name, tree in modules():
        assert ast.get_docstring(tree), name

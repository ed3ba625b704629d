"""The project keeps its own rules: layering, lazy imports, a README that runs, commands that are documented."""

import ast
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import fastann
from fastann.cli import main

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fastann"
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Imports point downward only: a module may import from its own layer's folder and from those below.
LAYERS = [
    ["fastann.cli"],
    ["fastann.report"],
    ["fastann.study"],
    ["fastann.quality"],
    ["fastann.records"],
    ["fastann.exports", "fastann.duplicates"],
    ["fastann.classify"],
    ["fastann.cluster"],
    ["fastann.data"],
    ["fastann.tables"],
    ["fastann.persist"],
    ["fastann.checks"],
]
# The order inside fastann.cluster, top to bottom; a module imports only from below itself.
CLUSTER = [
    "kmeans",
    "saved",
    "fitting",
    "checkpoint",
    "protocol",
    "lloyd",
    "online",
    "adapt",
    "sweep",
    "groups",
    "plan",
    "init",
    "assign",
    "update",
    "memory",
    "index",
    "native",
    "gpu",
    "space",
    "stop",
    "members",
    "kernels_sweep",
    "kernels_groups",
    "kernels_refine",
    "kernels_inverted",
    "kernels_dedup",
    "kernels_sparse",
    "kernels_screen_search",
    "kernels_amx",
    "kernels_vnni",
    "kernels_screen",
    "kernels_search",
    "kernels",
    "kernels_rows",
]


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


def layer(name):
    return next((i for i, prefixes in enumerate(LAYERS) if name.startswith(tuple(prefixes))), None)


def test_imports_point_downward():
    for name, tree in modules():
        for target in imports(tree):
            if layer(name) is not None and layer(target) is not None:
                assert layer(target) >= layer(name), f"{name} imports {target}"


def test_imports_point_downward_inside_the_engine():
    order = {f"fastann.cluster.{m}": i for i, m in enumerate(CLUSTER)}
    seen = {name for name, _ in modules() if name.startswith("fastann.cluster.")}
    assert seen == set(order), "a module of the engine is missing from, or unknown to, the order above"
    for name, tree in modules():
        for target in imports(tree):
            if name in order and target in order and target != name:
                assert order[target] > order[name], f"{name} imports {target}"


KERNELS = {f"cluster.{name}" for name in CLUSTER if name.startswith("kernels")} | {"data.kernels_half"}


@pytest.mark.parametrize(("library", "homes"), [("faiss", {"cluster.index"}), ("numba", KERNELS)])
def test_heavy_libraries_have_one_home(library, homes):
    users = {name for name, tree in modules() if any(t.split(".")[0] == library for t in imports(tree))}
    assert users == {f"fastann.{home}" for home in homes}


def test_public_names_exist_and_are_documented():
    for name in fastann.__all__:
        value = getattr(fastann, name)
        assert name == "__version__" or value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Kmeans'"):
        fastann.Kmeans  # noqa: B018


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_readme_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("vectors.npy", np.random.default_rng(0).standard_normal((6000, 32)).astype(np.float16))
    scope: dict = {}
    assert blocks("python")
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), scope)


def test_readme_commands_run(tmp_path, monkeypatch):
    from click.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    np.save("vectors.npy", np.random.default_rng(0).standard_normal((6000, 32)).astype(np.float16))
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("fastann ")]
    assert len(lines) >= 3
    for line in lines:
        result = CliRunner().invoke(main, shlex.split(line, comments=True)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"


def test_every_command_is_in_the_readme_and_has_help():
    from click.testing import CliRunner

    for name, command in main.commands.items():
        assert command.help, name
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0
        assert f"fastann {name}" in README or f"make {name}" in README, name


def test_every_module_is_in_the_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in PACKAGE.rglob("*.py"):
        if path.name != "__init__.py":
            assert path.name in text, path

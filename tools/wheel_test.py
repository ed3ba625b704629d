"""Build a wheel, and use it in a new environment that has no compiler, from an empty folder."""

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST = 5 * 2**20  # bytes of a wheel
USE = """
import shutil, sys
import numpy as np
from fastann import KMeans
assert not any(shutil.which(name) for name in ("gcc", "g++", "cc", "c++", "clang", "cmake", "ninja"))
x = np.random.default_rng(0).standard_normal((3000, 32), dtype="f")
km = KMeans(100, random_state=0).fit(x)
assert (km.predict(x) == km.labels_).all()
assert "numba" not in sys.modules
print("clustered by", sys.modules["fastann"].__file__)
"""


def check_contents(wheel: Path) -> None:
    """Assert what a wheel says of itself, and that it has what type checkers and reports need."""
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        (metadata,) = (opened.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    assert {"fastann/py.typed", "fastann/kernels/_core.pyi", "fastann/report/templates/report.html.j2"} <= set(names)
    assert not any(name.endswith((".cpp", ".hpp")) or name.startswith(("tests/", "docs/")) for name in names), names
    for line in ("Classifier: Typing :: Typed", "License-Expression: MIT", "Requires-Python: >=3.11"):
        assert line in metadata, line
    assert "# fastann" in metadata, "the README"


def main() -> None:
    """Build, measure, install, use."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        wheels = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, str(ROOT)]
        subprocess.run([*pip, *wheels], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.2f} MB")
        assert wheel.stat().st_size <= MOST, f"more than {MOST} bytes"
        check_contents(wheel)
        home = Path(folder) / "environment"
        venv.create(home, with_pip=True)
        python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
        subprocess.run([str(python), "-m", *pip[2:], "install", f"{wheel}[cpu]"], check=True)
        empty = Path(folder) / "empty"
        empty.mkdir()
        bare = {"PATH": str(empty), "HOME": str(empty)}
        subprocess.run([str(python), "-c", USE], check=True, cwd=empty, env=bare)
        subprocess.run([str(python.with_name("fastann")), "--version", "-v"], check=True, cwd=empty, env=bare)


if __name__ == "__main__":
    main()

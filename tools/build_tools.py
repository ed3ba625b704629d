"""What pip is to install before the package: the build tools, or the package's dependencies and those of some extras.

The Makefile installs in steps, and names each: `python tools/build_tools.py` prints what compiles the core,
`python tools/build_tools.py cpu demo` what the package, with these extras, needs at run time.
"""

import shutil
import sys
import tomllib
from pathlib import Path

TOOLS = {"cmake": "cmake>=3.18", "ninja": "ninja>=1.10"}  # come as wheels where the system has none


def main() -> None:
    """Print requirements, a word each."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    extras = sys.argv[1:]
    if extras:
        wanted = [*project["project"]["dependencies"]]
        for extra in extras:
            wanted += project["project"]["optional-dependencies"][extra]
    else:
        wanted = [*project["build-system"]["requires"]]
        wanted += [need for tool, need in TOOLS.items() if not shutil.which(tool)]
    print(*(need.replace(" ", "") for need in wanted))


if __name__ == "__main__":
    main()

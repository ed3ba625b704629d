"""Write the signatures of the compiled core, as it tells them, to fastann/kernels/_core.pyi; with --check, compare.

python tools/stubs.py [--check]
"""

import re
import subprocess
import sys
from pathlib import Path

from fastann.kernels import _core

STUB = Path(__file__).parents[1] / "fastann" / "kernels" / "_core.pyi"
IMPORTS = """from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
"""


def signatures() -> str:
    """What the stub should be."""
    from nanobind.stubgen import StubGen

    generator = StubGen(_core)
    generator.put(_core)
    text = re.sub(r"^import np\n", IMPORTS, generator.get(), flags=re.M)
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(STUB), "-"]
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Write the stub, or compare it."""
    text = signatures()
    if "--check" not in sys.argv:
        STUB.write_text(text, encoding="utf-8")
    elif not STUB.exists() or STUB.read_text(encoding="utf-8") != text:
        sys.exit(f"{STUB.name} is not what the core says: run python tools/stubs.py")


if __name__ == "__main__":
    main()

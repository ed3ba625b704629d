"""The benchmarks: python -m bench CASE [OPTIONS]; python -m bench CASE --help says what a case does."""

from __future__ import annotations

import sys
from importlib import import_module

CASES = ("engine", "first", "flat", "classifier", "memory", "outliers", "outofcore", "scaling", "sparse")
CASES += ("gpu", "gpu-names")


def main(argv: list[str]) -> None:
    """Hand the command line to the case that it names."""
    if not argv or argv[0] not in CASES:
        raise SystemExit(f"{__doc__}\nCases: {', '.join(CASES)}")
    import_module(f"bench.cases.{argv[0].replace('-', '_')}").main(argv[1:])


if __name__ == "__main__":
    main(sys.argv[1:])

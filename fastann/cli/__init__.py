"""The command line: each command parses, calls one public function, prints.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 2 usage or bad
input, 1 failure.
"""

# They add their commands.
from fastann.cli import classifying, deduplicating, exporting, fitting, searching, studies  # noqa: F401
from fastann.cli.common import main

__all__ = ["main"]

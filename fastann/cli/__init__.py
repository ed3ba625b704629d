"""The command line: each command parses, calls one public function, prints.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 2 usage or bad
input, 1 failure.
"""

from fastann.cli import (  # noqa: F401 - they add their commands
    classifying,
    deduplicating,
    describing,
    exporting,
    fitting,
    predicting,
    searching,
    streaming,
    studies,
)
from fastann.cli.common import main

__all__ = ["main"]

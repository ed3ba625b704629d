"""``python -m fastann.cli``."""

from fastann.cli import main

main()

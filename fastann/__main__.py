"""``python -m fastann``: the command line, for those whose folder of scripts is not on PATH."""

from fastann.cli import main

if __name__ == "__main__":
    main()

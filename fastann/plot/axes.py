"""Axes that plots are drawn on, and their colours."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from fastann.report.svg import Board

# Okabe and Ito's (2008) colours, and two of Tol's in place of black and yellow; the last one is for what has no colour
# of its own. tests/test_plot.py asserts that they differ for eyes without red, green or blue cones too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#332288", "#c4c4c4")
GREY = len(COLOURS) - 1
MUTE = "#6b6b6b"  # of what is drawn beside the data


def board(ax: Any) -> Board:
    """Prepare the axes of a user, or those of a new figure, to draw on.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `ax` is something else.
    """
    if find_spec("matplotlib") is None:
        raise ImportError('plots need matplotlib; install with: pip install "fastann[report]"')
    from matplotlib.axes import Axes

    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(layout="constrained")
    elif not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes or None, got {type(ax).__name__}; pass one of plt.subplots()[1]")
    roles = {f"c{i}": colour for i, colour in enumerate(COLOURS)}
    return Board(ax, roles | {"mute": MUTE, "paper": ax.get_facecolor()})

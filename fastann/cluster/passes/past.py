"""Where centroids were before they moved, as long as some rows were last compared with them there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastann import kernels


@dataclass(frozen=True)
class Moved:
    """Centroids before a move: its number, which centroids (int32 [r]), and where they were (float32 [r, d])."""

    number: int
    ids: np.ndarray
    rows: np.ndarray


@dataclass
class Past:
    """The last moves of centroids: how far each is from where it was at some visit follows from them.

    Most centroids stay where they are after the first iterations: a copy of all of them for each batch of rows would
    be several times as large.

    Attributes
    ----------
    number : int
        Updates of all centroids so far. What is visited now saw these.
    moves : list of Moved
        In the order in which they were made.
    """

    number: int = 0
    moves: list[Moved] = field(default_factory=list)

    def keep(self, ids: np.ndarray, rows: np.ndarray, *, done: bool = False) -> None:
        """Take note of where some centroids are that will be moved: by the next update, or after the last if `done`."""
        self.moves.append(Moved(self.number - done, ids.astype(np.int32), rows))

    def drift(self, centroids: np.ndarray, seen: int) -> np.ndarray:
        """How far centroids (float32 [k, d]) are from where they were after `seen` updates: float32 [k]."""
        out = np.zeros(len(centroids), np.float32)
        # The oldest move has the last word: a visit saw what the first one after it moved.
        for move in reversed(self.moves):
            if move.number >= seen:
                kernels.drift(centroids, move.ids, move.rows, out)
        return out

    def forget(self, seen: int) -> None:
        """Give back what nobody asks for who saw so many updates at least."""
        self.moves = [move for move in self.moves if move.number >= seen]

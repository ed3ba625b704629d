"""Several sources as one: the rows of each, one after the other."""

from typing import Any

import numpy as np

from fastann import checks
from fastann.data.formats.file import gather, joined
from fastann.data.identity import about
from fastann.data.source import Source


class Shards(Source):
    """The rows of several sources, one after the other; of any size, also without rows.

    Only the shard that was read last keeps its file open.
    """

    ahead = True

    def __init__(self, shards: list[Source], names: list[str], ids: np.ndarray | None = None):
        sizes = [shard.n for shard in shards]
        checks.same_shape(names, [shard.d for shard in shards], [shard.stored for shard in shards], sizes)
        self.shards, self.ends = shards, np.cumsum(sizes)
        self.n = int(self.ends[-1])
        self._like = next((shard for shard in shards if shard.n), shards[0])
        self.d, self.dtype, self.limits = self._like.d, self._like.dtype, self._like.limits
        self.buffered = max(shard.buffered for shard in shards)
        self._ids, self._last = ids, 0

    @property
    def stored(self) -> str:
        return self._like.stored

    def ids(self) -> np.ndarray | None:
        return self._ids

    def fingerprint(self) -> dict[str, Any] | None:
        known = [shard.fingerprint() for shard in self.shards]
        files = {name: stat for one in known if one for name, stat in one["files"].items()}
        extra = {key: value for one in known if one for key, value in one.items()}  # what only one kind has
        return None if None in known else extra | about(self, files)

    def native(self, rows: Any) -> np.ndarray:
        return joined(list(gather(rows, self.ends, self._part)), self.d, self.dtype)

    def _part(self, i: int, rows: Any) -> np.ndarray:
        last, self._last = self.shards[self._last], i
        if last is not self.shards[i]:
            last.release()
        block = self.shards[i].native(rows)
        return np.array(block) if self.shards[i].direct else block  # reads a mapped file here, in this thread

"""What an index over centroids does, what a spec says of it, and what builds one: the contracts, with their defaults.

A new index is a subclass of `Index` that searches, and a frozen dataclass under `Spec` that builds it, entered in
``fastann.index.spec.SPECS``. Nothing else asks which kind it has before it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from fastann import checks

AUTO = "auto"
LISTED = 8  # candidates in a list
GATHER = 2**14  # rows that are copied at once
_LARGEST = 2**31 - 1  # FAISS keeps the options of its indexes in C ints


class Index(ABC):
    """An index over `k` centroids of `d` dimensions.

    Attributes
    ----------
    exact : bool
        Whether the first neighbour is the true nearest centroid, always.
    moves : bool
        Whether `moved` can follow centroids that move; other indexes are built anew.
    centroids : float32 [k, d], or a float32 CSR matrix
    """

    exact: bool = False
    moves: bool = False
    centroids: Any

    @abstractmethod
    def search(self, x: Any, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find about the `m` nearest centroids of each row, nearest first.

        Parameters
        ----------
        x : float32 [n, d]; some indexes take a float32 CSR matrix too
        m : int
            At most k.
        hint : int32 [n], optional
            A centroid believed near each row, or -1. It may make the search faster, and changes no result.

        Returns
        -------
        ids : int32 [n, m]
            -1 where the index found too few.
        sqdist : float32 [n, m]
            Squared L2 distances, infinite where the id is -1.
        """

    def measured(self, x: Any, m: int) -> tuple[np.ndarray, np.ndarray]:
        """The same, with distances for users: a search for the nearest alone may tell its distance roughly."""
        return self.search(x, m)

    def listed(
        self, x: Any, rows: np.ndarray, m: int, within: np.ndarray, *, rough: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find about the `m` (at most 8) nearest centroids of some rows, for lists of candidates.

        Unless an index does better, it searches the rows, copied a few at a time.

        Parameters
        ----------
        x : float32 [n, d]
        rows : int32 [r]
            Which rows.
        m : int
        within : float32 [r]
            L2 distances beyond which no centroid is wanted; an index that cannot use them ignores them.
        rough : bool
            Whether distances may be off by about 1%.

        Returns
        -------
        ids : int32 [r, 8]
            -1 where there are fewer.
        dist : float32 [r, 8]
            L2 distances, not squared; infinite where the id is -1.
        """
        m = min(m, self.centroids.shape[0])
        ids, dist = np.full((len(rows), LISTED), -1, np.int32), np.full((len(rows), LISTED), np.inf, np.float32)
        for start in range(0, len(rows), GATHER):
            part = slice(start, start + GATHER)
            ids[part, :m], sqdist = self.search(x[rows[part]], m)
            dist[part, :m] = np.sqrt(sqdist)
        return ids, dist

    def moved(self, centroids: np.ndarray, changed: np.ndarray) -> Self:
        """The same index over centroids (float32 [k, d]) some of which moved; it takes over this one's memory.

        Parameters
        ----------
        centroids : float32 [k, d]
        changed : bool [k]
            Which of them moved.

        Raises
        ------
        TypeError
            If it cannot: see `moves`.
        """
        raise TypeError(f"{type(self).__name__} cannot follow centroids that move; build it anew")

    def retuned(self, spec: "Spec") -> Self:
        """The same built index, searched with the options of a spec that agrees with its own on ``built_with``."""
        return self

    def reach(self, x: Any, ids: np.ndarray) -> np.ndarray | None:
        """The least value of its search option with which a search of each row comes to a given centroid.

        Parameters
        ----------
        x : float32 [n, d]
        ids : int32 [n]
            The centroids.

        Returns
        -------
        int64 [n] or None
            None where that cannot be told.
        """
        return None

    def written(self) -> np.ndarray | None:
        """What `Spec.read` makes the index of again, uint8; None where it is built again as quickly."""
        return None

    def light(self) -> Self:
        """The same without the centroids, where searches do not need them: `centroids` then has their shape alone."""
        return self

    @property
    def most(self) -> int:
        """The value of its search option beyond which there is nothing more to look at; 1 where it has none."""
        return 1

    @property
    def ranks(self) -> np.ndarray | None:
        """Numbers of the centroids by which those that lie together follow each other, where it has such: int32 [k]."""
        return None

    @property
    def distances(self) -> float | None:
        """Distances computed per searched row, with the index as it was built; None where that cannot be told."""
        return None


def distances_in_cells(sizes: np.ndarray, nprobe: int) -> float:
    """Distances computed per row by an index that searches `nprobe` cells of the given sizes (int [nlist]).

    Those to the centre of every cell, and to the members of `nprobe` cells of a mean size that is weighted by size, as
    rows fall into large cells more often.
    """
    k = int(sizes.sum())
    return len(sizes) + min(float(k), nprobe * float((sizes.astype(np.float64) ** 2).sum()) / k)


class Builder(Protocol):
    """Something that builds an index over centroids, such as a spec."""

    def started(self) -> "Builder":
        """The same with a number for every option that is left open."""
        ...

    def build(self, centroids: Any, *, seed: int = 0, device: Any = "cpu") -> Index:
        """Index `centroids`: float32 [k, d], or a float32 CSR matrix where the builder takes one."""
        ...


def option(default: int | None, low: int, help: str, *, search: bool = False) -> Any:
    """Declare a spec's integer field; `search` marks the one that may change after the index is built.

    That one may also be "auto": found from a recall that is asked for.
    """
    help = f"{help}, or auto" if search else help
    return field(default=default, metadata={"low": low, "help": help, "search": search})


@dataclass(frozen=True)
class Spec(ABC):
    """What users write to choose an index: nothing but its options, checked.

    A kind of index is a subclass: a frozen dataclass whose integer options are declared by `option`. Other options
    have a "help" in their metadata, and a true "search" if they may change after the index is built.

    Attributes
    ----------
    name : str
        How the kind is called in strings.
    build_rank : int
        Its place among the kinds by the time it takes to build, the quickest 0: `fastann.tune` tries them in this
        order.
    richer : str
        What to change so that it finds more, as an order; "" of kinds that find everything.
    """

    name: ClassVar[str]
    build_rank: ClassVar[int] = 9
    richer: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, str) and value == AUTO and f.name == self.search_option:
                continue
            if "low" in f.metadata and not (value is None and f.default is None):
                checks.integer(value, f"{self.name}: {f.name}", f.metadata["low"])
                if value > _LARGEST:
                    raise ValueError(f"{self.name}: {f.name} must be at most {_LARGEST}, got {value}")

    # ------------------------------------------------------------------ as text

    def __str__(self) -> str:
        given = ",".join(f"{name}={value}" for name, value in self.given.items())
        return f"{self.name}:{given}" if given else self.name

    @classmethod
    def parsed(cls, options: str) -> "Spec":
        """The spec of what follows the name and colon in its string.

        Raises
        ------
        ValueError
            For an unknown option, one given twice or one that is no integer; the message lists the valid ones.
        """
        known = {f.name: f for f in fields(cls)}
        found: dict[str, int | str | None] = {}
        for item in filter(None, options.split(",")):
            key, _, value = item.partition("=")
            if key not in known:
                valid = ", ".join(f"{f.name} ({f.metadata['help']})" for f in known.values())
                raise ValueError(f"index {cls.name!r} has no option {key!r}; it has {valid or 'none'}")
            if key in found:
                text = f"{cls.name}:{options}"
                raise ValueError(f"index {cls.name!r}: {key} is given twice in {text!r}; give it once")
            searched = known[key].metadata.get("search")
            words: dict[str, str | None] = {"None": None, AUTO: AUTO} if searched else {"None": None}
            try:
                found[key] = words[value] if value in words else int(value)
            except ValueError:
                or_auto = " or auto" if searched else ""
                raise ValueError(f"index {cls.name!r}: {key} must be an integer{or_auto}, got {value!r}") from None
        return cls(**found)

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not the defaults."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    # ------------------------------------------------------------------ building

    @abstractmethod
    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        """Index `centroids`.

        Parameters
        ----------
        centroids : float32 [k, d]
        seed : int
            Of all randomness.
        device : "cpu" or tuple of int
            GPUs to search on, by number.

        Raises
        ------
        ValueError
            If the search option is "auto", the device is none for this kind or the options do not suit the centroids.
        RuntimeError
            If a GPU is asked for that is not there.
        """

    def on_cpu(self, device: Any) -> None:
        """Refuse GPUs, for kinds that search on CPUs alone."""
        if device != "cpu":
            raise ValueError(
                f"index={str(self)!r} searches on CPUs; use index='ivf' or 'flat' on a GPU, or device='cpu'"
            )

    def read(self, data: np.ndarray, centroids: np.ndarray) -> Index:
        """The index again of what `Index.written` gave (uint8), over the same centroids; none where that gives None."""
        raise TypeError(f"{self.name} has nothing to read; build it")

    @property
    def built_with(self) -> tuple[Any, ...]:
        """The arguments that a built index depends on; two specs that agree on them can share it."""
        return (type(self), *(getattr(self, f.name) for f in fields(self) if not f.metadata.get("search")))

    def cut(self, k: int, what: str = "n_clusters=") -> str:
        """Which option an index over `k` centroids would cut, and what it may be at most; "" if it keeps them all.

        `what` it is that there are `k` of, as it stands before the number.
        """
        return ""

    def check(self, k: int) -> None:
        """Refuse options that an index over `k` centroids would cut, as it would not be what it is called.

        Raises
        ------
        ValueError
            With what `cut` says.
        """
        if reason := self.cut(k):
            raise ValueError(reason)

    # ------------------------------------------------------------------ searching

    @property
    def search_option(self) -> str | None:
        """The search option that is a number, more of which finds more; None where there is none."""
        return next((f.name for f in fields(self) if f.metadata.get("search") and "low" in f.metadata), None)

    @property
    def open(self) -> str | None:
        """The search option, if it is "auto": to be found from a recall."""
        return self.search_option if self.search_option and getattr(self, self.search_option) == AUTO else None

    def started(self) -> Self:
        """The same with a number for the option that is "auto": its default, to start from."""
        if self.open is None:
            return self
        default: Any = next(f.default for f in fields(self) if f.name == self.open)
        return self.at(default)

    def at(self, effort: int | str) -> Self:
        """The same with another value of its search option."""
        assert self.search_option is not None
        return replace(self, **{self.search_option: effort})

    def number(self, name: str) -> int:
        """An option that an index cannot be searched without.

        Raises
        ------
        ValueError
            If it is "auto".
        """
        value = getattr(self, name)
        if value == AUTO:
            raise ValueError(
                f"{self.name}: {name}='auto' is found while fitting, KMeans(index={str(self)!r}, recall=0.99); "
                "give a number to build the index by itself"
            )
        return int(value)

    def searching(self, **options: Any) -> Self:
        """Copy with other search options.

        Raises
        ------
        ValueError
            For options that it has not, or that need a new build.
        """
        allowed = [f.name for f in fields(self) if f.metadata.get("search")]
        for name in options:
            if name not in allowed:
                raise ValueError(
                    f"{name!r} is not a search option of {self}; "
                    + (f"it has {', '.join(allowed)}" if allowed else "it has none")
                )
        return replace(self, **options)

    # ------------------------------------------------------------------ costs

    def distances(self, k: int) -> float:
        """Distances that a search among `k` centroids is expected to compute per row; k unless a kind knows better."""
        return float(k)

    @classmethod
    def growth(cls, before: int, k: int) -> float:
        """How many times as long it takes to build an index over `k` centroids as over `before`."""
        return k / before

    @classmethod
    def grid(cls, k: int) -> "list[Spec]":
        """Ways to build this kind over `k` centroids that `fastann.tune` tries, quickest first; may be empty."""
        return []

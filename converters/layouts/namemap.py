"""Bijective renaming of tensors by module paths: one table, read in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from converters.errors import CorruptFile
from converters.statedict import StateDict

MOST_BLOCKS = 4096


@dataclass(frozen=True, slots=True)
class NameMap:
    """Pairs of module paths in two layouts.

    A tensor belongs to the longest path of the table that is its own path or an ancestor of it;
    what follows the path stays as it is. Tensors outside the table keep their names, so that
    nothing disappears unseen. Raises ValueError when two pairs share a path on the same side.
    """

    forward: dict[str, str]
    backward: dict[str, str]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> NameMap:
        """The map of these (left path, right path) pairs."""
        listed = list(pairs)
        forward, backward = dict(listed), {right: left for left, right in listed}
        if len(forward) != len(listed) or len(backward) != len(listed):
            raise ValueError("a module path occurs twice")
        return cls(forward, backward)

    @property
    def inverse(self) -> NameMap:
        """The same table read from right to left."""
        return NameMap(self.backward, self.forward)

    def __call__(self, name: str) -> str:
        """The right-hand name of a left-hand tensor."""
        head, tail = name, ""
        while head:
            if (renamed := self.forward.get(head)) is not None:
                return renamed + tail
            head, dot, last = head.rpartition(".")
            tail = f"{dot}{last}{tail}"
        return name

    def apply(self, sd: StateDict) -> StateDict:
        """Every tensor under its right-hand name. Raises CorruptFile on a collision."""
        return renamed(sd, self)


def renamed(sd: StateDict, rule: Callable[[str], str]) -> StateDict:
    """Every tensor under another name. Raises CorruptFile when the file holds a name twice."""
    try:
        return sd.rename(rule)
    except ValueError as error:
        raise CorruptFile(f"a tensor is there under two spellings: {error}") from error


def joined(left: str, right: str, inner: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs of a block: `inner` pairs under the block's two paths."""
    return [(f"{left}.{a}", f"{right}.{b}") for a, b in inner]


def check_counts(what: str, levels: int, layers: int) -> None:
    """Raises CorruptFile for more blocks than any network has: names may claim any number."""
    if layers < 0 or levels * layers > MOST_BLOCKS:
        raise CorruptFile(f"the {what} has {levels} levels of {layers} blocks, by its names")

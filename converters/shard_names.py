"""What files of one model in several are called, and their index.

`<stem>-00001-of-00002.<ext>`, with a variant `<stem>.<variant>-00001-of-00002.<ext>`; the index is
`<stem>.<ext>.index.json` or `<stem>.<ext>.index.<variant>.json`. Source: huggingface/diffusers
`utils/hub_utils.py`, huggingface/huggingface_hub `serialization/_base.py`; llama.cpp `gguf-split`
names its parts so, too, and needs no index.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)", re.DOTALL)
_INDEX = re.compile(r"(.+)(\.\w+)\.index(?:\.([\w-]+))?\.json", re.DOTALL)


class Whole(NamedTuple):
    """What all parts of a model and its index have in common: the stem, and the ending of parts."""

    stem: str
    suffix: str


@dataclass(frozen=True, order=True, slots=True)
class Shard:
    """A part of a model, the first of `count` has the number 1."""

    whole: Whole
    number: int
    count: int

    @property
    def names(self) -> Iterator[str]:
        """The names of all parts, in their order; a name may claim very many."""
        stem, suffix = self.whole
        return (f"{stem}-{n:05}-of-{self.count:05}{suffix}" for n in range(1, self.count + 1))


def shard_of(name: str) -> Shard | None:
    """What a file's name says; None for one that names no part, or none that there can be."""
    found = _SHARD.fullmatch(name) if "-of-" in name else None
    if found is None or not 1 <= int(found[2]) <= int(found[3]):
        return None
    return Shard(Whole(found[1], found[4]), int(found[2]), int(found[3]))


def indexed_by(name: str) -> Whole | None:
    """What an index with this name puts together; None for other files."""
    found = _INDEX.fullmatch(name) if ".index." in name else None
    return None if found is None else Whole(".".join(filter(None, found.group(1, 3))), found[2])

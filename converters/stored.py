"""Tensors that lie in a file one after the other, described once for all files of one structure.

Collections hold thousands of adapters with the same names, types and shapes: what was worked out
for one `Structure` is worked out for all of them. `StoredTensors` are those of one file; they are
built when they are first looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from functools import cached_property
from typing import NamedTuple

from converters.bytesource import ByteSource
from converters.dtypes import DType
from converters.statedict import Extent, LazyTensor


class Entry(NamedTuple):
    """A tensor's place: its bytes are `begin` to `end`, counted from the start of the data."""

    dtype: DType
    shape: tuple[int, ...]
    begin: int
    end: int


class Structure:
    """Names, types, shapes and places of tensors; equal to itself alone, so it can be a key."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = entries

    @cached_property
    def nbytes(self) -> int:
        """Where the last tensor ends."""
        return max((entry.end for entry in self.entries.values()), default=0)

    @cached_property
    def parameters(self) -> int:
        """Elements of all tensors together."""
        return sum(math.prod(entry.shape) for entry in self.entries.values())

    @cached_property
    def dtypes(self) -> Mapping[str, int]:
        """How many tensors there are of each element type, by its label."""
        return Counter(entry.dtype.label for entry in self.entries.values())


class StoredTensors(Mapping[str, LazyTensor]):
    """The tensors of a file, `source`, whose data begins at `start`."""

    def __init__(self, structure: Structure, source: ByteSource, start: int) -> None:
        self.structure = structure
        self.source = source
        self.start = start

    @cached_property
    def _tensors(self) -> dict[str, LazyTensor]:
        source, start, prefix = self.source, self.start, f"{self.source.name}: "
        return {
            name: LazyTensor(
                entry.dtype,
                entry.shape,
                (Extent(source, start + entry.begin, entry.end - entry.begin),),
                prefix + name,
            )
            for name, entry in self.structure.entries.items()
        }

    def __getitem__(self, name: str) -> LazyTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.structure.entries)

    def __len__(self) -> int:
        return len(self.structure.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.structure.entries

    def keys(self) -> KeysView[str]:
        """All names."""
        return self.structure.entries.keys()

    def values(self) -> ValuesView[LazyTensor]:
        """All tensors."""
        return self._tensors.values()

    def items(self) -> ItemsView[str, LazyTensor]:
        """All names with their tensors."""
        return self._tensors.items()

"""The lazy state dict: names, shapes and types of tensors, with a recipe for their bytes.

A tensor's source is either a run of extents (bytes that already lie somewhere in C order, little
endian, and can be copied by the kernel) or a function that computes them when asked. dtype and
shape are known before any byte is read, so a whole operation can be built, looked at (the dry run)
and thrown away without touching tensor data.
"""

from __future__ import annotations

import math
from collections.abc import (
    Callable,
    ItemsView,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from converters.bytesource import ByteSource
from converters.dtypes import DType

Buffer = bytes | bytearray | memoryview
"""Bytes in C order, little endian."""

Plain = None | bool | int | float | str | bytes | list["Plain"] | dict[str, "Plain"]
"""A value without behaviour, as found beside the tensors of a pickled checkpoint."""


@runtime_checkable
class InRuns(Protocol):
    """The source of a tensor that is computed a run at a time, in memory that is used again."""

    def __call__(self) -> Buffer:
        """All bytes."""

    def runs(self) -> Iterator[Buffer]:
        """The bytes in their order; each run is good until the next is asked for."""


@dataclass(frozen=True, slots=True)
class Extent:
    """`nbytes` bytes at `offset` of a source."""

    source: ByteSource
    offset: int
    nbytes: int

    def read(self) -> bytes:
        """The bytes; raises TruncatedFile or FileUnreadable."""
        return self.source.pread(self.offset, self.nbytes)


@dataclass(frozen=True, slots=True)
class Blocks:
    """The source of a tensor whose values are computed from stored blocks, each with its scales.

    `label` names the type of the blocks, as in `Q4_K`.
    """

    label: str
    extent: Extent
    values: Callable[[], Buffer]

    def __call__(self) -> Buffer:
        """The values."""
        return self.values()


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor whose bytes are fetched or computed only by `read`.

    `origin` says where the values come from, for error messages ("a.ckpt: conv_in.weight").
    `made_from` are the byte sources that a computed tensor reads. `pieces` are the same bytes as
    smaller tensors to be computed one after the other, which takes less memory where whole results
    are kept.
    """

    dtype: DType
    shape: tuple[int, ...]
    source: tuple[Extent, ...] | Callable[[], Buffer]
    origin: str
    made_from: tuple[ByteSource, ...] = ()
    pieces: tuple[LazyTensor, ...] = ()

    @property
    def numel(self) -> int:
        """Number of elements (1 for a scalar)."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.dtype.nbytes(self.numel)

    @property
    def extents(self) -> tuple[Extent, ...] | None:
        """The stored extents, or None for a computed tensor."""
        return self.source if isinstance(self.source, tuple) else None

    @property
    def stored(self) -> tuple[str, tuple[Extent, ...] | None]:
        """What lies in the file: the label of its type and its extents; None for the computed."""
        if isinstance(self.source, Blocks):
            return self.source.label, (self.source.extent,)
        return self.dtype.label, self.extents

    @property
    def sources(self) -> tuple[ByteSource, ...]:
        """The byte sources that reading this tensor touches."""
        if not isinstance(self.source, tuple):
            return self.made_from
        if len(self.source) == 1:  # so are nearly all
            return (self.source[0].source,)
        return tuple(dict.fromkeys(extent.source for extent in self.source))

    def read(self) -> Buffer:
        """All bytes of the tensor, C order, little endian."""
        if not isinstance(self.source, tuple):
            return self.source()
        if len(self.source) == 1:
            return self.source[0].read()
        return b"".join(extent.read() for extent in self.source)

    def runs(self) -> Iterator[Buffer]:
        """All bytes in their order; each run is good until the next is asked for."""
        if isinstance(self.source, InRuns):
            yield from self.source.runs()
        else:
            yield self.read()

    def parts(self, numel: int) -> Iterator[LazyTensor]:
        """The elements in their order, so many at a time; of a computed tensor all of them.

        A part of a computed tensor would compute the whole of it.
        """
        if self.extents is None or 0 < self.numel <= numel:
            yield self
            return
        flat = self.reshape((self.numel,))
        for start in range(0, self.numel, numel):
            yield flat.slice0(start, min(start + numel, self.numel))

    def reshape(self, shape: tuple[int, ...]) -> LazyTensor:
        """The same bytes seen with another shape of equal size. Raises ValueError otherwise."""
        if math.prod(shape) != self.numel:
            raise ValueError(f"{self.origin}: shape {self.shape} cannot be seen as {shape}")
        return replace(self, shape=shape)

    def slice0(self, start: int, stop: int) -> LazyTensor:
        """Rows `start`..`stop` of the first axis; stored tensors stay stored."""
        if not self.shape or not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"{self.origin}: rows {start}:{stop} of shape {self.shape}")
        shape = (stop - start, *self.shape[1:])
        row = self.dtype.nbytes(math.prod(self.shape[1:]))
        first, last = start * row, stop * row
        if isinstance(self.source, tuple):
            return replace(self, shape=shape, source=_cut(self.source, first, last))
        compute = self.source
        return replace(
            self, shape=shape, source=lambda: memoryview(compute())[first:last], pieces=()
        )


def concat0(tensors: Sequence[LazyTensor]) -> LazyTensor:
    """Tensors of one type below each other along the first axis; stored ones stay stored.

    Raises ValueError for none, other types, or shapes that differ behind the first axis.
    """
    kinds = {(tensor.dtype, tensor.shape[1:]) for tensor in tensors}
    if len(kinds) != 1 or not all(tensor.shape for tensor in tensors):
        raise ValueError(f"tensors that do not fit below each other: {kinds}")
    first = tensors[0]
    shape = (sum(tensor.shape[0] for tensor in tensors), *first.shape[1:])
    stored = [tensor.extents for tensor in tensors]
    if None not in stored:
        extents = tuple(extent for some in stored for extent in some or ())
        return LazyTensor(first.dtype, shape, extents, first.origin)
    sources = tuple(dict.fromkeys(s for tensor in tensors for s in tensor.sources))
    return LazyTensor(
        first.dtype,
        shape,
        lambda: b"".join(tensor.read() for tensor in tensors),
        first.origin,
        sources,
    )


def _cut(extents: tuple[Extent, ...], first: int, last: int) -> tuple[Extent, ...]:
    kept: list[Extent] = []
    position = 0
    for extent in extents:
        begin, end = max(first, position), min(last, position + extent.nbytes)
        if begin < end:
            kept.append(Extent(extent.source, extent.offset + begin - position, end - begin))
        position += extent.nbytes
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class StateDict(Mapping[str, LazyTensor]):
    """Named lazy tensors, the text metadata of their file, and the plain values beside them.

    Every operation returns a new StateDict and reads nothing. `extras` holds non-tensor entries of
    pickled files (`global_step`, `layer_structure`, ...), by dotted path.
    """

    tensors: Mapping[str, LazyTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, Plain] = field(default_factory=dict)

    def __getitem__(self, name: str) -> LazyTensor:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    # Mapping's own views look every name up again, which files of thousands of tensors feel.
    def keys(self) -> KeysView[str]:
        """All names."""
        return self.tensors.keys()

    def values(self) -> ValuesView[LazyTensor]:
        """All tensors."""
        return self.tensors.values()

    def items(self) -> ItemsView[str, LazyTensor]:
        """All names with their tensors."""
        return self.tensors.items()

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def parameters(self) -> int:
        """Elements of all tensors together."""
        return sum(tensor.numel for tensor in self.tensors.values())

    def select(self, wanted: Callable[[str], bool]) -> StateDict:
        """Only the tensors whose name is wanted."""
        return self._with({name: t for name, t in self.tensors.items() if wanted(name)})

    def drop(self, names: set[str] | frozenset[str]) -> StateDict:
        """Without the named tensors."""
        return self.select(lambda name: name not in names)

    def rename(self, rule: Callable[[str], str]) -> StateDict:
        """Every tensor under the name that `rule` gives it. Raises ValueError on a collision."""
        renamed: dict[str, LazyTensor] = {}
        for name, tensor in self.tensors.items():
            target = rule(name)
            if target in renamed:
                raise ValueError(f"two tensors would be named {target}")
            renamed[target] = tensor
        return self._with(renamed)

    def map(self, change: Callable[[str, LazyTensor], LazyTensor]) -> StateDict:
        """Every tensor replaced by what `change` makes of it."""
        return self._with({name: change(name, t) for name, t in self.tensors.items()})

    def overlay(self, other: Mapping[str, LazyTensor]) -> StateDict:
        """These tensors with those of `other` added or put in their place."""
        return self._with({**self.tensors, **other})

    def with_metadata(self, metadata: Mapping[str, str]) -> StateDict:
        """The same tensors with other metadata."""
        return replace(self, metadata=dict(metadata))

    def _with(self, tensors: dict[str, LazyTensor]) -> StateDict:
        return replace(self, tensors=tensors)

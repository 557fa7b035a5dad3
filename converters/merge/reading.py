"""Runs of the elements of a tensor, read into memory that the next run uses again.

A merge reads thousands of blocks that fit the processor's cache: what is set up for a block in the
interpreter would take as long as its arithmetic, and so is set up once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from converters.adapters.finite import all_finite
from converters.bytesource import pread_into
from converters.compute import buffer, equal_words, split, stored_in, torch_dtype, words
from converters.devices import CPU, device
from converters.dtypes import DType
from converters.spare_memory import floats_at, scratch
from converters.statedict import Buffer, Extent, LazyTensor

if TYPE_CHECKING:
    from converters.compute import Tensor


class Reader:
    """Reads runs of a tensor's elements; what has to be computed is computed once.

    `place` tells the readers of a thread apart: those of one place use the same memory. What was
    read is looked at in blocks of `block` elements (None: as one).
    """

    def __init__(self, tensor: LazyTensor, place: int, block: int | None = None) -> None:
        self.dtype = tensor.dtype
        self.memory = memoryview(b"")
        self._place, self._block = place, block
        self._flat = tensor.reshape((tensor.numel,))
        self._whole: Extent | None = None
        if tensor.extents is None:
            data = memoryview(tensor.read()).cast("B")
            self._flat = replace(self._flat, source=partial(_held, data))
        elif len(tensor.extents) == 1:
            self._whole = tensor.extents[0]

    def read(self, start: int, stop: int) -> None:
        """Bring the elements into `memory`."""
        nbytes = self.dtype.nbytes(stop - start)
        if len(self.memory) != nbytes:
            self.memory = scratch(nbytes, self._place)
            block = min(self._block or stop - start, stop - start)
            self._stored = stored_in(self.memory, self.dtype)
            self._blocks = split(self._stored, block)
            self._words = [words(each) for each in self._blocks]
            self._floats = floats_at(self._place, block)
        if self._whole is None:
            self._read_parts(self._flat.slice0(start, stop))
        else:
            first = self._whole.offset + self.dtype.nbytes(start)
            pread_into(self._whole.source, first, self.memory)

    def read_into(self, target: Tensor, start: int) -> None:
        """Bring the elements from `start` on into a tensor."""
        self.read(start, start + target.numel())
        target.copy_(self._stored)

    def _read_parts(self, run: LazyTensor) -> None:
        view = self.memory
        if run.extents is None:
            view[:] = run.read()
        for extent in run.extents or ():
            pread_into(extent.source, extent.offset, view[: extent.nbytes])
            view = view[extent.nbytes :]

    def equals(self, other: Reader, block: int) -> bool:
        """Whether a block of both has the same bytes of the same type."""
        return self.dtype is other.dtype and equal_words(self._words[block], other._words[block])

    def floats(self, block: int) -> Tensor:
        """A block in float32, until the next is asked for."""
        stored = self._blocks[block]
        return self._floats[: stored.numel()].copy_(stored)

    def stored(self, block: int) -> LazyTensor:
        """A block as a tensor, until the next is read."""
        own = self._blocks[block]
        return replace(self._flat, shape=(own.numel(),), source=partial(buffer, own))


def rounded(values: Tensor, dtype: DType, hold: Callable[[Tensor], None]) -> Tensor:
    """Flat values in a type, in memory that the thread's next call uses again.

    `hold` gets those that the type cannot hold: it changes them, or raises.
    """
    if not all_finite(values, dtype):
        hold(values)
    if values.dtype is torch_dtype(dtype) or device() != CPU:
        return values.to(torch_dtype(dtype))
    return _room(dtype, values.numel()).copy_(values)


def joined(blocks: Iterable[Tensor], dtype: DType, count: int) -> Tensor:
    """Blocks of `count` values in a type, in memory that the thread's next call uses again.

    A single block that has the type stays where it is.
    """
    first = 0
    for block in blocks:
        last = first + block.numel()
        if last == count and not first and block.dtype is torch_dtype(dtype):
            return block
        _room(dtype, count)[first:last].copy_(block.view(-1))
        first = last
    return _room(dtype, count)


def _room(dtype: DType, count: int) -> Tensor:
    """The tensor of the thread's last call, if it was for as much."""
    size = (dtype, count)
    if getattr(_last, "size", None) != size:
        memory = scratch(dtype.nbytes(count), _ROUNDED)
        _last.size, _last.room = size, stored_in(memory, dtype)
    room: Tensor = _last.room
    return room


_ROUNDED = -2
"""The place of results, beside those of readers."""
_last = threading.local()


def _held(data: Buffer) -> Buffer:
    return data

"""Weights that products are added to, computed a few rows at a time.

W + Σ strength · scale · up (out, r) @ down (r, in · kernel), the products of all adapters as one:
their factors stand side by side in one matrix each. Rows need nothing but themselves and the
factors, so that a weight passes through memory that stays in the processor's cache, in float32, and
is rounded once. What several threads compute of one tensor shares its factors.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from converters.adapters.finite import all_finite
from converters.compute import CPU
from converters.dtypes import DType
from converters.statedict import LazyTensor

if TYPE_CHECKING:
    from converters.compute import Tensor

_PIECE = 1 << 20
"""Elements that a thread reads at a time."""
_BLOCK = 1 << 18
"""Elements of them that it widens, changes and rounds at a time: these stay in the nearest cache.

Fewer would be changed by smaller products, of which each reads all of down.
"""
_PIECE_ELSEWHERE = 1 << 24
"""The same, both, for other devices, which are slow to call and have much to do at a time."""

Rows = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stack:
    """Products that are added to some rows of a tensor: up (rows, r) @ down (r, in · kernel)."""

    rows: Rows
    up: Tensor
    down: Tensor

    def add_to(self, block: Tensor, first: int) -> None:
        """Add to a block (n, in · kernel) of the tensor's rows from `first` on."""
        start, stop = max(self.rows[0], first), min(self.rows[1], first + block.shape[0])
        if start < stop:
            up = self.up[start - self.rows[0] : stop - self.rows[0]]
            block[start - first : stop - first].addmm_(up, self.down)


class _Shared:
    """The stacks of one tensor: made when its first piece wants them, let go after its last."""

    def __init__(self, make: Callable[[], Sequence[Stack]], uses: int) -> None:
        self._make, self._uses = make, uses
        self._lock = threading.Lock()
        self._stacks: Sequence[Stack] | None = None
        self._left = uses

    def take(self) -> Sequence[Stack]:
        with self._lock:
            if self._stacks is None:
                self._stacks, self._left = self._make(), self._uses
            stacks = self._stacks
            self._left -= 1
            if not self._left:
                self._stacks = None
            return stacks


def with_products(
    weight: LazyTensor,
    dtype: DType,
    make: Callable[[], Sequence[Stack]],
    hold: Callable[[Tensor], None],
    inputs: Sequence[LazyTensor],
    origin: str,
    on: str,
) -> LazyTensor:
    """A stored weight with products added to it, in another type, to be computed in pieces.

    `make` gives the products; `hold` gets values that the type cannot hold: it changes them, or
    raises. The work is done on the device `on`.
    """
    from converters.compute import lazy

    ends = [*_starts(weight, on), weight.shape[0]]
    shared = _Shared(make, len(ends) - 1)

    def piece(start: int, stop: int) -> LazyTensor:
        part = weight.slice0(start, stop)
        into = partial(_write, part, start, dtype, shared, hold)
        made = partial(_made, part.shape, dtype, into)
        return lazy(dtype, part.shape, made, origin, inputs=inputs, on=on, into=into)

    pieces = tuple(piece(start, stop) for start, stop in pairwise(ends))
    whole = partial(_together, pieces)
    return LazyTensor(dtype, weight.shape, whole, origin, pieces[0].made_from, pieces)


def _starts(weight: LazyTensor, on: str) -> Iterator[int]:
    """The first rows of the pieces."""
    elements = _PIECE if on == CPU else _PIECE_ELSEWHERE
    yield from range(0, weight.shape[0], max(1, elements * weight.shape[0] // weight.numel))


def _together(pieces: Sequence[LazyTensor]) -> bytes:
    return b"".join(piece.read() for piece in pieces)


def _made(shape: tuple[int, ...], dtype: DType, into: Callable[[Tensor], None]) -> Tensor:
    from converters.compute import empty

    result = empty(shape, dtype)
    into(result)
    return result


def _write(
    weight: LazyTensor,
    first: int,
    dtype: DType,
    shared: _Shared,
    hold: Callable[[Tensor], None],
    target: Tensor,
) -> None:
    """Put a piece of the sum, rounded to `dtype`, into memory of any type, block by block."""
    from converters.compute import PASSING, floats_at, passing_value, torch_dtype

    stacks = shared.take()  # which reads into passing memory, too
    stored = passing_value(weight).view(weight.shape[0], -1).to(target.device)
    made, kind = target.view(stored.shape), torch_dtype(dtype)
    rows, columns = stored.shape
    if target.device.type == CPU:
        rows = max(1, min(rows, _BLOCK // columns))
        wide = floats_at(PASSING, rows * columns).view(rows, columns)
    else:
        wide = stored.new_empty(stored.shape, dtype=torch_dtype(DType.F32))
    in_place = made.dtype is wide.dtype is kind
    narrow = None if made.dtype is kind else wide.new_empty(wide.shape, dtype=kind)
    for start in range(0, stored.shape[0], rows):
        part, place = stored[start : start + rows], made[start : start + rows]
        block = (place if in_place else wide[: part.shape[0]]).copy_(part)
        for stack in stacks:
            stack.add_to(block, first + start)
        if not all_finite(block, dtype):
            hold(block)
        if narrow is not None:
            place.copy_(narrow[: part.shape[0]].copy_(block))
        elif not in_place:
            place.copy_(block)

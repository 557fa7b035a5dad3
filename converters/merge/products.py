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
"""Elements that a thread widens, changes and rounds at a time.

Fewer would stay in faster memory, but every product reads all of down.
"""
_PIECE_ELSEWHERE = 1 << 24
"""The same for other devices, which are slow to call and have much to do at a time."""

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
    pieces = tuple(
        lazy(
            dtype,
            (stop - start, *weight.shape[1:]),
            partial(_piece, weight.slice0(start, stop), start, dtype, shared, hold),
            origin,
            inputs=inputs,
            on=on,
        )
        for start, stop in pairwise(ends)
    )
    whole = partial(_together, pieces)
    return LazyTensor(dtype, weight.shape, whole, origin, pieces[0].made_from, pieces)


def _starts(weight: LazyTensor, on: str) -> Iterator[int]:
    """The first rows of the pieces."""
    elements = _PIECE if on == CPU else _PIECE_ELSEWHERE
    yield from range(0, weight.shape[0], max(1, elements * weight.shape[0] // weight.numel))


def _together(pieces: Sequence[LazyTensor]) -> bytes:
    return b"".join(piece.read() for piece in pieces)


def _piece(
    weight: LazyTensor,
    first: int,
    dtype: DType,
    shared: _Shared,
    hold: Callable[[Tensor], None],
) -> Tensor:
    from converters.compute import empty, passing_floats

    result = empty((weight.shape[0], weight.numel // weight.shape[0]), dtype)
    block = passing_floats(weight).view(result.shape)
    for stack in shared.take():
        stack.add_to(block, first)
    if not all_finite(block, dtype):
        hold(block)
    return result.copy_(block)

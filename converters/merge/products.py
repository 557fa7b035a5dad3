"""Weights that products are added to, computed a run of elements at a time.

W + Σ strength · scale · up (out, r) @ down (r, in · kernel), the products of all adapters as one:
their factors stand side by side in one matrix each. Rows need nothing but themselves and the
factors. They are added to many rows at once; what comes before and after that, widening to float32,
looking for what is no number, rounding once, is done in runs that stay in the processor's cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from converters.adapters.module import Rows
from converters.devices import CPU
from converters.dtypes import DType
from converters.merge.reading import Reader, rounded
from converters.statedict import LazyTensor

if TYPE_CHECKING:
    from converters.compute import Tensor

_PIECE = 1 << 22
"""Elements that products are added to at a time, at most; every time, all of down is packed."""
_THIN_PIECE = 1 << 18
"""The same where that is little: these stay in the nearest cache."""
_THIN = 64
"""Columns of up and rows of down that are few."""
_READ = 1 << 19
"""Elements that are read and widened, or rounded and written, at a time.

Fewer would stay nearer to the processor, but threads that come back to the interpreter more often
wait more for each other.
"""
_PIECE_ELSEWHERE = 1 << 24
"""Both for other devices, which are slow to call and have much to do at a time."""


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


Stacks = Callable[[], AbstractContextManager[Sequence[Stack]]]
"""Makes the products of a tensor, which are good for a while."""


class _Shared:
    """The stacks of one tensor, made when its first piece wants them, let go after its last."""

    def __init__(self, make: Stacks, uses: int) -> None:
        self._make, self._uses = make, uses
        self._lock = threading.Lock()
        self._made: AbstractContextManager[Sequence[Stack]] | None = None
        self._stacks: Sequence[Stack] = ()
        self._left = uses

    @contextmanager
    def __call__(self) -> Iterator[Sequence[Stack]]:
        with self._lock:
            if self._made is None:
                made, self._left = self._make(), self._uses
                self._stacks, self._made = made.__enter__(), made
            stacks = self._stacks
        try:
            yield stacks
        finally:
            with self._lock:
                self._left -= 1
                if not self._left:
                    self._made.__exit__(None, None, None)
                    self._stacks, self._made = (), None


def with_products(
    weight: LazyTensor,
    dtype: DType,
    make: Stacks,
    hold: Callable[[Tensor], None],
    inputs: Sequence[LazyTensor],
    origin: str,
    on: str,
) -> LazyTensor:
    """A stored weight with products added to it, in another type, computed in runs or in pieces.

    `make` gives the products; `hold` gets values that the type cannot hold: it changes them, or
    raises. The work is done on the device `on`.
    """
    from converters.compute import lazy_runs

    ends = [*_starts(weight, on), weight.shape[0]]
    rows = tuple(pairwise(ends))
    made = partial(lazy_runs, dtype, origin=origin, inputs=inputs, on=on)

    def computed(stacks: Stacks, *some: Rows) -> Callable[[Tensor | None], Iterator[Tensor]]:
        return partial(_runs, weight, some, dtype, stacks, hold)

    whole = made(weight.shape, computed(make, *rows))
    if len(rows) == 1:
        return whole
    shared = _Shared(make, len(rows))
    pieces = tuple(
        made((each[1] - each[0], *weight.shape[1:]), computed(shared, each)) for each in rows
    )
    return replace(whole, pieces=pieces)


def _starts(weight: LazyTensor, on: str) -> Iterator[int]:
    """The first rows of the pieces, which are as large as each other: few rows are slow to do."""
    elements = _PIECE if on == CPU else _PIECE_ELSEWHERE
    pieces = min(weight.shape[0], -(-weight.numel // elements))
    yield from range(0, weight.shape[0], -(-weight.shape[0] // max(1, pieces)))


def _runs(
    weight: LazyTensor,
    pieces: Sequence[Rows],
    dtype: DType,
    make: Stacks,
    hold: Callable[[Tensor], None],
    memory: Tensor | None,
) -> Iterator[Tensor]:
    """The values of some rows, a run of elements after the other; made in `memory` if there is."""
    from converters.devices import device
    from converters.spare_memory import floats_at

    columns = weight.numel // weight.shape[0]
    size = _READ if device() == CPU else _PIECE_ELSEWHERE
    reader, done = Reader(weight, _WEIGHT), 0
    with make() as stacks:
        for first, last in _blocks(pieces, stacks, columns):
            count = (last - first) * columns
            flat = floats_at(_CHANGED, count) if memory is None else memory[done : done + count]
            runs = range(0, count, size)
            for start in runs:
                reader.read_into(flat[start : start + size], first * columns + start)
            for stack in stacks:
                stack.add_to(flat.view(-1, columns), first)
            for start in runs:
                yield rounded(flat[start : start + size], dtype, hold)
            done += count


def _blocks(pieces: Sequence[Rows], stacks: Sequence[Stack], columns: int) -> Iterator[Rows]:
    """The rows that products are added to at a time."""
    from converters.devices import device

    thin = device() == CPU and all(stack.down.shape[0] <= _THIN for stack in stacks)
    for first, last in pieces:
        step = max(1, _THIN_PIECE // columns) if thin else last - first
        for start in range(first, last, step):
            yield start, min(last, start + step)


_WEIGHT, _CHANGED = 0, 1
"""Places of memory that a thread uses again."""

"""The arithmetic of a merge: one tensor of the checkpoint with all that adapters do to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from converters.adapters.finite import all_finite
from converters.errors import MergeProblem
from converters.statedict import LazyTensor

if TYPE_CHECKING:
    from converters.adapters import Factors
    from converters.compute import Tensor


@dataclass(frozen=True, slots=True)
class View:
    """The part of a tensor that a change sees.

    Its `rows`, its first `columns` (None: all), and whether it sees them `transposed`.
    """

    rows: tuple[int, int] | None = None
    columns: int | None = None
    transposed: bool = False

    def of(self, tensor: Tensor) -> Tensor:
        """The part, sharing the tensor's memory."""
        part = tensor if self.rows is None else tensor[slice(*self.rows)]
        part = part if self.columns is None else part[:, : self.columns]
        return part.t() if self.transposed else part


@dataclass(frozen=True, slots=True)
class Change:
    """What one adapter, the n-th of a merge, does to a part of a tensor.

    `apply(weight, strength)` changes a contiguous float32 weight in place; `factors` gives the same
    change as a product, where it is one. `inputs` are the tensors it reads.
    """

    number: int
    adapter: str
    strength: float
    view: View
    inputs: tuple[LazyTensor, ...]
    apply: Callable[[Tensor, float], None]
    factors: Callable[[], Factors] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The Frobenius norm of what an adapter did, and of its part in the tensor it changed most."""

    norm: float
    largest: float
    largest_tensor: str | None


_Squares = dict[int, float]
"""Sums of the squares of changes to one tensor, by adapter number."""


@dataclass(slots=True)
class ChangeLog:
    """What was done to the tensors computed so far; threads may add to it."""

    by_tensor: dict[str, _Squares] = field(default_factory=dict)

    def measured(self, number: int) -> Measured:
        """The norms of one adapter's changes."""
        own = {name: found[number] for name, found in self.by_tensor.items() if number in found}
        largest = max(own, key=own.__getitem__, default=None)
        return Measured(
            math.sqrt(math.fsum(own.values())),
            math.sqrt(own[largest]) if largest is not None else 0.0,
            largest,
        )


def merged_tensor(
    weight: LazyTensor, name: str, changes: Sequence[Change], log: ChangeLog
) -> LazyTensor:
    """The weight with all changes, to be computed when it is read; their norms go into `log`.

    Reading raises MergeProblem when a value of the weight, of an adapter or of the result is not
    finite.
    """
    from converters.compute import lazy

    names = " + ".join(dict.fromkeys([weight.origin, *(change.adapter for change in changes)]))
    compute = partial(_compute, weight, name, tuple(changes), log)
    read = [weight, *(tensor for change in changes for tensor in change.inputs)]
    return lazy(weight.dtype, weight.shape, compute, names, inputs=read)


def _compute(weight: LazyTensor, name: str, changes: tuple[Change, ...], log: ChangeLog) -> Tensor:
    """The weight with its changes, in float32, rounded once."""
    squares, like, whole = _Squares(), *_widened(weight)
    for view, run in groupby(_in_order(changes), key=lambda change: change.view):
        part = view.of(whole)
        own = part.contiguous()
        _apply_run(own, tuple(run), squares)
        if not part.is_contiguous():
            part.copy_(own)
    if not all_finite(whole, like):
        raise _not_finite(weight, name, changes)
    log.by_tensor[name] = squares
    return whole.to(like.dtype)


def _widened(weight: LazyTensor) -> tuple[Tensor, Tensor]:
    """Nothing in the weight's own type, and the weight in float32, alone in memory."""
    from converters.compute import value

    stored = value(weight)
    return stored.new_empty(0), stored.float()


def _in_order(changes: tuple[Change, ...]) -> Sequence[Change]:
    """Changes of the same part side by side, where no two parts overlap: those commute."""
    first_seen = list(dict.fromkeys(change.view for change in changes))
    spans = sorted(view.rows for view in first_seen if view.rows is not None)
    apart = len(spans) == len(first_seen) and all(
        this[1] <= following[0] for this, following in pairwise(spans)
    )
    return sorted(changes, key=lambda c: first_seen.index(c.view)) if apart else changes


def _apply_run(part: Tensor, changes: tuple[Change, ...], squares: _Squares) -> None:
    """Apply changes of one part in their order, neighbouring products as one."""
    for is_product, run in groupby(changes, key=lambda change: change.factors is not None):
        if is_product:
            _add_products(part.view(part.shape[0], -1), tuple(run), squares)
            continue
        for change in run:
            before = part.clone()
            with _blaming(change):
                change.apply(part, change.strength)
            _add(squares, change, float(before.sub_(part).square_().sum()))


def _add_products(flat: Tensor, changes: tuple[Change, ...], squares: _Squares) -> None:
    """Add Σ strength · scale · up (out, r) @ down (r, in · kernel) as a single product."""
    factors = []
    for change in changes:
        assert change.factors is not None
        with _blaming(change):
            factors.append(change.factors())
    total = sum(factor.down.shape[0] for factor in factors)
    up, down = flat.new_empty((flat.shape[0], total)), flat.new_empty((total, flat.shape[1]))
    first = 0
    for change, factor in zip(changes, factors, strict=True):
        rows = slice(first, first + factor.down.shape[0])
        up[:, rows] = factor.up * (factor.scale * change.strength)
        down[rows] = factor.down
        _add(squares, change, _square(up[:, rows], down[rows]))
        first = rows.stop
    flat.addmm_(up, down)


def _add(squares: _Squares, change: Change, square: float) -> None:
    squares[change.number] = squares.get(change.number, 0.0) + square


def _square(up: Tensor, down: Tensor) -> float:
    """‖up · down‖² = Σ (upᵀ·up) ∘ (down·downᵀ): two small products instead of the large one."""
    return max(0.0, float(((up.t() @ up) * (down @ down.t())).sum()))


@contextmanager
def _blaming(change: Change) -> Iterator[None]:
    """Errors of an adapter's tensors, with the file they are in."""
    try:
        yield
    except MergeProblem as error:
        raise type(error)(error.cause, path=change.adapter, hint=error.hint) from error


def _not_finite(weight: LazyTensor, name: str, changes: tuple[Change, ...]) -> MergeProblem:
    from converters.compute import value

    if not all_finite(value(weight).float()):
        return MergeProblem(f"{name} holds NaN or infinite values before the merge")
    adapters = ", ".join(dict.fromkeys(change.adapter for change in changes))
    return MergeProblem(
        f"{name} leaves the range of its element type, {weight.dtype.label}",
        path=adapters,
        hint="merge with a smaller weight, or convert the checkpoint to fp32 first",
    )

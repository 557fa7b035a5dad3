"""The arithmetic of a merge: one tensor of the checkpoint with all that adapters do to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from converters.adapters.finite import all_finite, clamp, reach
from converters.devices import CPU
from converters.dtypes import DType
from converters.errors import MergeProblem
from converters.merge.products import Stack, with_products
from converters.statedict import LazyTensor
from converters.transform.cast import CastLog, CastLoss

if TYPE_CHECKING:
    from converters.adapters.module import Product
    from converters.compute import Tensor
    from converters.spare_memory import Spare


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
    factors: Product | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What an adapter did: the Frobenius norm of it, and of its part in the tensor it changed most.

    `overflow` counts the values, in the tensors it changed, that were too large for their type and
    were clamped.
    """

    norm: float
    largest: float
    largest_tensor: str | None
    overflow: int = 0


_Squares = dict[int, float]
"""Sums of the squares of changes to one tensor, by adapter number."""

_BAND = 64
"""Rows of symmetric products that are made together; fewer are slow to make."""


@dataclass(slots=True)
class ChangeLog:
    """What was done to the tensors computed so far; threads may add to it.

    `casts` has what rounding them cost, and the tensors that no adapter changed.
    """

    by_tensor: dict[str, _Squares] = field(default_factory=dict)
    casts: CastLog = field(default_factory=CastLog)

    def measured(self, number: int, among: Container[str] | None = None) -> Measured:
        """The norms of one adapter's changes, to all tensors or only to those `among` some."""
        own = {
            name: found[number]
            for name, found in self.by_tensor.items()
            if number in found and (among is None or name in among)
        }
        largest = max(own, key=own.__getitem__, default=None)
        return Measured(
            math.sqrt(math.fsum(own.values())),
            math.sqrt(own[largest]) if largest is not None else 0.0,
            largest,
            sum(count for name, count in self.casts.clamped.items() if name in own),
        )


def merged_tensor(
    weight: LazyTensor,
    name: str,
    changes: Sequence[Change],
    log: ChangeLog,
    dtype: DType | None = None,
    on: str = CPU,
    *,
    clamped: bool = False,
    spare: Spare | None = None,
) -> LazyTensor:
    """The weight with all changes, to be computed when it is read; their norms go into `log`.

    The result has the weight's type unless another `dtype` is given; it is computed on the device
    `on`. Values that the type cannot hold become its largest if `clamped`. Those that are computed
    together share `spare` memory. Reading raises MergeProblem when a value of the weight, of an
    adapter or of the result is not finite, OutOfMemory for a device that is too small.
    """
    from converters.compute import lazy
    from converters.spare_memory import Spare

    own = Spare() if spare is None else spare
    job = _Job(weight, name, tuple(changes), log, dtype or weight.dtype, clamped, own)
    names = " + ".join(dict.fromkeys([weight.origin, *(change.adapter for change in changes)]))
    read = [weight, *(tensor for change in changes for tensor in change.inputs)]
    if weight.extents is not None and job.only_adds_products:
        return with_products(weight, job.dtype, job.stacks, job.hold, read, names, on)
    return lazy(job.dtype, weight.shape, job.compute, names, inputs=read, on=on)


@dataclass(frozen=True, slots=True)
class _Job:
    """A tensor and all that is done to it."""

    weight: LazyTensor
    name: str
    changes: tuple[Change, ...]
    log: ChangeLog
    dtype: DType
    clamped: bool
    spare: Spare

    @property
    def only_adds_products(self) -> bool:
        """Whether rows can be computed without the others."""
        return len(self.weight.shape) > 1 and all(
            change.factors is not None
            and change.view.columns is None
            and not change.view.transposed
            for change in self.changes
        )

    @contextmanager
    def stacks(self) -> Iterator[list[Stack]]:
        """All products, those for the same rows as one, for a while; their norms into the log."""
        squares = _Squares()
        by_rows: dict[tuple[int, int], list[Change]] = {}
        for change in self.changes:
            by_rows.setdefault(change.view.rows or (0, self.weight.shape[0]), []).append(change)
        columns = self.weight.numel // self.weight.shape[0]
        with ExitStack() as stack:
            found = []
            for (first, last), some in by_rows.items():
                room = _room_for(last - first, columns, some)
                memory = stack.enter_context(self.spare.lent(*room))
                factors = _stacked(some, last - first, memory, squares)
                found.append(Stack((first, last), *factors))
            self.log.by_tensor[self.name] = squares
            yield found

    def compute(self) -> Tensor:
        """The weight with its changes, in float32, rounded once."""
        from converters.compute import floats, torch_dtype

        squares, whole = _Squares(), floats(self.weight)
        for view, run in groupby(_in_order(self.changes), key=lambda change: change.view):
            part = view.of(whole)
            own = part.contiguous()
            _apply_run(own, tuple(run), squares)
            if not part.is_contiguous():
                part.copy_(own)
        if not all_finite(whole, self.dtype):
            self.hold(whole)
        self.log.by_tensor[self.name] = squares
        return whole.to(torch_dtype(self.dtype))

    def hold(self, values: Tensor) -> None:
        """Clamp what the type cannot hold, and count it. Raises MergeProblem where that is not so.

        It is not for values that are no numbers, and unless it was asked for.
        """
        lost = clamp(values, self.dtype) if self.clamped else None
        if lost is None:
            raise self._not_finite(values)
        self.log.casts.add(CastLoss(self.name, lost, 0, 0))

    def _not_finite(self, values: Tensor) -> MergeProblem:
        from converters.compute import value

        if not all_finite(value(self.weight).float()):
            return MergeProblem(
                f"{self.name} holds NaN or infinite values before the merge",
                path=self.weight.origin.partition(": ")[0],
            )
        adapters = ", ".join(dict.fromkeys(change.adapter for change in self.changes))
        return MergeProblem(
            f"{self.name} leaves the range of its element type, {self.dtype.label}{reach(values)}",
            path=adapters,
            hint="merge with a smaller weight, with --dtype fp32, or with --on-overflow clamp",
        )


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
    from converters.spare_memory import Spare

    with Spare().lent(*_room_for(flat.shape[0], flat.shape[1], changes)) as memory:
        flat.addmm_(*_stacked(changes, flat.shape[0], memory, squares))


def _room_for(rows: int, columns: int, changes: Sequence[Change]) -> tuple[int, int]:
    """Elements of up and of down of all changes."""
    rank = sum(product.shape[1] for change in changes if (product := change.factors))
    return rows * rank, rank * columns


def _stacked(
    changes: Sequence[Change], rows: int, memory: Sequence[Tensor], squares: _Squares
) -> tuple[Tensor, Tensor]:
    """Up (rows, Σr), with strengths and scales in it, and down (Σr, in · kernel) of all changes."""
    up, down = memory[0].view(rows, -1), memory[1].view(memory[0].numel() // rows, -1)
    first = 0
    for change in changes:
        assert change.factors is not None
        last = first + change.factors.shape[1]
        with _blaming(change):
            _add(squares, change, _pour(change, up[:, first:last], down[first:last]))
        first = last
    return up, down


def _pour(change: Change, up: Tensor, down: Tensor) -> float:
    """Write the factors of a change into matrices; the square of its Frobenius norm."""
    product = change.factors
    assert product is not None
    scale = product.pour(up, down) * change.strength
    square = scale**2 * _square(up, down)
    if not math.isfinite(square):
        product()  # raises for the tensor that is not finite; else the norm is beyond float32
    up.mul_(scale)
    return max(0.0, square)


def _add(squares: _Squares, change: Change, square: float) -> None:
    squares[change.number] = squares.get(change.number, 0.0) + square


def _square(up: Tensor, down: Tensor) -> float:
    """‖up · down‖² = Σ (upᵀ·up) ∘ (down·downᵀ): two small products instead of the large one.

    Both are symmetric: blocks below the diagonal are not made.
    """
    total = 0.0
    for start in range(0, down.shape[0], _BAND):
        band = slice(start, start + _BAND)
        terms = (up[:, band].t() @ up[:, start:]).mul_(down[band] @ down[start:].t())
        total += float(terms[:, :_BAND].sum() + 2 * terms[:, _BAND:].sum())
    return total


@contextmanager
def _blaming(change: Change) -> Iterator[None]:
    """Errors of an adapter's tensors, with the file they are in."""
    try:
        yield
    except MergeProblem as error:
        raise type(error)(error.cause, path=change.adapter, hint=error.hint) from error

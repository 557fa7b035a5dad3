"""The arithmetic of a merge: one tensor of the checkpoint with all that adapters add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from converters.adapters import Factors, Family, Module
from converters.adapters.finite import all_finite
from converters.errors import MergeProblem
from converters.statedict import LazyTensor

if TYPE_CHECKING:
    from converters.compute import Tensor


@dataclass(frozen=True, slots=True)
class Change:
    """One module's part in a tensor of the checkpoint."""

    adapter: str
    module: Module
    family: Family
    strength: float


def merged_tensor(weight: LazyTensor, name: str, changes: Sequence[Change]) -> LazyTensor:
    """The weight with all changes, to be computed when it is read.

    Reading raises MergeProblem when a value of the weight, of an adapter or of the result is not
    finite.
    """
    from converters.compute import lazy

    names = " + ".join(dict.fromkeys([weight.origin, *(change.adapter for change in changes)]))
    compute = partial(_compute, weight, name, tuple(changes))
    read = [weight, *(t for change in changes for t in change.module.tensors.values())]
    return lazy(weight.dtype, weight.shape, compute, names, inputs=read)


def _compute(weight: LazyTensor, name: str, changes: tuple[Change, ...]) -> Tensor:
    """The weight + Σ strength · scale · up @ down, in float32, as one product, rounded once."""
    from converters.compute import value

    stored = value(weight)
    flat = stored.float().flatten(1)
    flat.addmm_(*_one_product(flat, changes))
    if not all_finite(flat, stored):
        raise _not_finite(weight, name, changes)
    return flat.reshape(weight.shape).to(stored.dtype)


def _one_product(flat: Tensor, changes: tuple[Change, ...]) -> tuple[Tensor, Tensor]:
    """All changes side by side: up (out, Σ r), scaled, and down (Σ r, in · kernel)."""
    factors = [_factors(change) for change in changes]
    total = sum(factor.down.shape[0] for factor in factors)
    up, down = flat.new_zeros((flat.shape[0], total)), flat.new_zeros((total, flat.shape[1]))
    first = 0
    for change, factor in zip(changes, factors, strict=True):
        rows = slice(first, first + factor.down.shape[0])
        up[:, rows] = factor.up * (factor.scale * change.strength)
        # Fewer columns: the first input channels of a convolution that takes more of them.
        down[rows, : factor.down.shape[1]] = factor.down
        first = rows.stop
    return up, down


def _factors(change: Change) -> Factors:
    try:
        return change.family.factors(change.module)
    except MergeProblem as error:
        raise MergeProblem(error.cause, path=change.adapter, hint=error.hint) from error


def _not_finite(weight: LazyTensor, name: str, changes: tuple[Change, ...]) -> MergeProblem:
    from converters.compute import value

    if not all_finite(value(weight).float()):
        return MergeProblem(f"{name} holds NaN or infinite values before the merge")
    adapters = ", ".join(dict.fromkeys(change.adapter for change in changes))
    return MergeProblem(
        f"{name} leaves the range of its element type",
        path=adapters,
        hint="merge with a smaller weight, or convert the checkpoint to fp32 first",
    )

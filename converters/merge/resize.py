"""A LoRA out of what adapters add: of other ranks, of other algorithms, of several at once.

A change that is a product of thin matrices is truncated without ever being built: with the QR
decompositions of up and of the transpose of down, its singular values are those of a small matrix
of the old rank. The sum of several such changes is one such product too, of their ups side by side
and their downs below each other: exact before any truncation. The same idea as kohya-ss/sd-scripts
`networks/resize_lora.py` and `networks/svd_merge_lora.py`. What is no product (LoHa, LoKr, full
differences) is built and truncated whole. Changes of biases and norms are vectors, which stay as
they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from converters.dtypes import DType
from converters.errors import BadValue, WrongFamily
from converters.merge.addends import Addend
from converters.merge.lora_tensors import DOWN, UP, ModuleError, lora_tensors, matrix_of, rounded
from converters.merge.low_rank import Size, Spectrum, energy_of, rank_of_energy, truncated
from converters.progress import SILENT, Progress
from converters.statedict import LazyTensor, StateDict

if TYPE_CHECKING:
    from converters.merge.low_rank import Matrix


class Weighed(NamedTuple):
    """A module and how strongly it counts."""

    addend: Addend
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Resized:
    """The new adapter, and what the truncation cost each module."""

    state: StateDict
    modules: tuple[ModuleError, ...]


def resize_lora(
    addends: Sequence[Addend], size: Size, dtype: DType | None, progress: Progress = SILENT
) -> Resized:
    """Compute a LoRA of the modules of an adapter; it is held in memory.

    No module gets a larger rank than it has. `dtype` None keeps that of each module. Raises
    MergeProblem naming a tensor with values that are not finite, Overflow, FileProblem.
    """
    return sum_loras([[Weighed(addend)] for addend in addends], size, dtype, progress)


def sum_loras(
    modules: Sequence[Sequence[Weighed]],
    size: Size | None,
    dtype: DType | None,
    progress: Progress = SILENT,
) -> Resized:
    """Compute a LoRA whose modules are sums; it is held in memory. Without a size they are exact.

    Raises BadValue for a module that is no product and is to have its own rank, WrongFamily for
    addends of other shapes, and what `resize_lora` raises.
    """
    tensors: dict[str, LazyTensor] = {}
    errors = []
    for addends in modules:
        made, error = _summed(addends, size, dtype or addends[0].addend.dtype)
        tensors |= made
        errors.append(error)
        progress.advance(sum(one.addend.nbytes for one in addends))
    return Resized(StateDict(tensors), tuple(errors))


def _summed(
    addends: Sequence[Weighed], size: Size | None, dtype: DType
) -> tuple[dict[str, LazyTensor], ModuleError]:
    first = addends[0].addend
    for one in addends[1:]:
        require_same_weight(first, one.addend)
    if first.is_vector:
        return _of_vectors(addends, dtype)
    if any(one.addend.rank is None for one in addends):
        return _of_whole(addends, size, dtype)
    return _of_product(addends, size, dtype)


def require_same_weight(first: Addend, other: Addend) -> None:
    """Raises WrongFamily for changes of weights of other shapes, which have no sum."""
    if other.shape != first.shape:
        raise WrongFamily(
            f"module {other.module.name} changes a weight of shape {list(other.shape)}, "
            f"before it {first.module.name} one of {list(first.shape)}"
        )


def _of_vectors(
    addends: Sequence[Weighed], dtype: DType
) -> tuple[dict[str, LazyTensor], ModuleError]:
    first = addends[0].addend
    terms = [one.addend.vector() * one.weight for one in addends]
    whole: Matrix = sum(terms[1:], start=terms[0])
    made = rounded(whole, first.shape, dtype)
    missing = math.sqrt(energy_of(whole - matrix_of(made).reshape(first.shape)))
    return {first.key: made}, ModuleError(first.key, None, missing, math.sqrt(energy_of(whole)))


def _of_whole(
    addends: Sequence[Weighed], size: Size | None, dtype: DType
) -> tuple[dict[str, LazyTensor], ModuleError]:
    first = addends[0].addend
    if size is None:
        raise BadValue(
            f"module {first.name} is no product of thin matrices: give --rank or --energy"
        )
    terms = [one.addend.whole() * one.weight for one in addends]
    whole: Matrix = sum(terms[1:], start=terms[0])
    up, down = truncated(whole, size).factors()
    made = lora_tensors(first.name, up, down, first.axes, dtype)
    up, down = _stored(made, first.name)
    missing = math.sqrt(energy_of(whole - up @ down))
    return made, ModuleError(first.name, up.shape[1], missing, math.sqrt(energy_of(whole)))


def _of_product(
    addends: Sequence[Weighed], size: Size | None, dtype: DType
) -> tuple[dict[str, LazyTensor], ModuleError]:
    import numpy as np

    first = addends[0].addend
    pairs = [one.addend.factors() for one in addends]
    up = np.hstack([pair[0] * one.weight for pair, one in zip(pairs, addends, strict=True)])
    down = np.vstack([pair[1] for pair in pairs])
    new_up, new_down, whole = _sized(up, down, size)
    made = lora_tensors(first.name, new_up, new_down, first.axes, dtype)
    missing = _distance(up, down, *_stored(made, first.name))
    return made, ModuleError(first.name, new_up.shape[1], missing, whole)


def _sized(up: Matrix, down: Matrix, size: Size | None) -> tuple[Matrix, Matrix, float]:
    """The best product of the size, and the norm of the whole."""
    import numpy as np

    if size is None:
        return up, down, _norm(up, down)
    left, inner_left = np.linalg.qr(up)
    right, inner_right = np.linalg.qr(down.T)
    core = inner_left @ inner_right.T
    kept = _kept(core, size, up.shape[1])
    factors = Spectrum(left @ kept.left, kept.values, kept.right @ right.T).factors()
    return *factors, math.sqrt(energy_of(core))


def _stored(made: dict[str, LazyTensor], name: str) -> tuple[Matrix, Matrix]:
    """The factors as they were rounded."""
    return matrix_of(made[f"{name}{UP}"]), matrix_of(made[f"{name}{DOWN}"])


def _norm(up: Matrix, down: Matrix) -> float:
    """The norm of up · down, which is not built."""
    import numpy as np

    left, right = up.astype(np.float64), down.astype(np.float64)
    return math.sqrt(max(0.0, float(((left.T @ left) * (right @ right.T)).sum())))


def _distance(up: Matrix, down: Matrix, new_up: Matrix, new_down: Matrix) -> float:
    """The norm of up · down - new_up · new_down, of which neither is built.

    It is that of X · Y with X = (up, -new_up) and Y = (down, new_down), one below the other, whose
    square is the sum of the elements of (Xᵀ X) ∘ (Y Yᵀ).
    """
    import numpy as np

    return _norm(np.hstack([up, -new_up]), np.vstack([down, new_down]))


def _kept(core: Matrix, size: Size, old_rank: int) -> Spectrum:
    """The part of the change that stays: at least rank 1, at most the old rank."""
    spectrum = truncated(core, Size(rank=min(core.shape)))
    rank = size.rank
    if size.energy is not None:
        rank = rank_of_energy(spectrum.values, size.energy * energy_of(spectrum.values))
    return spectrum.first(min(rank or old_rank, old_rank))

"""A LoRA that turns one checkpoint into another, as well as its rank allows, and how well that is.

The difference of each weight, seen as a matrix (out, in · kernel), is truncated to its largest
singular values. Its error is the norm of what is missing as a share of the norm of the difference,
measured on the values as they are stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.adapters.finite import all_finite
from converters.dtypes import DType
from converters.errors import MergeProblem, UnsupportedFile
from converters.merge.checkpoints.fitting import Model, require_family
from converters.merge.lora_modules import LoraModules, lora_modules
from converters.merge.lora_tensors import DOWN, UP, ModuleError, lora_tensors, matrix_of
from converters.merge.low_rank import Size, energy_of, truncated
from converters.progress import SILENT, Progress
from converters.statedict import LazyTensor, StateDict

if TYPE_CHECKING:
    from converters.compute import Tensor
    from converters.merge.low_rank import Matrix


@dataclass(frozen=True, slots=True)
class ExtractionPlan:
    """Two checkpoints whose weights fit each other; `absent` are modules that only one has."""

    tuned: Model
    base: Model
    ours: LoraModules
    theirs: LoraModules
    absent: tuple[str, ...]

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that both have."""
        return tuple(name for name in self.ours.weights if name in self.theirs.weights)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights that are compared."""
        every = (*self.ours.weights.values(), *self.ours.others.values())
        return sum(tensor.nbytes for tensor in every)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The LoRA, and what it is worth.

    `unchanged` are modules without a difference, which need none; `left_out` tensors that differ
    and that this LoRA does not hold.
    """

    state: StateDict
    modules: tuple[ModuleError, ...]
    unchanged: tuple[str, ...]
    left_out: tuple[str, ...]


def plan_extraction(tuned: Model, base: Model, *, convolutions: bool) -> ExtractionPlan:
    """Compare two checkpoints by names and shapes. Reads no tensor data.

    Raises WrongFamily or UnsupportedFile for models that cannot be compared, MergeProblem naming
    the first module whose shapes differ.
    """
    require_family([base, tuned])
    ours, theirs = (
        lora_modules(model.state, model.identity.base, convolutions=convolutions)
        for model in (tuned, base)
    )
    for name, tensor in ours.weights.items():
        other = theirs.weights.get(name)
        if other is not None and other.shape != tensor.shape:
            raise MergeProblem(
                f"{name} has shape {list(tensor.shape)}, but {list(other.shape)} in {base.name}",
                path=tuned.name,
            )
    absent = tuple(sorted(set(ours.weights) ^ set(theirs.weights)))
    plan = ExtractionPlan(tuned, base, ours, theirs, absent)
    if not plan.modules:
        raise UnsupportedFile("has no weight in common with the base", path=tuned.name)
    return plan


def extract_lora(
    plan: ExtractionPlan, size: Size, dtype: DType, progress: Progress = SILENT
) -> Extraction:
    """Compute the LoRA; it is held in memory. Raises MergeProblem for values that are not finite.

    Raises Overflow where a value does not fit `dtype`, FileProblem for the sources.
    """
    tensors: dict[str, LazyTensor] = {}
    modules, unchanged = [], []
    for name in plan.modules:
        tensor = plan.ours.weights[name]
        delta = _difference(plan, name)
        if delta.any():
            made, error = _lora_of(name, delta, tensor.shape, size, dtype)
            tensors |= made
            modules.append(error)
        else:
            unchanged.append(name)
        progress.advance(tensor.nbytes)
    left_out = tuple(_left_out(plan, progress))
    return Extraction(StateDict(tensors), tuple(modules), tuple(unchanged), left_out)


def _difference(plan: ExtractionPlan, name: str) -> Matrix:
    """A module's difference as a matrix (out, in · kernel)."""
    pair = plan.ours.weights[name], plan.theirs.weights[name]
    ours, theirs = (_values(tensor) for tensor in pair)
    delta = ours - theirs
    if not all_finite(delta):
        broken = plan.tuned if not all_finite(ours) else plan.base
        raise MergeProblem(f"the weight of {name} holds NaN or infinite values", path=broken.name)
    matrix: Matrix = delta.flatten(1).numpy()
    return matrix


def _values(tensor: LazyTensor) -> Tensor:
    from converters.compute import value

    return value(tensor).float()


def _lora_of(
    name: str, delta: Matrix, shape: tuple[int, ...], size: Size, dtype: DType
) -> tuple[dict[str, LazyTensor], ModuleError]:
    """The module for a change (out, in · kernel) of a weight of this shape. Raises Overflow."""
    up, down = truncated(delta, size).factors()
    shapes = (1,) * len(shape[2:]), shape[1:]
    made = lora_tensors(name, up, down, shapes, dtype)
    product = matrix_of(made[f"{name}{UP}"]) @ matrix_of(made[f"{name}{DOWN}"])
    missing, whole = math.sqrt(energy_of(delta - product)), math.sqrt(energy_of(delta))
    return made, ModuleError(name, up.shape[1], missing, whole)


def _left_out(plan: ExtractionPlan, progress: Progress) -> list[str]:
    """The tensors that differ, or that only one has, outside of the modules."""
    ours, theirs = plan.ours.others, plan.theirs.others
    found = []
    for name in sorted({*ours, *theirs}):
        if _differs(name, ours, theirs):
            found.append(name)
        progress.advance(ours[name].nbytes if name in ours else 0)
    return [*found, *plan.absent]


def _differs(name: str, ours: Mapping[str, LazyTensor], theirs: Mapping[str, LazyTensor]) -> bool:
    pair = ours.get(name), theirs.get(name)
    if pair[0] is None or pair[1] is None or pair[0].shape != pair[1].shape:
        return True
    return bool((_values(pair[0]) != _values(pair[1])).any())

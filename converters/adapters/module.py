"""A module of an adapter: the tensors that together change one weight, or one bias, of a model."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.adapters.finite import all_finite
from converters.dtypes import DType
from converters.errors import MergeProblem, WrongFamily
from converters.statedict import LazyTensor

if TYPE_CHECKING:
    from converters.compute import Tensor

Shape = tuple[int, ...]

_TRAINING_WENT_WRONG = "the training of this adapter went wrong; it cannot be merged"


@dataclass(frozen=True, slots=True)
class Stated:
    """What PEFT keeps in a configuration instead of in tensors.

    `scale` replaces alpha / rank, `cayley_series` is whether OFT's rotation is the truncated
    Neumann series of the Cayley transform, `of_inputs` whether (IA)³ multiplies a layer's inputs.
    """

    scale: float | None = None
    cayley_series: bool = True
    of_inputs: bool | None = None


UNSTATED = Stated()


@dataclass(frozen=True, slots=True)
class Module:
    """The tensors of one module by role (`up`, `down`, `alpha`, ...), and their keys.

    `part` is what they change: a module's "weight" or its "bias".
    """

    name: str
    family: str
    tensors: Mapping[str, LazyTensor]
    keys: tuple[str, ...]
    part: str = "weight"
    stated: Stated = UNSTATED

    def shape(self, role: str) -> Shape:
        """The shape of a tensor that is there."""
        return self.tensors[role].shape

    def misfit(self) -> WrongFamily:
        """The error of tensors that cannot belong together."""
        shapes = ", ".join(f"{role} {list(t.shape)}" for role, t in self.tensors.items())
        return WrongFamily(f"the tensors of module {self.name} do not fit each other: {shapes}")


@dataclass(frozen=True, slots=True)
class Factors:
    """A change of a weight as a product: scale · up (out, r) @ down (r, in · kernel)."""

    up: Tensor
    down: Tensor
    scale: float


Rows = tuple[int, int]
"""The first row, and the one behind the last."""

Pour = Callable[[Module, "Tensor", "Tensor", "Rows | None"], float]
"""Writes the rows of up, and down, of a product into float32 matrices, and gives the scale.

Values that are not finite are left for the caller to find.
"""

Apply = Callable[[Module, "Tensor", float], None]
"""Changes a float32 weight (contiguous, of the module's own shape) in place with a strength."""


def same_weight(change: Shape, weight: Shape) -> bool:
    """Whether a change covers a weight: equal but for kernels of ones and flattened kernels."""
    if len(change) < 2 or len(weight) < 2:
        return change == weight
    return change[0] == weight[0] and (
        _bare(change) == _bare(weight) or change[1:] == (math.prod(weight[1:]),)
    )


def same_layer(change: Shape, weight: Shape) -> bool:
    """Whether a change covers a weight, kernel for kernel but for kernels of ones."""
    return len(change) >= 2 and len(weight) >= 2 and _bare(change) == _bare(weight)


def _bare(shape: Shape) -> Shape:
    return shape if set(shape[2:]) - {1} else shape[:2]


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table: the roles a module must and may have, and what they do to a weight.

    `shape` gives the shape of the change from shapes alone, `covers(shape, weight)` whether that
    change fits a weight; `shape` raises WrongFamily when the tensors do not fit each other. `apply`
    changes a weight in place in float32; `factors` gives the same change as a product where it is
    one, so that several need one product, and `pour` writes these into memory that is there.
    `decomposes` families may have a DoRA scale beside them. Those with `adds` only add, whatever
    the weight, and may be applied in parts. `bias` changes the bias of the same layer, where a
    family does that too; `part` is what `apply` changes.
    """

    name: str
    required: frozenset[str]
    optional: frozenset[str]
    shape: Callable[[Module], Shape]
    apply: Apply
    covers: Callable[[Shape, Shape], bool] = same_weight
    factors: Callable[[Module], Factors] | None = None
    pour: Pour | None = None
    decomposes: bool = False
    adds: bool = False
    bias: Apply | None = None
    part: str = "weight"

    def takes(self, roles: frozenset[str]) -> bool:
        """Whether a module with exactly these roles is of this family."""
        return self.required <= roles <= self.required | self.optional


@dataclass(frozen=True, slots=True)
class Product:
    """The change of a module, or some of its rows, as a product; called, it gives the factors."""

    family: Family
    module: Module
    rows: Rows | None = None

    @classmethod
    def of(cls, family: Family, module: Module, rows: Rows | None = None) -> Product | None:
        """None for a family whose changes are none."""
        return None if family.factors is None else cls(family, module, rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows of up, columns of up and rows of down, columns of down."""
        out, *inner = self.family.shape(self.module)
        first, stop = self.rows or (0, out)
        return stop - first, rank_of(self.module) or 0, math.prod(inner)

    def __call__(self) -> Factors:
        """The factors in float32. Raises MergeProblem when a tensor is not finite."""
        assert self.family.factors is not None
        whole = self.family.factors(self.module)
        if self.rows is None:
            return whole
        return Factors(whole.up[slice(*self.rows)], whole.down, whole.scale)

    def pour(self, up: Tensor, down: Tensor) -> float:
        """Write them into matrices of their shape, whatever their values, and give the scale."""
        assert self.family.pour is not None
        return self.family.pour(self.module, up, down, self.rows)


def numbers(module: Module, role: str) -> Tensor:
    """A tensor of the module in float32. Raises MergeProblem when a value of it is not finite."""
    from converters.compute import floats

    tensor = floats(module.tensors[role])
    if not all_finite(tensor):
        file, _, key = module.tensors[role].origin.rpartition(": ")
        raise MergeProblem(
            f"{key} holds NaN or infinite values", path=file or None, hint=_TRAINING_WENT_WRONG
        )
    return tensor


_BY_RANK = ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
"""Roles of tensors whose first axis is the rank of alpha / rank, the first that is there."""


def rank_of(module: Module) -> int | None:
    """The rank in alpha / rank; None where a module has none, and alpha means nothing."""
    return next((module.shape(role)[0] for role in _BY_RANK if role in module.tensors), None)


SCALED = frozenset({"alpha", "scale"})
"""The optional roles of families with a rank."""


def scale(module: Module, rank: int) -> float:
    """The factor alpha / rank, or what the configuration says; a missing alpha means the rank.

    A tensor `scale` is the factor itself, as in A1111's `network.py`.
    """
    if module.stated.scale is not None:
        return module.stated.scale
    if "scale" in module.tensors:
        return _number(module, "scale")
    if "alpha" not in module.tensors:
        return 1.0
    return _number(module, "alpha") / rank


_FORMATS = {DType.F16: "<e", DType.F32: "<f", DType.F64: "<d"}


def _number(module: Module, role: str) -> float:
    """A tensor of one element. Raises MergeProblem when it is not finite.

    Most are read without torch: a merge has thousands, and its threads would wait for each other.
    """
    tensor = module.tensors[role]
    if tensor.numel == 1 and tensor.dtype in _FORMATS:
        (found,) = struct.unpack(_FORMATS[tensor.dtype], tensor.read())
        if math.isfinite(found):
            return float(found)
    return float(numbers(module, role).item())


def adding(delta: Callable[[Module], Tensor]) -> Apply:
    """What adds strength · delta(module) to a weight."""

    def apply(module: Module, weight: Tensor, strength: float) -> None:
        weight.add_(delta(module).reshape(weight.shape), alpha=strength)

    return apply


def kernel_of(shape: Shape) -> Shape:
    """The kernel of a convolution's weight; none where it is one of ones."""
    kernel = shape[2:]
    return () if set(kernel) <= {1} else kernel

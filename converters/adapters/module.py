"""A module of an adapter: the tensors that together change one weight of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.layouts.components import TEXT_ENCODER, UNET
from converters.statedict import LazyTensor

if TYPE_CHECKING:
    from converters.compute import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Module:
    """The tensors of one module by role (`up`, `down`, `mid`, `alpha`), and their keys."""

    name: str
    component: str
    family: str
    tensors: Mapping[str, LazyTensor]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Factors:
    """A change of a weight as a product: scale · up (out, r) @ down (r, in · kernel).

    `down` may have fewer input columns than the weight takes; see `Family.shape`.
    """

    up: Tensor
    down: Tensor
    scale: float


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table: the roles a module must and may have, and what they make.

    `shape` gives the shape (out, in, *kernel) of the change from the shapes alone and raises
    WrongFamily when the tensors do not fit each other; `factors` computes the change in float32.
    """

    name: str
    required: frozenset[str]
    optional: frozenset[str]
    shape: Callable[[Module], Shape]
    factors: Callable[[Module], Factors]

    def takes(self, roles: frozenset[str]) -> bool:
        """Whether a module with exactly these roles is of this family."""
        return self.required <= roles <= self.required | self.optional


def component_of_module(name: str) -> str | None:
    """The component that a module name points into, or None when it names none we know."""
    if name.startswith("lora_unet_"):
        return UNET
    return TEXT_ENCODER if name.startswith("lora_te_") else None

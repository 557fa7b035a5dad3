"""What an adapter adds to the weights of a model, whatever model that is.

LoRA, LoCon, LoHa, LoKr and full differences add the same to every weight they are merged into; the
change of the first two is a product of thin matrices from the start. Others turn or scale the
weights they meet, and are nothing without them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.adapters import Family, Module, family_of, load_adapter
from converters.adapters.dora import MAGNITUDES
from converters.adapters.module import kernel_of, numbers
from converters.adapters.paths import FAMILIES, Layers, layers_of
from converters.adapters.places import DENOISER, place_of
from converters.adapters.spelling import kohya_name
from converters.bases import Base
from converters.dtypes import CODES, DType
from converters.errors import UnsupportedFile
from converters.identify import Kind, identify
from converters.statedict import StateDict

if TYPE_CHECKING:
    from converters.merge.low_rank import Matrix

Shape = tuple[int, ...]
_KOHYA = "lora_"
_MOST_AXES = 5
_VECTORS = frozenset({"diff", "diff_b", "w_norm", "b_norm"})
"""Roles of differences that may be those of vectors."""


@dataclass(frozen=True, slots=True)
class Addend:
    """A module that adds to a weight, under the name that kohya's tools have for it.

    `shape` is that of the weight, (out, in, *kernel) without kernels of ones, or that of a bias or
    of a norm, a vector. `rank` is the largest that its change can have as the product that it is,
    None for what is no product.
    """

    name: str
    module: Module
    family: Family
    shape: Shape

    @property
    def key(self) -> str:
        """What tells it apart: one layer may have a change of its weight and one of its bias."""
        return f"{self.name}.{self._role}" if self.is_vector else self.name

    @property
    def is_vector(self) -> bool:
        """Whether it adds to a bias or to a norm, which no product of thin matrices can."""
        return len(self.shape) == 1

    @property
    def _role(self) -> str:
        (role,) = self.module.tensors
        return role

    @property
    def rank(self) -> int | None:
        """Columns of up and rows of down."""
        return None if self.family.factors is None else self.module.shape("up")[1]

    @property
    def is_of_text_encoder(self) -> bool:
        """Whether it changes a text encoder, not the denoiser."""
        return place_of(self.module.name)[0] != DENOISER

    @property
    def dtype(self) -> DType:
        """The type of its largest tensor."""
        return max(self.module.tensors.values(), key=lambda tensor: tensor.numel).dtype

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self.module.tensors.values())

    @property
    def axes(self) -> tuple[Shape, Shape]:
        """What follows (out, r) in the shape of up, and r in that of down, of a LoRA for it."""
        kernel = kernel_of(self.shape)
        if kernel:
            return (1,) * len(kernel), self.shape[1:]
        ones = self.module.shape("up")[2:] if self.rank is not None else ()
        return ones, (self.shape[1], *ones)

    def vector(self) -> Matrix:
        """The change of a bias or of a norm. Raises MergeProblem."""
        found: Matrix = numbers(self.module, self._role).numpy()
        return found

    def factors(self) -> tuple[Matrix, Matrix]:
        """Up (out, r) with the scale in it and down (r, in · kernel). Raises MergeProblem."""
        assert self.family.factors is not None  # asked for what has a rank
        found = self.family.factors(self.module)
        return (found.up * found.scale).numpy(), found.down.numpy()

    def whole(self) -> Matrix:
        """The change as a matrix (out, in · kernel). Raises MergeProblem."""
        from converters.compute import zeros

        weight = zeros(self.shape)
        self.family.apply(self.module, weight, 1.0)
        matrix: Matrix = weight.flatten(1).numpy()
        return matrix


def addends_of(state: StateDict) -> tuple[Addend, ...]:
    """The modules of an adapter that add the same to every model. Reads no tensor data.

    Raises UnsupportedFile for other kinds, naming the first key or module that does not, or has no
    name, WrongFamily
    for tensors that do not fit each other, MergeProblem for two adapters in one file.
    """
    identity = identify(state)
    if identity.kind not in (Kind.LORA, Kind.UNKNOWN):
        raise UnsupportedFile(f"is of kind {identity.kind}, not an adapter")
    adapter = load_adapter(state)
    for key, reason in adapter.unused.items():
        raise UnsupportedFile(f"{key} cannot be made a LoRA of: {reason}")
    if not adapter.modules:
        raise UnsupportedFile("holds no modules of an adapter")
    base = identity.base
    layers: Layers = {}
    if base in FAMILIES:
        layers = layers_of(base, [place_of(module.name) for module in adapter.modules])
    return tuple(_addends(adapter.modules, base, layers))


def _addends(modules: tuple[Module, ...], base: Base, layers: Layers) -> Iterator[Addend]:
    for module in modules:
        family = family_of(module)
        _require_addition(module, family)
        shape = family.shape(module)
        if len(shape) not in _axes_of(module) or not math.prod(shape):
            raise UnsupportedFile(
                f"module {module.name} changes a {module.part} of shape {list(shape)}"
            )
        yield Addend(_name(module, base, layers), module, family, shape)


def _axes_of(module: Module) -> range:
    """How many axes there may be of what it changes."""
    least = 1 if module.tensors.keys() <= _VECTORS else 2
    return range(least, 2 if module.part != "weight" else _MOST_AXES + 1)


def _require_addition(module: Module, family: Family) -> None:
    if not family.adds or module.tensors.keys() & MAGNITUDES:
        raise UnsupportedFile(
            f"module {module.name} is {'dora' if family.adds else module.family}: "
            "what it does depends on the weights it meets",
            hint="merge it into a checkpoint and extract the LoRA from that",
        )
    for tensor in module.tensors.values():
        if not tensor.dtype.is_float or tensor.dtype in CODES:
            raise UnsupportedFile(f"module {module.name} holds {tensor.dtype.label}")


def _name(module: Module, base: Base, layers: Layers) -> str:
    layer = layers.get(place_of(module.name))
    if layer is not None:
        return kohya_name(base, layer)
    if module.name.startswith(_KOHYA):
        return module.name
    raise UnsupportedFile(f"module {module.name} has no name among kohya's for {base.label}")

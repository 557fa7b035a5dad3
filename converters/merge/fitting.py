"""Where the modules of an adapter fit in a checkpoint, by names and shapes; and the refusals.

The same answer serves a merge, which refuses, and `inspect --with`, which tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from converters.adapters import Adapter, Family, Module, Shape, family_of
from converters.adapters.dora import MAGNITUDES, decompose, magnitudes_fit
from converters.adapters.module import Product
from converters.adapters.places import Place, place_of
from converters.adapters.rows import rows_of
from converters.adapters.targets import Target
from converters.errors import MergeProblem, UnsupportedFile, WrongFamily
from converters.identify import CONTEXT_WIDTH, Base, Identity
from converters.identify.identity import CERTAIN
from converters.merge.changes import Change, View
from converters.statedict import LazyTensor

if TYPE_CHECKING:
    from converters.compute import Tensor

_FIRST = ("input_blocks.0.0.weight", "conv_in.weight")
_FIRST_OF_TRANSFORMERS = ("img_in.weight", "x_embedder.weight", "x_embedder.proj.weight")
_MORE_CHANNELS = (8, 9)
_PLAIN_CHANNELS = 4


Apply = Callable[["Tensor", float], None]


@dataclass(frozen=True, slots=True)
class Placed:
    """What a module does, beside the tensor, and the part of it, that it is done to.

    `apply`, `factors` and `inputs` are those of a `Change`.
    """

    module: str
    target: Target
    tensor: str
    view: View
    inputs: tuple[LazyTensor, ...]
    apply: Apply
    factors: Product | None = None

    def change(self, number: int, adapter: str, strength: float) -> Change:
        """The change by an adapter, the n-th of a merge, with a strength."""
        return Change(number, adapter, strength, self.view, self.inputs, self.apply, self.factors)


@dataclass(frozen=True, slots=True)
class Fit:
    """The modules that found their tensor, why one cannot be applied to it, and the rest.

    `misfit` is the first problem of shapes, or of two modules with one tensor. `unused` gives a
    reason for every key that no placed module has.
    """

    placed: tuple[Placed, ...]
    misfit: MergeProblem | None
    unused: Mapping[str, str]

    @property
    def modules(self) -> int:
        """How many layers are changed."""
        return len({placed.module for placed in self.placed})


def fit_modules(adapter: Adapter, targets: Mapping[Place, Target]) -> Fit:
    """Every module beside its tensor. Reads no tensor data."""
    placed: list[Placed] = []
    unused = dict(adapter.unused)
    misfits: list[MergeProblem] = []
    for module in adapter.modules:
        target = targets.get(place_of(module.name))
        if target is None:
            unused |= dict.fromkeys(module.keys, "the checkpoint has no such layer")
        elif module.part == "bias" and not _has_bias(target):
            unused |= dict.fromkeys(module.keys, "the layer has no bias in the checkpoint")
        else:
            try:
                placed += _placed(module, target)
            except WrongFamily as error:
                misfits.append(error)
                unused |= dict.fromkeys(module.keys, "its shape is not that of the layer")
    misfits += _twice(placed)
    return Fit(tuple(placed), next(iter(misfits), None), unused)


def _has_bias(target: Target) -> bool:
    """Whether a layer has a bias, and each of its parts where the checkpoint has it in several."""
    return all(part.bias is not None for part, _ in target.parts or ((target, None),))


def _twice(placed: list[Placed]) -> Iterator[MergeProblem]:
    """Layers that two modules of one adapter change, under two spellings of their names."""
    seen: dict[tuple[str, View], str] = {}
    for place in placed:
        other = seen.setdefault((place.tensor, place.view), place.module)
        if other != place.module:
            yield MergeProblem(f"modules {other} and {place.module} both change {place.tensor}")


def _placed(module: Module, target: Target) -> list[Placed]:
    """The weight or bias that a module changes, or both. Raises WrongFamily for other shapes."""
    family = family_of(module)
    if module.part == "bias":
        _require_cover(module, family, target.shape[:1])
        if not target.parts:
            return [_on_bias(module, target, partial(family.apply, module))]
        added = partial(_add_rows, family, module, target.shape[:1])
        return [_on_bias(module, part, partial(added, rows)) for part, rows in target.parts]
    columns = _columns(module, family, target)
    seen = target.shape if columns is None else (target.shape[0], columns, *target.shape[2:])
    is_first = target.tensor.endswith((*_FIRST, *_FIRST_OF_TRANSFORMERS))
    _require_cover(module, family, seen, is_first=is_first)
    if target.parts:
        return [_on_part(module, family, target, number) for number in range(len(target.parts))]
    view = View(target.rows, columns, target.transposed)
    places = [_on_weight(module, family, target, view)]
    if family.bias is not None and target.bias is not None:
        places.append(_on_bias(module, target, partial(family.bias, module)))
    return places


def _on_weight(module: Module, family: Family, target: Target, view: View) -> Placed:
    inputs = tuple(module.tensors.values())
    if MAGNITUDES & module.tensors.keys():
        apply = partial(decompose, family, module)
        return Placed(module.name, target, target.tensor, view, inputs, apply)
    factors = Product.of(family, module)
    apply = partial(family.apply, module)
    return Placed(module.name, target, target.tensor, view, inputs, apply, factors)


def _on_part(module: Module, family: Family, target: Target, number: int) -> Placed:
    """The rows of a change that fall to one of several parts. Raises WrongFamily."""
    part, rows = target.parts[number]
    if not family.adds or MAGNITUDES & module.tensors.keys():
        try:
            own = rows_of(module, rows)
        except UnsupportedFile as error:
            raise WrongFamily(
                f"module {module.name} changes as one what the checkpoint keeps in several parts"
            ) from error
        return _on_weight(own, family, part, View(part.rows))
    inputs = tuple(module.tensors.values())
    factors = Product.of(family, module, rows)
    apply = partial(_add_rows, family, module, target.shape, rows)
    return Placed(module.name, part, part.tensor, View(part.rows), inputs, apply, factors)


def _add_rows(
    family: Family,
    module: Module,
    shape: Shape,
    rows: tuple[int, int],
    weight: Tensor,
    strength: float,
) -> None:
    whole = weight.new_zeros(shape)
    family.apply(module, whole, strength)
    weight.add_(whole[slice(*rows)])


def _on_bias(module: Module, target: Target, apply: Apply) -> Placed:
    assert target.bias is not None
    inputs = tuple(module.tensors.values())
    return Placed(module.name, target, target.bias, View(target.rows), inputs, apply)


def _columns(module: Module, family: Family, target: Target) -> int | None:
    """The input channels that a module of a plain model changes in one with more of them.

    Inpainting and pix2pix models feed 9 or 8 channels of which the first 4 are those of plain
    models.
    """
    shape = target.shape
    if not target.tensor.endswith(_FIRST) or len(shape) < 2 or shape[1] not in _MORE_CHANNELS:
        return None
    plain = (shape[0], _PLAIN_CHANNELS, *shape[2:])
    change = family.shape(module)
    fits = family.covers(change, plain) and not family.covers(change, shape)
    return _PLAIN_CHANNELS if fits else None


_TAKES_MORE = "adapters of control or inpainting need a model that takes as many input channels"


def _require_cover(
    module: Module, family: Family, weight: Shape, *, is_first: bool = False
) -> None:
    change = family.shape(module)
    if not family.covers(change, weight):
        takes_more = is_first and change[:1] == weight[:1] and change[1:2] > weight[1:2]
        raise WrongFamily(
            f"module {module.name} changes a weight of shape {list(change)},"
            f" the checkpoint's has shape {list(weight)}",
            hint=_TAKES_MORE if takes_more else None,
        )
    if MAGNITUDES & module.tensors.keys() and not magnitudes_fit(module, weight):
        raise module.misfit()


def apart(ours: Identity, theirs: Identity) -> str | None:
    """Why an adapter is of another family than a checkpoint; None where that is not certain.

    An adapter whose names occur in several families is left to the shapes.
    """
    if Base.UNKNOWN in (ours.base, theirs.base) or ours.base is theirs.base:
        return None
    if ours.confidence < CERTAIN:
        return None
    return f"made for {_with_width(ours.base)}, the checkpoint is {_with_width(theirs.base)}"


def _with_width(base: Base) -> str:
    width = CONTEXT_WIDTH.get(base)
    return base.label if width is None else f"{base.label} (context width {width})"

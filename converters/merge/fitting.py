"""Where the modules of an adapter fit in a checkpoint, by names and shapes; and the refusals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from converters.adapters import Adapter, Module, Shape, load_adapter
from converters.errors import BadValue, UnsupportedFile, UnusedKeys, WrongFamily
from converters.identify import CONTEXT_WIDTH, Base, Identity, Kind, identify
from converters.layouts.components import TEXT_ENCODER
from converters.layouts.kohya import Target
from converters.merge.changes import Change
from converters.statedict import StateDict

_NAMED_KEYS = 3
_FIRST = "input_blocks.0.0.weight"
_MORE_CHANNELS = (8, 9)


@dataclass(frozen=True, slots=True)
class AdapterChoice:
    """An adapter and how strongly it is merged.

    `name` stands for it in messages (its path). `text_encoder_weight` None means `weight`.
    """

    name: str
    state_dict: StateDict
    weight: float = 1.0
    text_encoder_weight: float | None = None

    def strength(self, component: str) -> float:
        """The weight for the modules of a component."""
        if component == TEXT_ENCODER and self.text_encoder_weight is not None:
            return self.text_encoder_weight
        return self.weight


@dataclass(frozen=True, slots=True)
class AdapterReport:
    """What became of an adapter: modules applied, and keys that found no place."""

    name: str
    algorithm: tuple[str, ...]
    applied: int
    unused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Mapped:
    """The modules of an adapter beside their targets, and the keys that have none."""

    places: tuple[tuple[Module, Target], ...]
    unused: tuple[str, ...]


def require_sd1(identity: Identity) -> None:
    """Raises WrongFamily unless the base is an SD1 checkpoint or UNet under LDM names."""
    kinds = (Kind.CHECKPOINT, Kind.DIFFUSION_MODEL)
    if identity.kind not in kinds:
        raise WrongFamily(f"the base is of kind {identity.kind}, not a checkpoint")
    if identity.base is not Base.SD1:
        raise WrongFamily(
            f"the checkpoint is {_family(identity.base)}; only SD1 can be merged into"
        )
    if identity.layout != "ldm":
        raise WrongFamily(f"the checkpoint has {identity.layout} names, not those of a single file")


def place(
    choice: AdapterChoice,
    checkpoint: StateDict,
    targets: Mapping[str, Target],
    *,
    partial: bool,
) -> tuple[AdapterReport, list[tuple[str, Change]]]:
    """Every module of an adapter beside the tensor it changes.

    Raises WrongFamily, UnsupportedFile, UnusedKeys (unless `partial`) or BadValue.
    """
    _require_finite(choice)
    identity = identify(choice.state_dict)
    _require_same_family(choice, identity)
    adapter = load_adapter(choice.state_dict)
    _require_mergeable(choice, adapter, identity)
    mapped = _map(adapter, targets)
    placed = []
    for module, target in mapped.places:
        strength = choice.strength(target.component)
        change = Change(choice.name, module, adapter.family(module), strength)
        _require_fit(change, target.tensor, checkpoint[target.tensor].shape)
        placed.append((target.tensor, change))
    _require_used(choice, mapped, partial=partial)
    report = AdapterReport(choice.name, identity.algorithm, len(placed), mapped.unused)
    return report, placed


def _map(adapter: Adapter, targets: Mapping[str, Target]) -> _Mapped:
    places, unused = [], list(adapter.unused)
    for module in adapter.modules:
        target = targets.get(module.name)
        if target is None:
            unused += module.keys
        else:
            places.append((module, target))
    return _Mapped(tuple(places), tuple(unused))


def _require_finite(choice: AdapterChoice) -> None:
    for weight in (choice.weight, choice.text_encoder_weight):
        if weight is not None and not math.isfinite(weight):
            raise BadValue(f"a weight must be a finite number, not {weight}", path=choice.name)


def _require_same_family(choice: AdapterChoice, identity: Identity) -> None:
    if identity.kind is not Kind.LORA:
        raise WrongFamily(f"is of kind {identity.kind}, not an adapter", path=choice.name)
    if identity.base not in (Base.SD1, Base.UNKNOWN):
        raise WrongFamily(
            f"made for {_family(identity.base)}, the checkpoint is {_family(Base.SD1)}",
            path=choice.name,
        )


def _require_mergeable(choice: AdapterChoice, adapter: Adapter, identity: Identity) -> None:
    if not adapter.modules:
        found = "/".join(identity.algorithm) or "unknown"
        raise UnsupportedFile(
            f"holds {found} modules in {identity.layout} naming;"
            " LoRA and LoCon in kohya naming can be merged",
            path=choice.name,
        )


def _require_used(choice: AdapterChoice, mapped: _Mapped, *, partial: bool) -> None:
    if not mapped.places:
        raise WrongFamily(
            f"none of its {len(mapped.unused)} keys fits the checkpoint: {_few(mapped.unused)}",
            path=choice.name,
        )
    if mapped.unused and not partial:
        raise UnusedKeys(
            f"{len(mapped.unused)} keys find no place in the checkpoint: {_few(mapped.unused)}",
            path=choice.name,
            hint="--partial merges the rest and leaves these out",
        )


def _few(keys: tuple[str, ...]) -> str:
    shown = ", ".join(keys[:_NAMED_KEYS])
    return shown if len(keys) <= _NAMED_KEYS else f"{shown}, ..."


def _require_fit(change: Change, tensor: str, weight: Shape) -> None:
    try:
        shape = change.family.shape(change.module)
    except WrongFamily as error:
        raise WrongFamily(error.cause, path=change.adapter) from error
    if _fits(shape, weight, first=tensor.endswith(_FIRST)):
        return
    raise WrongFamily(
        f"module {change.module.name} changes a weight of shape {list(shape)},"
        f" the checkpoint's has shape {list(weight)}",
        path=change.adapter,
    )


def _fits(change: Shape, weight: Shape, *, first: bool) -> bool:
    """Equal up to trailing ones; the first convolution may take more channels than the adapter.

    Inpainting and pix2pix models feed 9 or 8 channels of which the first 4 are those of plain
    models.
    """
    kernel = weight[2:] if set(weight[2:]) - {1} else ()
    outer = (weight[0], weight[1], *kernel)
    return change == outer or (
        first and outer[1] in _MORE_CHANNELS and change == (outer[0], 4, *kernel)
    )


def _family(base: Base) -> str:
    width = CONTEXT_WIDTH.get(base)
    return base.label if width is None else f"{base.label} (context width {width})"

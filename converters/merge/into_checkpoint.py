"""Adapters merged into a checkpoint: planned from names and shapes, computed tensor by tensor.

What fits where is settled, and refused, before any tensor is read. A tensor that several adapters
change is computed once: all changes are added to it in float32 and rounded once. Tensors that
nothing changes keep their stored bytes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial as bind
from typing import TYPE_CHECKING

from converters.adapters import Adapter, Factors, Family, Module, Shape, load_adapter
from converters.adapters.finite import all_finite
from converters.errors import BadValue, MergeProblem, UnsupportedFile, UnusedKeys, WrongFamily
from converters.identify import CONTEXT_WIDTH, Base, Identity, Kind, identify
from converters.layouts.components import TEXT_ENCODER, UNET_EMA, component_of
from converters.layouts.kohya import Target, module_targets
from converters.statedict import LazyTensor, StateDict

if TYPE_CHECKING:
    from converters.compute import Tensor

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
class MergePlan:
    """The merged checkpoint as a lazy state dict, and what was planned.

    Reading a changed tensor raises MergeProblem when a value in it is not finite.
    """

    state_dict: StateDict
    reports: tuple[AdapterReport, ...]
    changed: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Change:
    """One module's part in a tensor of the checkpoint."""

    adapter: str
    module: Module
    family: Family
    strength: float


@dataclass(frozen=True, slots=True)
class _Mapped:
    """The modules of an adapter beside their targets, and the keys that have none."""

    places: tuple[tuple[Module, Target], ...]
    unused: tuple[str, ...]


def plan_merge(
    checkpoint: StateDict, adapters: Sequence[AdapterChoice], *, partial: bool = False
) -> MergePlan:
    """Plan the merge of `adapters` into `checkpoint` (an SD1 checkpoint or UNet in LDM layout).

    Raises WrongFamily when the checkpoint or an adapter is of another family, or a module does not
    have the shape of its target; UnusedKeys when keys of an adapter find no place, unless
    `partial`; BadValue for weights that are no finite numbers. Reads no tensor data.
    """
    _require_sd1(identify(checkpoint))
    targets = module_targets(checkpoint)
    changes: defaultdict[str, list[_Change]] = defaultdict(list)
    reports = []
    for choice in adapters:
        report, placed = _place(choice, checkpoint, targets, partial=partial)
        reports.append(report)
        for tensor, change in placed:
            if change.strength:
                changes[tensor].append(change)
    merged = {
        name: _merged(checkpoint[name], name, changes[name])
        for name in checkpoint
        if name in changes
    }
    return MergePlan(
        checkpoint.overlay(merged), tuple(reports), tuple(merged), _warnings(checkpoint, merged)
    )


def _place(
    choice: AdapterChoice,
    checkpoint: StateDict,
    targets: Mapping[str, Target],
    *,
    partial: bool,
) -> tuple[AdapterReport, list[tuple[str, _Change]]]:
    """Every module of an adapter beside the tensor it changes; refuses what does not fit."""
    _require_finite(choice)
    identity = identify(choice.state_dict)
    _require_same_family(choice, identity)
    adapter = load_adapter(choice.state_dict)
    _require_mergeable(choice, adapter, identity)
    mapped = _map(adapter, targets)
    placed = []
    for module, target in mapped.places:
        strength = choice.strength(target.component)
        change = _Change(choice.name, module, adapter.family(module), strength)
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


def _require_sd1(identity: Identity) -> None:
    kinds = (Kind.CHECKPOINT, Kind.DIFFUSION_MODEL)
    if identity.kind not in kinds:
        raise WrongFamily(f"the base is of kind {identity.kind}, not a checkpoint")
    if identity.base is not Base.SD1:
        raise WrongFamily(
            f"the checkpoint is {_family(identity.base)}; only SD1 can be merged into"
        )
    if identity.layout != "ldm":
        raise WrongFamily(f"the checkpoint has {identity.layout} names, not those of a single file")


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


def _family(base: Base) -> str:
    width = CONTEXT_WIDTH.get(base)
    return base.label if width is None else f"{base.label} (context width {width})"


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


def _require_fit(change: _Change, tensor: str, weight: Shape) -> None:
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


def _warnings(checkpoint: StateDict, merged: Mapping[str, LazyTensor]) -> tuple[str, ...]:
    averages = sum(component_of(name) == UNET_EMA for name in checkpoint)
    if not averages or not merged:
        return ()
    return (f"the {averages} EMA tensors of the checkpoint stay without the adapters",)


def _merged(weight: LazyTensor, name: str, changes: list[_Change]) -> LazyTensor:
    from converters.compute import lazy

    names = " + ".join(dict.fromkeys([weight.origin, *(change.adapter for change in changes)]))
    compute = bind(_compute, weight, name, tuple(changes))
    read = [weight, *(t for change in changes for t in change.module.tensors.values())]
    return lazy(weight.dtype, weight.shape, compute, names, inputs=read)


def _compute(weight: LazyTensor, name: str, changes: tuple[_Change, ...]) -> Tensor:
    """The weight + Σ strength · scale · up @ down, in float32, as one product, rounded once."""
    from converters.compute import value

    stored = value(weight)
    flat = stored.float().flatten(1)
    flat.addmm_(*_one_product(flat, changes))
    if not all_finite(flat, stored):
        raise _not_finite(weight, name, changes)
    return flat.reshape(weight.shape).to(stored.dtype)


def _one_product(flat: Tensor, changes: tuple[_Change, ...]) -> tuple[Tensor, Tensor]:
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


def _factors(change: _Change) -> Factors:
    try:
        return change.family.factors(change.module)
    except MergeProblem as error:
        raise MergeProblem(error.cause, path=change.adapter, hint=error.hint) from error


def _not_finite(weight: LazyTensor, name: str, changes: tuple[_Change, ...]) -> MergeProblem:
    from converters.compute import value

    if not all_finite(value(weight).float()):
        return MergeProblem(f"{name} holds NaN or infinite values before the merge")
    adapters = ", ".join(dict.fromkeys(change.adapter for change in changes))
    return MergeProblem(
        f"{name} leaves the range of its element type",
        path=adapters,
        hint="merge with a smaller weight, or convert the checkpoint to fp32 first",
    )

"""Adapters merged into a checkpoint: planned from names and shapes, computed tensor by tensor.

What fits where is settled, and refused, before any tensor is read. A tensor that several adapters
change is computed once: all changes are made in float32, in the order of the adapters, and rounded
once. Tensors that nothing changes keep their stored bytes.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from converters.adapters import load_adapter
from converters.adapters.places import Place
from converters.adapters.targets import Target, module_targets
from converters.devices import CPU
from converters.dtypes import DType
from converters.errors import BadValue, UnsupportedFile, UnusedKeys, WrongFamily, naming
from converters.identify import Base, Identity, Kind, identify
from converters.layouts.components import TEXT_ENCODER, UNET_EMA, component_of
from converters.merge.blocks import BlockWeights, block_weights
from converters.merge.changes import Change, ChangeLog, Measured, merged_tensor
from converters.merge.fitting import Fit, apart, fit_modules
from converters.merge.hypernetworks import fold_hypernetwork
from converters.merge.true_weights import true_weights
from converters.spare_memory import Spare
from converters.statedict import LazyTensor, StateDict
from converters.transform.cast import cast

__all__ = ["AdapterChoice", "AdapterReport", "Measured", "MergePlan", "plan_merge"]

_NAMED_KEYS = 3
_MODELS = (Kind.CHECKPOINT, Kind.DIFFUSION_MODEL)


@dataclass(frozen=True, slots=True)
class AdapterChoice:
    """An adapter and how strongly it is merged.

    `name` stands for it in messages (its path). `text_encoder_weight` None means `weight`;
    `block_weights` is a preset's name or a list of numbers, None means 1 everywhere.
    """

    name: str
    state_dict: StateDict
    weight: float = 1.0
    text_encoder_weight: float | None = None
    block_weights: str | None = None

    def strength(self, target: Target, blocks: BlockWeights | None) -> float:
        """The weight for a layer of the checkpoint."""
        weight = self.weight
        if target.component.startswith(TEXT_ENCODER) and self.text_encoder_weight is not None:
            weight = self.text_encoder_weight
        return weight if blocks is None else weight * blocks.of(target)


@dataclass(frozen=True, slots=True)
class AdapterReport:
    """What became of an adapter: modules applied, in all and by component, and what was not used.

    `unused` has the keys that found no place, each with the reason; `component_of` the component of
    every tensor that the adapter changes.
    """

    name: str
    kind: Kind
    algorithm: tuple[str, ...]
    applied: int
    components: Mapping[str, int]
    unused: Mapping[str, str]
    component_of: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MergePlan:
    """The merged checkpoint as a lazy state dict, and what was planned.

    Reading a changed tensor raises MergeProblem when a value in it is not finite. Once all are
    read, `measured` tells what each adapter (by its place in the call) did.
    """

    state_dict: StateDict
    reports: tuple[AdapterReport, ...]
    changed: tuple[str, ...]
    warnings: tuple[str, ...]
    log: ChangeLog = field(default_factory=ChangeLog)

    def measured(self, number: int) -> Measured:
        """The norms of what one adapter changed in the tensors that were read so far."""
        return self.log.measured(number)

    @property
    def overflow(self) -> Mapping[str, int]:
        """The tensors read so far with values that their type cannot hold, and how many."""
        return self.log.casts.clamped

    def measured_by_component(self, number: int) -> Mapping[str, Measured]:
        """The same for each component that the adapter has modules of."""
        report = self.reports[number]
        tensors: dict[str, set[str]] = {component: set() for component in report.components}
        for tensor, component in report.component_of.items():
            tensors[component].add(tensor)
        return {part: self.log.measured(number, among) for part, among in tensors.items()}


def plan_merge(
    checkpoint: StateDict,
    adapters: Sequence[AdapterChoice],
    *,
    partial: bool = False,
    dtype: DType | None = None,
    device: str = CPU,
    clamped: bool = False,
) -> MergePlan:
    """Plan the merge of `adapters` into `checkpoint`, a model in any layout.

    With a `dtype` all floating-point tensors of the result have it, rounded once. The sums are made
    on `device`. Values that a type cannot hold are an error, or its largest if `clamped`.

    Raises WrongFamily when the checkpoint or an adapter is of another family, or a module does not
    have the shape of its target; UnusedKeys when keys of an adapter find no place, unless
    `partial`; BadValue for weights that are no finite numbers or block weights that are none;
    UnsupportedFile for a hypernetwork that is not linear and for weights that are no floating-point
    numbers. Of tensors only the biases of hypernetworks are read.
    """
    model = identify(checkpoint)
    if model.kind not in _MODELS:
        raise WrongFamily(f"the base is of kind {model.kind}, not a checkpoint")
    checkpoint = true_weights(checkpoint, keeps_types=dtype is None)
    targets = module_targets(checkpoint)
    changes: defaultdict[str, list[Change]] = defaultdict(list)
    folded: list[tuple[str, Change]] = []
    reports = []
    for number, choice in enumerate(adapters):
        with naming(choice.name):
            report, placed = _place(number, choice, model, targets, partial=partial)
        reports.append(report)
        if report.kind is Kind.HYPERNETWORK:
            # They act on what the layers take: the first one named is the innermost factor.
            folded = placed + folded
            continue
        for tensor, change in placed:
            changes[tensor].append(change)
    for tensor, change in folded:
        changes[tensor].append(change)
    _require_floats(checkpoint, changes)
    log, spare = ChangeLog(), Spare()
    merged = {
        name: merged_tensor(
            checkpoint[name], name, active, log, dtype, device, clamped=clamped, spare=spare
        )
        for name in checkpoint
        if (active := [change for change in changes.get(name, ()) if change.strength])
    }
    warnings = _warnings(checkpoint, merged)
    state = checkpoint.overlay(merged)
    if dtype is not None:
        state = cast(state, dtype, clamp=clamped, log=log.casts)
    return MergePlan(state, tuple(reports), tuple(merged), warnings, log)


def _place(
    number: int,
    choice: AdapterChoice,
    model: Identity,
    targets: Mapping[Place, Target],
    *,
    partial: bool,
) -> tuple[AdapterReport, list[tuple[str, Change]]]:
    """Every change of an adapter beside the tensor it is made to, and the account of its keys."""
    identity = identify(choice.state_dict)
    blocks = _blocks(choice, model.base)
    _require_mergeable(identity)
    if (reason := apart(identity, model)) is not None:
        raise WrongFamily(reason)
    if identity.kind is Kind.HYPERNETWORK:
        fit = fold_hypernetwork(choice.state_dict, targets)
    else:
        fit = fit_modules(load_adapter(choice.state_dict), targets)
    if fit.misfit is not None:
        raise fit.misfit
    _require_used(fit, partial=partial)
    changes = [
        (placed.tensor, placed.change(number, choice.name, choice.strength(placed.target, blocks)))
        for placed in fit.placed
    ]
    return _report(choice, identity, fit), changes


def _require_floats(checkpoint: StateDict, changed: Iterable[str]) -> None:
    for name in changed:
        dtype = checkpoint[name].dtype
        if not dtype.is_float:
            raise UnsupportedFile(
                f"{name} is stored in {dtype.label}; only floating-point weights can be changed",
                path=checkpoint[name].origin,
            )


def _blocks(choice: AdapterChoice, base: Base) -> BlockWeights | None:
    for weight in (choice.weight, choice.text_encoder_weight):
        if weight is not None and not math.isfinite(weight):
            raise BadValue(f"a weight must be a finite number, not {weight}")
    return None if choice.block_weights is None else block_weights(choice.block_weights, base)


def _require_mergeable(identity: Identity) -> None:
    if identity.kind not in (Kind.LORA, Kind.HYPERNETWORK):
        raise WrongFamily(f"is of kind {identity.kind}, not an adapter")
    if identity.layout == "cloneofsimo":
        raise UnsupportedFile("its modules have no names, only an order; it cannot be merged")


def _require_used(fit: Fit, *, partial: bool) -> None:
    if not fit.placed:
        raise WrongFamily(f"none of its {len(fit.unused)} keys fits the checkpoint: {_few(fit)}")
    if fit.unused and not partial:
        count = len(fit.unused)
        keys = "1 key finds" if count == 1 else f"{count} keys find"
        raise UnusedKeys(
            f"{keys} no place in the checkpoint: {_few(fit)}",
            hint="--partial merges the rest and leaves these out",
        )


def _few(fit: Fit) -> str:
    """Some of the keys without a place, each group with its reason."""
    shown = [f"{key} ({reason})" for key, reason in list(fit.unused.items())[:_NAMED_KEYS]]
    return ", ".join([*shown, "..."] if len(fit.unused) > _NAMED_KEYS else shown)


def _report(choice: AdapterChoice, identity: Identity, fit: Fit) -> AdapterReport:
    components = {placed.module: placed.target.component for placed in fit.placed}
    return AdapterReport(
        choice.name,
        identity.kind,
        identity.algorithm,
        fit.modules,
        dict(Counter(components.values())),
        fit.unused,
        {placed.tensor: placed.target.component for placed in fit.placed},
    )


def _warnings(checkpoint: StateDict, merged: Mapping[str, LazyTensor]) -> tuple[str, ...]:
    averages = sum(component_of(name) == UNET_EMA for name in checkpoint)
    if not averages or not merged:
        return ()
    return (f"the {averages} EMA tensors of the checkpoint stay without the adapters",)

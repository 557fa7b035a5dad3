"""A merge of checkpoints as a lazy state dict: planned, and refused, before any tensor is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from converters.dtypes import DType
from converters.errors import UnsupportedFile, WrongFamily
from converters.layouts.components import OTHER, UNET, UNET_EMA
from converters.merge.checkpoints import METHODS
from converters.merge.checkpoints.choice import (
    COMPONENTS,
    LABELS,
    MergeChoice,
    participants,
    weight_of,
)
from converters.merge.checkpoints.combining import MergeLog, Part, Survey, merged_tensor
from converters.merge.checkpoints.fitting import (
    Model,
    channel_warnings,
    inputs_of,
    mergeable,
    prediction_warnings,
    require_family,
)
from converters.merge.checkpoints.method import A, Method, Numbers
from converters.merge.true_weights import true_weights
from converters.statedict import LazyTensor, StateDict
from converters.transform.cast import cast

_WITH_UNET = (UNET_EMA, OTHER)
"""What goes where the UNet goes: its averages, schedule and markers."""


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What a model had no part in.

    `missing` are weights of A that it lacks, so that A's are kept; `unused` are weights of it that
    A lacks, so that the result has none.
    """

    label: str
    name: str
    missing: tuple[str, ...]
    unused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckpointMerge:
    """The merged checkpoint as a lazy state dict, and what was planned.

    `merged` are the tensors that are computed; `log` says, once they were read, which of them are
    not A's bytes after all.
    """

    state: StateDict
    reports: tuple[ModelReport, ...]
    merged: tuple[str, ...]
    warnings: tuple[str, ...]
    log: MergeLog


def plan_checkpoint_merge(models: Sequence[Model], choice: MergeChoice) -> CheckpointMerge:
    """Plan the merge of `models`, A first. Reads no tensor data.

    Raises BadValue for a choice that makes no sense, WrongFamily or UnsupportedFile for models that
    cannot be merged, MergeProblem naming the first tensor whose shapes differ.
    """
    method = METHODS[choice.method]
    taking = participants(models, choice, method)
    require_family(models)
    models = [_true(model, number, choice) for number, model in enumerate(models)]
    taking = models[: len(taking)]
    weight = weight_of(models[0], choice, method)
    base = _with_sources(models, choice.sources)
    log = MergeLog()
    merger = _Merger(taking, method, choice, weight, log)
    for name in models[0].state:
        part = models[0].component_of(name)
        if part not in choice.sources and part not in method.spared and mergeable(models[0], name):
            merger.add(name)
    if taking[1:] and not merger.shared and len(choice.sources) < len(COMPONENTS):
        raise WrongFamily(
            f"has no tensor under a name of {taking[0].name}",
            path=taking[1].name,
            hint="a UNet alone and a whole checkpoint name their tensors in other ways",
        )
    computed = merger.tensors()
    state = base.overlay(merger.picked).overlay(computed)
    if choice.dtype is not None:
        state = cast(state, choice.dtype, clamp=choice.clamped, log=log.casts)
    warnings = (
        *merger.warnings,
        *_stale(models[0], choice, computed),
        *_predictions(taking, computed),
    )
    return CheckpointMerge(state, merger.reports(models[0]), tuple(computed), warnings, log)


def _true(model: Model, position: int, choice: MergeChoice) -> Model:
    """The model without scales beside its weights. Raises UnsupportedFile."""
    is_kept = position in (A, *choice.sources.values())
    keeps_types = choice.dtype is None and is_kept
    return replace(model, state=true_weights(model.state, keeps_types=keeps_types))


class _Merger:
    """Collects the tensors to merge, and what the models lack of them."""

    def __init__(
        self,
        models: Sequence[Model],
        method: Method,
        choice: MergeChoice,
        weight: Callable[[str], float],
        log: MergeLog,
    ) -> None:
        self._models, self._method, self._choice = models, method, choice
        self._weight, self._log = weight, log
        self._parts: list[Part] = []
        self._missing: dict[str, list[str]] = {model.name: [] for model in models}
        self.picked: dict[str, LazyTensor] = {}
        self.warnings: tuple[str, ...] = ()
        self.shared = 0

    def add(self, name: str) -> None:
        """Merge a tensor, or keep A's where another model lacks it. Raises MergeProblem."""
        lacking = [model.name for model in self._models if name not in model.state]
        for model in lacking:
            self._missing[model].append(name)
        if lacking:
            return
        self.shared += 1
        inputs = inputs_of(name, self._models)
        numbers = self._numbers(name)
        picked = self._method.picks(numbers) if self._method.picks else None
        if picked and inputs[picked].shape != inputs[0].shape:
            picked = None  # of A, too, there is something in the result
        dtype = self._choice.dtype or inputs[0].dtype
        if picked is None:
            files = tuple(model.name for model in self._models)
            clamped = self._choice.clamped
            self.warnings += channel_warnings(inputs)
            self._parts.append(Part(name, inputs, files, self._method, numbers, dtype, clamped))
        elif picked:
            self.picked[name] = self._alone(name, inputs[picked], dtype)

    def _alone(self, name: str, tensor: LazyTensor, dtype: DType) -> LazyTensor:
        """The tensor of one model in the type of the result."""
        clamped, log = self._choice.clamped, self._log.casts
        return cast(StateDict({name: tensor}), dtype, clamp=clamped, log=log)[name]

    def _numbers(self, name: str) -> Numbers:
        given, default = self._choice, Numbers()
        return Numbers(
            alpha=self._weight(name),
            beta=given.beta or 0.0,
            density=default.density if given.density is None else given.density,
            drop=given.drop or 0.0,
            seed=given.seed or 0,
            name=name,
        )

    def tensors(self) -> dict[str, LazyTensor]:
        """The tensors that are computed."""
        survey = Survey(self._method, self._parts)
        return {part.name: merged_tensor(part, survey, self._log) for part in self._parts}

    def reports(self, first: Model) -> tuple[ModelReport, ...]:
        """What each model that takes part lacks, and what of it nothing takes."""
        skipped = self._method.spared | set(self._choice.sources)
        return tuple(
            ModelReport(
                LABELS[position],
                model.name,
                tuple(self._missing[model.name]),
                tuple(
                    name
                    for name in model.state
                    if name not in first.state
                    and model.component_of(name) not in skipped
                    and mergeable(model, name)
                ),
            )
            for position, model in enumerate(self._models)
        )


def _with_sources(models: Sequence[Model], sources: Mapping[str, int]) -> StateDict:
    """A with the components that come from other models. Raises UnsupportedFile."""
    state = models[0].state
    for component, position in sources.items():
        if not position:
            continue
        moved = {component, *(_WITH_UNET if component == UNET else ())}
        model = models[position]
        found = {n: t for n, t in model.state.items() if model.component_of(n) in moved}
        if not any(model.component_of(name) == component for name in found):
            raise UnsupportedFile(f"has no {component}", path=model.name)
        gone = {name for name in state if models[0].component_of(name) in moved}
        state = state.drop(gone).overlay(found)
    return state


def _stale(first: Model, choice: MergeChoice, merged: Mapping[str, LazyTensor]) -> tuple[str, ...]:
    averages = sum(first.component_of(name) == UNET_EMA for name in first.state)
    if not averages or UNET in choice.sources or not merged:
        return ()
    return (f"the {averages} EMA tensors of A stay as they are",)


def _predictions(models: Sequence[Model], merged: Mapping[str, LazyTensor]) -> tuple[str, ...]:
    return prediction_warnings(dict(zip(LABELS, models, strict=False))) if merged else ()

"""Adapters merged into a checkpoint: planned from names and shapes, computed tensor by tensor.

What fits where is settled, and refused, before any tensor is read. A tensor that several adapters
change is computed once: all changes are added to it in float32 and rounded once. Tensors that
nothing changes keep their stored bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from converters.identify import identify
from converters.layouts.components import UNET_EMA, component_of
from converters.layouts.kohya import module_targets
from converters.merge.changes import Change, merged_tensor
from converters.merge.fitting import AdapterChoice, AdapterReport, place, require_sd1
from converters.statedict import LazyTensor, StateDict

__all__ = ["AdapterChoice", "AdapterReport", "MergePlan", "plan_merge"]


@dataclass(frozen=True, slots=True)
class MergePlan:
    """The merged checkpoint as a lazy state dict, and what was planned.

    Reading a changed tensor raises MergeProblem when a value in it is not finite.
    """

    state_dict: StateDict
    reports: tuple[AdapterReport, ...]
    changed: tuple[str, ...]
    warnings: tuple[str, ...]


def plan_merge(
    checkpoint: StateDict, adapters: Sequence[AdapterChoice], *, partial: bool = False
) -> MergePlan:
    """Plan the merge of `adapters` into `checkpoint` (an SD1 checkpoint or UNet in LDM layout).

    Raises WrongFamily when the checkpoint or an adapter is of another family, or a module does not
    have the shape of its target; UnusedKeys when keys of an adapter find no place, unless
    `partial`; BadValue for weights that are no finite numbers. Reads no tensor data.
    """
    require_sd1(identify(checkpoint))
    targets = module_targets(checkpoint)
    changes: defaultdict[str, list[Change]] = defaultdict(list)
    reports = []
    for choice in adapters:
        report, placed = place(choice, checkpoint, targets, partial=partial)
        reports.append(report)
        for tensor, change in placed:
            if change.strength:
                changes[tensor].append(change)
    merged = {
        name: merged_tensor(checkpoint[name], name, changes[name])
        for name in checkpoint
        if name in changes
    }
    return MergePlan(
        checkpoint.overlay(merged), tuple(reports), tuple(merged), _warnings(checkpoint, merged)
    )


def _warnings(checkpoint: StateDict, merged: Mapping[str, LazyTensor]) -> tuple[str, ...]:
    averages = sum(component_of(name) == UNET_EMA for name in checkpoint)
    if not averages or not merged:
        return ()
    return (f"the {averages} EMA tensors of the checkpoint stay without the adapters",)

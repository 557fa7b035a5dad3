"""Merge adapters into a checkpoint and register the result with all its parents."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.assetref import find_file
from assetmgr.operations.convert.change import DTYPES
from assetmgr.operations.derive import (
    Derivation,
    file_hashes_json,
    parent_of,
    register_derived,
)
from assetmgr.operations.merge.given_files import (
    ADAPTER_TWICE,
    files_of,
    refuse_source,
    require_once,
)
from assetmgr.operations.merge.opened_checkpoint import open_checkpoint, widened_note
from assetmgr.operations.merge.overflow import clamped_warnings
from assetmgr.operations.merge.report import adapter_json
from assetmgr.operations.merge.weighted_adapters import WeightedAdapter, by_network, recorded
from assetmgr.operations.merge.written_checkpoint import (
    checkpoint_size,
    require_checkpoint_target,
    write_checkpoint,
)
from converters.adapters.opening import open_adapter
from converters.devices import begin_import
from converters.errors import BadValue, naming
from converters.hashing import FileHashes
from converters.identify import identify
from converters.merge.into_checkpoint import (
    AdapterChoice,
    AdapterReport,
    plan_merge,
)
from converters.merge.into_checkpoint import MergePlan as MergedCheckpoint
from converters.progress import SILENT, Progress
from converters.statedict import Plain, StateDict
from converters.transform.cast import OnOverflow
from converters.transform.metadata import Parent, provenance

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

OPERATION = "merge adapters"
DEVICES = ("cpu", "auto", "cuda", "mps")
"""What can compute the sums, as `preview` has it."""


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """A checkpoint, the adapters in their order, and where the result goes.

    `device` is a word of DEVICES: what computes the sums. `on_overflow` is one of ON_OVERFLOW.
    """

    checkpoint: str
    adapters: tuple[WeightedAdapter, ...]
    output: Path
    dtype: str = "keep"
    partial: bool = False
    overwrite: bool = False
    device: str = "cpu"
    on_overflow: OnOverflow = OnOverflow.FAIL


@dataclass(frozen=True, slots=True)
class MergePlan:
    """A merge that fits, as a lazy state dict.

    `folder` is the pipeline whose folder the target is to be like, None for a single file.
    """

    request: MergeRequest
    sources: tuple[Path, ...]
    merged: MergedCheckpoint
    nbytes: int
    warnings: tuple[str, ...]
    folder: Path | None = None

    @property
    def state(self) -> StateDict:
        """What will be written, without its metadata."""
        return self.merged.state_dict

    @property
    def reports(self) -> tuple[AdapterReport, ...]:
        """What becomes of each adapter."""
        return self.merged.reports

    @property
    def changed(self) -> int:
        """How many tensors of the checkpoint are changed."""
        return len(self.merged.changed)

    def to_json(self) -> dict[str, object]:
        """The document of the contract before anything was done."""
        return _json(self, self.nbytes, None)


@dataclass(frozen=True, slots=True)
class MergeResult:
    """A merge that was made; `asset` is its number in the library.

    Of a pipeline's folder no single hash tells.
    """

    plan: MergePlan
    nbytes: int
    seconds: float
    hashes: FileHashes | None
    asset: int

    @property
    def overflow(self) -> Mapping[str, int]:
        """The tensors with values that their type cannot hold, which were clamped; how many."""
        return self.plan.merged.overflow

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the plan and of the data."""
        return (*self.plan.warnings, *clamped_warnings(self.overflow))

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return _json(self.plan, self.nbytes, self)


def _json(plan: MergePlan, nbytes: int, done: MergeResult | None) -> dict[str, object]:
    hashes = done.hashes if done else None
    return {
        "target": str(plan.request.output),
        "adapters": [
            adapter_json(plan.merged, number, chosen, done=done is not None)
            for number, chosen in enumerate(plan.request.adapters)
        ],
        "changed_tensors": plan.changed,
        "tensors": len(plan.state),
        "bytes": nbytes,
        "seconds": done.seconds if done else None,
        "hashes": file_hashes_json(hashes) if hashes else None,
        "overflow": dict(sorted(done.overflow.items())) if done else None,
        "warnings": list(done.warnings if done else plan.warnings),
        "asset": done.asset if done else None,
        "errors": [],
    }


def plan_merge_adapters(workspace: Workspace, request: MergeRequest) -> MergePlan:
    """Plan the merge from headers alone.

    A pipeline's folder is merged into as the single file of its components; one with a transformer,
    which has none here, becomes such a folder again. Raises WrongFamily or
    UnusedKeys when an adapter does not fit, UnsupportedFile for what cannot be merged, BadValue for
    block weights, TargetExists, FileProblem.
    """
    if not request.adapters:
        raise BadValue("name at least one adapter")
    request = replace(request, adapters=by_network(request.adapters))
    base = find_file(workspace, request.checkpoint)
    paths = [find_file(workspace, adapter.reference) for adapter in request.adapters]
    refuse_source(request.output, (base, *paths))
    require_once(paths, hint=ADAPTER_TWICE)
    opened = open_checkpoint(base)
    refuse_source(request.output, files_of(opened.state))
    folder = base if opened.is_pipeline else None
    require_checkpoint_target(request.output, folder, overwrite=request.overwrite)
    choices = [
        AdapterChoice(
            str(path),
            open_adapter(path),
            adapter.weight,
            adapter.text_encoder,
            adapter.block_weights,
        )
        for path, adapter in zip(paths, request.adapters, strict=True)
    ]
    device = _device(request.device)
    with naming(base):  # what is wrong with an adapter names that
        merged = plan_merge(
            opened.state,
            choices,
            partial=request.partial,
            dtype=DTYPES[request.dtype],
            device=device,
            clamped=request.on_overflow is OnOverflow.CLAMP,
        )
    state = merged.state_dict
    nbytes = checkpoint_size(state, folder)
    warnings = (*opened.notes, *widened_note(opened.state, request.dtype), *merged.warnings)
    return MergePlan(request, (base, *paths), merged, nbytes, warnings, folder)


def _device(name: str) -> str:
    """The device by torch's name for it. Raises NotAvailable for one that is not there."""
    if name == "cpu":
        return name  # without torch, whose import a plan need not wait for
    from assetmgr.sampler.rendering.devices import choose_device

    return choose_device(name).type


def run_merge_adapters(
    workspace: Workspace, plan: MergePlan, progress: Progress = SILENT
) -> MergeResult:
    """Write the merged checkpoint and register it. Raises MergeProblem for values out of range."""
    started = time.perf_counter()
    request = plan.request
    begin_import()  # while the sources are hashed
    parents = [parent_of(workspace, path, progress) for path in plan.sources]
    derivation = Derivation(OPERATION, _parameters(plan), parents)
    state = plan.state.with_metadata(_texts(plan, parents, derivation))
    nbytes, hashes = write_checkpoint(
        state, request.output, plan.folder, overwrite=request.overwrite, progress=progress
    )
    asset = register_derived(workspace, request.output, hashes, derivation)
    seconds = time.perf_counter() - started
    return MergeResult(plan, nbytes, seconds, hashes, asset)


def _parameters(plan: MergePlan) -> dict[str, Plain]:
    weights: list[Plain] = [
        recorded(path, choice)
        for path, choice in zip(plan.sources[1:], plan.request.adapters, strict=True)
    ]
    told: dict[str, Plain] = {
        "adapters": weights,
        "dtype": plan.request.dtype,
        "partial": plan.request.partial,
    }
    clamped = plan.request.on_overflow is OnOverflow.CLAMP
    return told | ({"on_overflow": OnOverflow.CLAMP.value} if clamped else {})


def _texts(plan: MergePlan, parents: Sequence[Parent], derivation: Derivation) -> dict[str, str]:
    return provenance(
        plan.state,
        identify(plan.state),
        title=plan.request.output.stem,
        operation=OPERATION,
        parents=parents,
        parameters=derivation.parameters,
    )

"""Merge adapters into a checkpoint and register the result with all its parents."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.assetref import find_file
from assetmgr.operations.change import DTYPES
from assetmgr.operations.derive import (
    Derivation,
    file_hashes_json,
    parent_of,
    register_derived,
)
from assetmgr.operations.overflow import clamped_warnings
from converters.adapters.opening import open_adapter
from converters.compute import begin_import
from converters.containers import open_model
from converters.dtypes import DType
from converters.errors import AssetmgrError, BadValue, TargetExists, naming
from converters.hashing import FileHashes
from converters.identify import identify
from converters.layouts.pipeline import (
    TRANSFORMER,
    is_pipeline_state,
    pipeline_parts,
    to_single_file,
)
from converters.merge.into_checkpoint import (
    AdapterChoice,
    AdapterReport,
    Measured,
    plan_merge,
)
from converters.merge.into_checkpoint import MergePlan as MergedCheckpoint
from converters.progress import SILENT, Progress
from converters.statedict import Plain, StateDict
from converters.transform.cast import OnOverflow
from converters.transform.metadata import Parent, provenance
from converters.writers.atomic import refuse_existing
from converters.writers.changed_pipeline import changed_pipeline_size, write_changed_pipeline
from converters.writers.safetensors import layout_of, write_safetensors

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

OPERATION = "merge adapters"
_SUFFIX = ".safetensors"
DEVICES = ("cpu", "auto", "cuda", "mps")
"""What can compute the sums, as `preview` has it."""


@dataclass(frozen=True, slots=True)
class WeightedAdapter:
    """An adapter's reference and its weights; `text_encoder` None means the same as `weight`.

    `block_weights` is a preset or a list of numbers, None means 1 for every block.
    """

    reference: str
    weight: float = 1.0
    text_encoder: float | None = None
    block_weights: str | None = None


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
        "adapters": [_adapter_json(plan, number, done) for number in range(len(plan.reports))],
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


def _adapter_json(plan: MergePlan, number: int, done: MergeResult | None) -> dict[str, object]:
    report, choice = plan.reports[number], plan.request.adapters[number]
    measured = plan.merged.measured(number) if done else None
    parts = plan.merged.measured_by_component(number) if done else {}
    return {
        "path": report.name,
        "kind": report.kind.value,
        "algorithm": list(report.algorithm),
        "weight": choice.weight,
        "text_encoder_weight": choice.text_encoder,
        "block_weights": choice.block_weights,
        "applied": report.applied,
        "components": dict(report.components),
        "unused": list(report.unused),
        "unused_reasons": dict(report.unused),
        "by_component": [
            {
                "component": component,
                "applied": count,
                "change_norm": parts[component].norm if done else None,
                "largest_change": _largest(parts[component]) if done else None,
                "overflow": parts[component].overflow if done else None,
            }
            for component, count in report.components.items()
        ],
        "change_norm": measured.norm if measured else None,
        "largest_change": _largest(measured) if measured else None,
        "overflow": measured.overflow if measured else None,
    }


def _largest(measured: Measured) -> dict[str, object] | None:
    if measured.largest_tensor is None:
        return None
    return {"tensor": measured.largest_tensor, "norm": measured.largest}


def parse_adapter(text: str) -> WeightedAdapter:
    """`ADAPTER[=WEIGHT[,TE_WEIGHT]]`. Raises BadValue for weights that are no numbers.

    A file whose very name holds the `=` wins.
    """
    reference, separator, weights = text.rpartition("=")
    if not separator or os.path.exists(text):  # noqa: PTH110  # Path.exists raises for long names
        return WeightedAdapter(text)
    try:
        numbers = [float(part) for part in weights.split(",")]
    except ValueError:
        numbers = []
    if not reference or not 1 <= len(numbers) <= 2 or not all(map(math.isfinite, numbers)):
        raise BadValue(f"{text!r} is not ADAPTER[=WEIGHT[,TE_WEIGHT]]")
    return WeightedAdapter(reference, numbers[0], numbers[1] if len(numbers) == 2 else None)


def weigh_blocks(
    adapters: Sequence[WeightedAdapter], lists: Sequence[str]
) -> tuple[WeightedAdapter, ...]:
    """The adapters with their block weights: one list for all of them, or one for each in order.

    Raises BadValue for another number of lists.
    """
    if len(lists) not in (0, 1, len(adapters)):
        raise BadValue(
            f"{len(lists)} lists of block weights for {len(adapters)} adapters;"
            " give one for all of them, or one for each"
        )
    each = lists if len(lists) == len(adapters) else [*lists, None][:1] * len(adapters)
    return tuple(
        replace(adapter, block_weights=blocks)
        for adapter, blocks in zip(adapters, each, strict=True)
    )


def plan_merge_adapters(workspace: Workspace, request: MergeRequest) -> MergePlan:
    """Plan the merge from headers alone.

    A pipeline's folder is merged into as the single file of its components; one with a transformer,
    which has none here, becomes such a folder again. Raises WrongFamily or
    UnusedKeys when an adapter does not fit, UnsupportedFile for what cannot be merged, BadValue for
    block weights, TargetExists, FileProblem.
    """
    if not request.adapters:
        raise BadValue("name at least one adapter")
    base = find_file(workspace, request.checkpoint)
    paths = [find_file(workspace, adapter.reference) for adapter in request.adapters]
    if request.output.absolute() in {path.absolute() for path in (base, *paths)}:
        raise BadValue("is also a source", path=request.output)
    if twice := [path for path, count in Counter(paths).items() if count > 1]:
        raise BadValue("is given twice; give it once, with the sum of its weights", path=twice[0])
    checkpoint, notes = _open_checkpoint(base, request.dtype)
    folder = base if is_pipeline_state(checkpoint) else None
    _require_target(request, folder)
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
            checkpoint,
            choices,
            partial=request.partial,
            dtype=DTYPES[request.dtype],
            device=device,
            clamped=request.on_overflow is OnOverflow.CLAMP,
        )
    state = merged.state_dict
    nbytes = layout_of(state).nbytes if folder is None else changed_pipeline_size(state)
    warnings = (*notes, *merged.warnings)
    return MergePlan(request, (base, *paths), merged, nbytes, warnings, folder)


def _require_target(request: MergeRequest, folder: Path | None) -> None:
    """Raises TargetExists, BadValue for the name of a file where a folder is to be."""
    output = request.output
    if folder is not None and output.suffix == _SUFFIX:
        raise BadValue(
            f"ends in {_SUFFIX}, but a pipeline with a transformer becomes a folder", path=output
        )
    if folder is None or not output.is_dir():
        refuse_existing(output, overwrite=request.overwrite)
    elif not request.overwrite:  # else its writer looks at what is in it
        raise TargetExists("already exists", path=output, hint="use --overwrite to replace it")


def _device(name: str) -> str:
    """The device by torch's name for it. Raises NotAvailable for one that is not there."""
    if name == "cpu":
        return name  # without torch, whose import a plan need not wait for
    from assetmgr.sampler.devices import choose_device

    return choose_device(name).type


def _open_checkpoint(path: Path, dtype: str) -> tuple[StateDict, tuple[str, ...]]:
    """The checkpoint in one file, and notes about what that leaves out, makes up or widens.

    A pipeline with a transformer, which has no single file here, stays one.
    """
    state = _open(path)
    if not is_pipeline_state(state):
        return state, _widened(state, dtype)
    parts = pipeline_parts(state)
    if TRANSFORMER in parts:
        return state, ()
    single = to_single_file(parts)
    return single.state, single.notes


def _widened(state: StateDict, dtype: str) -> tuple[str, ...]:
    """That the values of quantised blocks are written as the numbers they stand for."""
    count = sum(t.extents is None and t.dtype is DType.F32 for t in state.values())
    if not count or DTYPES[dtype] is not None:
        return ()
    return (f"{count} quantised tensors are written in fp32; --dtype fp16 halves the file",)


def _open(path: Path) -> StateDict:
    state = open_model(path).state_dict
    if not state:
        raise AssetmgrError("holds no tensors", path=path)
    return state


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
    nbytes, hashes = _write(plan, state, progress)
    asset = register_derived(workspace, request.output, hashes, derivation)
    seconds = time.perf_counter() - started
    return MergeResult(plan, nbytes, seconds, hashes, asset)


def _write(plan: MergePlan, state: StateDict, progress: Progress) -> tuple[int, FileHashes | None]:
    """Write the file, or the folder; how large it is, and the hashes of a file."""
    output, overwrite = plan.request.output, plan.request.overwrite
    if plan.folder is None:
        written = write_safetensors(state, output, overwrite=overwrite, progress=progress)
        return written.nbytes, written.hashes
    made = write_changed_pipeline(
        plan.folder, state, output, overwrite=overwrite, progress=progress
    )
    return made.nbytes, None


def _parameters(plan: MergePlan) -> dict[str, Plain]:
    weights: list[Plain] = [
        _weights(path, choice)
        for path, choice in zip(plan.sources[1:], plan.request.adapters, strict=True)
    ]
    told: dict[str, Plain] = {
        "adapters": weights,
        "dtype": plan.request.dtype,
        "partial": plan.request.partial,
    }
    clamped = plan.request.on_overflow is OnOverflow.CLAMP
    return told | ({"on_overflow": OnOverflow.CLAMP.value} if clamped else {})


def _weights(path: Path, choice: WeightedAdapter) -> dict[str, Plain]:
    told: dict[str, Plain] = {
        "adapter": path.name,
        "weight": choice.weight,
        "text_encoder": choice.text_encoder,
    }
    return told if choice.block_weights is None else told | {"block_weights": choice.block_weights}


def _texts(plan: MergePlan, parents: Sequence[Parent], derivation: Derivation) -> dict[str, str]:
    return provenance(
        plan.state,
        identify(plan.state),
        title=plan.request.output.stem,
        operation=OPERATION,
        parents=parents,
        parameters=derivation.parameters,
    )

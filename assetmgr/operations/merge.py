"""Merge adapters into a checkpoint and register the result with all its parents."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.assetref import find_file
from assetmgr.operations.change import DTYPES
from assetmgr.operations.derive import Derivation, parent_of, register_derived
from converters.containers import open_model
from converters.errors import AssetmgrError, BadValue
from converters.hashing import FileHashes
from converters.identify import identify
from converters.merge.into_checkpoint import AdapterChoice, AdapterReport, plan_merge
from converters.progress import SILENT, Progress
from converters.statedict import Plain, StateDict
from converters.transform.cast import cast
from converters.transform.metadata import Parent, provenance
from converters.writers.atomic import refuse_existing
from converters.writers.safetensors import layout_of, write_safetensors

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

OPERATION = "merge adapters"


@dataclass(frozen=True, slots=True)
class WeightedAdapter:
    """An adapter's reference and its weights; `text_encoder` None means the same as `weight`."""

    reference: str
    weight: float = 1.0
    text_encoder: float | None = None


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """A checkpoint, the adapters in their order, and where the result goes."""

    checkpoint: str
    adapters: tuple[WeightedAdapter, ...]
    output: Path
    dtype: str = "keep"
    partial: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class MergePlan:
    """A merge that fits, as a lazy state dict."""

    request: MergeRequest
    sources: tuple[Path, ...]
    state: StateDict
    reports: tuple[AdapterReport, ...]
    changed: int
    nbytes: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The document of the contract before anything was done."""
        return _json(self, self.nbytes, None, None, None)


@dataclass(frozen=True, slots=True)
class MergeResult:
    """A merge that was made; `asset` is its number in the library."""

    plan: MergePlan
    nbytes: int
    seconds: float
    hashes: FileHashes
    asset: int

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return _json(self.plan, self.nbytes, self.seconds, self.hashes, self.asset)


def _json(
    plan: MergePlan,
    nbytes: int,
    seconds: float | None,
    hashes: FileHashes | None,
    asset: int | None,
) -> dict[str, object]:
    names = ("blake3", "sha256", "crc32", "autov1", "autov2", "autov3")
    return {
        "target": str(plan.request.output),
        "adapters": [
            {
                "path": report.name,
                "algorithm": list(report.algorithm),
                "weight": choice.weight,
                "text_encoder_weight": choice.text_encoder,
                "applied": report.applied,
                "unused": list(report.unused),
            }
            for report, choice in zip(plan.reports, plan.request.adapters, strict=True)
        ],
        "changed_tensors": plan.changed,
        "tensors": len(plan.state),
        "bytes": nbytes,
        "seconds": seconds,
        "hashes": {name: getattr(hashes, name) for name in names} if hashes else None,
        "warnings": list(plan.warnings),
        "asset": asset,
        "errors": [],
    }


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


def plan_merge_adapters(workspace: Workspace, request: MergeRequest) -> MergePlan:
    """Plan the merge from headers alone.

    Raises WrongFamily or UnusedKeys when an adapter does not fit, TargetExists, FileProblem.
    """
    if not request.adapters:
        raise BadValue("name at least one adapter")
    refuse_existing(request.output, overwrite=request.overwrite)
    base = find_file(workspace, request.checkpoint)
    paths = [find_file(workspace, adapter.reference) for adapter in request.adapters]
    if request.output.absolute() in {path.absolute() for path in (base, *paths)}:
        raise BadValue("is also a source", path=request.output)
    checkpoint = _open(base)
    dtype = DTYPES[request.dtype]
    if dtype is not None:
        # Widened before the sum, narrowed after it: each value is rounded once.
        wide = {n for n, t in checkpoint.items() if t.dtype.is_float and t.dtype.bits < dtype.bits}
        checkpoint = checkpoint.overlay(cast(checkpoint.select(wide.__contains__), dtype))
    choices = [
        AdapterChoice(str(path), _open(path), adapter.weight, adapter.text_encoder)
        for path, adapter in zip(paths, request.adapters, strict=True)
    ]
    merged = plan_merge(checkpoint, choices, partial=request.partial)
    state = cast(merged.state_dict, dtype) if dtype else merged.state_dict
    return MergePlan(
        request,
        (base, *paths),
        state,
        merged.reports,
        len(merged.changed),
        layout_of(state).nbytes,
        merged.warnings,
    )


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
    parents = [parent_of(workspace, path, progress) for path in plan.sources]
    derivation = Derivation(OPERATION, _parameters(plan), parents)
    written = write_safetensors(
        plan.state.with_metadata(_texts(plan, parents, derivation)),
        request.output,
        overwrite=request.overwrite,
        progress=progress,
    )
    assert written.hashes is not None
    asset = register_derived(workspace, request.output, written.hashes, derivation)
    seconds = time.perf_counter() - started
    return MergeResult(plan, written.nbytes, seconds, written.hashes, asset)


def _parameters(plan: MergePlan) -> dict[str, Plain]:
    weights: list[Plain] = [
        {"adapter": path.name, "weight": choice.weight, "text_encoder": choice.text_encoder}
        for path, choice in zip(plan.sources[1:], plan.request.adapters, strict=True)
    ]
    return {"adapters": weights, "dtype": plan.request.dtype, "partial": plan.request.partial}


def _texts(plan: MergePlan, parents: Sequence[Parent], derivation: Derivation) -> dict[str, str]:
    return provenance(
        plan.state,
        identify(plan.state),
        title=plan.request.output.stem,
        operation=OPERATION,
        parents=parents,
        parameters=derivation.parameters,
    )

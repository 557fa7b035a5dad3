"""Convert model files to safetensors: planned from headers, run as one stream.

A plan is a lazy state dict and a target. Nothing of a pickle is ever run, so that converting a
dangerous one is safe; its tensors are data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.derive import Derivation, parent_of, register_derived
from assetmgr.operations.failures import Failure
from assetmgr.operations.walk import model_files
from converters.containers import Model, open_model
from converters.dtypes import DType
from converters.errors import AssetmgrError, BadValue, TargetExists, UnsupportedFile
from converters.hashing import FileHashes
from converters.identify import Identity, Kind, identify
from converters.pickles.safety import Verdict
from converters.progress import SILENT, Progress
from converters.statedict import Plain, StateDict
from converters.transform.cast import cast
from converters.transform.ema import EmaChoice, apply_ema
from converters.transform.metadata import Parent, provenance
from converters.transform.prune import prune
from converters.writers.atomic import refuse_existing
from converters.writers.safetensors import layout_of, write_safetensors

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

DTYPES: dict[str, DType | None] = {
    "keep": None,
    "fp32": DType.F32,
    "fp16": DType.F16,
    "bf16": DType.BF16,
}
"""The contract's words for precisions."""

_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to the tensors: precision (a key of DTYPES), EMA, pruning."""

    dtype: str = "keep"
    ema: EmaChoice = EmaChoice.KEEP
    prune: bool = False

    def parameters(self) -> dict[str, Plain]:
        """As recorded in the lineage."""
        return {"dtype": self.dtype, "ema": self.ema.value, "prune": self.prune}


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """Files and folders to convert, and where to: beside the source unless told otherwise."""

    sources: tuple[str, ...]
    output: Path | None = None
    output_dir: Path | None = None
    change: Change = Change()
    recursive: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ConvertPlan:
    """One conversion that can be run; `nbytes` is the size the target will have."""

    source: Path
    target: Path
    state: StateDict
    identity: Identity
    nbytes: int
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]
    change: Change
    overwrite: bool

    def to_json(self) -> dict[str, object]:
        """The document of the contract before anything was done: no hashes, no seconds."""
        return _json(self, self.nbytes, None, None, None)


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """A conversion that was made; `asset` is its number in the library."""

    plan: ConvertPlan
    nbytes: int
    seconds: float
    hashes: FileHashes
    asset: int

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return _json(self.plan, self.nbytes, self.seconds, self.hashes, self.asset)


def _json(
    plan: ConvertPlan,
    nbytes: int,
    seconds: float | None,
    hashes: FileHashes | None,
    asset: int | None,
) -> dict[str, object]:
    names = ("blake3", "sha256", "crc32", "autov1", "autov2", "autov3")
    return {
        "source": str(plan.source),
        "target": str(plan.target),
        "container": "safetensors",
        "tensors": len(plan.state),
        "bytes": nbytes,
        "seconds": seconds,
        "hashes": {name: getattr(hashes, name) for name in names} if hashes else None,
        "dropped": list(plan.dropped),
        "warnings": list(plan.warnings),
        "asset": asset,
    }


def plan_convert(request: ConvertRequest) -> Iterator[ConvertPlan | Failure]:
    """Plan every file from its header. Raises BadValue when the request makes no sense."""
    _check(request)
    taken: dict[Path, Path] = {}
    for source, target, explicit in _targets(request):
        if source.absolute() == target.absolute() and not explicit:
            continue  # found in a folder and already what it would become
        try:
            if target in taken:
                raise TargetExists(f"would also be the target of {taken[target]}", path=source)
            plan = _plan(source, target, request)
        except AssetmgrError as error:
            yield Failure.of(error, source)
            continue
        taken[target] = source
        yield plan


def _check(request: ConvertRequest) -> None:
    if request.output is not None and request.output_dir is not None:
        raise BadValue("give either an output file or an output folder")
    if request.output is not None and len(request.sources) != 1:
        raise BadValue("one output file needs exactly one source", hint="use --output-dir")
    if request.output is not None and os.path.isdir(request.sources[0]):  # noqa: PTH112  # as walk
        raise BadValue("a folder is converted into a folder", hint="use --output-dir")


def _targets(request: ConvertRequest) -> Iterator[tuple[Path, Path, bool]]:
    """(source, target, named by the user itself) of every file."""
    for given in request.sources:
        top = Path(given)
        is_folder = os.path.isdir(given)  # noqa: PTH112
        for source in model_files([given], recursive=request.recursive):
            place = source.with_suffix(_SUFFIX)
            if request.output is not None:
                place = request.output
            elif request.output_dir is not None:
                place = request.output_dir / place.relative_to(top if is_folder else top.parent)
            yield source, place, not is_folder


def _plan(source: Path, target: Path, request: ConvertRequest) -> ConvertPlan:
    model = open_model(source)
    if source.absolute() == target.absolute():
        raise BadValue("is its own target", path=source, hint="name another with -o")
    refuse_existing(target, overwrite=request.overwrite)
    if not model.state_dict:
        raise UnsupportedFile("holds no tensors to convert", path=source)
    state, dropped = _changed(model.state_dict, request.change)
    identity = identify(state)
    plan = ConvertPlan(
        source,
        target,
        state,
        identity,
        0,
        (*model.ignored, *dropped),
        _warnings(model, identity),
        request.change,
        request.overwrite,
    )
    return _sized(plan)


def _changed(state: StateDict, change: Change) -> tuple[StateDict, tuple[str, ...]]:
    state, averages = apply_ema(state, change.ema)
    state, training = prune(state) if change.prune else (state, ())
    dtype = DTYPES[change.dtype]
    return (cast(state, dtype) if dtype else state), (*averages, *training)


def _sized(plan: ConvertPlan) -> ConvertPlan:
    like = Parent(plan.source.name, blake3="0" * 64)
    return replace(plan, nbytes=layout_of(_described(plan, like)).nbytes)


def _described(plan: ConvertPlan, parent: Parent) -> StateDict:
    """The output with its metadata; its size does not depend on the value of the parent's hash."""
    texts = provenance(
        plan.state,
        plan.identity,
        title=plan.source.stem,
        operation="convert",
        parents=[parent],
        parameters=plan.change.parameters(),
    )
    return plan.state.with_metadata(texts)


def _warnings(model: Model, identity: Identity) -> tuple[str, ...]:
    warnings = [*model.problems, *identity.problems]
    if model.safety.verdict is Verdict.DANGEROUS:
        warnings.append(f"the source is dangerous (nothing was run): {model.safety.findings[0]}")
    if identity.kind is Kind.UNKNOWN:
        warnings.append("of unknown kind; the tensors are converted as they are")
    return tuple(warnings)


def run_convert(
    workspace: Workspace, plan: ConvertPlan, progress: Progress = SILENT
) -> ConvertResult:
    """Write the target and register it. Raises WriteProblem, FileProblem or Cancelled."""
    started = time.perf_counter()
    parent = parent_of(workspace, plan.source, progress)
    written = write_safetensors(
        _described(plan, parent), plan.target, overwrite=plan.overwrite, progress=progress
    )
    assert written.hashes is not None
    derivation = Derivation("convert", plan.change.parameters(), [parent])
    asset = register_derived(workspace, plan.target, written.hashes, derivation)
    seconds = time.perf_counter() - started
    return ConvertResult(plan, written.nbytes, seconds, written.hashes, asset)

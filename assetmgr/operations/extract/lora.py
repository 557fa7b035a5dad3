"""Extract a LoRA from the difference of two checkpoints, and register it with both as parents."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.assetref import find_file
from assetmgr.operations.convert.change import DTYPES
from assetmgr.operations.derive import Derivation, parent_of
from assetmgr.operations.extract.lora_files import (
    UNWRITTEN,
    WrittenLora,
    modules_json,
    require_target,
    write_lora,
)
from converters.containers import open_model
from converters.dtypes import DType
from converters.errors import BadValue, UnsupportedFile
from converters.merge.checkpoints.fitting import Model
from converters.merge.extract_lora import (
    Extraction,
    ExtractionPlan,
    extract_lora,
    plan_extraction,
)
from converters.merge.lora_tensors import total_error
from converters.merge.low_rank import Size
from converters.progress import SILENT, Progress
from converters.statedict import Plain

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

OPERATION = "extract lora"


@dataclass(frozen=True, slots=True)
class ExtractLoraRequest:
    """What was tuned, of which base, how much of the difference to keep, and where it goes.

    `dtype` is a key of DTYPES.
    """

    tuned: str
    base: str
    output: Path
    size: Size
    convolutions: bool = False
    dtype: str = "fp16"
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ExtractLoraPlan:
    """Two checkpoints that can be compared."""

    request: ExtractLoraRequest
    sources: tuple[Path, Path]
    extraction: ExtractionPlan

    def to_json(self) -> dict[str, object]:
        """The document before anything was done: the modules without ranks and errors."""
        names = self.extraction.modules
        return {
            "target": str(self.request.output),
            "tuned": str(self.sources[0]),
            "base": str(self.sources[1]),
            "parameters": _parameters(self.request),
            "modules": [{"name": name, "rank": None, "error": None} for name in names],
            "unchanged": [],
            "left_out": [],
            **UNWRITTEN,
        }


@dataclass(frozen=True, slots=True)
class ExtractLoraResult:
    """A LoRA that was extracted and written."""

    plan: ExtractLoraPlan
    extraction: Extraction
    written: WrittenLora
    seconds: float

    @property
    def error(self) -> float:
        """What the LoRA misses of the modules' differences, as a share of their norm."""
        return total_error(self.extraction.modules)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the LoRA does not hold, in words."""
        left = self.extraction.left_out
        if not left:
            return ()
        some = ", ".join(left[:3]) + ", …" * (len(left) > 3)
        return (f"{len(left)} tensors differ that this LoRA does not hold: {some}",)

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        found = self.extraction
        return {
            **self.plan.to_json(),
            "modules": modules_json(found.modules),
            "error": self.error,
            "unchanged": list(found.unchanged),
            "left_out": list(found.left_out),
            "seconds": self.seconds,
            "warnings": list(self.warnings),
            **self.written.to_json(),
        }


def plan_extract_lora(workspace: Workspace, request: ExtractLoraRequest) -> ExtractLoraPlan:
    """Compare the checkpoints by their headers.

    Raises BadValue, WrongFamily or MergeProblem when they or the request do not fit, TargetExists,
    FileProblem.
    """
    request.size.check()
    tuned, base = two_models(workspace, request.tuned, request.base)
    require_target(request.output, (tuned, base), overwrite=request.overwrite)
    extraction = plan_extraction(model_of(tuned), model_of(base), convolutions=request.convolutions)
    return ExtractLoraPlan(request, (tuned, base), extraction)


def two_models(workspace: Workspace, tuned: str, base: str) -> tuple[Path, Path]:
    """The files of two references. Raises AssetNotFound, BadValue where both are one."""
    paths = find_file(workspace, tuned), find_file(workspace, base)
    if paths[0].samefile(paths[1]):
        raise BadValue("is given twice, as TUNED and as BASE", path=paths[0])
    return paths


def model_of(path: Path) -> Model:
    """The checkpoint in a file. Raises UnsupportedFile for a pipeline's folder, FileProblem."""
    if path.is_dir():
        raise UnsupportedFile("is a pipeline; convert it to a single file first", path=path)
    return Model.of(str(path), open_model(path).state_dict)


def run_extract_lora(
    workspace: Workspace, plan: ExtractLoraPlan, progress: Progress = SILENT
) -> ExtractLoraResult:
    """Compute, write and register the LoRA.

    Raises MergeProblem for values that are not finite, Overflow for some that are too large.
    """
    started = time.perf_counter()
    request = plan.request
    parents = [parent_of(workspace, path, progress) for path in plan.sources]
    progress.stage("comparing", plan.extraction.nbytes)
    dtype = DTYPES[request.dtype] or DType.F16
    extraction = extract_lora(plan.extraction, request.size, dtype, progress)
    _require_modules(extraction, plan.sources[0])
    written = write_lora(
        workspace,
        extraction.state,
        extraction.modules,
        request.output,
        Derivation(OPERATION, _parameters(request), parents),
        overwrite=request.overwrite,
        progress=progress,
    )
    return ExtractLoraResult(plan, extraction, written, time.perf_counter() - started)


def _require_modules(found: Extraction, tuned: Path) -> None:
    """Raises UnsupportedFile where there is no difference, or none that this LoRA can hold."""
    if found.state:
        return
    if not found.left_out:
        raise UnsupportedFile("is the same as the base; there is nothing to extract", path=tuned)
    raise UnsupportedFile(
        "there is nothing to extract: no module of this LoRA differs,"
        f" but {len(found.left_out)} other tensors do",
        path=tuned,
        hint="--conv also takes convolutions, `extract full` takes what every layer differs in",
    )


def _parameters(request: ExtractLoraRequest) -> dict[str, Plain]:
    return {
        "rank": request.size.rank,
        "energy": request.size.energy,
        "convolutions": request.convolutions,
        "dtype": request.dtype,
    }

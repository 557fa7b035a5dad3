"""Extract the whole difference of two checkpoints as an adapter, and register it with both."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.convert.change import DTYPES
from assetmgr.operations.derive import (
    Derivation,
    file_hashes_json,
    parent_of,
    register_derived,
)
from assetmgr.operations.extract.lora import model_of, two_models
from assetmgr.operations.extract.lora_files import UNWRITTEN, require_target
from converters.dtypes import DType
from converters.errors import UnsupportedFile
from converters.hashing import FileHashes
from converters.identify import identify
from converters.merge.extract_full import FullPlan, plan_full, without_equal
from converters.progress import SILENT, Progress
from converters.transform.metadata import provenance
from converters.writers.safetensors import write_safetensors

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

OPERATION = "extract full"
_LYCORIS = {"ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "full"}'}


@dataclass(frozen=True, slots=True)
class ExtractFullRequest:
    """What was tuned, of which base, where the difference goes, in which precision (of DTYPES)."""

    tuned: str
    base: str
    output: Path
    dtype: str = "fp16"
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ExtractFullPlan:
    """Two checkpoints that can be compared."""

    request: ExtractFullRequest
    sources: tuple[Path, Path]
    full: FullPlan

    def to_json(self) -> dict[str, object]:
        """The document before anything was done."""
        return {
            "target": str(self.request.output),
            "tuned": str(self.sources[0]),
            "base": str(self.sources[1]),
            "parameters": {"dtype": self.request.dtype},
            "unchanged": None,
            "left_out": list(self.full.left_out),
            **{key: value for key, value in UNWRITTEN.items() if key != "error"},
        }


@dataclass(frozen=True, slots=True)
class ExtractFullResult:
    """A difference that was written; `unchanged` counts the tensors that are equal."""

    plan: ExtractFullPlan
    tensors: int
    unchanged: int
    nbytes: int
    seconds: float
    hashes: FileHashes
    asset: int

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return {
            **self.plan.to_json(),
            "unchanged": self.unchanged,
            "tensors": self.tensors,
            "bytes": self.nbytes,
            "seconds": self.seconds,
            "hashes": file_hashes_json(self.hashes),
            "asset": self.asset,
        }


def plan_extract_full(workspace: Workspace, request: ExtractFullRequest) -> ExtractFullPlan:
    """Compare the checkpoints by their headers. Raises as `plan_extract_lora`."""
    tuned, base = two_models(workspace, request.tuned, request.base)
    require_target(request.output, (tuned, base), overwrite=request.overwrite)
    dtype = DTYPES[request.dtype] or DType.F16
    plan = plan_full(model_of(tuned), model_of(base), dtype)
    return ExtractFullPlan(request, (tuned, base), plan)


def run_extract_full(
    workspace: Workspace, plan: ExtractFullPlan, progress: Progress = SILENT
) -> ExtractFullResult:
    """Write and register the difference.

    Raises UnsupportedFile for equal models, MergeProblem for values that are not finite or fit no
    element of the type.
    """
    started = time.perf_counter()
    request = plan.request
    parents = [parent_of(workspace, path, progress) for path in plan.sources]
    progress.stage("comparing", plan.full.nbytes)
    state = without_equal(plan.full, progress)
    if not state:
        raise UnsupportedFile(
            "is the same as the base; there is nothing to extract", path=plan.sources[0]
        )
    derivation = Derivation(OPERATION, {"dtype": request.dtype}, parents)
    texts = provenance(
        state.with_metadata(_LYCORIS),
        identify(state),
        title=request.output.stem,
        operation=OPERATION,
        parents=parents,
        parameters=derivation.parameters,
    )
    written = write_safetensors(
        state.with_metadata(texts), request.output, overwrite=request.overwrite, progress=progress
    )
    assert written.hashes is not None
    asset = register_derived(workspace, request.output, written.hashes, derivation)
    return ExtractFullResult(
        plan,
        len(state),
        len(plan.full.pairs) - len(state),
        written.nbytes,
        time.perf_counter() - started,
        written.hashes,
        asset,
    )

"""Make a LoRA of other ranks out of an adapter, and register the result with its parent."""

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
    vectors_note,
    write_lora,
)
from converters.adapters.opening import open_adapter
from converters.errors import naming
from converters.merge.addends import Addend, addends_of
from converters.merge.lora_tensors import ModuleError, total_error
from converters.merge.low_rank import Size
from converters.merge.resize import resize_lora
from converters.progress import SILENT, Progress
from converters.statedict import Plain, StateDict

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

OPERATION = "resize"


@dataclass(frozen=True, slots=True)
class ResizeRequest:
    """An adapter, how much of it to keep, and where the result goes. `dtype` is a key of DTYPES."""

    adapter: str
    output: Path
    size: Size
    dtype: str = "keep"
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ResizePlan:
    """An adapter that can be resized."""

    request: ResizeRequest
    source: Path
    state: StateDict
    modules: tuple[Addend, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know about the result."""
        return vectors_note(sum(module.is_vector for module in self.modules))

    def to_json(self) -> dict[str, object]:
        """The document before anything was done: the modules with the ranks they have."""
        return {
            "target": str(self.request.output),
            "source": str(self.source),
            "parameters": _parameters(self.request),
            "modules": [
                {"name": module.key, "rank": None, "error": None, "old_rank": module.rank}
                for module in self.modules
            ],
            **UNWRITTEN,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class ResizeResult:
    """An adapter that was resized and written."""

    plan: ResizePlan
    modules: tuple[ModuleError, ...]
    written: WrittenLora
    seconds: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the plan."""
        return self.plan.warnings

    @property
    def error(self) -> float:
        """What the result misses of the adapter, as a share of its norm."""
        return total_error(self.modules)

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        old = [{"old_rank": module.rank} for module in self.plan.modules]
        new = modules_json(self.modules)
        return {
            **self.plan.to_json(),
            "modules": [{**after, **before} for after, before in zip(new, old, strict=True)],
            "error": self.error,
            "seconds": self.seconds,
            **self.written.to_json(),
        }


def plan_resize(workspace: Workspace, request: ResizeRequest) -> ResizePlan:
    """Look at the adapter's header.

    Raises BadValue, UnsupportedFile for what adds not the same to every model, TargetExists,
    MergeProblem, FileProblem.
    """
    request.size.check()
    path = find_file(workspace, request.adapter)
    require_target(request.output, (path,), overwrite=request.overwrite)
    state = open_adapter(path)
    with naming(path):
        modules = addends_of(state)
    return ResizePlan(request, path, state, modules)


def run_resize(workspace: Workspace, plan: ResizePlan, progress: Progress = SILENT) -> ResizeResult:
    """Compute, write and register the adapter.

    Raises MergeProblem for values that are not finite, Overflow for some that are too large.
    """
    started = time.perf_counter()
    request = plan.request
    parents = [parent_of(workspace, plan.source, progress)]
    progress.stage(f"resizing {plan.source.name}", plan.state.nbytes)
    with naming(plan.source):
        resized = resize_lora(plan.modules, request.size, DTYPES[request.dtype], progress)
    written = write_lora(
        workspace,
        resized.state.with_metadata(plan.state.metadata),
        resized.modules,
        request.output,
        Derivation(OPERATION, _parameters(request), parents),
        overwrite=request.overwrite,
        progress=progress,
    )
    return ResizeResult(plan, resized.modules, written, time.perf_counter() - started)


def _parameters(request: ResizeRequest) -> dict[str, Plain]:
    size = request.size
    return {"rank": size.rank, "energy": size.energy, "dtype": request.dtype}

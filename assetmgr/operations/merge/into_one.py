"""Join several adapters into one LoRA, and register it with its parents."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
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
from assetmgr.operations.merge.given_files import ADAPTER_TWICE, require_once
from assetmgr.operations.merge.weighted_adapters import WeightedAdapter, by_network
from converters.adapters.opening import open_adapter
from converters.errors import BadValue, WrongFamily, naming
from converters.identify import Base, identify
from converters.merge.addends import Addend, addends_of
from converters.merge.lora_tensors import ModuleError, total_error
from converters.merge.low_rank import Size
from converters.merge.resize import Weighed, require_same_weight, sum_loras
from converters.progress import SILENT, Progress
from converters.statedict import Plain

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

OPERATION = "merge adapters-into-one"
LEAST = 2


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """Adapters with their weights, and where their sum goes.

    Without a `size` nothing is truncated: ranks add up. `dtype` is a key of DTYPES.
    """

    adapters: tuple[WeightedAdapter, ...]
    output: Path
    size: Size | None = None
    dtype: str = "keep"
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """An adapter that becomes a part of the sum."""

    chosen: WeightedAdapter
    path: Path
    base: Base
    addends: tuple[Addend, ...]

    def weighed(self, addend: Addend) -> Weighed:
        """A module of it with the weight of its component."""
        weight = self.chosen.weight
        if addend.is_of_text_encoder and self.chosen.text_encoder is not None:
            weight = self.chosen.text_encoder
        return Weighed(addend, weight)


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """Adapters that can be joined; `modules` are the sums, by the names of their modules."""

    request: JoinRequest
    parts: tuple[Part, ...]
    modules: dict[str, tuple[Weighed, ...]]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know about the result."""
        return vectors_note(sum(one.addend.is_vector for one, *_ in self.modules.values()))

    def to_json(self) -> dict[str, object]:
        """The document before anything was done: the modules with the ranks they have together."""
        return {
            "target": str(self.request.output),
            "adapters": [
                {
                    "path": str(part.path),
                    "weight": part.chosen.weight,
                    "text_encoder_weight": part.chosen.text_encoder,
                    "modules": len(part.addends),
                }
                for part in self.parts
            ],
            "parameters": _parameters(self.request),
            "modules": [{"name": name, "rank": None, "error": None} for name in self.modules],
            **UNWRITTEN,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class JoinResult:
    """A sum that was written."""

    plan: JoinPlan
    modules: tuple[ModuleError, ...]
    written: WrittenLora
    seconds: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the plan."""
        return self.plan.warnings

    @property
    def error(self) -> float:
        """What the result misses of the sum, as a share of its norm."""
        return total_error(self.modules)

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return {
            **self.plan.to_json(),
            "modules": modules_json(self.modules),
            "error": self.error,
            "seconds": self.seconds,
            **self.written.to_json(),
        }


def plan_join(workspace: Workspace, request: JoinRequest) -> JoinPlan:
    """Look at the adapters' headers.

    Raises BadValue, WrongFamily for adapters of different families, UnsupportedFile for one that
    adds not the same to every model, TargetExists, MergeProblem, FileProblem.
    """
    if request.size is not None:
        request.size.check()
    if len(request.adapters) < LEAST:
        raise BadValue("joining takes at least two adapters")
    parts = tuple(_part(workspace, chosen) for chosen in by_network(request.adapters))
    paths = [part.path for part in parts]
    require_once(paths, hint=ADAPTER_TWICE)
    require_target(request.output, paths, overwrite=request.overwrite)
    _require_one_family(parts)
    modules: defaultdict[str, list[Weighed]] = defaultdict(list)
    for part in parts:
        for addend in part.addends:
            same = modules[addend.key]
            with naming(part.path):
                require_same_weight(same[0].addend if same else addend, addend)
            same.append(part.weighed(addend))
    return JoinPlan(request, parts, {name: tuple(found) for name, found in modules.items()})


def _part(workspace: Workspace, chosen: WeightedAdapter) -> Part:
    path = find_file(workspace, chosen.reference)
    state = open_adapter(path)
    with naming(path):
        addends = addends_of(state)
    return Part(chosen, path, identify(state).base, addends)


def _require_one_family(parts: Sequence[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if part.base is not first.base:
            cause = f"is for {part.base.label}, {first.path.name} for {first.base.label}"
            raise WrongFamily(cause, path=part.path)


def run_join(workspace: Workspace, plan: JoinPlan, progress: Progress = SILENT) -> JoinResult:
    """Compute, write and register the sum.

    Raises BadValue where an exact sum is no LoRA, MergeProblem for values that are not finite,
    Overflow for some that are too large.
    """
    started = time.perf_counter()
    request = plan.request
    parents = [parent_of(workspace, part.path, progress) for part in plan.parts]
    total = sum(addend.nbytes for part in plan.parts for addend in part.addends)
    progress.stage(f"joining {len(plan.parts)} adapters", total)
    sums = list(plan.modules.values())
    joined = sum_loras(sums, request.size, DTYPES[request.dtype], progress)
    written = write_lora(
        workspace,
        joined.state,
        joined.modules,
        request.output,
        Derivation(OPERATION, _parameters(request), parents),
        overwrite=request.overwrite,
        progress=progress,
    )
    return JoinResult(plan, joined.modules, written, time.perf_counter() - started)


def _parameters(request: JoinRequest) -> dict[str, Plain]:
    size = request.size or Size()
    return {
        "weights": [[one.weight, one.text_encoder] for one in request.adapters],
        "rank": size.rank,
        "energy": size.energy,
        "dtype": request.dtype,
    }

"""Merge checkpoints into one, and register it with its parents and the recipe to make it again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.assetref import find_file
from assetmgr.operations.derive import (
    Derivation,
    file_hashes_json,
    parent_of,
    placeholder_parent,
    register_derived,
)
from assetmgr.operations.merge.given_files import files_of, refuse_source, require_once
from assetmgr.operations.merge.opened_checkpoint import OpenedCheckpoint, open_checkpoint
from assetmgr.operations.merge.overflow import clamped_warnings
from assetmgr.operations.merge.recipe import (
    OPERATION,
    RECIPE_KEY,
    Recipe,
    parameters,
    position_of,
    recipe_text,
)
from assetmgr.operations.merge.written_checkpoint import (
    checkpoint_size,
    require_checkpoint_target,
    write_checkpoint,
)
from converters.devices import begin_import
from converters.errors import BadValue
from converters.hashing import FileHashes
from converters.identify import identify
from converters.merge.checkpoints.choice import LABELS, MergeChoice, Weights
from converters.merge.checkpoints.fitting import Model
from converters.merge.checkpoints.method import A
from converters.merge.checkpoints.plan import CheckpointMerge, plan_checkpoint_merge
from converters.progress import SILENT, Progress
from converters.statedict import StateDict
from converters.transform.metadata import Parent, provenance
from converters.writers.atomic import refuse_full

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


@dataclass(frozen=True, slots=True)
class CheckpointMergeRequest:
    """The models, A first, what to do with them, and where the result goes.

    `title` and `names` are what the result says of itself and its parents; empty, they are those of
    the files.
    """

    models: tuple[str, ...]
    choice: MergeChoice
    output: Path
    overwrite: bool = False
    title: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckpointMergePlan:
    """A merge that fits; `nbytes` is the size the target will have.

    `folder` is the pipeline whose folder the target is to be like, None for a single file.
    """

    request: CheckpointMergeRequest
    sources: tuple[Path, ...]
    merge: CheckpointMerge
    nbytes: int
    folder: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What the parents are called."""
        return self.request.names or tuple(path.name for path in self.sources)

    @property
    def title(self) -> str:
        """What the result is called."""
        return self.request.title or self.request.output.stem

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know about the merge."""
        return self.merge.warnings

    def to_json(self) -> dict[str, object]:
        """The document of the contract before anything was done."""
        reports = {report.label: report for report in self.merge.reports}
        models = [
            {
                "label": label,
                "path": str(path),
                "missing": list(reports[label].missing) if label in reports else [],
                "unused": list(reports[label].unused) if label in reports else [],
            }
            for label, path in zip(LABELS, self.sources, strict=False)
        ]
        return {
            "target": str(self.request.output),
            "method": self.request.choice.method,
            "parameters": parameters(self.request.choice),
            "models": models,
            "merged_tensors": len(self.merge.merged),
            "equal_tensors": None,
            "tensors": len(self.merge.state),
            "bytes": self.nbytes,
            "seconds": None,
            "hashes": None,
            "recipe": None,
            "overflow": None,
            "warnings": list(self.warnings),
            "asset": None,
            "errors": [],
        }


@dataclass(frozen=True, slots=True)
class CheckpointMergeResult:
    """A merge that was made; `asset` is its number in the library.

    `equal` counts the merged tensors whose bytes turned out to be A's. Of a pipeline's folder no
    single hash tells.
    """

    plan: CheckpointMergePlan
    nbytes: int
    equal: int
    seconds: float
    hashes: FileHashes | None
    recipe: str
    asset: int

    @property
    def overflow(self) -> Mapping[str, int]:
        """The tensors with values that their type cannot hold, which were clamped; how many."""
        return self.plan.merge.log.casts.clamped

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the plan and of the data."""
        return (*self.plan.warnings, *clamped_warnings(self.overflow))

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return self.plan.to_json() | {
            "bytes": self.nbytes,
            "equal_tensors": self.equal,
            "seconds": self.seconds,
            "hashes": file_hashes_json(self.hashes) if self.hashes else None,
            "recipe": self.recipe,
            "overflow": dict(sorted(self.overflow.items())),
            "warnings": list(self.warnings),
            "asset": self.asset,
        }


def parse_weights(text: str) -> Weights:
    """`X`, or `X,vae=Y`, or `unet=X,vae=Y,text_encoder=Z`. Raises BadValue."""
    default: float | None = None
    components: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        name, separator, number = item.rpartition("=")
        value = _number(number, text)
        if not separator and default is None:
            default = value
        elif separator and name not in components:
            components[name] = value
        else:
            raise BadValue(f"{text!r} gives a weight twice")
    return Weights(default, components)


def parse_blocks(text: str) -> tuple[float, ...]:
    """Numbers with commas between them. Raises BadValue."""
    return tuple(_number(item, text) for item in text.split(",")) if text else ()


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadValue(f"{text!r} in {whole!r} is no number") from None


def parse_sources(text: str) -> dict[str, int]:
    """`unet=A,vae=B` as positions of models. Raises BadValue."""
    sources: dict[str, int] = {}
    for item in filter(None, text.split(",")):
        part, separator, label = item.partition("=")
        if not separator or part in sources:
            raise BadValue(f"{text!r} is not COMPONENT=A,COMPONENT=B")
        sources[part] = position_of(label)
    return sources


def plan_merge_checkpoints(
    workspace: Workspace, request: CheckpointMergeRequest
) -> CheckpointMergePlan:
    """Plan the merge from headers alone.

    Raises BadValue, WrongFamily or MergeProblem when the models or the choice do not fit each
    other, TargetExists, FileProblem.
    """
    paths = tuple(find_file(workspace, reference) for reference in request.models)
    if len(paths) > len(LABELS):
        raise BadValue(f"at most {len(LABELS)} models can be merged at a time, not {len(paths)}")
    refuse_source(request.output, paths)
    require_once(paths, LABELS)
    opened = [open_checkpoint(path) for path in paths]
    refuse_source(request.output, [file for each in opened for file in files_of(each.state)])
    folder = paths[A] if opened and opened[A].is_pipeline else None
    require_checkpoint_target(request.output, folder, overwrite=request.overwrite)
    models = [Model.of(str(path), each.state) for path, each in zip(paths, opened, strict=True)]
    merge = plan_checkpoint_merge(models, request.choice)
    notes = _notes(request.choice, paths, opened)
    plan = CheckpointMergePlan(
        request, paths, replace(merge, warnings=(*notes, *merge.warnings)), 0, folder
    )
    parents = [placeholder_parent(path) for path in paths]
    return replace(plan, nbytes=checkpoint_size(_described(plan, parents), folder))


def _notes(
    choice: MergeChoice, paths: Sequence[Path], opened: Sequence[OpenedCheckpoint]
) -> tuple[str, ...]:
    """What the single files of folders lack or make up, where that may reach the result."""
    reaching = {A, *choice.sources.values()}
    return tuple(
        f"{path.name}: {note}"
        for position, (path, each) in enumerate(zip(paths, opened, strict=True))
        for note in each.notes
        if position in reaching
    )


def run_merge_checkpoints(
    workspace: Workspace, plan: CheckpointMergePlan, progress: Progress = SILENT
) -> CheckpointMergeResult:
    """Write the merged checkpoint and register it. Raises MergeProblem for values out of range."""
    started = time.perf_counter()
    request = plan.request
    refuse_full(request.output, plan.nbytes)
    if plan.merge.merged:
        begin_import()  # while the sources are hashed
    parents = [
        replace(parent_of(workspace, path, progress), name=name)
        for path, name in zip(plan.sources, plan.names, strict=True)
    ]
    state = _described(plan, parents)
    nbytes, hashes = write_checkpoint(
        state, request.output, plan.folder, overwrite=request.overwrite, progress=progress
    )
    derivation = Derivation(OPERATION, parameters(request.choice), parents)
    asset = register_derived(workspace, request.output, hashes, derivation)
    return CheckpointMergeResult(
        plan,
        nbytes,
        len(plan.merge.merged) - len(plan.merge.log.changed),
        time.perf_counter() - started,
        hashes,
        state.metadata[RECIPE_KEY],
        asset,
    )


def _described(plan: CheckpointMergePlan, parents: Sequence[Parent]) -> StateDict:
    """The result with its metadata; their length does not depend on the values of hashes."""
    state, choice = plan.merge.state, plan.request.choice
    texts = provenance(
        state,
        identify(state),
        title=plan.title,
        operation=OPERATION,
        parents=parents,
        parameters=parameters(choice),
    )
    recipe = recipe_text(Recipe(plan.title, choice, tuple(parents)))
    return state.with_metadata(texts | {RECIPE_KEY: recipe})

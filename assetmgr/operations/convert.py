"""Convert models to another container or precision: planned from headers, run as one stream.

A plan is a lazy state dict and a target. Nothing of a pickle is ever run, so that converting a
dangerous one is safe; its tensors are data.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.change import DTYPES, Change, recast, restructured
from assetmgr.operations.convert_formats import CONTAINERS, FORMATS, Format
from assetmgr.operations.derive import Derivation, parent_of, register_derived
from assetmgr.operations.failures import Failure
from assetmgr.operations.walk import model_files
from converters.containers import Container, Model, is_pipeline, open_model
from converters.diff import differences
from converters.errors import (
    AssetmgrError,
    BadValue,
    Overflow,
    TargetExists,
    UnsupportedFile,
    WriteFailed,
)
from converters.identify import Identity, Kind, identify
from converters.layouts.pipeline import pipeline_parts, to_single_file
from converters.pickles.safety import Verdict
from converters.progress import SILENT, Progress
from converters.statedict import StateDict
from converters.transform.cast import CastLog, CastLoss, OnOverflow, overflowing
from converters.transform.metadata import Parent, provenance
from converters.writers.atomic import refuse_existing
from converters.writers.safetensors import Written

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """Files and folders to convert, and where to: beside the source unless told otherwise.

    `to` is a key of FORMATS.
    """

    sources: tuple[str, ...]
    output: Path | None = None
    output_dir: Path | None = None
    change: Change = field(default_factory=Change)
    to: str = "safetensors"
    recursive: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ConvertPlan:
    """One conversion that can be run.

    `state` are the tensors it writes, `stored` the same before the change of precision; `nbytes` is
    the size the target will have.
    """

    source: Path
    target: Path
    state: StateDict
    stored: StateDict
    identity: Identity
    nbytes: int
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]
    change: Change
    format: Format
    overwrite: bool

    def to_json(self) -> dict[str, object]:
        """The document of the contract before anything was done: no hashes, no seconds."""
        return _json(self)


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """A conversion that was made; `asset` is its number in the library, which takes no folders.

    `losses` are what the change of precision cost, `warnings` those of the plan and of the data.
    """

    plan: ConvertPlan
    written: Written
    losses: tuple[CastLoss, ...]
    warnings: tuple[str, ...]
    verified: bool
    seconds: float
    asset: int | None

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return _json(self.plan) | {
            "bytes": self.written.nbytes,
            "seconds": self.seconds,
            "hashes": _hashes_json(self.written),
            "warnings": list(self.warnings),
            "losses": [asdict(loss) for loss in self.losses],
            "verified": self.verified,
            "asset": self.asset,
        }


def _json(plan: ConvertPlan) -> dict[str, object]:
    return {
        "source": str(plan.source),
        "target": str(plan.target),
        "container": CONTAINERS[plan.format.word],
        "tensors": len(plan.state),
        "bytes": plan.nbytes,
        "seconds": None,
        "hashes": None,
        "dropped": list(plan.dropped),
        "warnings": list(plan.warnings),
        "losses": [],
        "verified": False,
        "asset": None,
    }


def _hashes_json(written: Written) -> dict[str, str | None] | None:
    if written.hashes is None:
        return None
    names = ("blake3", "sha256", "crc32", "autov1", "autov2", "autov3")
    return {name: getattr(written.hashes, name) for name in names}


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
    request.change.check()
    if request.output is not None and request.output_dir is not None:
        raise BadValue("give either an output file or an output folder")
    if request.output is not None and len(request.sources) != 1:
        raise BadValue("one output file needs exactly one source", hint="use --output-dir")
    if request.output is not None and _is_plain_folder(request.sources[0]):
        raise BadValue("a folder is converted into a folder", hint="use --output-dir")


def _is_plain_folder(path: str) -> bool:
    """Whether a path stands for the models in it; a pipeline's folder is a model itself."""
    return os.path.isdir(path) and not is_pipeline(path)  # noqa: PTH112  # as walk


def _targets(request: ConvertRequest) -> Iterator[tuple[Path, Path, bool]]:
    """(source, target, named by the user itself) of every model."""
    suffix = FORMATS[request.to].suffix
    for given in request.sources:
        top = Path(given)
        is_folder = _is_plain_folder(given)
        for source in model_files([given], recursive=request.recursive, pipelines=True):
            place = source.with_name(_stem(source) + suffix)
            if request.output is not None:
                place = request.output
            elif request.output_dir is not None:
                place = request.output_dir / place.relative_to(top if is_folder else top.parent)
            yield source, place, not is_folder


def _stem(source: Path) -> str:
    """A model's name without what its container adds; folders have no ending."""
    if os.path.isdir(source):  # noqa: PTH112  # never raises
        return source.name
    return re.sub(r"\.(?:safetensors|bin)\.index(?:\.[\w-]+)?\.json$|\.[^.]*$", "", source.name)


def _plan(source: Path, target: Path, request: ConvertRequest) -> ConvertPlan:
    model = open_model(source)
    if source.absolute() == target.absolute():
        raise BadValue("is its own target", path=source, hint="name another with -o")
    form = FORMATS[request.to]
    if form.suffix or not request.overwrite:
        refuse_existing(target, overwrite=request.overwrite)
    if not model.state_dict:
        raise UnsupportedFile("holds no tensors to convert", path=source)
    whole, notes = _in_one_file(model)
    stored, dropped = restructured(whole, request.change)
    identity = identify(stored)
    plan = ConvertPlan(
        source,
        target,
        recast(stored, request.change),
        stored,
        identity,
        0,
        (*model.ignored, *dropped, *form.dropped(stored, identity)),
        (*_warnings(model, identity), *notes),
        request.change,
        form,
        request.overwrite,
    )
    return _sized(plan)


def _in_one_file(model: Model) -> tuple[StateDict, tuple[str, ...]]:
    """A model's tensors under the names of a single file, and what that cost in words."""
    if model.container is not Container.DIFFUSERS:
        return model.state_dict, ()
    single = to_single_file(pipeline_parts(model.state_dict))
    return single.state, single.notes


def _sized(plan: ConvertPlan) -> ConvertPlan:
    paths = _parent_paths(plan)
    like = [Parent(path.name, blake3="0" * 64) for path in paths]
    described = _described(plan, plan.state, like)
    return replace(plan, nbytes=plan.format.size(described, plan.identity))


def _parent_paths(plan: ConvertPlan) -> list[Path]:
    vae = plan.change.vae
    return [plan.source] if vae is None else [plan.source, vae]


def _described(plan: ConvertPlan, state: StateDict, parents: Sequence[Parent]) -> StateDict:
    """The output with its metadata; its size does not depend on the value of the parent's hash."""
    texts = provenance(
        state,
        plan.identity,
        title=plan.source.stem,
        operation="convert",
        parents=parents,
        parameters=plan.change.parameters(),
    )
    return state.with_metadata(texts)


def _warnings(model: Model, identity: Identity) -> tuple[str, ...]:
    warnings = [*model.problems, *identity.problems]
    if model.safety.verdict is Verdict.DANGEROUS:
        warnings.append(f"the source is dangerous (nothing was run): {model.safety.findings[0]}")
    if identity.kind is Kind.UNKNOWN:
        warnings.append("of unknown kind; the tensors are converted as they are")
    return tuple(warnings)


def run_convert(
    workspace: Workspace,
    plan: ConvertPlan,
    progress: Progress = SILENT,
    *,
    verify: bool = False,
) -> ConvertResult:
    """Write the target and register it; with `verify` it is read again and compared first.

    Raises WriteProblem, FileProblem, Overflow when the change says so, or Cancelled.
    """
    started = time.perf_counter()
    parents = [parent_of(workspace, path, progress) for path in _parent_paths(plan)]
    log = CastLog()
    state, written, kept = _write(plan, parents, log, progress)
    if verify:
        _verify(plan.format.seen(state, plan.identity), plan.target, progress)
    derivation = Derivation("convert", plan.change.parameters(), parents)
    asset = None
    if written.hashes is not None:
        asset = register_derived(workspace, plan.target, written.hashes, derivation)
    losses = tuple(loss for _, loss in sorted(log.losses.items()))
    warnings = (*plan.warnings, *_data_warnings(plan.change, losses, kept))
    seconds = time.perf_counter() - started
    return ConvertResult(plan, written, losses, warnings, verify, seconds, asset)


def _write(
    plan: ConvertPlan, parents: Sequence[Parent], log: CastLog, progress: Progress
) -> tuple[StateDict, Written, frozenset[str]]:
    """The tensors as written, the file, and the names that kept their type.

    Overflow is rare and known only from the data. So the file is written as if there were none; the
    first tensor that overflows stops that, all data is looked through, and it is written anew.
    """

    def write(kept: frozenset[str]) -> tuple[StateDict, Written, frozenset[str]]:
        log.losses.clear()
        state = _described(plan, recast(plan.stored, plan.change, kept, log), parents)
        written = plan.format.write(state, plan.identity, plan.target, plan.overwrite, progress)
        return state, written, kept

    try:
        return write(frozenset())
    except Overflow:
        dtype = DTYPES[plan.change.dtype]
        if plan.change.on_overflow is not OnOverflow.KEEP or dtype is None:
            raise
        progress.stage("looking for values that do not fit", plan.stored.nbytes)
        return write(overflowing(plan.stored, dtype, progress))


def _verify(state: StateDict, target: Path, progress: Progress) -> None:
    """Compare the file with what was meant. Removes it and raises WriteFailed where it differs."""
    progress.stage(f"verifying {target.name}", state.nbytes)
    difference = next(differences(state, open_model(target).state_dict, progress), None)
    if difference is not None:
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        raise WriteFailed(
            f"was not written as meant: {difference.name} {difference.how}", path=target
        )


def _data_warnings(
    change: Change, losses: Sequence[CastLoss], kept: Collection[str]
) -> Iterator[str]:
    clamped = [loss.tensor for loss in losses if loss.clamped]
    broken = [loss.tensor for loss in losses if loss.nan]
    for names, what in (
        (sorted(kept), f"keep their precision: values too large for {change.dtype}"),
        (clamped, f"had values too large for {change.dtype}; they were clamped"),
        (broken, "hold NaN"),
    ):
        if names:
            yield f"{len(names)} tensors {what} ({', '.join(names[:3])}{', …' * (len(names) > 3)})"

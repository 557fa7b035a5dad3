"""What a conversion would do, planned from headers: a lazy state dict and a target.

Nothing of a pickle is ever run, so that converting a dangerous one is safe; its tensors are data.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from assetmgr.operations.convert.change import Change, recast, restructured
from assetmgr.operations.convert.formats import CONTAINERS, Format, format_of
from assetmgr.operations.derive import placeholder_parent
from assetmgr.operations.failures import Failure
from assetmgr.operations.merge.given_files import files_of, refuse_source
from assetmgr.operations.walk import model_files
from assetmgr.text import size
from converters.adapters.opening import files_in, open_folder, with_config_beside
from converters.containers import Container, Model, is_pipeline, open_model
from converters.errors import AssetmgrError, BadValue, FileProblem, TargetExists, UnsupportedFile
from converters.identify import Base, Identity, Kind, Prediction, identify
from converters.identify.beside import with_prediction_beside
from converters.layouts.pipeline import pipeline_parts, to_single_file
from converters.pickles.verdict import Verdict
from converters.statedict import StateDict
from converters.transform.layout import relayout
from converters.transform.metadata import DERIVATION_KEY, Parent, provenance
from converters.transform.repair import repair
from converters.writers.atomic import free_bytes, refuse_existing


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
    the size the target will have. `done_before`: an earlier run has made this very target.
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
    done_before: bool = False

    @property
    def parent_paths(self) -> tuple[Path, ...]:
        """The files that the target is made of."""
        sources = files_in(self.source) or (self.source,)
        return (*sources, *(path for path in (self.change.vae,) if path is not None))

    def to_json(self) -> dict[str, object]:
        """The document of the contract before anything was done: no hashes, no seconds."""
        return {
            "source": str(self.source),
            "target": str(self.target),
            "container": CONTAINERS[self.format.word],
            "tensors": len(self.state),
            "bytes": self.nbytes,
            "seconds": None,
            "hashes": None,
            "dropped": list(self.dropped),
            "warnings": list(self.warnings),
            "losses": [],
            "verified": False,
            "done_before": self.done_before,
            "asset": None,
        }

    def described(self, state: StateDict, parents: Sequence[Parent]) -> StateDict:
        """The output with its metadata; its size does not depend on the values of hashes."""
        texts = provenance(
            state,
            self.identity,
            title=self.source.stem,
            operation=self.change.operation,
            parents=parents,
            parameters=self.change.parameters(),
        )
        return state.with_metadata(texts)


def plan_convert(request: ConvertRequest) -> Iterator[ConvertPlan | Failure]:
    """Plan every model from its header. Raises BadValue when the request makes no sense.

    Targets of a batch that an earlier run made are planned as done.
    """
    _check(request)
    room = _Room()
    taken: dict[Path, Path] = {}
    for source, target, explicit in _targets(request):
        try:
            plan = _plan(source, target, request, taken, explicit=explicit)
        except AssetmgrError as error:
            yield Failure.of(error, source)
            continue
        if plan is None:
            continue
        taken[plan.target] = source
        yield plan if plan.done_before else room.checked(plan)


class _Room:
    """Free space as it will be when the plans before are done."""

    def __init__(self) -> None:
        self._planned: dict[int, int] = {}

    def checked(self, plan: ConvertPlan) -> ConvertPlan:
        """The plan, with a warning where the disk would be full by then."""
        disk, free = free_bytes(plan.target)
        before = self._planned.get(disk, 0)
        self._planned[disk] = before + plan.nbytes
        if before + plan.nbytes <= free:
            return plan
        text = f"needs {size(plan.nbytes)}, and only {size(max(0, free - before))} would be left"
        return replace(plan, warnings=(*plan.warnings, text))


def _check(request: ConvertRequest) -> None:
    request.change.check()
    format_of(request.to, request.change)
    if request.output is not None and request.output_dir is not None:
        raise BadValue("give either an output file or an output folder")
    if request.output is not None and len(request.sources) != 1:
        raise BadValue("one output file needs exactly one source", hint="use --output-dir")
    if request.output is not None and _is_plain_folder(request.sources[0]):
        raise BadValue("a folder is converted into a folder", hint="use --output-dir")


def _is_plain_folder(path: str) -> bool:
    """Whether a path stands for the models in it."""
    return os.path.isdir(path) and not _is_one_model(path)  # noqa: PTH112  # as walk


def _is_one_model(folder: str | Path) -> bool:
    """Whether a folder is a model itself: a pipeline's, or that of an adapter of PEFT."""
    return is_pipeline(folder) or bool(files_in(folder))


def _targets(request: ConvertRequest) -> Iterator[tuple[Path, Path, bool]]:
    """(source, target, named by the user itself) of every model."""
    suffix = format_of(request.to, request.change).suffix
    for given in request.sources:
        top = Path(given)
        is_folder = _is_plain_folder(given)
        for source in model_files([given], recursive=request.recursive, is_whole=_is_one_model):
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


def _plan(
    source: Path,
    target: Path,
    request: ConvertRequest,
    taken: Mapping[Path, Path],
    *,
    explicit: bool,
) -> ConvertPlan | None:
    """None for a model that was found in a folder and is already what it would become.

    `taken` are the targets of the plans before, with their sources.
    """
    change = request.change
    form = format_of(request.to, change)
    if not explicit and _is_own_target(source, target, form):
        return None
    model = _opened(source)
    whole, notes = _in_one_file(model, source)
    repaired, mended = repair(whole)
    stored, dropped = restructured(repaired, change)
    stored = _in_usual_layout(stored, form) if change.layout is None else stored
    identity = identify(stored)
    if request.output is None and identity.kind in form.suffixes:
        target = target.with_suffix(form.suffixes[identity.kind])
    if _is_own_target(source, target, form):
        if not explicit:
            return None
        raise BadValue("is its own target", path=source, hint="name another with -o")
    if target in taken:
        raise TargetExists(f"would also be the target of {taken[target]}", path=source)
    done = (
        not explicit and not request.overwrite and _made_before(source, form.model(target), change)
    )
    if not done:
        _require_free(target, form, stored, request)
    if not model.state_dict:
        raise UnsupportedFile("holds no tensors to convert", path=source)
    plan = ConvertPlan(
        source,
        target,
        recast(stored, change),
        stored,
        identity,
        0,
        (*model.ignored, *dropped, *form.dropped(stored, identity)),
        (*_warnings(model, identity), *notes, *mended, *_told(form, identity, stored)),
        change,
        form,
        request.overwrite,
        done,
    )
    described = plan.described(plan.state, [placeholder_parent(path) for path in plan.parent_paths])
    return replace(plan, nbytes=form.size(described, identity))


def _opened(source: Path) -> Model:
    """A model, or an adapter of PEFT with all of its networks. Raises FileProblem."""
    files = files_in(source)
    if not files:
        return open_model(source)
    models = [open_model(file) for file in files]
    telling = next((model for model in models if model.danger), models[0])
    return replace(telling, state_dict=open_folder(files))


def _is_own_target(source: Path, target: Path, form: Format) -> bool:
    return source.absolute() in (target.absolute(), form.model(target).absolute())


def _require_free(target: Path, form: Format, state: StateDict, request: ConvertRequest) -> None:
    """Raises TargetExists, WriteFailed for a device, BadValue for a file that is read."""
    refuse_source(target, [*files_of(state), *filter(None, [request.change.vae])])
    if form.suffix or not request.overwrite:
        refuse_existing(target, overwrite=request.overwrite)


def _in_usual_layout(state: StateDict, form: Format) -> StateDict:
    """What a container's readers expect of its kind, where that holds all there is."""
    identity = identify(state)
    if identity.kind not in form.layouts:
        return state
    try:
        return relayout(state, identity, form.layouts[identity.kind])
    except AssetmgrError:
        return state  # vectors for several encoders stay as they are named


def _made_before(source: Path, target: Path, change: Change) -> bool:
    """Whether a file says that it was made of this source in the same way, and is no older."""
    try:
        if target.stat().st_mtime_ns < source.stat().st_mtime_ns:
            return False
        told = json.loads(open_model(target).state_dict.metadata[DERIVATION_KEY])
        parents = [parent["name"] for parent in told["parents"]]
        same = told["operation"] == change.operation and told["parameters"] == change.parameters()
    except (OSError, FileProblem, KeyError, TypeError, ValueError):
        return False
    return bool(same and parents[:1] == [source.name])


def _in_one_file(model: Model, source: Path) -> tuple[StateDict, tuple[str, ...]]:
    """A model's tensors under the names of a single file, and what that cost in words."""
    if model.container is not Container.DIFFUSERS:
        stated = with_prediction_beside(source, model.state_dict)
        return with_config_beside(stated, source), ()
    state = model.state_dict
    single = to_single_file(pipeline_parts(state), state.metadata)
    return single.state, single.notes


def _warnings(model: Model, identity: Identity) -> tuple[str, ...]:
    warnings = [*model.problems, *identity.problems]
    if model.safety.verdict is Verdict.DANGEROUS:
        warnings.append(f"the source is dangerous (nothing was run): {model.safety.findings[0]}")
    if identity.kind is Kind.UNKNOWN:
        warnings.append("of unknown kind; the tensors are converted as they are")
    return tuple(warnings)


def _told(form: Format, identity: Identity, state: StateDict) -> tuple[str, ...]:
    return (*_silence(form, identity), *form.notes(state))


def _silence(form: Format, identity: Identity) -> Iterator[str]:
    """A pipeline states what its denoiser predicts; a single file of SD2 need not tell."""
    untold = identity.base is Base.SD2 and identity.prediction is Prediction.UNKNOWN
    if not form.suffix and untold:
        yield "written as predicting noise, which nothing in the file tells; else --prediction v"

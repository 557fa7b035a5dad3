"""Prove by rendering that assets work: a picture, a thumbnail and a verdict for each.

A checkpoint is rendered alone, an adapter on a base checkpoint and compared with the same render
without it. The rendering happens in the sampler's process; nothing here imports torch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

from assetmgr.operations.failures import Failure
from assetmgr.operations.preview.bases import base_of, choose_bases, no_base, relatives_of
from assetmgr.operations.preview.batch import finished, in_order
from assetmgr.operations.preview.job import is_called, plan_job
from assetmgr.operations.preview.request import PreviewRequest, check_request
from assetmgr.operations.preview.side_by_side import MANY, SideBySide, leaves_cores_idle
from assetmgr.operations.preview.subject import (
    SUPPORTED_BASES,
    Subject,
    find_subject,
    from_asset,
    is_previewable,
)
from assetmgr.operations.read_ahead import ReadAhead
from assetmgr.operations.scanned_files import require_unchanged
from assetmgr.sampler.process.batch_progress import BatchProgress
from assetmgr.sampler.process.client import SamplerClient
from assetmgr.sampler.process.jobs import ModelFile, RenderJob, RenderOutcome
from converters.errors import AssetmgrError, BadValue, Cancelled, NotAvailable
from converters.progress import SILENT, Progress
from registry.pictures import thumbnail_png

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

__all__ = ["PreviewRequest", "PreviewResult", "run_previews"]


@dataclass(frozen=True, slots=True)
class PreviewResult:
    """A rendered asset; `asset` is its number in the library, None for a file outside of it.

    `skipped`: nothing was rendered, because the library has the outcome of the same render.
    """

    asset: int | None
    path: str
    outcome: RenderOutcome
    skipped: bool = False

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        document = {"asset": self.asset, "path": self.path, **outcome_json(self.outcome)}
        return document | {"skipped": self.skipped}


def outcome_json(outcome: RenderOutcome) -> dict[str, object]:
    """What the document of a preview says of its render."""
    return {
        "image": outcome.image,
        "thumbnail": outcome.thumbnail,
        "thumbnail_png": outcome.thumbnail and thumbnail_png(outcome.thumbnail),
        "verdict": outcome.verdict,
        "checks": [asdict(check) for check in outcome.checks],
        "seconds": outcome.seconds,
        "load_seconds": outcome.load_seconds,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "memory_measures": list(outcome.memory_measures),
        "memory_fallbacks": list(outcome.memory_fallbacks),
        "parameters": asdict(outcome.parameters),
    }


def failed_check(path: str, outcome: RenderOutcome) -> Failure | None:
    """The first check that a render did not pass, as a failure; None when it passed all."""
    first = next((check for check in outcome.checks if not check.ok), None)
    if first is None:
        return None
    found = [first.detail] if first.detail else []
    if first.value is not None and first.threshold:
        found.append(f"{first.value:.4g}, the limit is {first.threshold:.4g}")
    told = ": ".join([f"check {first.name!r} failed", *found])
    return Failure(path, told, "preview_failed", None)


@dataclass(frozen=True, slots=True)
class PlannedPreview:
    """A render that is to be made: the subject, what renders it, and the job."""

    subject: Subject
    checkpoint: Subject
    job: RenderJob

    def strains_like(self, other: PlannedPreview) -> bool:
        """Whether another takes as much to render."""
        mine, theirs = (
            (each.job.checkpoint.path, each.job.width, each.job.height) for each in (self, other)
        )
        return mine == theirs


@dataclass(frozen=True, slots=True)
class PreviewPlan:
    """What a request comes to: renders in their order, what is there, and what cannot be."""

    waiting: tuple[PlannedPreview, ...]
    skipped: tuple[PreviewResult, ...]
    failures: tuple[Failure, ...]


def plan_previews(workspace: Workspace, request: PreviewRequest) -> PreviewPlan:
    """Choose everything about the renders that are asked for, and leave out what was made before.

    Raises BadValue for a request that makes no sense, NotAvailable when nothing can be rendered for
    want of a base checkpoint.
    """
    check_request(request)
    found, failures = _find(workspace, request)
    bases = choose_bases(workspace, request, found)
    stranded = [subject for subject in found if base_of(subject, bases) is None]
    if stranded and len(stranded) == len(found):
        raise no_base(stranded[0])
    failures += [Failure.of(no_base(subject), path=subject.file.path) for subject in stranded]
    waiting: list[PlannedPreview] = []
    skipped: list[PreviewResult] = []
    for subject, checkpoint in in_order(found, bases):
        job = plan_job(request, subject, checkpoint, workspace.paths.previews)
        if not is_called(job):
            failures.append(_uncalled(job))
            continue
        before = None if request.assets or request.again else finished(subject, checkpoint, job)
        if before is None:
            waiting.append(PlannedPreview(subject, checkpoint, job))
        else:
            skipped.append(PreviewResult(subject.asset, subject.file.path, before, skipped=True))
    return PreviewPlan(tuple(waiting), tuple(skipped), tuple(failures))


def run_previews(
    workspace: Workspace,
    request: PreviewRequest,
    progress: Progress = SILENT,
    *,
    sampler: SamplerClient | None = None,
) -> Iterator[PreviewResult | Failure]:
    """Render the asked assets and record the verdicts in the library.

    A `sampler` that the caller keeps stays warm for the next call. Raises BadValue for a request
    that makes no sense, NotAvailable without sampler packages, device or base checkpoint, and
    Cancelled; what was rendered before is kept. Anything wrong with a single asset, the end of the
    sampler among it, becomes its Failure.
    """
    check_request(request)
    with ExitStack() as stack:
        client = stack.enter_context(_begun()) if sampler is None else sampler
        plan = plan_previews(workspace, request)
        yield from plan.failures
        yield from plan.skipped
        ahead = stack.enter_context(ReadAhead())
        batch = BatchProgress(progress, len(plan.waiting))
        waiting = deque(plan.waiting)
        while waiting:
            planned = waiting.popleft()
            if waiting:
                ahead.want(waiting[0].subject.file.path)
            batch.begin(planned.subject.file.name)
            result = _render(workspace, planned, client, batch)
            yield result
            if isinstance(result, Failure) or not leaves_cores_idle(result.outcome):
                continue
            alike = [*takewhile(planned.strains_like, waiting)]
            if len(alike) >= MANY:
                for _ in alike:
                    waiting.popleft()
                yield from _render_side_by_side(workspace, alike, client, batch)


def _render_side_by_side(
    workspace: Workspace,
    waiting: Sequence[PlannedPreview],
    client: SamplerClient,
    batch: BatchProgress,
) -> Iterator[PreviewResult | Failure]:
    """As `_render` of one after the other, with the help of a second sampler."""
    with _begun() as second, SideBySide[PlannedPreview]((client, second)) as renders:

        def answered() -> PreviewResult | Failure:
            planned, answer = renders.next(batch)
            batch.begin(planned.subject.file.name)
            batch.stage("rendered")
            return _recorded(workspace, planned, answer.result)

        for planned in waiting:
            job = _asked(workspace, planned)
            if isinstance(job, Failure):
                batch.begin(planned.subject.file.name)
                yield job
                continue
            renders.give(planned, job)
            while renders.has_enough:
                yield answered()
        while not renders.is_done:
            yield answered()


def _begun() -> SamplerClient:
    """A sampler whose process starts at once."""
    client = SamplerClient()
    client.begin()
    return client


def _uncalled(job: RenderJob) -> Failure:
    """An embedding that is not in the prompt does nothing, which is no verdict on it."""
    error = BadValue(f"the prompt does not say {job.trigger!r}, which calls this embedding")
    return Failure.of(error, path=job.subject.path)


def _find(workspace: Workspace, request: PreviewRequest) -> tuple[list[Subject], list[Failure]]:
    """The subjects asked for, or all of the library, and what cannot be one."""
    if not request.assets:
        return [
            from_asset(asset)
            for asset in workspace.library.assets(request.query)
            if is_previewable(asset.kind, asset.base)
            and asset.base in SUPPORTED_BASES
            and asset.path is not None
        ], []
    subjects: list[Subject] = []
    failures: list[Failure] = []
    for reference in request.assets:
        try:
            subjects.append(find_subject(workspace, reference))
        except AssetmgrError as error:
            failures.append(Failure.of(error, path=reference))
    return subjects, failures


def _render(
    workspace: Workspace, planned: PlannedPreview, client: SamplerClient, progress: Progress
) -> PreviewResult | Failure:
    job = _asked(workspace, planned)
    if isinstance(job, Failure):
        return job
    return _recorded(workspace, planned, lambda: client.render(job, progress))


def _asked(workspace: Workspace, planned: PlannedPreview) -> RenderJob | Failure:
    """The job as the sampler is asked, or why it cannot be."""
    try:
        require_subject(planned.subject)
        return completed(workspace, planned)
    except AssetmgrError as error:
        return Failure.of(error, path=planned.subject.file.path)


def _recorded(
    workspace: Workspace, planned: PlannedPreview, answer: Callable[[], RenderOutcome]
) -> PreviewResult | Failure:
    """The sampler's answer, in the library too, or what it failed for."""
    subject = planned.subject
    try:
        outcome = answer()
        require_subject(subject)
    except (NotAvailable, Cancelled):
        raise
    except AssetmgrError as error:
        return Failure.of(error, path=subject.file.path)
    if subject.asset is not None:
        record_preview(workspace, subject.asset, outcome)
    return PreviewResult(subject.asset, subject.file.path, outcome)


def require_subject(subject: Subject) -> None:
    """Raises FileMissing and SourceChanged unless the file is the one that the library knows.

    What is rendered of another file is no verdict on the asset.
    """
    if subject.scanned is not None:
        require_unchanged(subject.scanned)


def completed(workspace: Workspace, planned: PlannedPreview) -> RenderJob:
    """The job with the other files that it wants to know of."""
    companions = companions_of(workspace, planned.checkpoint)
    relatives = relatives_of(workspace, planned.subject)
    return replace(planned.job, companions=companions, relatives=relatives)


def companions_of(workspace: Workspace, checkpoint: Subject) -> tuple[ModelFile, ...]:
    """The files that the checkpoint borrows components of; none in most families."""
    if not checkpoint.is_flow:
        return ()
    from assetmgr.operations.preview.parts import find_companions

    return find_companions(workspace, checkpoint.file, checkpoint.base)


def record_preview(workspace: Workspace, asset: int, outcome: RenderOutcome) -> None:
    """Keep an outcome as the newest preview of an asset."""
    from registry.records import Preview, PreviewCheck

    parameters = outcome.parameters
    checks = tuple(PreviewCheck(**asdict(check)) for check in outcome.checks)
    workspace.library.record_preview(
        asset,
        Preview(
            path=outcome.image,
            thumbnail=outcome.thumbnail,
            seed=parameters.seed,
            prompt=parameters.prompt,
            verdict=outcome.verdict,
            checks=checks,
            parameters=asdict(parameters),
        ),
    )

"""Previews on the machines of a Ray cluster; pictures and verdicts come back to this one.

The machines render, nothing else: the library is written where the call was made. They find model
files under the same paths, or, where these are not there, by their content in the library that they
share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from assetmgr.operations.distribution import Lost, spread
from assetmgr.operations.failures import Failure
from assetmgr.operations.preview.render import (
    PlannedPreview,
    PreviewResult,
    completed,
    plan_previews,
    record_preview,
    require_subject,
)
from assetmgr.operations.preview.request import PreviewRequest
from assetmgr.sampler.process.client import SamplerClient
from assetmgr.sampler.process.jobs import ModelFile, RenderJob, RenderOutcome
from converters.errors import AssetmgrError, AssetNotFound
from converters.progress import SILENT, Progress
from converters.writers.atomic import write_whole
from registry.pictures import thumbnail_png

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A render for another machine; `number` is its place in the plan."""

    number: int
    job: RenderJob
    database_url: str | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """What came of it: the outcome with the bytes of its pictures, or why there is none."""

    outcome: RenderOutcome | None
    failure: Failure | None
    image: bytes | None = None
    thumbnail: bytes | None = None
    thumbnail_png: bytes | None = None


def run_previews_on_ray(
    workspace: Workspace, request: PreviewRequest, address: str, progress: Progress = SILENT
) -> Iterator[PreviewResult | Failure]:
    """As `run_previews`, a task per base; results come as they are ready.

    Raises as that does, and NotAvailable without ray or cluster.
    """
    plan = plan_previews(workspace, request)
    yield from plan.failures
    yield from plan.skipped
    groups: list[list[RemoteJob]] = []
    for _, members in groupby(enumerate(plan.waiting), lambda item: item[1].checkpoint):
        ready = [_remote(workspace, number, planned) for number, planned in members]
        yield from (each for each in ready if isinstance(each, Failure))
        groups.append([each for each in ready if isinstance(each, RemoteJob)])
    if not any(groups):
        return
    on_gpu = request.device in ("auto", "cuda")
    for sent, result in spread(address, groups, render_part, progress, on_gpu=on_gpu):
        yield _received(workspace, plan.waiting[sent.number], result)


def _remote(workspace: Workspace, number: int, planned: PlannedPreview) -> RemoteJob | Failure:
    url = workspace.settings.database_url
    shared = url if url is not None and not url.startswith("sqlite") else None
    try:
        require_subject(planned.subject)
        job = completed(workspace, planned)
    except AssetmgrError as error:
        return Failure.of(error, path=planned.subject.file.path)
    return RemoteJob(number, job, shared)


def _received(
    workspace: Workspace, planned: PlannedPreview, result: Rendered | Lost
) -> PreviewResult | Failure:
    """A result as if it had been rendered here: its pictures written, its verdict recorded."""
    path, job = planned.subject.file.path, planned.job
    if isinstance(result, Lost):
        cause = f"the machines that rendered this were lost each time ({result.cause})"
        return Failure(path, cause, AssetmgrError.code, None)
    if result.outcome is None:
        told = result.failure or Failure(path, "nothing came back", AssetmgrError.code, None)
        return replace(told, path=path)
    try:
        for data, target, overwrite in (
            (result.image, job.image, job.overwrite),
            (result.thumbnail, job.thumbnail, True),
            (result.thumbnail_png, job.thumbnail and thumbnail_png(job.thumbnail), True),
        ):
            if data is not None and target is not None:
                write_whole(Path(target), data, overwrite=overwrite)
    except AssetmgrError as error:
        return Failure.of(error, path=path)
    outcome = _as_here(result.outcome, job)
    if planned.subject.asset is not None:
        record_preview(workspace, planned.subject.asset, outcome)
    return PreviewResult(planned.subject.asset, path, outcome)


def _as_here(outcome: RenderOutcome, job: RenderJob) -> RenderOutcome:
    """An outcome with the paths of this machine."""
    drawn = outcome.image is not None
    return replace(
        outcome,
        image=job.image if drawn else None,
        thumbnail=job.thumbnail if drawn else None,
        parameters=replace(outcome.parameters, base=None if job.base is None else job.base.path),
    )


def render_part(items: Sequence[RemoteJob]) -> Iterator[Rendered]:
    """On a machine of the cluster: render one after the other with a sampler that stays warm."""
    with SamplerClient() as sampler, TemporaryDirectory(prefix="assetmgr-") as folder:
        for item in items:
            yield _rendered(sampler, item, Path(folder))


def _rendered(sampler: SamplerClient, item: RemoteJob, folder: Path) -> Rendered:
    image, thumbnail = folder / f"{item.number}.png", folder / f"{item.number}.webp"
    try:
        job = _found_here(item)
        job = replace(job, image=str(image), thumbnail=str(thumbnail), overwrite=True)
        outcome = sampler.render(job)
    except AssetmgrError as error:
        return Rendered(None, Failure.of(error))
    if outcome.image is None:
        return Rendered(outcome, None)
    small = Path(thumbnail_png(str(thumbnail)))
    files = (image, thumbnail, small)
    return Rendered(outcome, None, *(file.read_bytes() for file in files))


def _found_here(item: RemoteJob) -> RenderJob:
    job = item.job
    return replace(
        job,
        subject=_place(job.subject, item.database_url),
        base=None if job.base is None else _place(job.base, item.database_url),
        companions=tuple(_place(each, item.database_url) for each in job.companions),
    )


def _place(file: ModelFile, database_url: str | None) -> ModelFile:
    """The file where this machine has it; as it is where nobody knows better."""
    if Path(file.path).exists() or database_url is None or file.sha256 is None:
        return file
    from assetmgr.config import Settings
    from assetmgr.paths import find_paths
    from assetmgr.workspace import Workspace

    with Workspace(Settings(database_url=database_url), find_paths()) as workspace:
        try:
            path = workspace.library.find(file.sha256).path
        except AssetNotFound:
            return file
    return file if path is None else replace(file, path=path)

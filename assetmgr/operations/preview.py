"""Prove by rendering that assets work: a picture, a thumbnail and a verdict for each.

A checkpoint is rendered alone, an adapter on a base checkpoint and compared with the same render
without it. The rendering happens in the sampler's process; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from assetmgr.operations.failures import Failure
from assetmgr.operations.preview_plan import (
    SUPPORTED_BASES,
    PreviewRequest,
    Subject,
    base_of,
    check_request,
    choose_bases,
    find_subject,
    from_asset,
    is_previewable,
    no_base,
    plan_job,
)
from assetmgr.sampler.client import SamplerClient
from assetmgr.sampler.jobs import ModelFile, RenderOutcome
from converters.errors import AssetmgrError, Cancelled, NotAvailable
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

__all__ = ["PreviewRequest", "PreviewResult", "run_previews"]


@dataclass(frozen=True, slots=True)
class PreviewResult:
    """A rendered asset; `asset` is its number in the library, None for a file outside of it."""

    asset: int | None
    path: str
    outcome: RenderOutcome

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        outcome = self.outcome
        return {
            "asset": self.asset,
            "path": self.path,
            "image": outcome.image,
            "thumbnail": outcome.thumbnail,
            "verdict": outcome.verdict,
            "checks": [asdict(check) for check in outcome.checks],
            "seconds": outcome.seconds,
            "load_seconds": outcome.load_seconds,
            "peak_memory_bytes": outcome.peak_memory_bytes,
            "parameters": asdict(outcome.parameters),
        }


def run_previews(
    workspace: Workspace,
    request: PreviewRequest,
    progress: Progress = SILENT,
    *,
    sampler: SamplerClient | None = None,
) -> Iterator[PreviewResult | Failure]:
    """Render the asked assets one after the other and record the verdicts in the library.

    A `sampler` that the caller keeps stays warm for the next call. Raises BadValue for a request
    that makes no sense, NotAvailable without sampler packages, device or base checkpoint, and
    Cancelled; anything wrong with a single asset becomes its Failure.
    """
    check_request(request)
    found, failures = _find(workspace, request)
    yield from failures
    bases = choose_bases(workspace, request, found)
    ready = [subject for subject in found if base_of(subject, bases) is not None]
    stranded = [subject for subject in found if subject not in ready]
    if stranded and not ready:
        raise no_base(stranded[0])
    for subject in stranded:
        yield Failure.of(no_base(subject), path=subject.file.path)
    with ExitStack() as stack:
        client = stack.enter_context(SamplerClient()) if sampler is None else sampler
        for subject, checkpoint in _by_base(ready, bases):
            yield _render(workspace, request, subject, checkpoint, client, progress)


def _find(workspace: Workspace, request: PreviewRequest) -> tuple[list[Subject], list[Failure]]:
    """The subjects asked for, or all of the library, and what cannot be one."""
    if not request.assets:
        assets = workspace.library.assets()
        return [
            from_asset(asset)
            for asset in assets
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


def _by_base(
    subjects: list[Subject], bases: Mapping[str, Subject]
) -> list[tuple[Subject, Subject]]:
    """Subjects with what renders them; what renders on one base together, so that it loads once.

    A base renders before its adapters' turn ends; checkpoints that are nobody's base come last.
    """
    order = {base.file.path: number for number, base in enumerate(bases.values())}
    pairs = [(each, base) for each in subjects if (base := base_of(each, bases)) is not None]
    return sorted(pairs, key=lambda pair: order.get(pair[1].file.path, len(order)))


def _render(
    workspace: Workspace,
    request: PreviewRequest,
    subject: Subject,
    checkpoint: Subject,
    client: SamplerClient,
    progress: Progress,
) -> PreviewResult | Failure:
    try:
        companions = _companions(workspace, checkpoint)
    except AssetmgrError as error:
        return Failure.of(error, path=subject.file.path)
    job = plan_job(request, subject, checkpoint, workspace.paths.previews, companions)
    try:
        outcome = client.render(job, progress)
    except (NotAvailable, Cancelled):
        raise
    except AssetmgrError as error:
        return Failure.of(error, path=subject.file.path)
    if subject.asset is not None:
        _record(workspace, subject.asset, outcome)
    return PreviewResult(subject.asset, subject.file.path, outcome)


def _companions(workspace: Workspace, checkpoint: Subject) -> tuple[ModelFile, ...]:
    """The files that the checkpoint borrows components of; none in most families."""
    if not checkpoint.is_flow:
        return ()
    from assetmgr.operations.preview_parts import find_companions

    return find_companions(workspace, checkpoint.file, checkpoint.base)


def _record(workspace: Workspace, asset: int, outcome: RenderOutcome) -> None:
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

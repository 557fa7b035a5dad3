"""Download from Civitai through the queue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.civitai.plan import (
    CivitaiDownload,
    find_civitai_download,
    plan_civitai_download,
)
from assetmgr.operations.civitai.receive import wanted_of
from assetmgr.operations.downloads.placing import Destination
from assetmgr.operations.downloads.queue import enqueue
from assetmgr.operations.downloads.reading import Watch, unwatched
from assetmgr.operations.downloads.run import error_of, run_downloads
from assetmgr.rates import check_rate
from converters.progress import SILENT, Progress
from registry.downloads.records import Wanted

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


@dataclass(frozen=True, slots=True)
class CivitaiRequest:
    """`file` None means the primary one of the version; `folder` None places it by its kind.

    `layout` is the program whose folders lie in `folder`; `again` fetches what the library has.
    `rate` limits all transfers together, as in `5MB` a second.
    """

    version: str
    file: str | None = None
    folder: Path | None = None
    layout: str | None = None
    again: bool = False
    priority: int = 0
    rate: str | None = None

    def wanted(self, plan: CivitaiDownload) -> Wanted:
        """What was planned for it, as the queue keeps it."""
        return wanted_of(plan, Destination(self.folder, self.layout), again=self.again)


def civitai_download(
    workspace: Workspace,
    request: CivitaiRequest,
    progress: Progress = SILENT,
    *,
    watch: Watch = unwatched,
) -> CivitaiDownload:
    """Put a file into the queue and run that to its end.

    A file that fails stays in the queue, as it does when this is interrupted. Raises what it failed
    for, Cancelled, and what `plan_civitai_download` raises.
    """
    check_rate(request.rate)
    # It asks the library by itself, before its bytes come or, where it is wanted again, meanwhile.
    plan = _queued(
        workspace, request, find_civitai_download(request.version, request.file, progress)
    )
    only, ended = [plan.queued or 0], None
    for ended in run_downloads(workspace, only, rate=request.rate, watch=watch, progress=progress):
        if ended.received is not None:
            return plan.arrived(ended.received)
    raise error_of(ended, plan.label)


def queue_civitai_download(
    workspace: Workspace, request: CivitaiRequest, progress: Progress = SILENT
) -> CivitaiDownload:
    """Put a file into the queue. Raises what `plan_civitai_download` raises."""
    plan = plan_civitai_download(workspace, request.version, request.file, progress)
    return _queued(workspace, request, plan)


def _queued(
    workspace: Workspace, request: CivitaiRequest, plan: CivitaiDownload
) -> CivitaiDownload:
    (queued,) = enqueue(workspace, [request.wanted(plan)], request.priority)
    return replace(plan, queued=queued.id, state="queued")

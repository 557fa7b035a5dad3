"""Download from the Hugging Face Hub through the queue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from assetmgr.operations.downloads.placing import Destination
from assetmgr.operations.downloads.queue import enqueue
from assetmgr.operations.downloads.reading import Watch, unwatched
from assetmgr.operations.downloads.run import Ended, error_of, run_downloads
from assetmgr.operations.failures import Failure
from assetmgr.operations.hub.cache import for_cache
from assetmgr.operations.hub.plan import (
    Download,
    Downloaded,
    DownloadRequest,
    find_files,
    plan_download,
)
from assetmgr.operations.hub.receive import wanted_of
from assetmgr.rates import check_rate
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


def downloads(
    workspace: Workspace,
    request: DownloadRequest,
    progress: Progress = SILENT,
    *,
    watch: Watch = unwatched,
) -> Iterator[Downloaded | Failure]:
    """Put the whole request into the queue and run that to its end; the results in their order.

    A file that fails does not stop the others; it stays in the queue, as all do when this is
    interrupted. Raises Cancelled, and what `plan_download` raises.
    """
    check_rate(request.rate)
    # Each file asks the library by itself, when the bytes of others are on their way already.
    planned = _enqueued(workspace, request, find_files(request, progress))
    only = [found.queued for found in planned if isinstance(found, Download) and found.queued]
    outcomes: dict[int, Ended] = {}
    running = run_downloads(workspace, only, rate=request.rate, watch=watch, progress=progress)
    with contextlib.closing(running):
        for found in planned:
            if isinstance(found, Failure):
                yield found
                continue
            number = found.queued or 0
            while number not in outcomes and (ended := next(running, None)) is not None:
                outcomes[ended.download.id] = ended
            yield _outcome(found, outcomes.get(number))


def queue_download(
    workspace: Workspace, request: DownloadRequest, progress: Progress = SILENT
) -> list[Download | Failure]:
    """Put the whole request into the queue, in one step; what cannot be is a Failure.

    Raises what `plan_download` raises.
    """
    return _enqueued(workspace, request, list(plan_download(workspace, request, progress)))


def _enqueued(
    workspace: Workspace, request: DownloadRequest, planned: Sequence[Download | Failure]
) -> list[Download | Failure]:
    found = [each for each in planned if isinstance(each, Download)]
    destination = Destination(request.folder, request.layout)
    wanted = [wanted_of(workspace, each, destination, again=request.again) for each in found]
    if request.cache:
        pairs = zip(wanted, found, strict=True)
        wanted = [for_cache(each, of.file, request.revision) for each, of in pairs]
    queued = iter(enqueue(workspace, wanted, request.priority))
    return [
        replace(each, queued=next(queued).id) if isinstance(each, Download) else each
        for each in planned
    ]


def _outcome(download: Download, ended: Ended | None) -> Downloaded | Failure:
    if ended is None or ended.received is None:
        label = download.file.label
        return Failure.of(error_of(ended, label), label)
    received = ended.received
    return Downloaded(
        download.file,
        received.path,
        received.asset,
        received.state,
        download.licence,
        download.queued,
        tuple(part for part in download.missing if not _lies_beside(received.path, part)),
    )


def _lies_beside(path: Path, name: str) -> bool:
    return path.with_name(PurePosixPath(name).name).exists()

"""The queue of a workspace: put in, and what has become of it."""

from __future__ import annotations

from pathlib import Path

from assetmgr.operations.downloads.queue import list_downloads
from assetmgr.operations.hub.download import queue_download
from assetmgr.operations.hub.plan import DownloadRequest
from assetmgr.workspace import Workspace

REPO = "org/gems"


def queued(workspace: Workspace, *names: str, **options: object) -> list[int]:
    """Files in the queue; their numbers."""
    request = DownloadRequest(REPO, files=names, **options)  # type: ignore[arg-type]
    return [found.queued or 0 for found in queue_download(workspace, request)]  # type: ignore[union-attr]


def states(workspace: Workspace) -> dict[str, str]:
    """What has become of each download, by name."""
    return {each.wanted.label: each.state.value for each in list_downloads(workspace)}


def parts(folder: Path) -> dict[str, int]:
    """What has come of unfinished files, by name."""
    return {path.name: path.stat().st_size for path in folder.rglob(".downloads/*")}

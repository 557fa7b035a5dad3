"""A Hub with a few files, and the queue of a workspace that downloads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.hub_server import HubServer
from helpers.waiting import PATIENCE

from assetmgr.operations import download_run
from assetmgr.operations.downloads import list_downloads
from assetmgr.operations.hub_download import queue_download
from assetmgr.operations.hub_plan import DownloadRequest
from assetmgr.sources.web import Web
from assetmgr.workspace import Workspace

REPO = "org/gems"


def small_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Four files of 100 kB; nothing is waited for."""
    files = {f"file{number}.bin": os.urandom(100_000 + number) for number in range(4)}
    with HubServer(REPO, files) as server:
        server.about = {"tags": ["license:openrail"]}
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(Web, "pause", lambda _, seconds, progress: progress.advance(0))
        # What is looked at afterwards must not be on its way any more.
        monkeypatch.setattr(download_run, "_END_SECONDS", PATIENCE)
        yield server


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

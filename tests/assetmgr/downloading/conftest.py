"""A Hub with a few files, and the workspace whose queue downloads them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from helpers.hub_server import HubServer
from helpers.queueing import REPO
from helpers.waiting import PATIENCE

from assetmgr.operations.downloads import run as download_run
from assetmgr.sources.web import Web
from assetmgr.workspace import Workspace


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Four files of 100 kB; nothing is waited for."""
    files = {f"file{number}.bin": os.urandom(100_000 + number) for number in range(4)}
    with HubServer(REPO, files) as server:
        server.about = {"tags": ["license:openrail"]}
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(Web, "pause", lambda _, seconds, progress: progress.advance(0))
        # What is looked at afterwards must not be on its way any more.
        monkeypatch.setattr(download_run, "_END_SECONDS", PATIENCE)
        yield server


@pytest.fixture
def workspace(hub: HubServer) -> Iterator[Workspace]:
    """Whatever it downloads comes from that Hub."""
    with Workspace.open() as opened:
        yield opened

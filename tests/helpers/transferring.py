"""A transfer of one file from a scripted server, and what the two say of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.scripted_server import Answer, Content, ScriptedServer

from assetmgr.sources.transfers.sink import Arrived
from assetmgr.sources.transfers.transfer import Transfer
from assetmgr.sources.web import Web
from converters.errors import AssetmgrError, FileMissing, NotAvailable
from converters.progress import SILENT, Progress

DATA = os.urandom(300_000)
OTHER = os.urandom(310_000)
SIZE = len(DATA)
CONTENT = Content(DATA)
NEW = Content(OTHER, '"two"')
WHOLE_STATES = {DATA, OTHER}


def reset(server: ScriptedServer, usual: Answer = CONTENT.proper, *script: Answer) -> None:
    server.usual, server.script, server.requests, server.served = usual, list(script), [], 0


def fetch(
    server: ScriptedServer,
    part: Path,
    size: int | None = SIZE,
    *,
    pinned: bool = False,
    progress: Progress = SILENT,
) -> Arrived:
    def refusal(web: Web, status: int, body: bytes, subject: str) -> AssetmgrError:
        kind = FileMissing if status == 404 else NotAvailable
        return kind(f"status {status}", path=subject)

    path = "/files/model.bin"
    with Web("the service", server.url, "s3cret", "SERVICE_ENDPOINT") as web:
        return Transfer(web, path, "model.bin", part, size, refusal, pinned).run(progress)


def refused(server: ScriptedServer, part: Path, size: int | None = SIZE) -> str:
    """What is said of a transfer that fails."""
    with pytest.raises(NotAvailable) as caught:
        fetch(server, part, size)
    assert server.url.rpartition(":")[2] not in f"{caught.value} {caught.value.hint}"
    return str(caught.value)


def offset(server: ScriptedServer) -> list[int | None]:
    """Where each request began."""
    return [request.start for request in server.requests]

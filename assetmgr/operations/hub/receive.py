"""Bring one file of the Hugging Face Hub into the library: verified, placed by kind, registered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from assetmgr.operations.downloads.announced import Announced
from assetmgr.operations.downloads.placing import Destination
from assetmgr.operations.downloads.queue import destination_of
from assetmgr.operations.downloads.receiving import receive
from assetmgr.operations.downloads.registering import Received
from assetmgr.operations.hub.cache import Cached, is_for_cache, receive_cached
from assetmgr.operations.hub.plan import Download
from assetmgr.sources.hub import files as huggingface
from assetmgr.sources.hub.files import RemoteFile
from assetmgr.sources.transfers.bandwidth import Bandwidth
from assetmgr.sources.transfers.sink import Arrived
from assetmgr.sources.web import Web
from converters.progress import Progress
from registry.downloads.records import Wanted

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

SERVICE = "huggingface"


def wanted_of(
    workspace: Workspace, download: Download, destination: Destination, *, again: bool = False
) -> Wanted:
    """A file as the queue keeps it: by its name at a commit, and what was announced of it."""
    file = download.file
    if download.is_part:
        destination = destination.of_several_files(workspace, _family(file))
    subject = {"repo": file.repo, "commit": file.commit, "name": file.name, "git": file.git_sha1}
    folder = destination.folder
    return Wanted(
        service=SERVICE,
        host=urlsplit(file.url).netloc,
        subject=json.dumps(subject),
        label=file.label,
        content=_content(file),
        bytes=file.size,
        sha256=file.sha256,
        folder=None if folder is None else str(folder.absolute()),
        layout=destination.layout,
        licence=download.licence,
        again=again,
    )


def bring(
    workspace: Workspace, wanted: Wanted, web: Web, limit: Bandwidth, progress: Progress
) -> Received:
    """Fetch a file of the queue into the library; a row of `downloads.services`."""
    subject = json.loads(wanted.subject)
    file = _file_of(wanted, subject)
    told = announced(file, wanted.licence)

    def fetch(part: Path, telling: Progress) -> Arrived:
        return huggingface.fetch(web, file, part, limit, telling)

    if is_for_cache(subject):
        return receive_cached(workspace, Cached(wanted, file, told, fetch), progress)
    return receive(
        workspace,
        told,
        fetch,
        destination=destination_of(wanted),
        again=wanted.again,
        progress=progress,
    )


def announced(file: RemoteFile, licence: str | None) -> Announced:
    """A file as the Hub announces it."""
    from registry.records import Source

    return Announced(
        service="the Hub",
        label=file.label,
        name=file.name,
        family=_family(file),
        size=file.size,
        sha256=file.sha256,
        git_sha1=file.git_sha1,
        content=_content(file),
        source=Source(SERVICE, file.repo, file.commit, file.name, file.url, licence),
    )


def _family(file: RemoteFile) -> str:
    return file.repo.split("/")[-1]


def _content(file: RemoteFile) -> str:
    """The same for the same bytes and for no others."""
    return file.sha256 or f"{file.label}@{file.commit}"


def _file_of(wanted: Wanted, subject: Mapping[str, str]) -> RemoteFile:
    repo, commit, name = (str(subject[word]) for word in ("repo", "commit", "name"))
    return RemoteFile(
        repo=repo,
        commit=commit,
        name=name,
        size=wanted.bytes,
        sha256=wanted.sha256,
        git_sha1=subject["git"],
        url=huggingface.address(repo, name, commit),
    )

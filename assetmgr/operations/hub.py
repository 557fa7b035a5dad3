"""Download from the Hugging Face Hub into the library: verified, placed by kind, registered."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from assetmgr.operations.download_run import Ended, Watch, error_of, run_downloads, unwatched
from assetmgr.operations.downloads import destination_of, enqueue
from assetmgr.operations.failures import Failure
from assetmgr.operations.hub_select import Selection, meant
from assetmgr.operations.placing import Destination
from assetmgr.operations.receiving import Announced, Received, present, receive, with_sha256
from assetmgr.sources import hub_models, huggingface
from assetmgr.sources.bandwidth import Bandwidth
from assetmgr.sources.hub_models import HubFile, HubModel
from assetmgr.sources.huggingface import RemoteFile
from assetmgr.sources.web import Web
from converters.errors import AssetmgrError, BadValue
from converters.progress import SILENT, Progress
from registry.download_records import Wanted
from registry.text import storable

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

SERVICE = "huggingface"

_AT_ONCE = 8
"""So many files are asked for at a time."""


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """`files` empty means all model files; `folder` None places each by its kind.

    `files`, `include`, `exclude` and `variant` are those of `Selection`. `layout` is the program
    whose folders lie in `folder`; `again` fetches what the library has. `rate` limits all transfers
    together, as in `5MB` a second.
    """

    repo: str
    revision: str | None = None
    files: tuple[str, ...] = ()
    folder: Path | None = None
    layout: str | None = None
    again: bool = False
    priority: int = 0
    rate: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    variant: str | None = None

    @property
    def selection(self) -> Selection:
        """Which files are meant."""
        return Selection(self.files, self.include, self.exclude, self.variant)


@dataclass(frozen=True, slots=True)
class Download:
    """A file on the Hub, and the asset of the library that already is it.

    `queued` is its number in the queue once it is there.
    """

    file: RemoteFile
    known: Asset | None
    licence: str | None = None
    queued: int | None = None

    def to_json(self) -> dict[str, object]:
        """The document of the plan."""
        known = self.known
        place = None if known is None else present(known)
        state = "queued" if self.queued is not None else None if known is None else "already"
        path = None if place is None else str(place)
        document = _json(self.file, path, known, state, self.licence)
        return {**document, "download": self.queued}


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is in the library now; `state` is `downloaded` or `already`."""

    file: RemoteFile
    path: Path
    asset: Asset
    state: str
    licence: str | None = None
    queued: int | None = None

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        document = _json(self.file, str(self.path), self.asset, self.state, self.licence)
        return {**document, "download": self.queued}


def _json(
    file: RemoteFile,
    path: str | None,
    asset: Asset | None,
    state: str | None,
    licence: str | None,
) -> dict[str, object]:
    return {
        "repo": file.repo,
        "revision": file.commit,
        "file": file.name,
        "url": file.url,
        "bytes": file.size,
        "sha256": file.sha256,
        "path": path,
        "asset": asset.id if asset else None,
        "kind": asset.kind if asset else None,
        "safety": asset.safety.verdict.value if asset else None,
        "licence": licence,
        "state": state,
    }


def parse_repo(text: str) -> tuple[str, str | None]:
    """`REPO[@REVISION]`."""
    repo, _, revision = text.partition("@")
    return repo, revision or None


def plan_download(
    workspace: Workspace, request: DownloadRequest, progress: Progress = SILENT
) -> Iterator[Download | Failure]:
    """What the Hub has of the request, from one listing where that tells enough.

    Raises FileMissing for what a listing does not have, NotAvailable where it is needed and cannot
    be had.
    """
    listing = _listing(request, progress)
    licence = None if listing is None else listing.licence
    listed = {file.name: file for file in (listing.files if listing else None) or ()}
    names = meant(tuple(listed), request.selection, request.repo)

    def find(name: str) -> RemoteFile | Failure:
        return _from_listing(listing, listed.get(name)) or _described(request, name)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for found in pool.map(find, names):
            progress.advance(0)
            if isinstance(found, Failure):
                yield found
            else:
                yield Download(found, known_asset(workspace, found), licence)


def _listing(request: DownloadRequest, progress: Progress) -> HubModel | None:
    """The repository with its files; None where the files that were named may be there still."""
    try:
        return hub_models.repository(request.repo, request.revision, progress)
    except AssetmgrError:
        if request.selection.needs_listing:
            raise
        return None


def _from_listing(listing: HubModel | None, file: HubFile | None) -> RemoteFile | None:
    """A file as far as the listing tells of it; a mirror may not tell sizes and hashes."""
    if listing is None or listing.commit is None or file is None or not _is_name(file.name):
        return None
    if file.size is None or not (file.sha256 or file.git_sha1):
        return None
    url = huggingface.address(listing.repo, file.name, listing.commit)
    return RemoteFile(
        listing.repo, listing.commit, file.name, file.size, file.sha256, file.git_sha1, url
    )


def _described(request: DownloadRequest, name: str) -> RemoteFile | Failure:
    try:
        check_name(name)
        return huggingface.describe(request.repo, name, request.revision)
    except AssetmgrError as error:
        return Failure.of(error, f"{request.repo}/{name}")


def _is_name(name: str) -> bool:
    return not any(part in {"", ".", ".."} for part in name.split("/")) and storable(name)


def check_name(name: str) -> None:
    """Raises BadValue for what cannot be a file of a repository."""
    if not _is_name(name):
        raise BadValue("is no name of a file in a repository", path=name or "''")


def known_asset(workspace: Workspace, file: RemoteFile) -> Asset | None:
    """The asset of the library that has the same bytes and is there; None without one."""
    return with_sha256(workspace, file.sha256)


def run_download(
    workspace: Workspace,
    download: Download,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> Downloaded:
    """Fetch, verify, place and register one file beside the queue; what is known is not fetched.

    Bytes that were fetched before an interruption are not fetched again. Raises CorruptFile when
    the bytes are not what the Hub announced, WriteProblem, NotAvailable, Cancelled.
    """
    wanted = wanted_of(download, Destination(folder))
    with huggingface.connect() as web:
        received = bring(workspace, wanted, web, Bandwidth(), progress)
    return Downloaded(download.file, received.path, received.asset, received.state)


def wanted_of(download: Download, destination: Destination, *, again: bool = False) -> Wanted:
    """A file as the queue keeps it: by its name at a commit, and what was announced of it."""
    file = download.file
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
    """Fetch a file of the queue into the library; a row of `download_services`."""
    file = _file_of(wanted)
    return receive(
        workspace,
        announced(file, wanted.licence),
        lambda part, telling: huggingface.fetch(web, file, part, limit, telling),
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
        family=file.repo.split("/")[-1],
        size=file.size,
        sha256=file.sha256,
        git_sha1=file.git_sha1,
        content=_content(file),
        source=Source(SERVICE, file.repo, file.commit, file.name, file.url, licence),
    )


def _content(file: RemoteFile) -> str:
    """The same for the same bytes and for no others."""
    return file.sha256 or f"{file.label}@{file.commit}"


def _file_of(wanted: Wanted) -> RemoteFile:
    told = json.loads(wanted.subject)
    repo, commit, name = (str(told[word]) for word in ("repo", "commit", "name"))
    return RemoteFile(
        repo=repo,
        commit=commit,
        name=name,
        size=wanted.bytes,
        sha256=wanted.sha256,
        git_sha1=told["git"],
        url=huggingface.address(repo, name, commit),
    )


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
    planned = queue_download(workspace, request, progress)
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
    planned = list(plan_download(workspace, request, progress))
    found = [each for each in planned if isinstance(each, Download)]
    destination = Destination(request.folder, request.layout)
    wanted = [wanted_of(each, destination, again=request.again) for each in found]
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
    )

"""Download from the Hugging Face Hub into the library: verified, placed by kind, registered."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from assetmgr.operations.failures import Failure
from assetmgr.operations.receiving import Announced, present, receive, with_sha256
from assetmgr.sources import hub_models, huggingface
from assetmgr.sources.huggingface import RemoteFile
from converters.containers import MODEL_SUFFIXES
from converters.errors import AssetmgrError, BadValue, Cancelled, FileMissing
from converters.progress import SILENT, Progress
from registry.text import storable

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """`files` empty means all model files; `folder` None places each by its kind."""

    repo: str
    revision: str | None = None
    files: tuple[str, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """A file on the Hub, and the asset of the library that already is it."""

    file: RemoteFile
    known: Asset | None

    def to_json(self) -> dict[str, object]:
        """The document of the plan."""
        known = self.known
        place = None if known is None else present(known)
        state = None if known is None else "already"
        return _json(self.file, None if place is None else str(place), known, state)


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is in the library now; `state` is `downloaded` or `already`."""

    file: RemoteFile
    path: Path
    asset: Asset
    state: str

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return _json(self.file, str(self.path), self.asset, self.state)


def _json(
    file: RemoteFile, path: str | None, asset: Asset | None, state: str | None
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
        "state": state,
    }


def parse_repo(text: str) -> tuple[str, str | None]:
    """`REPO[@REVISION]`."""
    repo, _, revision = text.partition("@")
    return repo, revision or None


def plan_download(workspace: Workspace, request: DownloadRequest) -> Iterator[Download | Failure]:
    """What the Hub has of the request. Raises NotAvailable, or FileMissing for the repository."""
    names = request.files or tuple(
        file.name
        for file in hub_models.repository(request.repo, request.revision).files or ()
        if PurePosixPath(file.name).suffix.lower() in MODEL_SUFFIXES
    )
    if not names:
        raise FileMissing("the repository has no model files", path=request.repo)
    for name in names:
        try:
            check_name(name)
            file = huggingface.describe(request.repo, name, request.revision)
        except AssetmgrError as error:
            yield Failure.of(error, f"{request.repo}/{name}")
            continue
        yield Download(file, known_asset(workspace, file))


def check_name(name: str) -> None:
    """Raises BadValue for what cannot be a file of a repository."""
    wrong = any(part in {"", ".", ".."} for part in name.split("/"))
    if wrong or not storable(name):
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
    """Fetch, verify, place and register one file; a file that is known is not fetched.

    Bytes that were fetched before an interruption are not fetched again. Raises CorruptFile when
    the bytes are not what the Hub announced, WriteProblem, NotAvailable, Cancelled.
    """
    from registry.records import Source

    file = download.file
    announced = Announced(
        service="the Hub",
        label=file.label,
        name=file.name,
        family=file.repo.split("/")[-1],
        size=file.size,
        sha256=file.sha256,
        git_sha1=file.git_sha1,
        content=file.sha256 or f"{file.label}@{file.commit}",
        source=Source("huggingface", file.repo, file.commit, file.name, file.url),
    )
    received = receive(
        workspace,
        announced,
        functools.partial(huggingface.fetch, file),
        known=download.known,
        folder=folder,
        progress=progress,
    )
    return Downloaded(file, received.path, received.asset, received.state)


def downloads(
    workspace: Workspace, request: DownloadRequest, progress: Progress = SILENT
) -> Iterator[Downloaded | Failure]:
    """Plan and run the whole request; a file that fails does not stop the others."""
    for download in plan_download(workspace, request):
        if isinstance(download, Failure):
            yield download
            continue
        try:
            yield run_download(workspace, download, request.folder, progress)
        except Cancelled:
            raise
        except AssetmgrError as error:
            yield Failure.of(error, download.file.label)

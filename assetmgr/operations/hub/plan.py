"""What a download from the Hub would fetch: asked for, found in listings, known already."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.downloads.known import all_with_sha256, present
from assetmgr.operations.failures import Failure
from assetmgr.operations.hub.select import Selection, meant, several, shards_with
from assetmgr.sources.hub import files as huggingface
from assetmgr.sources.hub import models as hub_models
from assetmgr.sources.hub.files import RemoteFile
from assetmgr.sources.hub.models import HubFile, HubModel
from assetmgr.sources.hub.web import connect
from converters.errors import AssetmgrError, BadValue
from converters.progress import SILENT, Progress
from registry.text import storable

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

_AT_ONCE = 8
"""So many files are asked for at a time."""


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """`files` empty means all model files; `folder` None places each by its kind.

    `files`, `include`, `exclude` and `variant` are those of `Selection`. `layout` is the program
    whose folders lie in `folder`; `again` fetches what the library has. `rate` limits all transfers
    together, as in `5MB` a second. `cache` puts files where huggingface_hub has its own.
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
    cache: bool = False

    @property
    def selection(self) -> Selection:
        """Which files are meant."""
        return Selection(self.files, self.include, self.exclude, self.variant)


@dataclass(frozen=True, slots=True)
class Download:
    """A file on the Hub, and the asset of the library that already is it.

    `queued` is its number in the queue once it is there. `is_part` says that it has to lie where
    the other files of its model do; `missing` are parts of it that were not asked for.
    """

    file: RemoteFile
    known: Asset | None
    licence: str | None = None
    queued: int | None = None
    is_part: bool = False
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The document of the plan."""
        known = self.known
        place = None if known is None else present(known)
        state = "queued" if self.queued is not None else None if known is None else "already"
        path = None if place is None else str(place)
        document = _json(self.file, path, known, state, self.licence)
        return {**document, "download": self.queued, "missing_parts": list(self.missing)}


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is in the library now; `state` is `downloaded` or `already`.

    `missing` are parts of its model that were not asked for and do not lie beside it.
    """

    file: RemoteFile
    path: Path
    asset: Asset
    state: str
    licence: str | None = None
    queued: int | None = None
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        document = _json(self.file, str(self.path), self.asset, self.state, self.licence)
        return {**document, "download": self.queued, "missing_parts": list(self.missing)}


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


def plan_download(
    workspace: Workspace, request: DownloadRequest, progress: Progress = SILENT
) -> Iterator[Download | Failure]:
    """What the Hub has of the request, and the library of that. Raises what `find_files` raises."""
    found = find_files(request, progress)
    there = [each.file.sha256 for each in found if isinstance(each, Download)]
    known = all_with_sha256(workspace, [sha256 for sha256 in there if sha256])
    for each in found:
        if isinstance(each, Failure):
            yield each
        else:
            yield replace(each, known=known.get(each.file.sha256 or ""))


def find_files(request: DownloadRequest, progress: Progress = SILENT) -> list[Download | Failure]:
    """What the Hub has of the request, from one listing where that tells enough.

    Raises FileMissing for what a listing does not have, NotAvailable where it is needed and cannot
    be had.
    """
    listing = _listing(request, progress)
    licence = None if listing is None else listing.licence
    listed = {file.name: file for file in (listing.files if listing else None) or ()}
    names = meant(tuple(listed), request.selection, request.repo)
    parts = several(names)

    def find(name: str) -> Download | Failure:
        file = _from_listing(listing, listed.get(name)) or _described(request, name)
        if isinstance(file, Failure):
            return file
        others = tuple(part for part in shards_with(name) if part not in parts)
        return Download(file, None, licence, is_part=name in parts, missing=others)

    found = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for each in pool.map(find, names):
            progress.advance(0)
            found.append(each)
    return found


def _listing(request: DownloadRequest, progress: Progress) -> HubModel | None:
    """The repository with its files; None where the files that were named may be there still."""
    try:
        with connect(request.repo) as web:
            return hub_models.repository(web, request.repo, request.revision, progress)
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

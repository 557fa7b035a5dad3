"""Files of the Hugging Face Hub, through huggingface_hub.

Source of the routes and headers: huggingface_hub `file_download.py` and `hf_api.py`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from assetmgr.sources.hub import web as hub_web
from assetmgr.sources.hub.client import asking, endpoint, token
from assetmgr.sources.hub.errors import no_hub
from assetmgr.sources.patience import LONGEST_WAIT_FOR_FILES
from assetmgr.sources.remote import Cost, RemoteBytes
from assetmgr.sources.transfers.bandwidth import Bandwidth
from assetmgr.sources.transfers.sink import Arrived
from assetmgr.sources.transfers.transfer import Transfer
from assetmgr.sources.web import Web
from converters.errors import AssetmgrError, NotAvailable
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    import httpx

LARGEST = 50 * 10**9
"""Bytes; the Hub gives larger files only through another protocol, which cannot be resumed."""


MOST_OF_BEGINNING = 1 << 20
"""Bytes that are read of a file when only its beginning can be had."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository at a fixed commit.

    `sha256` is known for large files, `git_sha1` (of the blob) for the others; `size` in bytes.
    """

    repo: str
    commit: str
    name: str
    size: int | None
    sha256: str | None
    git_sha1: str | None
    url: str

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"{self.repo}/{self.name}"


def describe(repo: str, name: str, revision: str | None) -> RemoteFile:
    """What the Hub says of a file. Raises FileMissing, NotAvailable, BadValue."""
    from huggingface_hub import get_hf_file_metadata

    hub_web.check_repo(repo)
    subject = f"{repo}/{name}"
    with asking(subject, repo=repo):
        url = address(repo, name, revision or "main")
        found = get_hf_file_metadata(url, token=token(), endpoint=endpoint())
        if found.commit_hash is None:
            raise no_hub(subject)
        pinned = address(repo, name, found.commit_hash)
    tag = found.etag or ""
    return RemoteFile(
        repo=repo,
        commit=found.commit_hash,
        name=name,
        size=found.size,
        sha256=tag if len(tag) == 64 else None,
        git_sha1=tag if len(tag) == 40 else None,
        url=pinned,
    )


def connect() -> Web:
    """The Hub for the bytes of files, of which it may ask to wait. Raises as `web.connect`."""
    return hub_web.connect(longest_wait=LONGEST_WAIT_FOR_FILES)


def fetch(
    web: Web, file: RemoteFile, part: Path, limit: Bandwidth, progress: Progress = SILENT
) -> Arrived:
    """Download a file to `part`, going on behind what an earlier call left there.

    Not by huggingface_hub: that neither hashes what comes nor keeps to a rate, and throws away what
    an interrupted call has fetched. Raises NotAvailable, FileMissing, DiskFull, WriteFailed, or
    Cancelled from `progress`.
    """
    if file.size is not None and file.size > LARGEST:
        raise NotAvailable("is larger than the Hub serves over HTTP (50 GB)", path=file.label)
    path = _path(file.repo, file.name, file.commit)
    refusal = functools.partial(_refusal, file)
    transfer = Transfer(web, path, file.label, part, file.size, refusal, pinned=True, limit=limit)
    return transfer.run(progress)


def address(repo: str, name: str, revision: str) -> str:
    """Where a file of a revision is."""
    return endpoint() + _path(repo, name, revision)


def _path(repo: str, name: str, revision: str) -> str:
    return f"/{repo}/resolve/{quote(revision, safe='')}/{quote(name)}"


def _refusal(file: RemoteFile, web: Web, status: int, _: bytes, subject: str) -> AssetmgrError:
    """Why the Hub refuses a file: the library can tell, if it is asked for the same file."""
    if status == HTTPStatus.OK:
        cause = f"{web.name} answers with a message instead of the file"
        return NotAvailable(cause, path=subject, hint="try again later")
    try:
        describe(file.repo, file.name, file.commit)
    except AssetmgrError as error:
        return error
    cause = f"{web.name} answers with status {status}"
    return NotAvailable(cause, path=subject, hint="try again later")


class RepositoryBytes(RemoteBytes):
    """A file as bytes at positions, of which only what is asked for is fetched."""

    def __init__(
        self, web: Web, file: RemoteFile, progress: Progress = SILENT, cost: Cost | None = None
    ) -> None:
        if file.size is None:
            raise NotAvailable("the Hub does not say how large it is", path=file.label)
        fetch = functools.partial(_range, web, file, progress)
        super().__init__(file.label, file.size, fetch, cost)
        self._web, self._file, self._progress = web, file, progress

    def beside(self, name: str) -> RepositoryBytes:
        """The file of a path below this one's folder. Raises FileMissing, NotAvailable."""
        place = str(PurePosixPath(self._file.name).parent / name)
        found = describe(self._file.repo, place, self._file.commit)
        return RepositoryBytes(self._web, found, self._progress, self.cost)


def _range(web: Web, file: RemoteFile, progress: Progress, start: int, count: int) -> bytes:
    last = start + count - 1
    wanted = {"Range": f"bytes={start}-{last}", "Accept-Encoding": "identity"}
    where = _path(file.repo, file.name, file.commit)
    with web.open(where, file.label, headers=wanted, progress=progress) as answer:
        if answer.status_code == HTTPStatus.OK:
            return _beginning(web, answer, file, last + 1)[start:]
        if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
            raise hub_web.refusal(web, answer, file.label, file.repo)
        if answer.headers.get("Content-Range") != f"bytes {start}-{last}/{file.size}":
            raise NotAvailable("the server gave another part of the file", path=file.label)
        return _exactly(web, answer, file, count)


def _beginning(web: Web, answer: httpx.Response, file: RemoteFile, count: int) -> bytes:
    """The first bytes of a whole file, as mirrors give that know no ranges; then it is let go."""
    if count > MOST_OF_BEGINNING:
        raise NotAvailable("the server gives no parts of files", path=file.label)
    return _exactly(web, answer, file, count)


def _exactly(web: Web, answer: httpx.Response, file: RemoteFile, count: int) -> bytes:
    data = web.beginning(answer, file.label, count)
    if len(data) < count:
        raise NotAvailable("the server gave less than the file", path=file.label)
    return data

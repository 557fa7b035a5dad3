"""Files of the Hugging Face Hub, through huggingface_hub.

Source of the routes and headers: huggingface_hub `file_download.py` and `hf_api.py`.
"""

from __future__ import annotations

import functools
import os
import shutil
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.sources.hub_client import asking, endpoint, headers, token
from assetmgr.sources.hub_errors import no_hub
from assetmgr.sources.remote import RemoteBytes
from converters.errors import DiskFull, NotAvailable
from converters.progress import Progress
from converters.writers.atomic import naming

if TYPE_CHECKING:
    from tqdm import tqdm

LARGEST = 50 * 10**9
"""Bytes; the Hub gives larger files only through another protocol, which cannot be resumed."""


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
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    subject = f"{repo}/{name}"
    with asking(subject, repo=repo):
        url = hf_hub_url(repo, name, revision=revision, endpoint=endpoint())
        found = get_hf_file_metadata(url, token=token(), endpoint=endpoint())
        if found.commit_hash is None:
            raise no_hub(subject)
        pinned = hf_hub_url(repo, name, revision=found.commit_hash, endpoint=endpoint())
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


def fetch(file: RemoteFile, part: Path, progress: Progress) -> None:
    """Download a file to `part`, going on behind the bytes that an earlier call left there.

    Whatever arrived before a failure stays in `part`. Not `hf_hub_download`: that throws away what
    an interrupted call has fetched. Raises NotAvailable, DiskFull, WriteFailed, or Cancelled from
    `progress`.
    """
    from huggingface_hub.file_download import http_get

    if file.size is not None and file.size > LARGEST:
        raise NotAvailable("is larger than the Hub serves over HTTP (50 GB)", path=file.label)
    progress.stage(f"downloading {file.name}", file.size)
    with naming(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        stream = part.open("ab")
    with stream, asking(file.label, progress, repo=file.repo):
        have = _kept(stream.tell(), file.size)
        stream.truncate(have)
        _refuse_full(file, have, part.parent)
        progress.advance(have)
        http_get(
            file.url,
            stream,
            resume_size=have,
            headers=headers(),
            expected_size=file.size,
            tqdm_class=_bar_of(progress),
        )
        stream.flush()
        os.fsync(stream.fileno())


def open_remote(file: RemoteFile) -> RemoteBytes:
    """The file as bytes at positions, of which only what is asked for is fetched."""
    if file.size is None:
        raise NotAvailable("the Hub does not say how large it is", path=file.label)
    return RemoteBytes(file.label, file.size, functools.partial(_range, file))


def _range(file: RemoteFile, start: int, count: int) -> bytes:
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        hf_raise_for_status,
        http_stream_backoff,
    )

    last = start + count - 1
    wanted = headers() | {"Range": f"bytes={start}-{last}"}
    with (
        asking(file.label, repo=file.repo),
        http_stream_backoff(
            "GET", file.url, max_retries=2, headers=wanted, follow_redirects=True
        ) as answer,
    ):
        hf_raise_for_status(answer)
        place = f"bytes {start}-{last}/{file.size}"
        if answer.status_code != HTTPStatus.PARTIAL_CONTENT:  # the body would be the whole file
            raise NotAvailable("the server gives no parts of files", path=file.label)
        if answer.headers.get("Content-Range") != place:
            raise NotAvailable("the server gave another part of the file", path=file.label)
        data: bytes = answer.read()
    return data


def _kept(have: int, size: int | None) -> int:
    """How many bytes of an earlier call are worth keeping; without a size none can be."""
    return have if size is not None and have <= size else 0


def _refuse_full(file: RemoteFile, have: int, folder: Path) -> None:
    """Raises DiskFull before hours are spent on a file that does not fit."""
    needed, free = (file.size or 0) - have, shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(f"{needed:,} bytes are to come, {free:,} are free", path=folder)


def _bar_of(progress: Progress) -> type[tqdm[object]]:
    """A bar that draws nothing and tells our progress; a cancellation is raised out of it."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            progress.advance(int(n or 0))
            return None

    return Bar

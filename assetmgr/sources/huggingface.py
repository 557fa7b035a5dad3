"""Files of the Hugging Face Hub, through huggingface_hub.

`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are honoured by that library; the endpoint
is also given explicitly, because it reads the variable only when it is imported.
Source of the routes and headers: huggingface_hub `file_download.py` and `hf_api.py`.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.sources.remote import RemoteBytes
from converters.errors import (
    AssetmgrError,
    BadValue,
    DiskFull,
    FileMissing,
    NotAvailable,
    WriteFailed,
)
from converters.progress import Progress
from converters.writers.atomic import naming

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError
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
    with _translated(subject):
        url = hf_hub_url(repo, name, revision=revision, endpoint=_endpoint())
        found = get_hf_file_metadata(url, endpoint=_endpoint())
        if found.commit_hash is None:
            raise _no_hub(subject)
        pinned = hf_hub_url(repo, name, revision=found.commit_hash, endpoint=_endpoint())
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


def file_names(repo: str, revision: str | None) -> tuple[str, ...]:
    """All files of a repository. Raises FileMissing, NotAvailable, BadValue."""
    from huggingface_hub import HfApi

    with _translated(repo):
        info = HfApi(endpoint=_endpoint()).model_info(repo, revision=revision)
    return tuple(sibling.rfilename for sibling in info.siblings or ())


def fetch(file: RemoteFile, part: Path, progress: Progress) -> None:
    """Download a file to `part`, going on behind the bytes that an earlier call left there.

    Whatever arrived before a failure stays in `part`. Not `hf_hub_download`: that throws away what
    an interrupted call has fetched. Raises NotAvailable, DiskFull, WriteFailed, or Cancelled from
    `progress`.
    """
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    # It would log its retries to stderr, unescaped.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if file.size is not None and file.size > LARGEST:
        raise NotAvailable("is larger than the Hub serves over HTTP (50 GB)", path=file.label)
    progress.stage(f"downloading {file.name}", file.size)
    with naming(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        stream = part.open("ab")
    with stream, _translated(file.label):
        have = _kept(stream.tell(), file.size)
        stream.truncate(have)
        _refuse_full(file, have, part.parent)
        progress.advance(have)
        http_get(
            file.url,
            stream,
            resume_size=have,
            headers=build_hf_headers(library_name="assetmgr"),
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
        build_hf_headers,
        hf_raise_for_status,
        http_stream_backoff,
    )

    last = start + count - 1
    headers = build_hf_headers(library_name="assetmgr") | {"Range": f"bytes={start}-{last}"}
    with (
        _translated(file.label),
        http_stream_backoff(
            "GET", file.url, max_retries=2, headers=headers, follow_redirects=True
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


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


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


@contextmanager
def _translated(subject: str) -> Iterator[None]:
    """The library's errors as ours, naming `subject`; tokens and addresses are in none of them."""
    from httpx2 import HTTPError, InvalidURL  # the client of huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise BadValue("is not the name of a repository, such as ORG/NAME", path=subject) from error
    except HfHubHTTPError as error:
        raise _of_answer(subject, error) from error
    except InvalidURL as error:
        raise NotAvailable("HF_ENDPOINT is not an address", path=subject) from error
    except HTTPError as error:
        raise _unreachable(subject) from error
    except OSError as error:
        raise _of_system(subject, error) from error
    except ValueError as error:  # an answer that is no JSON, a header that is no text
        raise _no_hub(subject) from error


def _of_answer(subject: str, error: HfHubHTTPError) -> AssetmgrError:
    """What the Hub said."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        hint = "ask for access on its page, then set HF_TOKEN"
        return NotAvailable("access to this repository is restricted", path=subject, hint=hint)
    if isinstance(error, errors.RevisionNotFoundError):
        return FileMissing("the repository has no such revision", path=subject)
    if isinstance(error, errors.EntryNotFoundError):
        return FileMissing("the repository has no such file", path=subject)
    # The library calls every 401 a missing repository; only some of them say so themselves.
    code = error.response.headers.get("X-Error-Code")
    if code == "RepoNotFound" or error.response.status_code == 404:
        hint = "private repositories need HF_TOKEN"
        return FileMissing("the Hub has no such repository", path=subject, hint=hint)
    return _of_status(subject, error.response.status_code)


def _of_status(subject: str, status: int) -> AssetmgrError:
    if status in {401, 403}:
        hint = "set HF_TOKEN to a token that has access"
        return NotAvailable("the Hub refuses access", path=subject, hint=hint)
    cause = f"the Hub answers with status {status}"
    return NotAvailable(cause, path=subject, hint="try again later")


def _of_system(subject: str, error: OSError) -> AssetmgrError:
    """Trouble below HTTP: switched off, broken off, or the disk."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return NotAvailable(
            "the network is switched off", path=subject, hint="unset HF_HUB_OFFLINE"
        )
    if error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}:
        return DiskFull("no space left on the disk", path=subject)
    if error.errno is not None:
        return WriteFailed(f"cannot be stored: {error.strerror}", path=subject)
    # The library's own: fewer or more bytes came than were announced.
    return NotAvailable("the download broke off", path=subject, hint="the same command goes on")


def _unreachable(subject: str) -> AssetmgrError:
    hint = "check the connection and HF_ENDPOINT"
    return NotAvailable("the Hub cannot be reached", path=subject, hint=hint)


def _no_hub(subject: str) -> AssetmgrError:
    return NotAvailable("the answer is not that of a Hub", path=subject, hint="check HF_ENDPOINT")

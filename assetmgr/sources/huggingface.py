"""Files of the Hugging Face Hub, through huggingface_hub.

`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are honoured by that library; the endpoint
is also given explicitly, because it reads the variable only when it is imported.
Source of the routes and headers: huggingface_hub `file_download.py` and `hf_api.py`.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.sources.pace import Pace
from assetmgr.sources.remote import RemoteBytes
from assetmgr.sources.sink import Arrived
from assetmgr.sources.transfer import Transfer
from assetmgr.sources.web import Web
from converters.errors import (
    AssetmgrError,
    BadValue,
    DiskFull,
    FileMissing,
    NotAvailable,
    WriteFailed,
)
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoSibling

LARGEST = 50 * 10**9
"""Bytes; the Hub gives larger files only through another protocol, which cannot be resumed."""


_LICENCE = "license:"


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


def files(repo: str, revision: str | None) -> tuple[RemoteFile, ...]:
    """All files of a repository. Raises FileMissing, NotAvailable, BadValue.

    A mirror may tell neither sizes nor hashes.
    """
    from huggingface_hub import HfApi

    with _translated(repo):
        info = HfApi(endpoint=_endpoint()).model_info(repo, revision=revision, files_metadata=True)
    if info.sha is None:
        raise _no_hub(repo)
    return tuple(_listed(repo, info.sha, sibling) for sibling in info.siblings or ())


def _listed(repo: str, commit: str, sibling: RepoSibling) -> RemoteFile:
    lfs = sibling.lfs
    return RemoteFile(
        repo=repo,
        commit=commit,
        name=sibling.rfilename,
        size=sibling.size,
        sha256=None if lfs is None else lfs.sha256,
        git_sha1=sibling.blob_id if lfs is None else None,
        url=address(repo, sibling.rfilename, commit),
    )


def licence(repo: str, revision: str | None) -> str | None:
    """The licence that the card of a repository names; None where nothing can be found out."""
    from huggingface_hub import HfApi

    try:
        with _translated(repo):
            info = HfApi(endpoint=_endpoint()).model_info(repo, revision=revision)
    except AssetmgrError:
        return None
    named = (tag.removeprefix(_LICENCE) for tag in info.tags or () if tag.startswith(_LICENCE))
    return next(named, None)


def connect() -> Web:
    """The Hub that the environment describes, for the bytes of files.

    Raises NotAvailable when the network is switched off.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise NotAvailable("the network is switched off", hint="unset HF_HUB_OFFLINE")
    endpoint = (_endpoint() or constants.ENDPOINT).rstrip("/")
    return Web("the Hub", endpoint, get_token(), "HF_ENDPOINT")


def fetch(
    web: Web, file: RemoteFile, part: Path, pace: Pace, progress: Progress = SILENT
) -> Arrived:
    """Download a file to `part`, going on behind what an earlier call left there.

    Not by huggingface_hub: that neither hashes what comes nor keeps to a rate, and throws away what
    an interrupted call has fetched. Raises NotAvailable, FileMissing, DiskFull, WriteFailed, or
    Cancelled from `progress`.
    """
    if file.size is not None and file.size > LARGEST:
        raise NotAvailable("is larger than the Hub serves over HTTP (50 GB)", path=file.label)
    path = address(file.repo, file.name, file.commit).removeprefix(web.endpoint)
    refusal = functools.partial(_refusal, file)
    transfer = Transfer(web, path, file.label, part, file.size, refusal, pinned=True, pace=pace)
    return transfer.run(progress)


def address(repo: str, name: str, commit: str) -> str:
    """Where a file of a commit is."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repo, name, revision=commit, endpoint=_endpoint())


def _refusal(file: RemoteFile, web: Web, status: int, body: bytes, subject: str) -> AssetmgrError:
    """Why the Hub refuses a file: the library can tell, if it is asked for the same file."""
    try:
        describe(file.repo, file.name, file.commit)
    except AssetmgrError as error:
        return error
    return _of_status(subject, status)


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


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


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

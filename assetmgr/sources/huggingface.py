"""Files of the Hugging Face Hub, through huggingface_hub.

`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are honoured by that library; the endpoint
is also given explicitly, because it reads the variable only when it is imported.
Source of the routes and headers: huggingface_hub `file_download.py` and `hf_api.py`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import (
    AssetmgrError,
    AssetNotFound,
    BadValue,
    DiskFull,
    NotAvailable,
    WriteFailed,
)
from converters.progress import Progress

if TYPE_CHECKING:
    from tqdm import tqdm


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


def describe(repo: str, name: str, revision: str | None) -> RemoteFile:
    """What the Hub says of a file. Raises AssetNotFound, NotAvailable, BadValue."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with _translated(f"{repo}/{name}"):
        url = hf_hub_url(repo, name, revision=revision, endpoint=_endpoint())
        found = get_hf_file_metadata(url, endpoint=_endpoint())
    tag = found.etag or ""
    return RemoteFile(
        repo=repo,
        commit=found.commit_hash or revision or "main",
        name=name,
        size=found.size,
        sha256=tag if len(tag) == 64 else None,
        git_sha1=tag if len(tag) == 40 else None,
        url=url,
    )


def file_names(repo: str, revision: str | None) -> tuple[str, ...]:
    """All files of a repository. Raises AssetNotFound, NotAvailable, BadValue."""
    from huggingface_hub import HfApi

    with _translated(repo):
        info = HfApi(endpoint=_endpoint()).model_info(repo, revision=revision)
    return tuple(sibling.rfilename for sibling in info.siblings or ())


def fetch(file: RemoteFile, folder: Path, progress: Progress) -> Path:
    """Download a file below `folder`, or go on with what an interrupted call left there.

    Raises NotAvailable, DiskFull, WriteFailed, or Cancelled from `progress`.
    """
    from huggingface_hub import hf_hub_download

    progress.stage(f"downloading {file.name}", file.size)
    with _translated(f"{file.repo}/{file.name}"):
        path = hf_hub_download(
            file.repo,
            file.name,
            revision=file.commit,
            local_dir=folder,
            endpoint=_endpoint(),
            tqdm_class=_bar_of(progress),
        )
    return Path(path)


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
    """The library's errors as ours, naming `subject`; tokens are in none of them."""
    try:
        yield
    except AssetmgrError:
        raise
    except Exception as error:
        ours = _of_hub(subject, error) or _of_transport(subject, error)
        if ours is None:
            raise
        raise ours from error


def _of_hub(subject: str, error: Exception) -> AssetmgrError | None:
    """What the Hub or its library said."""
    from huggingface_hub import errors

    absent = (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.RemoteEntryNotFoundError,
    )
    if isinstance(error, errors.HFValidationError):
        return BadValue("is not the name of a repository, such as ORG/NAME", path=subject)
    if isinstance(error, errors.GatedRepoError):
        hint = "ask for access on its page, then set HF_TOKEN"
        return NotAvailable("access to this repository is restricted", path=subject, hint=hint)
    if isinstance(error, absent):
        hint = "private repositories need HF_TOKEN"
        return AssetNotFound("the Hub has no such file or revision", path=subject, hint=hint)
    if isinstance(error, errors.HfHubHTTPError):
        return _of_status(subject, error.response.status_code)
    return None


def _of_status(subject: str, status: int) -> AssetmgrError:
    if status in {401, 403}:
        hint = "set HF_TOKEN to a token that has it"
        return NotAvailable("the Hub refuses access", path=subject, hint=hint)
    cause = f"the Hub answers with status {status}"
    return NotAvailable(cause, path=subject, hint="try again later")


def _of_transport(subject: str, error: Exception) -> AssetmgrError | None:
    """Trouble below the Hub: the connection, being offline, the disk."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return DiskFull("no space left on the disk", path=subject)
    if isinstance(error, OSError) and error.errno is not None:
        return WriteFailed(f"cannot be stored: {error.strerror}", path=subject)
    # Clients of several generations: their classes have only their modules in common.
    if isinstance(error, (OSError, ValueError)) or type(error).__module__.startswith("http"):
        hint = "check the connection, HF_ENDPOINT and HF_HUB_OFFLINE"
        return NotAvailable("the Hub cannot be reached", path=subject, hint=hint)
    return None

"""The cache that huggingface_hub shares with other programs: places, locks and names there.

Only that library knows how folders, links and records there belong together, so it makes them; ours
are the bytes of blobs, because it begins an interrupted file anew. Source of the places: its guide
"Understand caching" and its `file_download.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.sources.hub.client import asking, endpoint, token
from assetmgr.sources.hub.files import LARGEST, RemoteFile
from converters.errors import FileMissing, NotAvailable
from converters.progress import SILENT, Progress
from converters.writers.atomic import naming

if TYPE_CHECKING:
    from huggingface_hub.file_download import HfFileMetadata
    from tqdm import tqdm


IMPATIENCE = {"HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2", "HF_XET_CLIENT_CONNECT_TIMEOUT": "10s"}
"""For hf-xet, of what the user has not set: where a firewall lets only the Hub through, its own
tries take minutes, and over HTTP the same bytes come."""

_LOCK_SECONDS = 0.3
"""So long a lock is waited for before it is looked whether to go on."""

_COMMIT = re.compile("[0-9a-f]{40}")


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where huggingface_hub keeps repositories."""
    stated = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    return Path(stated).expanduser() if stated else hub_home(environment) / "hub"


def hub_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Where huggingface_hub keeps everything."""
    stated = environment.get("HF_HOME")
    if stated:
        return Path(stated).expanduser()
    caches = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "huggingface"


def repository_folder(repo: str) -> Path:
    """Where a repository is in the cache, also before it is there. Raises BadValue."""
    from huggingface_hub.file_download import repo_folder_name

    with asking(repo):
        return cache_folder().absolute() / repo_folder_name(repo_id=repo, repo_type="model")


def is_in_cache(file: RemoteFile, cache: Path) -> bool:
    """Whether a file lies in the cache, under the commit that is meant."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(file.repo, file.name, cache_dir=cache, revision=file.commit)
    return isinstance(found, str)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a file belong, and the lock of whoever puts them there."""

    path: Path
    lock: Path


def place_of(file: RemoteFile, repository: Path) -> Place | None:
    """Where the library looks for the bytes of a file before it fetches them.

    None where it is to bring them itself: it knows them by another name than their hash, keeps them
    for several repositories, or hf-xet is wanted for them. Raises FileMissing, NotAvailable.
    """
    tag = file.sha256 or file.git_sha1
    told = _metadata(file)
    blob = repository / "blobs" / (tag or "")
    if tag is None or told.etag != tag or blob.is_symlink() or _is_for_xet(file, told):
        return None
    path = blob if _has_links(repository) else _snapshot_place(file, repository)
    lock = repository.parent / ".locks" / repository.name / f"{tag}.lock"
    return None if path is None else Place(path, lock)


def _metadata(file: RemoteFile) -> HfFileMetadata:
    from huggingface_hub import get_hf_file_metadata

    with asking(file.label, repo=file.repo):
        return get_hf_file_metadata(file.url, token=token(), endpoint=endpoint())


def _is_for_xet(file: RemoteFile, told: HfFileMetadata) -> bool:
    """It is fast but begins anew: for whoever asks for that, and for what HTTP cannot bring."""
    from huggingface_hub import constants

    if told.xet_file_data is None or constants.HF_HUB_DISABLE_XET or find_spec("hf_xet") is None:
        return False
    return constants.HF_XET_HIGH_PERFORMANCE or (file.size or 0) > LARGEST


def _has_links(repository: Path) -> bool:
    """Whether names there are links to blobs; elsewhere, as mostly on Windows, they are files."""
    from huggingface_hub.file_download import are_symlinks_supported

    with naming(repository):
        repository.mkdir(parents=True, exist_ok=True)
        return are_symlinks_supported(repository)


def _snapshot_place(file: RemoteFile, repository: Path) -> Path | None:
    """None for a name that would leave the folder, of which the library tells what is wrong."""
    folder = repository / "snapshots" / file.commit
    path = folder.joinpath(*file.name.split("/"))
    return path if path.resolve().is_relative_to(folder.resolve()) else None


@contextmanager
def locked(place: Place, progress: Progress) -> Iterator[None]:
    """While this lasts, other programs that want the same bytes of huggingface_hub wait for ours.

    Theirs are waited for, too. Raises WriteFailed, and Cancelled out of `progress`.
    """
    with ExitStack() as held:
        while not _is_locked(place.lock, held):
            progress.message(f"waiting for another program that fetches {place.path.name}")
            progress.advance(0)
        yield


def _is_locked(lock: Path, held: ExitStack) -> bool:
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    with naming(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.enter_context(WeakFileLock(lock, timeout=_LOCK_SECONDS))
        except TimeoutError:
            return False
    return True


def note_revision(repository: Path, revision: str, commit: str) -> None:
    """Have offline programs find what they ask for by the name of a branch or a tag.

    No fault where it cannot be noted, as in a cache that others may only read.
    """
    if revision == commit or _COMMIT.fullmatch(revision):
        return
    place = repository.joinpath("refs", *revision.split("/"))
    if ".." in revision.split("/"):
        return
    fresh = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}.tmp")
    with contextlib.suppress(OSError):
        if place.is_file() and place.read_text("ascii", "replace") == commit:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(commit, "ascii")
        fresh.replace(place)


def fetch_to_cache(
    file: RemoteFile, cache: Path, progress: Progress = SILENT, *, again: bool = False
) -> Path:
    """Where a file lies in the cache, fetched unless its bytes are there; `again` in any case.

    Where hf-xet cannot do it, as behind a proxy that knows only the Hub, it comes over HTTP. Raises
    FileMissing, NotAvailable, DiskFull, WriteFailed, Cancelled.
    """
    from huggingface_hub import constants

    for name, value in IMPATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        return _fetched(file, cache, progress, again=again)
    except (NotAvailable, FileMissing, RuntimeError):  # the last is what hf-xet raises of networks
        if constants.HF_HUB_DISABLE_XET or find_spec("hf_xet") is None:
            raise
    progress.message(f"{file.name}: asking for it once more, without hf-xet")
    constants.HF_HUB_DISABLE_XET = True
    return _fetched(file, cache, progress, again=again)


def _fetched(file: RemoteFile, cache: Path, progress: Progress, *, again: bool) -> Path:
    from huggingface_hub import hf_hub_download

    with asking(file.label, progress, repo=file.repo):
        return Path(
            hf_hub_download(
                file.repo,
                file.name,
                revision=file.commit,
                cache_dir=cache,
                endpoint=endpoint(),
                token=token(),
                force_download=again,
                tqdm_class=_bar_of(progress),
            )
        )


def _bar_of(progress: Progress) -> type[tqdm[object]]:
    """A bar that draws nothing and tells our progress; a cancellation is raised out of it."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: object, **options: object) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            progress.advance(int(n or 0))
            return None

    return Bar

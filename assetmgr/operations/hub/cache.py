"""Receive files into the cache that huggingface_hub shares with diffusers and others.

Bytes come as all downloads do, resumed and hashed on the way, and lie where that library looks for
them before it fetches any; it gives them their names then. They are registered under these.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.downloads.announced import Announced, Fetch, fetched
from assetmgr.operations.downloads.known import hashes_of, with_sha256
from assetmgr.operations.downloads.parts import discard, part_of
from assetmgr.operations.downloads.receiving import already_there, link, sound_place
from assetmgr.operations.downloads.registering import Received, give_name, register
from assetmgr.sources.hub import cache as hub_cache
from assetmgr.sources.hub.files import RemoteFile
from converters.errors import CorruptFile, TargetExists
from converters.hashing import FileHashes
from converters.progress import Progress
from converters.writers.atomic import naming
from registry.downloads.records import Wanted

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

_REVISION = "cached_as"
"""In a subject of the queue: that it is for the cache, and the revision that was asked for."""


def for_cache(wanted: Wanted, file: RemoteFile, revision: str | None) -> Wanted:
    """A download of the queue that is to go into the cache; by default that of `main`."""
    subject = json.dumps({**json.loads(wanted.subject), _REVISION: revision or "main"})
    folder = str(hub_cache.repository_folder(file.repo))
    return replace(wanted, subject=subject, folder=folder, layout=None)


def is_for_cache(subject: Mapping[str, object]) -> bool:
    """Whether a subject of the queue is one for the cache."""
    return _REVISION in subject


@dataclass(frozen=True, slots=True)
class Cached:
    """A download of the queue for the cache: the file, as it was announced, and what fetches it."""

    wanted: Wanted
    file: RemoteFile
    told: Announced
    fetch: Fetch

    @property
    def repository(self) -> Path:
        """The folder of its repository."""
        return Path(self.wanted.folder or "")

    @property
    def part(self) -> Path:
        """Where its bytes gather."""
        return part_of(self.repository, self.wanted.content)

    @property
    def revision(self) -> str:
        """What was asked for."""
        return str(json.loads(self.wanted.subject)[_REVISION])


def receive_cached(workspace: Workspace, cached: Cached, progress: Progress) -> Received:
    """Fetch, verify and register a file of the cache; what is there damaged is fetched once more.

    What the library has elsewhere is not fetched, unless wanted `again`. Raises as `receive`.
    """
    received = _received(workspace, cached, progress)
    discard(cached.part)
    hub_cache.note_revision(cached.repository, cached.revision, cached.file.commit)
    return received


def _received(workspace: Workspace, cached: Cached, progress: Progress) -> Received:
    file, cache = cached.file, cached.repository.parent
    is_there = hub_cache.is_in_cache(file, cache)
    place = None if is_there else hub_cache.place_of(file, cached.repository)
    if place is None:
        return _by_library(workspace, cached, progress, is_there=is_there)
    arrived = None
    with hub_cache.locked(place, progress):
        if not os.path.lexists(place.path):
            arrived = _arrived(workspace, cached, place.path, progress)
    if arrived is None:  # another program was faster
        return _by_library(workspace, cached, progress, is_there=True)
    named = hub_cache.fetch_to_cache(file, cache, progress)
    return register(workspace, cached.told, named, *arrived)


def _arrived(
    workspace: Workspace, cached: Cached, place: Path, progress: Progress
) -> tuple[FileHashes | None, str]:
    """Put the bytes into their place; their hashes, and whether they were fetched."""
    told = cached.told
    known = None if cached.wanted.again else with_sha256(workspace, told.sha256)
    source = None if known is None else sound_place(told, known, progress)
    if known is not None and source is not None:
        with naming(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        link(source.resolve(), place, progress)
        return hashes_of(known), "already"
    hashes, _, _ = fetched(told, cached.part, cached.fetch, progress)
    give_name(cached.part, place)
    return hashes, "downloaded"


def _by_library(
    workspace: Workspace, cached: Cached, progress: Progress, *, is_there: bool
) -> Received:
    """What lies there, or is brought by huggingface_hub itself, is registered if it is right."""
    file, cache = cached.file, cached.repository.parent
    for again in (False, True):
        progress.stage(f"downloading {file.name}", file.size)
        path = hub_cache.fetch_to_cache(file, cache, progress, again=again)
        try:
            received = already_there(workspace, cached.told, path, progress)
            return received if is_there and not again else replace(received, state="downloaded")
        except TargetExists:
            continue
    cause = "the downloaded bytes are not those the Hub announced"
    raise CorruptFile(cause, path=file.label, hint=f"they lie in {cache}")

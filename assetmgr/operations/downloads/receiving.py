"""Files that arrive from a network: verified, placed by their kind, and registered.

The target appears when size and hash are those that were announced.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.downloads.announced import (
    Announced,
    Fetch,
    fetched,
    hashes_if_same,
    open_if_model,
)
from assetmgr.operations.downloads.known import hashes_of, present, with_sha256
from assetmgr.operations.downloads.parts import discard, part_of
from assetmgr.operations.downloads.placing import Destination
from assetmgr.operations.downloads.registering import Received, give_name, register, taken
from assetmgr.operations.file_links import clone, copy, hard_link
from converters.errors import TargetExists, WriteProblem
from converters.progress import SILENT, Progress
from converters.writers.atomic import naming

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

HOME = Destination()
"""The folders by kind below the models folder."""


def receive(
    workspace: Workspace,
    file: Announced,
    fetch: Fetch,
    *,
    destination: Destination = HOME,
    again: bool = False,
    progress: Progress = SILENT,
) -> Received:
    """Fetch, verify, place and register a file.

    What the library has is not fetched, unless wanted `again`: it gets a second name where it was
    to go. Raises CorruptFile when the bytes are not those announced, WriteProblem, and what `fetch`
    raises.
    """
    part = part_of(destination.root(workspace), file.content)
    known = None if again else with_sha256(workspace, file.sha256)
    place = None if known is None else sound_place(file, known, progress)
    if known is not None and place is not None:
        discard(part)  # a call that was killed right before its end left it
        return _reuse(workspace, file, known, place, destination, progress)
    target = destination.known_place(file.name)
    if target is not None and os.path.lexists(target):
        received = already_there(workspace, file, target, progress)
        discard(part)
        return received
    hashes, kind, base = fetched(file, part, fetch, progress)
    target = destination.place(workspace, file.name, file.family, kind, base)
    if os.path.lexists(target):
        received = already_there(workspace, file, target, progress)
        discard(part)
        return received
    give_name(part, target)
    received = register(workspace, file, target, hashes, "downloaded")
    discard(part)  # not before: a call that was killed goes on from it
    return received


def sound_place(file: Announced, known: Asset, progress: Progress) -> Path | None:
    """Where an asset lies as it was recorded; what was written to since is read again."""
    place = present(known)
    if place is None:
        return None
    recorded = {each.mtime_ns for each in known.files if Path(each.path) == place}
    if place.stat().st_mtime_ns in recorded:
        return place
    return None if hashes_if_same(file, place, progress, None) is None else place


def _reuse(
    workspace: Workspace,
    file: Announced,
    known: Asset,
    place: Path,
    destination: Destination,
    progress: Progress,
) -> Received:
    """A file that the library has; in a folder that was asked for, under a name there, too."""
    if destination.folder is None:
        workspace.library.record_source(known.id, file.source)
        return Received(place, workspace.library.get(known.id), "already")
    target = destination.place(workspace, file.name, file.family, known.kind, known.base)
    if os.path.lexists(target):
        return already_there(workspace, file, target, progress)
    progress.stage(f"linking {file.name}", place.stat().st_size)
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    link(place, target, progress)
    return register(workspace, file, target, hashes_of(known), "already")


def link(source: Path, target: Path, progress: Progress) -> None:
    """Without a second set of bytes where the disk can do that, else as a copy."""
    for way in (clone, hard_link):
        try:
            return way(source, target)
        except TargetExists:
            raise
        except WriteProblem:
            continue
    return copy(source, target, progress)


def already_there(
    workspace: Workspace, file: Announced, target: Path, progress: Progress
) -> Received:
    """A target that has the content already is registered; any other is kept: TargetExists."""
    if target.is_file():
        model = open_if_model(target)
        header_bytes = model.header_bytes if model else None
        hashes = hashes_if_same(file, target, progress, header_bytes)
        if hashes is not None and (file.sha256 or file.git_sha1):
            return register(workspace, file, target, hashes, "already")
    raise taken(target)

"""Files that arrive from a network: verified, placed by their kind, and registered.

Bytes gather under a hidden name on the target's disk and stay there when a transfer breaks off, so
that the next call goes on; the target appears when size and hash are those that were announced.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.downloads.placing import Destination
from assetmgr.operations.file_links import clone, copy, hard_link
from assetmgr.sources.sink import Arrived
from assetmgr.sources.transfer import tag_of
from converters.errors import (
    AssetmgrError,
    AssetNotFound,
    CorruptFile,
    FileProblem,
    TargetExists,
    WriteProblem,
)
from converters.hashing import FileHashes, hash_file
from converters.kinds import Kind
from converters.lanes import BLOCK_BYTES
from converters.progress import SILENT, Progress
from converters.suffixes import MODEL_SUFFIXES
from converters.writers.atomic import TEMPORARY_SUFFIX, naming, refuse_existing, sync_folder
from registry.file_lock import is_held
from registry.together import Together

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from converters.containers import Model
    from registry.records import Asset, Source

PARTS = ".downloads"
"""The hidden folder that bytes gather in, below the folder that the file goes to."""

INDEXES = "*.index*.json"
"""Names of what puts together models in several files."""

HOME = Destination()
"""The folders by kind below the models folder."""

Fetch = Callable[[Path, Progress], Arrived]
"""Brings the bytes to a path, going on behind those that are there, and hashes them on the way."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A file as a service announces it.

    `name` may have folders; `family` tells apart files of names that everyone gives. `content`
    is the same for the same bytes and for no others. A hash that the service does not tell is None.
    """

    service: str
    label: str
    name: str
    family: str
    size: int | None
    sha256: str | None
    git_sha1: str | None
    content: str
    source: Source


@dataclass(frozen=True, slots=True)
class Received:
    """A file that is in the library now; `state` is `downloaded` or `already`."""

    path: Path
    asset: Asset
    state: str


def get_ready(workspace: Workspace) -> None:
    """Have what the end of a download needs, while its bytes are on their way.

    Raises what `Workspace.library` raises: nothing could be registered then.
    """
    import converters.identify.beside
    import registry.recording
    import registry.scanner

    _ = converters.identify.beside, registry.recording, registry.scanner, workspace.library


def with_sha256(workspace: Workspace, sha256: str | None) -> Asset | None:
    """The asset of the library that has these bytes and is there; None without one."""
    if sha256 is None or workspace.surely_lacks(sha256):
        return None
    asset = workspace.library.with_content(sha256)
    return asset if asset is not None and present(asset) is not None else None


def all_with_sha256(workspace: Workspace, digests: Sequence[str]) -> Mapping[str, Asset]:
    """The assets of the library that have these bytes and are there, by the bytes' SHA-256."""
    known = workspace.library.with_sha256(digests)
    return {sha256: asset for sha256, asset in known.items() if present(asset) is not None}


def present(asset: Asset) -> Path | None:
    """Where an asset lies now; the library may not have noticed yet that a file is gone."""
    for file in asset.files:
        path = Path(file.path)
        if file.here and path.is_file() and path.stat().st_size == file.bytes:
            return path
    return None


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


def part_of(root: Path, content: str) -> Path:
    """Where the bytes gather: hidden, on the target's disk, one name for one content."""
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    return root / PARTS / f"{name}{TEMPORARY_SUFFIX}"


def discard(part: Path) -> None:
    """Remove what is left of a download, and the hidden folder after the last one.

    What another program is downloading to is left alone.
    """
    if is_held(part):
        return
    for left in (part, tag_of(part)):
        left.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        part.parent.rmdir()


def sound_place(file: Announced, known: Asset, progress: Progress) -> Path | None:
    """Where an asset lies as it was recorded; what was written to since is read again."""
    place = present(known)
    if place is None:
        return None
    recorded = {each.mtime_ns for each in known.files if Path(each.path) == place}
    if place.stat().st_mtime_ns in recorded:
        return place
    return None if _hashes_if_same(file, place, progress, None) is None else place


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


def hashes_of(asset: Asset) -> FileHashes | None:
    """All hashes of an asset, or None when one is not known."""
    kept = {name: asset.hashes.get(name) for name in ("blake3", "sha256", "crc32", "autov1")}
    known = {name: digest for name, digest in kept.items() if digest is not None}
    if len(known) < len(kept):
        return None
    return FileHashes(**known, autov3=asset.hashes.get("autov3"))


def fetched(
    file: Announced, part: Path, fetch: Fetch, progress: Progress
) -> tuple[FileHashes, str, str]:
    """The hashes, kind and base of a file whose bytes have come and are those announced.

    Remains of an earlier call may have been spoiled, as a power cut can do: then once more without.
    """
    had_remains = part.exists() and part.stat().st_size > 0
    try:
        return _verified(file, part, fetch(part, progress), progress)
    except CorruptFile:
        if not had_remains:
            raise
    progress.message(f"{file.name}: what an earlier download left was spoiled, beginning anew")
    return _verified(file, part, fetch(part, progress), progress)


def _verified(
    file: Announced, part: Path, arrived: Arrived, progress: Progress
) -> tuple[FileHashes, str, str]:
    """All hashes, kind and base of a fetched file; one that differs is removed: CorruptFile."""
    model = _open(part)
    header_bytes = model.header_bytes if model else None
    if arrived.header_bytes == header_bytes:
        hashes = arrived.hashes if _is_announced(file, part, arrived.hashes, progress) else None
    else:
        hashes = _hashes_if_same(file, part, progress, header_bytes)
    if hashes is None:
        discard(part)
        cause = f"the downloaded bytes are not those {file.service} announced"
        raise CorruptFile(cause, path=file.label, hint="they were removed; try again")
    if model is None:
        return hashes, "unknown", "unknown"
    from converters.identify import identify

    identity = identify(model.state_dict)
    return hashes, str(identity.kind), str(identity.base)


def _hashes_if_same(
    file: Announced, path: Path, progress: Progress, header_bytes: int | None
) -> FileHashes | None:
    """The hashes of a file whose bytes are those announced; None for other bytes."""
    size = path.stat().st_size
    if size != (file.size or size):
        return None
    progress.stage(f"verifying {file.name}", size)
    hashes = hash_file(path, progress, header_bytes=header_bytes).hashes
    return hashes if _is_announced(file, path, hashes, progress) else None


def _is_announced(file: Announced, path: Path, hashes: FileHashes, progress: Progress) -> bool:
    size = path.stat().st_size
    if size != (file.size or size):
        return False
    if file.sha256 is not None:
        return hashes.sha256 == file.sha256
    if file.git_sha1 is not None:
        return _git_sha1(path, size) == file.git_sha1
    progress.message(f"{file.name}: no hash was announced, only the size was checked")
    return True


def already_there(
    workspace: Workspace, file: Announced, target: Path, progress: Progress
) -> Received:
    """A target that has the content already is registered; any other is kept: TargetExists."""
    if target.is_file():
        model = _open(target)
        header_bytes = model.header_bytes if model else None
        hashes = _hashes_if_same(file, target, progress, header_bytes)
        if hashes is not None and (file.sha256 or file.git_sha1):
            return register(workspace, file, target, hashes, "already")
    raise _taken(target)


def _taken(target: Path) -> AssetmgrError:
    hint = "name another folder with --to"
    return TargetExists("already exists with other content", path=target, hint=hint)


def _open(path: Path) -> Model | None:
    from converters.containers import open_model

    try:
        return open_model(path)
    except FileProblem:
        return None


def _git_sha1(path: Path, size: int) -> str:
    """The name git gives to a blob: SHA-1 over `blob SIZE`, NUL, and the bytes."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def give_name(part: Path, target: Path) -> None:
    """Give fetched bytes their name, unless something else has it by now."""
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(part, target)
        except FileExistsError as error:
            raise _taken(target) from error
        except (OSError, NotImplementedError, AttributeError):
            # No hard links on this file system: on Windows a rename refuses by itself.
            refuse_existing(target, overwrite=False)
            part.rename(target)
        _synced(target.parent)


def _sync_folders(folders: Sequence[Path]) -> list[None]:
    for folder in set(folders):
        sync_folder(folder)
    return [None for _ in folders]


_synced = Together(_sync_folders)
"""Makes new names durable: of all files that arrive at once in one step."""


def register(
    workspace: Workspace, file: Announced, target: Path, hashes: FileHashes | None, state: str
) -> Received:
    """Record a file that has its name; what is not known of it is read."""
    from registry.scanner import scan_file

    asset = scan_file(workspace.library, target, hashes=hashes, source=file.source)
    for index in _indexes_beside(target):
        with contextlib.suppress(AssetNotFound):
            if workspace.library.find(str(index)).kind == Kind.UNKNOWN:
                scan_file(workspace.library, index)
    return Received(target, asset, state)


def _indexes_beside(target: Path) -> list[Path]:
    """The indexes whose model may be whole now that a file of weights has come."""
    is_one = target.suffix.lower() in MODEL_SUFFIXES
    return [path for path in target.parent.glob(INDEXES) if path.is_file()] if is_one else []

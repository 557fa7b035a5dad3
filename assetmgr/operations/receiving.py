"""Files that arrive from a network: verified, placed by their kind, and registered.

Bytes gather under a hidden name on the target's disk and stay there when a transfer breaks off, so
that the next call goes on; the target appears when size and hash are those that were announced.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.names import safe_name
from converters.containers import Model, open_model
from converters.errors import (
    AssetmgrError,
    CorruptFile,
    FileProblem,
    TargetExists,
)
from converters.hashing import FileHashes, hash_file
from converters.identify import identify
from converters.lanes import BLOCK_BYTES
from converters.progress import SILENT, Progress
from converters.writers.atomic import TEMPORARY_SUFFIX, naming, refuse_existing

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, Source

FOLDERS = {
    "checkpoint": "checkpoints",
    "lora": "loras",
    "embedding": "embeddings",
    "hypernetwork": "hypernetworks",
    "vae": "vae",
}
"""Kind -> folder below the models folder; everything else goes to `other`."""

_PARTS = ".downloads"
_GENERIC = frozenset(
    {"adapter_model", "diffusion_pytorch_model", "model", "pytorch_lora_weights", "pytorch_model"}
)


@dataclass(frozen=True, slots=True)
class HashedOnTheWay:
    """The hashes of bytes that were made as they came; `header_bytes` as for `hash_file`."""

    hashes: FileHashes
    header_bytes: int | None


Fetch = Callable[[Path, Progress], HashedOnTheWay | None]
"""Brings the bytes to a path, going on behind those that are there."""


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


def with_sha256(workspace: Workspace, sha256: str | None) -> Asset | None:
    """The asset of the library that has these bytes and is there; None without one."""
    number = None if sha256 is None else workspace.library.find_hash(sha256)
    if number is None:
        return None
    asset = workspace.library.get(number)
    return asset if present(asset) is not None else None


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
    known: Asset | None = None,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> Received:
    """Fetch, verify, place and register a file; one that is `known` or there is not fetched.

    Raises CorruptFile when the bytes are not those announced, WriteProblem, and what `fetch`
    raises.
    """
    place = present(known) if known is not None else None
    if place is not None and known is not None:
        return _registered(workspace, file, known.id, place, "already")
    target = None if folder is None else folder.joinpath(*map(safe_name, file.name.split("/")))
    if target is not None and os.path.lexists(target):
        return _already_there(workspace, file, target, progress)
    part = _part_of(folder or workspace.paths.models, file)
    arrived = fetch(part, progress)
    hashes, kind = _verified(file, part, arrived, progress)
    target = target or _place(workspace, kind, file)
    if os.path.lexists(target):
        _discard(part)
        return _already_there(workspace, file, target, progress)
    _move(part, target)
    _discard(part)
    return _register(workspace, file, target, hashes, "downloaded")


def _part_of(folder: Path, file: Announced) -> Path:
    """Where the bytes gather: hidden, on the target's disk, one name for one content."""
    name = hashlib.sha256(file.content.encode()).hexdigest()[:32]
    return folder / _PARTS / f"{name}{TEMPORARY_SUFFIX}"


def _discard(part: Path) -> None:
    """Remove what is left of a download, and the hidden folder after the last one."""
    for left in part.parent.glob(f"{part.name.partition('.')[0]}*"):
        left.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        part.parent.rmdir()


def _verified(
    file: Announced, part: Path, arrived: HashedOnTheWay | None, progress: Progress
) -> tuple[FileHashes, str]:
    """All hashes and the kind of a fetched file; one that differs is removed: CorruptFile."""
    model = _open(part)
    header_bytes = model.header_bytes if model else None
    if arrived is not None and arrived.header_bytes == header_bytes:
        hashes = arrived.hashes if _is_announced(file, part, arrived.hashes, progress) else None
    else:
        hashes = _hashes_if_same(file, part, progress, header_bytes)
    if hashes is None:
        _discard(part)
        cause = f"the downloaded bytes are not those {file.service} announced"
        raise CorruptFile(cause, path=file.label, hint="they were removed; try again")
    return hashes, identify(model.state_dict).kind if model else "unknown"


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


def _already_there(
    workspace: Workspace, file: Announced, target: Path, progress: Progress
) -> Received:
    """A target that has the content already is registered; any other is kept: TargetExists."""
    if target.is_file():
        model = _open(target)
        header_bytes = model.header_bytes if model else None
        hashes = _hashes_if_same(file, target, progress, header_bytes)
        if hashes is not None and (file.sha256 or file.git_sha1):
            return _register(workspace, file, target, hashes, "already")
    raise _taken(target)


def _taken(target: Path) -> AssetmgrError:
    hint = "name another folder with --to"
    return TargetExists("already exists with other content", path=target, hint=hint)


def _open(path: Path) -> Model | None:
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


def _place(workspace: Workspace, kind: str, file: Announced) -> Path:
    """The folder of the kind; names that every repository has get those of repo and folders."""
    *folders, name = file.name.split("/")
    if name.split(".")[0].split("-")[0] in _GENERIC:
        name = "-".join([file.family, *folders, name])
    return workspace.paths.models / FOLDERS.get(kind, "other") / safe_name(name)


def _move(part: Path, target: Path) -> None:
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


def _register(
    workspace: Workspace, file: Announced, target: Path, hashes: FileHashes, state: str
) -> Received:
    from registry.scanner import scan_file

    asset = scan_file(workspace.library, target, hashes=hashes)
    return _registered(workspace, file, asset.id, target, state)


def _registered(
    workspace: Workspace, file: Announced, asset_id: int, place: Path, state: str
) -> Received:
    workspace.library.record_source(asset_id, file.source)
    return Received(place, workspace.library.get(asset_id), state)

"""Fetched bytes beside what a service announced of them: size, and hash where it tells one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.downloads.loading import load
from assetmgr.operations.downloads.parts import discard
from assetmgr.sources.transfers.sink import Arrived
from converters.errors import CorruptFile, FileProblem
from converters.hashing import FileHashes, hash_file
from converters.lanes import BLOCK_BYTES
from converters.progress import Progress

if TYPE_CHECKING:
    from converters.containers import Model
    from registry.records import Source

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
    model = open_if_model(part)
    header_bytes = model.header_bytes if model else None
    if arrived.header_bytes == header_bytes:
        hashes = arrived.hashes if _is_announced(file, part, arrived.hashes, progress) else None
    else:
        hashes = hashes_if_same(file, part, progress, header_bytes)
    if hashes is None:
        discard(part)
        cause = f"the downloaded bytes are not those {file.service} announced"
        raise CorruptFile(cause, path=file.label, hint="they were removed; try again")
    if model is None:
        return hashes, "unknown", "unknown"
    from converters.identify import identify

    identity = identify(model.state_dict)
    return hashes, str(identity.kind), str(identity.base)


def hashes_if_same(
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


def open_if_model(path: Path) -> Model | None:
    """A file that tensors can be read from; None for any other."""
    load()
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

"""What a new file was made of, and its registration with that lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converters.bytesource import Fingerprint
from converters.errors import AssetNotFound
from converters.hashing import FileHashes, blake3_of
from converters.progress import SILENT, Progress
from converters.statedict import Plain
from converters.transform.metadata import Parent

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a file came to be: the operation, what it was told, and its parents."""

    operation: str
    parameters: Mapping[str, Plain]
    parents: Sequence[Parent]


def parent_of(workspace: Workspace, path: Path, progress: Progress = SILENT) -> Parent:
    """A source file by its name and hashes. Raises FileProblem.

    The library's hashes serve when it knows the file as it is now. Otherwise only BLAKE3 is made,
    the one hash that costs hardly more than reading.
    """
    known = _known(workspace, path)
    if known is not None:
        return known
    if path.is_dir():  # a pipeline: many files, of which no single hash tells
        return Parent(path.name)
    progress.stage(f"hashing {path.name}", path.stat().st_size)
    return Parent(path.name, blake3=blake3_of(path, progress))


def _known(workspace: Workspace, path: Path) -> Parent | None:
    try:
        asset = workspace.library.find(str(path.resolve()))
    except AssetNotFound:
        return None
    now = Fingerprint.of(path.stat())
    seen = {Fingerprint(file.bytes, file.mtime_ns, file.inode) for file in asset.files}
    if now not in seen:
        return None
    return Parent(path.name, asset.hashes["sha256"], asset.hashes["blake3"])


def register_derived(
    workspace: Workspace, target: Path, hashes: FileHashes | None, derivation: Derivation
) -> int:
    """Add a new file to the library with its lineage; gives the number of its asset.

    The hashes made while writing are used, so that the file is not read again.
    """
    from registry.scanner import scan_file

    asset = scan_file(workspace.library, target, hashes=hashes)
    workspace.library.record_derived(
        asset.id, derivation.parents, derivation.operation, derivation.parameters
    )
    return asset.id

"""What a new file was made of, and its registration with that lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr import __version__
from converters.bytesource import Fingerprint
from converters.containers import open_model
from converters.errors import AssetNotFound
from converters.hashing import FileHashes, hash_file
from converters.hashing_folder import fingerprint_of_folder, hash_folder
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
    """A source, a file or a pipeline's folder, by its name and its hashes. Raises FileProblem.

    The library's hashes serve when it knows the source as it is now; else it is read.
    """
    return known_parent(workspace, path) or hashed_parent(path, progress)


def hashed_parent(path: Path, progress: Progress = SILENT) -> Parent:
    """A source by its name and its hashes; all of it is read. Raises FileProblem."""
    progress.stage(f"hashing {path.name}", _fingerprint(path).size)
    if path.is_dir():
        hashes = hash_folder(path, progress).hashes
    else:
        hashes = hash_file(path, progress, header_bytes=_header_bytes(path)).hashes
    return Parent(path.name, hashes.sha256, hashes.blake3, hashes.autov3)


def placeholder_parent(path: Path) -> Parent:
    """As long in metadata as what `parent_of` will say, for sizes that are planned."""
    digits = "0" * 64
    return Parent(path.name, digits, digits, digits if _header_bytes(path) else None)


def _header_bytes(path: Path) -> int | None:
    return None if path.is_dir() else open_model(path).header_bytes


def _fingerprint(path: Path) -> Fingerprint:
    return fingerprint_of_folder(path) if path.is_dir() else Fingerprint.of(path.stat())


def known_parent(workspace: Workspace, path: Path) -> Parent | None:
    """A source as the library knows it; None if it does not, or not as it is now."""
    try:
        asset = workspace.library.find(str(path.resolve()))
    except AssetNotFound:
        return None
    now = _fingerprint(path)
    seen = {Fingerprint(file.bytes, file.mtime_ns, file.inode) for file in asset.files if file.here}
    if now not in seen or asset.hashes["sha256"] is None:  # seen, and not read yet
        return None
    return Parent(path.name, *(asset.hashes[name] for name in ("sha256", "blake3", "autov3")))


def register_derived(
    workspace: Workspace, target: Path, hashes: FileHashes | None, derivation: Derivation
) -> int:
    """Add a new file to the library with its lineage; gives the number of its asset.

    The hashes made while writing are used, so that the file is not read again.
    """
    from registry.scanning.scanner import scan_file

    asset = scan_file(workspace.library, target, hashes=hashes)
    workspace.library.record_derived(
        asset.id, derivation.parents, derivation.operation, derivation.parameters, __version__
    )
    return asset.id


def file_hashes_json(hashes: FileHashes) -> dict[str, str | None]:
    """The hashes of a written file as the documents of the contract have them."""
    names = ("blake3", "sha256", "crc32", "autov1", "autov2", "autov3")
    return {name: getattr(hashes, name) for name in names}

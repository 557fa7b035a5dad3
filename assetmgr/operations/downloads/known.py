"""What the library has already of what is to be fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.downloads.loading import load
from converters.hashing import FileHashes

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset


def with_sha256(workspace: Workspace, sha256: str | None) -> Asset | None:
    """The asset of the library that has these bytes and is there; None without one."""
    if sha256 is None or workspace.surely_lacks(sha256):
        return None
    load()
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


def hashes_of(asset: Asset) -> FileHashes | None:
    """All hashes of an asset, or None when one is not known."""
    kept = {name: asset.hashes.get(name) for name in ("blake3", "sha256", "crc32", "autov1")}
    known = {name: digest for name, digest in kept.items() if digest is not None}
    if len(known) < len(kept):
        return None
    return FileHashes(**known, autov3=asset.hashes.get("autov3"))

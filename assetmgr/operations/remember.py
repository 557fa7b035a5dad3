"""Assets that were forgotten, put back as they were: the way back from `forget_assets`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.bytesource import Fingerprint
from converters.errors import FileMissing
from converters.hashing import FileHashes
from registry.records import ParentFile
from registry.tables.states import PRESENT

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, File


def remember_asset(workspace: Workspace, asset: Asset) -> int:
    """Record the files of an asset again with all that was written on it; gives its new number.

    A file that is as it was is not read for its hashes. Raises FileMissing when none is there, and
    what reading a file raises.
    """
    from registry.scanning.scanner import scan_file

    asset_id = None
    for file in asset.files:
        if file.here and file.state == PRESENT:
            hashes = _hashes(asset) if _is_unchanged(file) else None
            asset_id = scan_file(workspace.library, file.path, hashes=hashes).id
    if asset_id is None:
        raise FileMissing("all files of this asset are missing", path=asset.name)
    _write_back(workspace, asset_id, asset)
    return asset_id


def _is_unchanged(file: File) -> bool:
    from pathlib import Path

    try:
        now = Fingerprint.of(Path(file.path).stat())
    except OSError:
        return False
    return now == Fingerprint(file.bytes, file.mtime_ns, file.inode)


def _hashes(asset: Asset) -> FileHashes | None:
    known = asset.hashes
    blake3, sha256, crc32, autov1 = (known[n] for n in ("blake3", "sha256", "crc32", "autov1"))
    if blake3 is None or sha256 is None or crc32 is None or autov1 is None:
        return None
    return FileHashes(blake3, sha256, crc32, autov1, known["autov3"])


def _write_back(workspace: Workspace, asset_id: int, asset: Asset) -> None:
    library = workspace.library
    if asset.tags:
        library.tag([asset_id], asset.tags)
    if asset.note:
        library.note(asset_id, asset.note)
    if asset.rating is not None:
        library.rate(asset_id, asset.rating)
    if asset.preview is not None:
        library.record_preview(asset_id, asset.preview)
    checked = asset.verification
    if checked.integrity or checked.structure:
        library.record_verification(
            asset_id, integrity=checked.integrity, structure=checked.structure
        )
    for source in asset.sources:
        library.record_source(asset_id, source)
    for made in asset.derived_from:
        parent = ParentFile(made.name, made.parent_sha256)
        library.record_derived(asset_id, [parent], made.operation, made.parameters, made.version)

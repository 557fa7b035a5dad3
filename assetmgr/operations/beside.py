"""Files beside models, which the library is told of at once, as a scan would find them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import FileMissing, UnsupportedFile

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, File


def files_of(asset: Asset) -> list[File]:
    """The asset's files that are there. Raises FileMissing, UnsupportedFile."""
    there = [file for file in asset.files if file.here and os.path.lexists(file.path)]
    if not there:
        raise FileMissing("all files of this asset are missing", path=asset.name)
    folders = [file.path for file in there if Path(file.path).is_dir()]
    if folders:
        raise UnsupportedFile("is a folder: programs read no sidecars of it", path=folders[0])
    return there


def path_beside(model: str, ending: str) -> Path:
    """`<stem><ending>` beside a model, whose stem is its name without the last suffix."""
    place = Path(model)
    return place.with_name((place.name.rpartition(".")[0] or place.name) + ending)


def record_beside(workspace: Workspace, asset_id: int, model: str, path: Path) -> None:
    """Let the library know what a file beside a model says."""
    from registry.sidecars import beside, read_sidecar
    from registry.tables.sidecar_rows import Found, Key, Stamp

    status = path.stat()
    for row, name in beside(Path(model).name, frozenset({path.name})):
        key = Key(asset_id, str(path.with_name(name)))
        stamp = Stamp(status.st_size, status.st_mtime_ns)
        workspace.library.record_sidecars([Found(key, stamp, read_sidecar(row, key.path))])

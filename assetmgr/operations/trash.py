"""Files of assets into the system's trash; what is known of the assets stays.

That is the difference to forgetting: afterwards the asset is missing, with its tags, notes and
previews, and comes back with its file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.failures import Failure
from assetmgr.operations.scanned_files import find_file, require_as_scanned, sidecars_of
from converters.errors import AssetmgrError, WriteFailed

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

_PERMANENT = "--permanent deletes without the trash"


@dataclass(frozen=True, slots=True)
class Discarded:
    """A file or folder of an asset that went, or would go, with what lay beside it."""

    asset: int
    name: str
    path: str
    bytes: int
    sidecars: tuple[str, ...]
    permanent: bool
    file: int

    def to_json(self) -> dict[str, object]:
        """The entry of the document."""
        return {
            "asset": self.asset,
            "name": self.name,
            "path": self.path,
            "bytes": self.bytes,
            "sidecars": list(self.sidecars),
            "permanent": self.permanent,
        }


def plan_trash(
    workspace: Workspace, references: Sequence[str], *, permanent: bool = False
) -> tuple[Discarded | Failure, ...]:
    """What would go: every file of the assets that is there and as it was scanned.

    Sidecars that another model uses too stay. Raises AssetNotFound, AmbiguousAsset before anything.
    """
    assets = [workspace.library.find(reference) for reference in references]
    unique = {asset.id: asset for asset in assets}
    going = {file.path for asset in unique.values() for file in asset.files}
    return tuple(
        found for asset in unique.values() for found in _of_asset(asset, going, permanent=permanent)
    )


def discard(workspace: Workspace, planned: Sequence[Discarded]) -> Iterator[Discarded | Failure]:
    """Carry out a plan, file by file; what fails stays where it is and in the library."""
    for item in planned:
        try:
            require_as_scanned(find_file(workspace, item.asset, item.file, item.path))
            _remove(Path(item.path), permanent=item.permanent)
            workspace.library.settle([], [item.file])
        except AssetmgrError as error:
            yield Failure.of(error, item.path)
            continue
        gone = []
        for sidecar in item.sidecars:
            try:
                _remove(Path(sidecar), permanent=item.permanent)
                gone.append(sidecar)
            except AssetmgrError as error:
                yield Failure.of(error, sidecar)
        yield replace(item, sidecars=tuple(gone))


def _of_asset(asset: Asset, going: set[str], *, permanent: bool) -> Iterator[Discarded | Failure]:
    there = [file for file in asset.files if file.here and file.state == "present"]
    if not there:
        yield Failure(asset.name, "all files of this asset are missing", "not_found", None)
    for file in there:
        try:
            require_as_scanned(file)
        except AssetmgrError as error:
            yield Failure.of(error, file.path)
            continue
        sidecars = tuple(sidecars_of(Path(file.path), going))
        yield Discarded(
            asset.id, asset.name, file.path, file.bytes, sidecars, permanent, file=file.id
        )


def _remove(path: Path, *, permanent: bool) -> None:
    """Into the trash, or away. Of a symbolic link the link itself. Raises WriteFailed."""
    if not os.path.lexists(path):
        return
    if permanent:
        _delete(path)
    else:
        _send(path)


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise WriteFailed(f"cannot be deleted: {error.strerror or error}", path=path) from error


def _send(path: Path) -> None:
    """Raises WriteFailed where there is no trash, or the system refuses."""
    from send2trash import TrashPermissionError, send2trash

    try:
        send2trash(path)
    except TrashPermissionError as error:
        raise WriteFailed("its volume has no trash", path=path, hint=_PERMANENT) from error
    except OSError as error:
        cause = f"cannot be moved to the trash: {error.strerror or error}"
        raise WriteFailed(cause, path=path, hint=_PERMANENT) from error

"""Files of assets into the system's trash; what is known of the assets stays.

That is the difference to forgetting: afterwards the asset is missing, with its tags, notes and
previews, and comes back with its file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from assetmgr.operations.failures import Failure
from converters.bytesource import Fingerprint
from converters.containers import MODEL_SUFFIXES
from converters.errors import (
    AssetmgrError,
    FileMissing,
    SourceChanged,
    UnsupportedFile,
    WriteFailed,
)

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, File

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
            _check(_file(workspace, item))
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


def _file(workspace: Workspace, item: Discarded) -> File:
    """The file as the library knows it now. Raises FileMissing."""
    for file in workspace.library.get(item.asset).files:
        if file.id == item.file:
            return file
    raise FileMissing("is not in the library any more", path=item.path)


def _of_asset(asset: Asset, going: set[str], *, permanent: bool) -> Iterator[Discarded | Failure]:
    there = [file for file in asset.files if file.here and file.state == "present"]
    if not there:
        yield Failure(asset.name, "all files of this asset are missing", "not_found", None)
    for file in there:
        try:
            _check(file)
        except AssetmgrError as error:
            yield Failure.of(error, file.path)
            continue
        sidecars = tuple(_sidecars(Path(file.path), going))
        yield Discarded(
            asset.id, asset.name, file.path, file.bytes, sidecars, permanent, file=file.id
        )


def _check(file: File) -> None:
    """Raises FileMissing, SourceChanged, and UnsupportedFile for what the Hub's cache keeps."""
    from registry.on_disk import fingerprint_of

    path = Path(file.path)
    if _in_hub_cache(path):
        cause = "lies in the cache of the Hugging Face Hub, which shares files among revisions"
        raise UnsupportedFile(cause, path=path, hint="use: hf cache rm")
    if fingerprint_of(file.path) != Fingerprint(file.bytes, file.mtime_ns, file.inode):
        hint = "scan its folder again"
        raise SourceChanged("changed since it was scanned", path=path, hint=hint)


def _in_hub_cache(path: Path) -> bool:
    """Whether a path goes through `models--ORG--NAME/snapshots` or `/blobs`."""
    return any(
        repository.startswith("models--") and inside in {"snapshots", "blobs"}
        for repository, inside in pairwise(path.parts)
    )


def _sidecars(model: Path, going: set[str]) -> Iterator[str]:
    """What lies beside a model for it alone."""
    from registry.sidecars import companions

    if model.is_dir():
        return
    try:
        names = frozenset(os.listdir(model.parent))  # noqa: PTH208
    except OSError:
        return
    others = [
        name
        for name in names
        if PurePath(name).suffix.lower() in MODEL_SUFFIXES
        and name != model.name
        and str(model.with_name(name)) not in going
    ]
    shared = {found for other in others for found in companions(other, names)}
    for name in sorted(companions(model.name, names)):
        if name not in shared and PurePath(name).suffix.lower() not in MODEL_SUFFIXES:
            yield str(model.with_name(name))


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

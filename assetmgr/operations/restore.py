"""Files of assets back out of the system's trash: the way back from `discard`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.failures import Failure
from assetmgr.operations.moving import move_path, refuse_taken
from assetmgr.operations.system_trash import Trashed, trashed
from converters.bytesource import Fingerprint
from converters.errors import AssetmgrError, FileMissing, FileProblem
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, File


@dataclass(frozen=True, slots=True)
class Restored:
    """A file that came back, or would come back, with what lay beside it."""

    asset: int
    name: str
    path: str
    bytes: int
    sidecars: tuple[str, ...]
    file: int
    found: tuple[Trashed, ...]

    def to_json(self) -> dict[str, object]:
        """The entry of the document."""
        return {
            "asset": self.asset,
            "name": self.name,
            "path": self.path,
            "bytes": self.bytes,
            "sidecars": list(self.sidecars),
        }


def plan_restore(workspace: Workspace, references: Sequence[str]) -> tuple[Restored | Failure, ...]:
    """What of the missing files of assets lies in the trash, unchanged, and could come back.

    Raises AssetNotFound, AmbiguousAsset before anything.
    """
    assets = [workspace.library.find(reference) for reference in references]
    lying = sorted(trashed(), key=lambda found: -found.when)
    unique = {asset.id: asset for asset in assets}
    return tuple(found for asset in unique.values() for found in _of_asset(asset, lying))


def _of_asset(asset: Asset, lying: Sequence[Trashed]) -> Iterator[Restored | Failure]:
    gone = [file for file in asset.files if file.here and file.state == "missing"]
    if not gone:
        yield Failure(asset.name, "no file of this asset is missing", "not_found", None)
    for file in gone:
        try:
            yield _planned(asset, file, lying)
        except AssetmgrError as error:
            yield Failure.of(error, file.path)


def _planned(asset: Asset, file: File, lying: Sequence[Trashed]) -> Restored:
    found = next((each for each in lying if each.was(file.path) and _is_it(each, file)), None)
    if found is None:
        raise FileMissing("is not in the trash", path=file.path)
    refuse_taken(found.place, Path(file.path))
    beside = {path: each for path, each in _beside(file.path, lying) if not os.path.lexists(path)}
    return Restored(
        asset.id,
        asset.name,
        file.path,
        file.bytes,
        tuple(beside),
        file=file.id,
        found=(found, *beside.values()),
    )


def _is_it(found: Trashed, file: File) -> bool:
    """Whether it is as it was when it was scanned; on another disk it has another inode."""
    from registry.scanning.on_disk import fingerprint_of

    try:
        there = fingerprint_of(str(found.place))
    except FileProblem:
        return False
    return there._replace(inode=0) == Fingerprint(file.bytes, file.mtime_ns, 0)


def _beside(model: str, lying: Sequence[Trashed]) -> Iterator[tuple[str, Trashed]]:
    """What was thrown away from beside a model, the newest of each name."""
    from registry.sidecars import companions

    folder, name = os.path.split(model)
    newest: dict[str, Trashed] = {}
    for each in lying:
        where, its_name = os.path.split(each.original)
        if where in {folder, ""}:
            newest.setdefault(its_name, each)
    for companion in sorted(companions(name, newest.keys())):
        yield os.path.join(folder, companion), newest[companion]  # noqa: PTH118


def run_restore(
    workspace: Workspace, planned: Sequence[Restored], progress: Progress = SILENT
) -> Iterator[Restored | Failure]:
    """Carry out a plan, file by file; nothing is ever replaced."""
    from registry.scanning.on_disk import fingerprint_of

    for item in planned:
        try:
            _bring(item.found[0], item.path, progress)
            workspace.library.relocate((item.file, item.path, fingerprint_of(item.path)))
        except AssetmgrError as error:
            yield Failure.of(error, item.path)
            continue
        back = []
        for path, found in zip(item.sidecars, item.found[1:], strict=True):
            try:
                _bring(found, path, progress)
                back.append(path)
            except AssetmgrError as error:
                yield Failure.of(error, path)
        yield replace(item, sidecars=tuple(back))


def _bring(found: Trashed, path: str, progress: Progress) -> None:
    move_path(found.place, Path(path), progress)
    if found.receipt is not None:
        found.receipt.unlink(missing_ok=True)

"""Which copies can be replaced by links to which file, and what that frees."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.duplicates.find import Group, duplicates
from assetmgr.operations.duplicates.journal import journal_of
from assetmgr.operations.failures import Failure
from converters.bytesource import Fingerprint
from converters.errors import AssetmgrError, SourceChanged, WriteFailed
from converters.writers.atomic import naming

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import File


class Way(StrEnum):
    """How a copy gives its room back: another name of the kept file, or shared blocks."""

    HARDLINK = "hardlink"
    REFLINK = "reflink"


@dataclass(frozen=True, slots=True)
class Pair:
    """A copy that can be replaced, and the file that is kept; `frees` are the bytes it gives."""

    asset: int
    path: str
    kept: str
    way: Way
    bytes: int
    frees: int

    def to_json(self) -> dict[str, object]:
        """The entry of the document."""
        document = asdict(self)
        document["as"] = document.pop("way").value
        return document


def plan_links(workspace: Workspace, way: Way) -> Iterator[Pair | Failure]:
    """The copies of every group that can be replaced, and those that cannot, with the reason."""
    shared = _shared_already(workspace)
    groups, _ = duplicates(workspace)
    for group in groups:
        yield from _pairs(workspace, group, way, shared)


def _shared_already(workspace: Workspace) -> frozenset[str]:
    """Files whose blocks are shared: no stat tells that, so the journal has to."""
    replaced = journal_of(workspace).read().values()
    return frozenset(line.path for line in replaced if line.way == Way.REFLINK and line.is_linked())


def _pairs(
    workspace: Workspace, group: Group, way: Way, shared: frozenset[str]
) -> Iterator[Pair | Failure]:
    """Within each file system: which file is kept, and what can be linked to it."""
    disks: defaultdict[int, list[tuple[File, int, os.stat_result]]] = defaultdict(list)
    for asset_id in dict.fromkeys(copy.asset for copy in group.copies):
        for file in workspace.library.get(asset_id).files:
            place = Path(file.path)
            is_linkable = file.here and file.state == "present" and not place.is_symlink()
            if not is_linkable or place.is_dir():  # folders have no second names
                continue
            try:
                status = _unchanged(file)
            except AssetmgrError as error:
                yield Failure.of(error, file.path)
                continue
            disks[status.st_dev].append((file, asset_id, status))
    for found in disks.values():
        yield from _on_disk(found, way, shared)


def _on_disk(
    found: list[tuple[File, int, os.stat_result]], way: Way, shared: frozenset[str]
) -> Iterator[Pair | Failure]:
    """The file of the most names is kept, so that as few as possible have to be replaced."""
    found.sort(key=lambda each: (-each[2].st_nlink, each[0].path))
    kept, _, kept_status = found[0]
    names = {kept_status.st_ino: kept_status.st_nlink}
    for file, asset_id, status in found[1:]:
        if status.st_ino == kept_status.st_ino or (way is Way.REFLINK and file.path in shared):
            continue
        if way is Way.HARDLINK and _access(status) != _access(kept_status):
            cause = "has other permissions or another owner than the file that is kept"
            error = WriteFailed(cause, path=file.path, hint="--as reflink keeps them apart")
            yield Failure.of(error)
            continue
        names[status.st_ino] = names.get(status.st_ino, status.st_nlink) - 1
        frees = 0 if names[status.st_ino] else file.bytes
        yield Pair(asset_id, file.path, kept.path, way, file.bytes, frees)


def _access(status: os.stat_result) -> tuple[int, int, int]:
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


def _unchanged(file: File) -> os.stat_result:
    """The state of a file, if it is that which was scanned. Raises FileProblem."""
    from registry.scanning.on_disk import fingerprint_of

    if fingerprint_of(file.path) != Fingerprint(file.bytes, file.mtime_ns, file.inode):
        hint = "scan its folder again"
        raise SourceChanged("changed since it was scanned", path=file.path, hint=hint)
    with naming(Path(file.path)):
        return os.stat(file.path)

"""The doctor's question about downloads: bytes that came and that nobody will go on with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from assetmgr.config import Settings
from assetmgr.operations.doctor.check import Check, is_file, is_folder
from assetmgr.operations.downloads.parts import PARTS, part_of
from assetmgr.paths import Paths
from assetmgr.text import size
from converters.errors import AssetmgrError
from converters.writers.atomic import TEMPORARY_SUFFIX
from registry.downloads.queue import DownloadQueue
from registry.downloads.records import QueuedDownload

_SHOWN = 3


def check(paths: Paths, settings: Settings, roots: Iterable[str]) -> Check:
    """Remains in the folders of the library and of the queue that no download of it is of.

    No fault, and not ours to remove: another library may go on with them.
    """
    try:
        queued = _queued(paths.downloads)
    except AssetmgrError as error:
        return Check("downloads", ok=False, detail=str(error), hint=error.hint)
    home = Path(settings.models).expanduser().absolute() if settings.models else paths.models
    own = {home, *(Path(folder) for each in queued if (folder := each.wanted.folder))}
    wanted = {
        part_of(Path(each.wanted.folder) if each.wanted.folder else home, each.wanted.content)
        for each in queued
    }
    left = [part for root in {*own, *map(Path, roots)} for part in _parts(root, wanted)]
    detail = f"{len(queued)} in the queue"
    if not left:
        return Check("downloads", ok=True, detail=f"{detail}, no remains of others")
    nbytes = sum(part.stat().st_size for part in left)
    shown = ", ".join(str(part) for part in left[:_SHOWN])
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    detail = f"{detail}; {size(nbytes)} that nothing in it goes on with: {shown}{more}"
    return Check("downloads", ok=True, detail=detail, hint="those can be deleted")


def _queued(folder: Path) -> tuple[QueuedDownload, ...]:
    """What the queue has; it is not made for the question."""
    if not is_file(folder / "queue.db"):
        return ()
    with DownloadQueue(folder) as queue:
        return (*queue.all(), *queue.cancelled())


def _parts(root: Path, wanted: set[Path]) -> list[Path]:
    folder = root / PARTS
    if not is_folder(folder):
        return []
    found = sorted(folder.glob(f"*{TEMPORARY_SUFFIX}"))
    return [part for part in found if part not in wanted and not part.name.count(".tag.")]

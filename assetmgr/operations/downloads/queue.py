"""The one queue of all downloads: put in, list, pause, resume, cancel, move.

Every function may be called while the queue is run, by this or any other program: those that run
it notice within a second. Running it is `run_downloads` in `run.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.downloads.parts import discard, part_of
from assetmgr.operations.downloads.placing import Destination, check_layout
from converters.errors import AssetNotFound
from converters.writers.atomic import free_bytes, naming
from converters.writers.room import held_bytes
from registry.downloads.queue import DownloadQueue
from registry.downloads.records import DownloadState, Limits, QueuedDownload, Wanted

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

_SIZES = ((4_000_000, 8), (100_000_000, 3))
"""So many files of at least so many bytes at a time: what small files wait for is the service's
answer, but a few large ones fill the line, and more of them would only all end late."""

PRIORITIES = {"low": -1, "normal": 0, "high": 1}
"""Words for priorities; higher ones run first."""

_UNFINISHED = frozenset({DownloadState.QUEUED, DownloadState.RUNNING})


@dataclass(frozen=True, slots=True)
class Shortage:
    """A disk that what is queued does not fit on: `needed` and `free` bytes."""

    folder: Path
    needed: int
    free: int


def open_queue(workspace: Workspace) -> DownloadQueue:
    """The queue; to be closed. Raises LibraryUnusable."""
    return DownloadQueue(workspace.paths.downloads)


def enqueue(
    workspace: Workspace, wanted: Sequence[Wanted], priority: int = 0
) -> tuple[QueuedDownload, ...]:
    """Put downloads at the end of the queue, all or none.

    What is there already is queued again, unless it runs. Raises BadValue for an unknown layout.
    """
    for each in wanted:
        check_layout(each.layout)
    with open_queue(workspace) as queue:
        return queue.add(wanted, priority)


def list_downloads(workspace: Workspace) -> tuple[QueuedDownload, ...]:
    """First what runs and waits, in its order; then what failed, and what was done lately."""
    with open_queue(workspace) as queue:
        return queue.all()


def pause_downloads(
    workspace: Workspace, numbers: Sequence[int] | None = None
) -> tuple[QueuedDownload, ...]:
    """Let downloads wait until they are resumed, all without numbers; gives them as they are.

    What has come stays. Raises AssetNotFound for a number that there is not.
    """
    with open_queue(workspace) as queue:
        chosen = _chosen(queue, numbers, _UNFINISHED)
        for number in chosen:
            queue.pause(number)
        return _as_they_are(queue, chosen)


def resume_downloads(
    workspace: Workspace, numbers: Sequence[int] | None = None
) -> tuple[QueuedDownload, ...]:
    """Queue what is paused or failed, all of it without numbers; gives them as they are.

    Raises AssetNotFound for a number that there is not.
    """
    with open_queue(workspace) as queue:
        chosen = _chosen(queue, numbers, frozenset({DownloadState.PAUSED, DownloadState.FAILED}))
        for number in chosen:
            queue.resume(number)
        return _as_they_are(queue, chosen)


def cancel_downloads(
    workspace: Workspace, numbers: Sequence[int] | None = None
) -> tuple[QueuedDownload, ...]:
    """Forget downloads, all that are not done without numbers, and what has come of them.

    Gives what they were. Raises AssetNotFound for a number that there is not.
    """
    with open_queue(workspace) as queue:
        every = frozenset(DownloadState) - {DownloadState.DONE}
        gone = _as_they_are(queue, _chosen(queue, numbers, every))
        for download in gone:
            queue.cancel(download.id)
        discard_cancelled(workspace, queue)
        return gone


def move_download(workspace: Workspace, number: int, *, first: bool) -> QueuedDownload:
    """Before or behind all others of its priority. Raises AssetNotFound."""
    with open_queue(workspace) as queue:
        _chosen(queue, [number], frozenset())
        queue.move(number, first=first)
        return _as_they_are(queue, [number])[0]


def prioritise_download(workspace: Workspace, number: int, priority: int) -> QueuedDownload:
    """Higher priorities run first; see `PRIORITIES`. Raises AssetNotFound."""
    with open_queue(workspace) as queue:
        _chosen(queue, [number], frozenset())
        queue.prioritise(number, priority)
        return _as_they_are(queue, [number])[0]


def clear_downloads(workspace: Workspace) -> int:
    """Forget the downloads that are done, not their files; gives how many there were."""
    with open_queue(workspace) as queue:
        return queue.clear()


def shortages(workspace: Workspace) -> tuple[Shortage, ...]:
    """The disks that what is queued does not fit on, as far as sizes are known."""
    needed: defaultdict[int, int] = defaultdict(int)
    places: dict[int, tuple[Path, int]] = {}
    for download in list_downloads(workspace):
        if download.state not in _UNFINISHED:
            continue
        root = destination_of(download.wanted).root(workspace)
        with naming(root):
            disk, free = free_bytes(root)
        places.setdefault(disk, (root, free))
        needed[disk] += still_to_come(workspace, download.wanted)
    return tuple(
        Shortage(root, needed[disk], free)
        for disk, (root, free) in places.items()
        if needed[disk] > free
    )


def destination_of(wanted: Wanted) -> Destination:
    """Where a download goes."""
    return Destination(None if wanted.folder is None else Path(wanted.folder), wanted.layout)


def part_for(workspace: Workspace, wanted: Wanted) -> Path:
    """Where its bytes gather."""
    return part_of(destination_of(wanted).root(workspace), wanted.content)


def still_to_come(workspace: Workspace, wanted: Wanted) -> int:
    """The bytes of the disk that are missing yet; 0 where the size is not known."""
    return max((wanted.bytes or 0) - held_bytes(part_for(workspace, wanted)), 0)


def discard_cancelled(workspace: Workspace, queue: DownloadQueue) -> None:
    """Remove what has come of downloads that are not wanted any more, then forget these.

    Also of those whose program was killed before it could. Raises WriteFailed.
    """
    for download in queue.cancelled():
        part = part_for(workspace, download.wanted)
        with naming(part):
            discard(part)
        queue.forget(download.id)


def limits_of(workspace: Workspace) -> Limits:
    """How many downloads may run at once."""
    settings = workspace.settings
    return Limits(
        in_all=int(settings.downloads_at_once),
        per_host=int(settings.downloads_per_host),
        sizes=_SIZES,
    )


def _chosen(
    queue: DownloadQueue, numbers: Sequence[int] | None, states: frozenset[DownloadState]
) -> list[int]:
    """The numbers that are meant; without any those in one of the states."""
    there = {download.id: download.state for download in queue.all()}
    if numbers is None:
        return [number for number, state in there.items() if state in states]
    for number in numbers:
        if number not in there:
            hint = "`assetmgr downloads list` shows them"
            raise AssetNotFound("there is no such download", path=str(number), hint=hint)
    return list(dict.fromkeys(numbers))


def _as_they_are(queue: DownloadQueue, numbers: Sequence[int]) -> tuple[QueuedDownload, ...]:
    return tuple(found for number in numbers if (found := queue.find(number)) is not None)

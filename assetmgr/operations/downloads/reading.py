"""Where a run of downloads is: sums over all of them, for those who watch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from assetmgr.operations.downloads.flow import Flow, FlowReading
from converters.progress import Progress
from registry.downloads.records import QueuedDownload


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a run is: what is on its way, bytes and files of the run, bytes per second, seconds."""

    running: tuple[FlowReading, ...]
    files: int
    files_done: int
    done: int
    total: int
    rate: float
    left: float | None


Watch = Callable[[Reading], None]
"""Shows where a run is."""


def unwatched(_: Reading) -> None:
    """Nobody looks."""


class Told:
    """What a run has told."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._running: dict[int, Flow] = {}
        self._begun: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._shown = (0, 0)
        self._last = Reading((), 0, 0, 0, 0, 0.0, None)

    def begin(self, download: QueuedDownload) -> None:
        """One more is on its way."""
        self._begun[download.id] = download.wanted.bytes or 0

    def end(self, flow: Flow) -> None:
        """One has come to its end, whichever."""
        size = self._begun[flow.download.id] or flow.received
        self._begun[flow.download.id] = self._ended[flow.download.id] = size

    def reading(self, flows: Collection[Flow]) -> Reading:
        """Where it is, of what is on its way now and what ended before."""
        running = tuple(flow.read() for flow in flows)
        done = sum(self._ended.values()) + sum(flow.received for flow in flows)
        total = max(sum(self._begun.values()), done)
        rate = sum(each.rate for each in running if each.stage.startswith("downloading"))
        self._last = Reading(
            running=running,
            files=len(self._begun),
            files_done=len(self._ended),
            done=done,
            total=total,
            rate=rate,
            left=(total - done) / rate if rate > 1 else None,
        )
        return self._last

    def tell(self) -> None:
        """The sums, as the progress of one operation. Raises Cancelled."""
        reading, (total, done) = self._last, self._shown
        if reading.total != total:
            files = "1 file" if reading.files == 1 else f"{reading.files} files"
            self._progress.stage(f"downloading {files}", reading.total)
            done = 0
        self._shown = reading.total, reading.done
        self._progress.advance(max(reading.done - done, 0))

"""Running the queue of downloads: side by side within limits, until nothing is left to do.

One thread, the caller's, decides and keeps the books; each download has a thread of its own that
only fetches. Whoever watches is called by the caller's thread, several times a second.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assetmgr.operations.downloads.crew import Crew
from assetmgr.operations.downloads.flow import Flow
from assetmgr.operations.downloads.queue import (
    destination_of,
    discard_cancelled,
    limits_of,
    open_queue,
    still_to_come,
)
from assetmgr.operations.downloads.reading import Told, Watch, unwatched
from assetmgr.operations.downloads.registering import Received, get_ready
from assetmgr.operations.downloads.services import Connections
from assetmgr.operations.failures import Failure
from assetmgr.rates import parse_rate
from assetmgr.sources.transfers.bandwidth import Bandwidth
from converters.errors import AssetmgrError, Cancelled, DiskFull, NotAvailable, WriteFailed
from converters.progress import SILENT, Progress
from converters.writers.atomic import free_bytes, naming
from registry.downloads.records import Arrival, DownloadState, QueuedDownload, Trouble

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.downloads.queue import DownloadQueue
    from registry.downloads.runner import Runner

TICK_SECONDS = 0.1
_TURN_SECONDS = 0.0005
_WISH_SECONDS, _NOTE_SECONDS = 0.3, 1.0
_END_SECONDS = 3.0
"""So long a thread that is told to stop is waited for; then it ends by itself, behind our back."""

_Result = tuple[int, "Received | BaseException"]
"""The number of a download, and what has become of it."""

_PASSING = (NotAvailable, DiskFull, WriteFailed)


@dataclass(frozen=True, slots=True)
class Ended:
    """A download that a run is through with.

    `received` where it is in the library now, `error` where it failed; without both it was paused
    or cancelled: `stopped` says which.
    """

    download: QueuedDownload
    received: Received | None = None
    error: AssetmgrError | None = None
    stopped: str | None = None

    @property
    def failure(self) -> Failure | None:
        """What failed, as an item of a batch."""
        return None if self.error is None else Failure.of(self.error, self.download.wanted.label)


def run_downloads(
    workspace: Workspace,
    only: Sequence[int] | None = None,
    *,
    rate: str | None = None,
    watch: Watch = unwatched,
    progress: Progress = SILENT,
) -> Generator[Ended]:
    """Run what is queued, or `only` some of it, until all has ended; each is given as it does.

    Whatever failed for a reason that may have passed is tried again, unless `only` some are to run.
    `rate` as in `5MB` goes before the setting. Several programs may do this at once: they share the
    downloads and the limits. Raises BadValue for a wrong rate or setting, LibraryUnusable, and
    Cancelled out of `progress`; what ran then stays queued, with all that has come.
    """
    wanted = rate or workspace.settings.download_rate
    limit = None if wanted is None else parse_rate(wanted)
    with open_queue(workspace) as kept:
        discard_cancelled(workspace, kept)
        if only is None:
            kept.retry()
        with kept.runner() as runner, Connections() as connections, _short_turns():
            run = _Run(workspace, kept, runner, connections, only, limit, progress)
            with contextlib.closing(run.ended(watch)) as ended:
                yield from ended


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """A thread that computes lets go of the interpreter sooner than Python's 5 ms.

    Threads that carry bytes need it for microseconds, some ten times for every block of a file.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def error_of(ended: Ended | None, label: str) -> AssetmgrError:
    """Why a download is not there: None and what was stopped was stopped by somebody else."""
    if ended is not None and ended.error is not None:
        return ended.error
    hint = "`assetmgr downloads list` shows what is queued"
    return AssetmgrError("was paused or cancelled in the queue", path=label, hint=hint)


class _Run:
    def __init__(
        self,
        workspace: Workspace,
        kept: DownloadQueue,
        runner: Runner,
        connections: Connections,
        only: Sequence[int] | None,
        rate: float | None,
        progress: Progress,
    ) -> None:
        self._workspace = workspace
        self._queue, self._runner, self._connections = kept, runner, connections
        self._only = only
        self._limits = limits_of(workspace)
        self._rate, self._limit = rate, Bandwidth(rate)
        self._flows: dict[int, Flow] = {}
        self._crew = Crew(self._bring)
        self._unfit: list[_Result] = []
        self._results: queue.SimpleQueue[_Result]
        self._results = queue.SimpleQueue()
        self._told = Told(progress)
        self._wished = self._noted = 0.0
        self._is_ready = False

    def ended(self, watch: Watch) -> Generator[Ended]:
        """Until nothing is left; however it is left, nothing goes on in the queue's name."""
        try:
            while self._start() or self._is_something_left():
                watch(self._told.reading(self._flows.values()))
                self._get_ready()
                yield from self._finished()
                self._look_around()
        finally:
            self._stop_all()

    def _get_ready(self) -> None:
        """Once bytes come, there is time for what is needed when they have."""
        if not self._is_ready and any(flow.is_coming for flow in self._flows.values()):
            self._is_ready = True
            get_ready(self._workspace)

    def _start(self) -> bool:
        """Begin whatever may run now; whether something is on its way."""
        for download in self._runner.claim(self._limits, self._only):
            self._told.begin(download)
            self._begin(download)
        return bool(self._flows)

    def _is_something_left(self) -> bool:
        """Whether downloads of ours wait for what others run, or are run by them."""
        states = {
            state for number, state in self._runner.unfinished().items() if self._is_ours(number)
        }
        if self._only is None:
            return DownloadState.QUEUED in states
        return bool(states)

    def _is_ours(self, number: int) -> bool:
        return self._only is None or number in self._only

    def _begin(self, download: QueuedDownload) -> None:
        flow = self._flows[download.id] = Flow(download)
        problem = self._no_room(download)
        if problem is None:
            self._crew.give(flow)
        else:
            self._unfit.append((download.id, problem))

    def _no_room(self, download: QueuedDownload) -> AssetmgrError | None:
        """DiskFull when it does not fit beside what is on its way to the same disk already."""
        root = destination_of(download.wanted).root(self._workspace)
        try:
            with naming(root):
                disk, free = free_bytes(root)
                if sum(flow.download.wanted.bytes or 0 for flow in self._flows.values()) <= free:
                    return None  # in whatever way it is counted
                coming = sum(
                    still_to_come(self._workspace, flow.download.wanted)
                    for flow in self._flows.values()
                    if self._disk_of(flow) == disk
                )
        except WriteFailed as error:
            return error
        if coming <= free:
            return None
        cause = f"{coming:,} bytes are to come, {free:,} are free"
        return DiskFull(cause, path=root, hint="make room; what has come already is kept")

    def _disk_of(self, flow: Flow) -> int:
        return free_bytes(destination_of(flow.download.wanted).root(self._workspace))[0]

    def _bring(self, flow: Flow) -> None:
        """One download, in a thread of its own."""
        number, wanted = flow.download.id, flow.download.wanted
        try:
            received = self._connections.bring(self._workspace, wanted, self._limit, flow)
        except BaseException as error:  # noqa: BLE001 - judged by the thread that keeps the books
            self._results.put((number, error))
        else:
            self._results.put((number, received))

    def _finished(self) -> Iterator[Ended]:
        """What has come to an end by now; waits a moment for it."""
        results, self._unfit = self._unfit, []
        with contextlib.suppress(queue.Empty):
            results.append(self._results.get(timeout=0 if results else TICK_SECONDS))
            self._crew.ended()
            while True:
                results.append(self._results.get_nowait())
                self._crew.ended()
        self._note_arrivals(results)
        for number, result in results:
            yield self._end(number, result)

    def _note_arrivals(self, results: Sequence[_Result]) -> None:
        """In one step: of small files many end at once."""
        arrived = [
            (
                number,
                Arrival(str(result.path), result.asset.id, result.state),
                self._flows[number].received,
            )
            for number, result in results
            if isinstance(result, Received)
        ]
        if arrived:
            self._runner.done(arrived)

    def _end(self, number: int, result: Received | BaseException) -> Ended:
        flow = self._flows.pop(number)
        self._told.end(flow)
        download = flow.download
        if isinstance(result, Received):
            return Ended(download, received=result)
        if isinstance(result, Cancelled):
            return Ended(download, stopped=self._stopped(download))
        if not isinstance(result, AssetmgrError):
            raise result  # a fault of the program is no failure of a download
        failure = Failure.of(result, download.wanted.label)
        self._runner.failed(number, _trouble(failure, result))
        return Ended(download, error=result)

    def _stopped(self, download: QueuedDownload) -> str:
        wish = self._runner.stopped(download.id)
        if wish == "cancel":
            discard_cancelled(self._workspace, self._queue)
            return "cancelled"
        return "paused" if wish == "pause" else "queued"

    def _look_around(self) -> None:
        """Do what others wish, tell them how far it is, and share the rate with them."""
        self._told.tell()
        now = time.monotonic()
        if now - self._wished >= _WISH_SECONDS:
            self._wished = now
            for number in self._runner.wishes():
                if number in self._flows:
                    self._flows[number].cancel()
        if now - self._noted >= _NOTE_SECONDS:
            self._noted = now
            self._runner.note([(number, flow.received) for number, flow in self._flows.items()])
            if self._rate is not None:
                self._limit.change(self._rate / (1 + self._runner.others()))

    def _stop_all(self) -> None:
        for flow in self._flows.values():
            flow.cancel()
        self._crew.leave(_END_SECONDS)
        results = []
        while not self._results.empty():
            results.append(self._results.get_nowait())
        self._note_arrivals(results)  # what was just done in time is done
        for number, result in results:
            if isinstance(result, Cancelled):
                self._end(number, result)


def _trouble(failure: Failure, error: AssetmgrError) -> Trouble:
    return Trouble(
        error=failure.error,
        code=failure.code,
        hint=failure.hint,
        path=failure.path,
        exit_code=failure.exit_code,
        passing=isinstance(error, _PASSING),
    )

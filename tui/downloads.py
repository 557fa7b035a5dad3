"""The queue of downloads as the screens show it; it outlives the program.

Everything here blocks and is called in threads, but for `running`, which is one assignment.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tui.answers import summed
from tui.bridge import Job, JobProgress, Lane
from tui.jobs import JobQueue
from tui.text import plain

if TYPE_CHECKING:
    from assetmgr.operations.downloads.flow import FlowReading
    from assetmgr.operations.downloads.reading import Reading
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.downloads.records import QueuedDownload, Wanted


class Downloads:
    """The queue of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.running: tuple[FlowReading, ...] = ()
        self.arrived: Callable[[], object] = lambda: None

    def list(self) -> tuple[QueuedDownload, ...]:
        """First what runs and waits, then what failed, then what was done lately."""
        from assetmgr.operations.downloads.queue import list_downloads

        if not self._workspace.paths.downloads.exists():
            return ()
        return list_downloads(self._workspace)

    def waiting(self) -> int:
        """How many are queued and not run by anybody."""
        return sum(download.state == "queued" for download in self.list())

    def add(self, wanted: Wanted) -> str:
        """Put a file into the queue."""
        from assetmgr.operations.downloads.queue import enqueue

        (queued,) = enqueue(self._workspace, [wanted])
        return f"download {queued.id} is queued"

    def pause(self, number: int) -> None:
        """Let one wait; what has come is kept."""
        from assetmgr.operations.downloads.queue import pause_downloads

        pause_downloads(self._workspace, [number])

    def resume(self, number: int) -> None:
        """Queue one again that is paused or failed."""
        from assetmgr.operations.downloads.queue import resume_downloads

        resume_downloads(self._workspace, [number])

    def cancel(self, number: int) -> None:
        """Forget one, with what has come of it."""
        from assetmgr.operations.downloads.queue import cancel_downloads

        cancel_downloads(self._workspace, [number])

    def first(self, number: int) -> None:
        """Before all others."""
        from assetmgr.operations.downloads.queue import move_download

        move_download(self._workspace, number, first=True)

    def clear(self) -> None:
        """Forget those that are done, not their files."""
        from assetmgr.operations.downloads.queue import clear_downloads

        if self._workspace.paths.downloads.exists():
            clear_downloads(self._workspace)

    def run(self, progress: Progress) -> str:
        """Until nothing is left to do; what ran when this is stopped stays queued."""
        from assetmgr.operations.downloads.run import run_downloads

        done = failed = 0
        why = ""
        watch = partial(self._watch, progress)
        try:
            for ended in run_downloads(self._workspace, watch=watch, progress=progress):
                done += ended.received is not None
                failed += ended.error is not None
                label = ended.download.wanted.label
                if ended.error is not None:
                    why = f"{label}: {ended.error.cause}"
                    progress.message(why)
                elif ended.received is not None:
                    progress.message(f"{label}: {ended.received.path}")
                    self.arrived()
                else:
                    progress.message(f"{label}: {ended.stopped}")
        finally:
            self.running = ()
        said = summed(done, "downloaded", failed)
        return f"{said} ({plain(why)})" if failed == 1 else said

    def _watch(self, progress: Progress, reading: Reading) -> None:
        self.running = reading.running
        if isinstance(progress, JobProgress):
            progress.pace(reading.rate, reading.left)


def run_in(jobs: JobQueue, downloads: Downloads) -> None:
    """Let the queue be run by a job, unless one does already."""
    if any(job.active and job.lane is Lane.DOWNLOADS for job in jobs.jobs):
        return
    downloads.arrived = jobs.tell_library
    # What was put in while the last one ended would wait for nobody.
    then = partial(_run_rest, jobs, downloads)
    jobs.submit(Job("Downloads", Lane.DOWNLOADS, downloads.run, then, pausable=False))


def _run_rest(jobs: JobQueue, downloads: Downloads) -> None:
    if downloads.waiting():
        run_in(jobs, downloads)

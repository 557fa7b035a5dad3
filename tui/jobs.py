"""The jobs of the program: which there are, and running them, one at a time in each lane."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

from textual.app import App
from textual.message import Message
from textual.worker import Worker

from converters.progress import Progress
from tui.background import Wait
from tui.bridge import Job, JobState, Lane
from tui.faults import hand_over, place

MOST_ENDED = 200
_LOOK_SECONDS = 0.1
_QUIET_SECONDS = 5.0


class JobEnded(Message):
    """A job is over; its state and outcome say how."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job


class JobsChanged(Message):
    """A job came, began, ended or was dismissed."""


class LibraryChanged(Message):
    """A job that goes on has put something into the library."""


@runtime_checkable
class ShowsJobs(Protocol):
    """A screen that wants to know when jobs have changed."""

    def sync(self) -> None:
        """Look at the jobs again."""


@runtime_checkable
class ShowsLibrary(Protocol):
    """A screen that wants to know when the library has changed."""

    def reload(self) -> None:
        """Look into the library again."""


@dataclass(slots=True)
class _FaultKept:
    """A fault as a job, how often it was met, and until when nothing more is said of it."""

    job: Job
    times: int = 1
    quiet_until: float = 0.0
    outcome: str = ""

    def __post_init__(self) -> None:
        self.outcome = self.job.outcome


def _fault(error: Exception) -> Job:
    def work(_progress: Progress) -> str:
        raise error

    job = Job("a fault of the program", Lane.LOOK, work, pausable=False, repeatable=False)
    job.run()
    return job


class JobQueue:
    """Runs jobs in threads and remembers them; the application gets the messages."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._lanes = {lane: asyncio.Lock() for lane in Lane}
        self._jobs: list[Job] = []
        self._dismissed: set[Job] = set()
        self._faults: dict[object, _FaultKept] = {}

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every job, the oldest first; of those that ended the last `MOST_ENDED`."""
        return tuple(self._jobs)

    @property
    def active(self) -> tuple[Job, ...]:
        """The jobs that wait or run."""
        return tuple(job for job in self._jobs if job.active)

    @property
    def pressing(self) -> tuple[Job, ...]:
        """What is to be seen on every screen: what goes on, and failures nobody has dismissed."""
        return tuple(
            job
            for job in self._jobs
            if job.active or (job.state is JobState.FAILED and job not in self._dismissed)
        )

    def submit(self, job: Job) -> None:
        """Run a job when its lane is free."""
        ended = [old for old in self._jobs if not old.active]
        for old in ended[: max(len(ended) - MOST_ENDED, 0)]:
            self._jobs.remove(old)
        self._jobs.append(job)
        run: Wait = partial(self._run, job)
        _worker: Worker[None] = self._app.run_worker(run, group="jobs", exit_on_error=False)
        self._changed()

    def stop_or_dismiss(self, job: Job) -> None:
        """Stop a job, or let its failure go."""
        if job.active:
            job.stop()
        else:
            self._dismissed.add(job)
        self._changed()

    def again(self, job: Job) -> None:
        """Do a job once more that has ended; a failure of it is not shown any longer."""
        if not job.active:
            self._dismissed.add(job)
            again = Job(job.title, job.lane, job.work, job.then, job.show, pausable=job.pausable)
            self.submit(again)

    def clear(self) -> None:
        """Forget the jobs that have ended."""
        self._jobs = [job for job in self._jobs if job.active]
        self._dismissed.clear()
        self._changed()

    def keep_fault(self, error: Exception) -> bool:
        """Something failed that was no job; it is kept as one, to be read, for all of its kind.

        Gives whether to say so: a fault in what is done again and again is said once in a while.
        """
        kind, now = place(error), time.monotonic()
        known = self._faults.get(kind)
        if known is None or known.job not in self._jobs or known.job in self._dismissed:
            known = self._faults[kind] = _FaultKept(_fault(error))
            self._jobs.append(known.job)
        else:
            known.times += 1
            known.job.outcome = f"{known.outcome} ({known.times} times)"
        if now < known.quiet_until:
            return False
        known.quiet_until = now + _QUIET_SECONDS
        self._changed()
        return True

    def tell_library(self) -> None:
        """From any thread: there is something new in the library."""
        self._app.post_message(LibraryChanged())

    def stop_all(self) -> None:
        """Ask every job to end; those that run need a moment for it."""
        for job in self._jobs:
            job.stop()

    async def stop_all_and_wait(self) -> None:
        """End every job: nothing is left half done behind the closed program."""
        self.stop_all()
        while self.active:
            await asyncio.sleep(_LOOK_SECONDS)

    async def _run(self, job: Job) -> None:
        async with self._lanes[job.lane]:
            if not job.active:
                return  # stopped while it waited
            self._changed()
            await asyncio.to_thread(job.run)
        if job.state is JobState.DONE and job.then is not None:
            try:
                job.then()
            except Exception as error:  # noqa: BLE001 - an outermost place: the job did end
                hand_over(self._app, error)
        self._changed()
        self._app.post_message(JobEnded(job))

    def _changed(self) -> None:
        self._app.post_message(JobsChanged())

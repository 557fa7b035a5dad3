"""Between an operation's thread and the screen.

The thread writes its latest reading into one attribute (an atomic assignment) and the screen reads
it ten times a second. A message per report was the alternative: it has to be throttled, and
throttling loses the last report before a long silence (which names what is being waited for).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from converters.errors import AssetmgrError, Cancelled
from converters.progress import CancellableProgress, Progress
from tui.text import plain


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a job is: `done` of `total` (None: not known) in `unit` ("B" or a plural noun)."""

    label: str = ""
    done: int = 0
    total: int | None = None
    unit: str = ""

    @property
    def fraction(self) -> float | None:
        """Between 0 and 1, or None where no total is known."""
        return min(self.done / self.total, 1.0) if self.total else None


class JobProgress(CancellableProgress):
    """Keeps the latest reading of an operation for another thread to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = Reading()

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        """A new piece of work begins."""
        self.reading = Reading(plain(label), 0, total, unit)

    def advance(self, amount: int = 1) -> None:
        """Count what was done. Raises Cancelled once the job was stopped."""
        self.reading = replace(self.reading, done=self.reading.done + amount)
        super().advance(amount)


class JobState(StrEnum):
    """What has become of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


ACTIVE = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.STOPPING})


class Lane(StrEnum):
    """Jobs of one lane wait for each other: two renders at once would only halve each other."""

    RENDER = "render"
    DISK = "disk"


class Work(Protocol):
    """What a job does in its thread: it reports to `progress` and returns its outcome in a line."""

    def __call__(self, progress: Progress, /) -> str:
        """Raises AssetmgrError, or Cancelled once `progress` was told to stop."""


@dataclass(slots=True, eq=False)
class Job:
    """One operation in the background."""

    title: str
    lane: Lane
    work: Work
    progress: JobProgress = field(default_factory=JobProgress)
    outcome: str = "stopped"
    _reached: JobState = JobState.QUEUED

    @property
    def state(self) -> JobState:
        """What has become of it; a running job that was told to stop is stopping."""
        running = self._reached is JobState.RUNNING
        return JobState.STOPPING if running and self.progress.cancelled else self._reached

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE

    def stop(self) -> None:
        """Ask the job to end; one that has not begun is over at once."""
        self.progress.cancel()
        if self._reached is JobState.QUEUED:
            self._reached = JobState.STOPPED

    def run(self) -> None:
        """Do the work in the calling thread; whatever happens becomes state and outcome."""
        self._reached = JobState.RUNNING
        try:
            self.outcome, self._reached = plain(self.work(self.progress)), JobState.DONE
        except Cancelled:
            self._reached = JobState.STOPPED
        except AssetmgrError as error:
            self.outcome, self._reached = one_line(error), JobState.FAILED
        except Exception as error:  # noqa: BLE001 - an outermost place: a fault costs the job only
            self.outcome = plain(f"{type(error).__name__}: {error}")
            self._reached = JobState.FAILED


def one_line(error: AssetmgrError) -> str:
    """A failure as people read it, with its hint."""
    text = str(error) if error.hint is None else f"{error} ({error.hint})"
    return plain(text)

"""Between an operation's thread and the screen.

The thread writes its latest reading into one attribute (an atomic assignment) and the screen reads
it ten times a second. A message per report was the alternative: it has to be throttled, and
throttling loses the last report before a long silence (which names what is being waited for).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from converters.errors import AssetmgrError, Cancelled
from converters.progress import CancellableProgress, Progress
from tui.text import plain, size


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a job is: `done` of `total` (None: not known) in `unit` ("B" or a plural noun).

    `pace` are units in a second and the seconds left, where the operation itself tells them.
    """

    label: str = ""
    done: int = 0
    total: int | None = None
    unit: str = ""
    since: float = field(default=0.0, compare=False)
    pace: tuple[float, float | None] | None = field(default=None, compare=False)

    @property
    def fraction(self) -> float | None:
        """Between 0 and 1, or None where no total is known."""
        return min(self.done / self.total, 1.0) if self.total else None

    @property
    def percent(self) -> str:
        """How much is done, in four cells; nothing where the total is not known."""
        return "" if self.fraction is None else f"{self.fraction:4.0%}"

    @property
    def amount(self) -> str:
        """How much is done, of how much, in words."""
        if self.unit == "B":
            done, total = size(self.done), self.total and size(self.total)
        else:
            done, total = f"{self.done:,}", self.total and f"{self.total:,} {self.unit}"
        if total:
            return f"{done} / {total}"
        return done if self.done else ""

    def rate(self, now: float) -> float | None:
        """Units in a second, None before there is anything to measure."""
        if self.pace is not None:
            return self.pace[0] or None
        seconds = now - self.since
        return self.done / seconds if self.done and seconds >= _SHORTEST else None

    def left(self, now: float) -> float | None:
        """Seconds until the stage is done, at the rate so far."""
        if self.pace is not None:
            return self.pace[1]
        rate = self.rate(now)
        if rate is None or not self.total:
            return None
        return max(self.total - self.done, 0) / rate


LOG_LINES = 200
"""How much of what a job says is kept."""
_SHORTEST = 0.5
_TRACEBACK_LINES = 40


class JobProgress(CancellableProgress):
    """Keeps the latest reading of an operation for another thread to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = Reading()
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._going = threading.Event()
        self._going.set()

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        """A new piece of work begins."""
        began, pace = time.monotonic(), self.reading.pace
        self.reading = Reading(plain(label), 0, total, unit, began, pace)
        self.log.append(self.reading.label)

    def advance(self, amount: int = 1) -> None:
        """Count what was done; waits while paused. Raises Cancelled once the job was stopped."""
        self.reading = replace(self.reading, done=self.reading.done + amount)
        self._going.wait()
        super().advance(amount)

    def pace(self, rate: float, left: float | None) -> None:
        """What only the operation can know: of the bytes of a download some were there before."""
        self.reading = replace(self.reading, pace=(rate, left))

    def message(self, text: str) -> None:
        """A line of the log."""
        self.log.append(plain(text))

    @property
    def paused(self) -> bool:
        """Whether the operation waits at its next report."""
        return not self._going.is_set()

    def pause(self, paused: bool) -> None:
        """Let the operation wait at its next report, or go on."""
        if paused:
            self._going.clear()
        else:
            self._going.set()

    def cancel(self) -> None:
        """Ask the operation to stop at its next report, also when it waits there."""
        super().cancel()
        self._going.set()


class JobState(StrEnum):
    """What has become of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


ACTIVE = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.PAUSED, JobState.STOPPING})


class Lane(StrEnum):
    """Jobs of one lane wait for each other: two renders at once would only halve each other."""

    RENDER = "render"
    DISK = "disk"
    NETWORK = "network"
    DOWNLOADS = "downloads"
    LOOK = "look"


class Work(Protocol):
    """What a job does in its thread: it reports to `progress` and returns its outcome in a line."""

    def __call__(self, progress: Progress, /) -> str:
        """Raises AssetmgrError, or Cancelled once `progress` was told to stop."""


@dataclass(slots=True, eq=False)
class Job:
    """One operation in the background; `then` follows its success, in the screen's thread.

    `show` opens what came of it, at once or later. One that only oversees the work of others is not
    `pausable`; what nobody asked for is not `repeatable`. A `fault` of the program made it fail.
    """

    title: str
    lane: Lane
    work: Work
    then: Callable[[], None] | None = None
    show: Callable[[], None] | None = None
    progress: JobProgress = field(default_factory=JobProgress)
    pausable: bool = True
    repeatable: bool = True
    outcome: str = "stopped"
    seconds: float = 0.0
    fault: Exception | None = None
    _reached: JobState = JobState.QUEUED

    @property
    def state(self) -> JobState:
        """What has become of it; a running job that was told to stop is stopping."""
        if self._reached is not JobState.RUNNING:
            return self._reached
        if self.progress.cancelled:
            return JobState.STOPPING
        return JobState.PAUSED if self.progress.paused else JobState.RUNNING

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE

    @property
    def showable(self) -> bool:
        """Whether there is something to open."""
        return self.show is not None and self.state is JobState.DONE

    def stop(self) -> None:
        """Ask the job to end; one that has not begun is over at once."""
        self.progress.cancel()
        if self._reached is JobState.QUEUED:
            self._reached = JobState.STOPPED

    def run(self) -> None:
        """Do the work in the calling thread; whatever happens becomes state and outcome."""
        self._reached = JobState.RUNNING
        started = time.monotonic()
        try:
            self.outcome, self._reached = plain(self.work(self.progress)), JobState.DONE
        except Cancelled:
            self._reached = JobState.STOPPED
        except AssetmgrError as error:
            self.outcome, self._reached = one_line(error), JobState.FAILED
        except Exception as error:  # noqa: BLE001 - an outermost place: a fault costs the job only
            self.outcome = plain(f"{type(error).__name__}: {error}")
            self._reached, self.fault = JobState.FAILED, error
            self.progress.log.extend(plain(line) for line in format_exception(error))
        finally:
            self.seconds = time.monotonic() - started


def format_exception(error: Exception) -> list[str]:
    """Where a fault of the program happened, for a report: the last lines of its traceback."""
    import traceback

    text = "".join(traceback.format_exception(error))
    return text.splitlines()[-_TRACEBACK_LINES:]


def one_line(error: AssetmgrError) -> str:
    """A failure as people read it, with its hint."""
    text = str(error) if error.hint is None else f"{error} ({error.hint})"
    return plain(text)

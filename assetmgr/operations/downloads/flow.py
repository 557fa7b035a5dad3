"""One download on its way: where it is, and whether it is to stop.

Its own thread writes, others look: each value is one assignment.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from converters.progress import CancellableProgress
from registry.downloads.records import QueuedDownload

RATE_SECONDS = 5.0
"""Rates are those of about so long: calm enough to read, and quick to notice a line that stalls."""


@dataclass(frozen=True, slots=True)
class FlowReading:
    """What is to be seen of a running download: bytes, bytes per second, seconds.

    `stage` says what is done just now; `done` of `total` belong to that stage.
    """

    id: int
    label: str
    stage: str
    done: int
    total: int | None
    rate: float
    left: float | None
    message: str


class Flow(CancellableProgress):
    """The progress of one download."""

    def __init__(self, download: QueuedDownload) -> None:
        super().__init__()
        self.download = download
        self.received = download.received
        self._stage, self._total = "waiting for an answer", download.wanted.bytes
        self._done = self._since = 0
        self._message = ""
        self._rate = _Rate()

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        """A new piece of work."""
        self._stage, self._total, self._done = label, total, 0
        self._rate = _Rate()

    def advance(self, amount: int = 1) -> None:
        """Count; raises Cancelled once it is to stop."""
        self._done += amount
        if self._stage.startswith("downloading"):
            self.received = self._done
        super().advance(amount)

    @property
    def is_coming(self) -> bool:
        """Whether bytes are on their way, and no answer is waited for."""
        return self._stage.startswith("downloading") and self._done > 0

    def message(self, text: str) -> None:
        """The last thing that is worth a line."""
        self._message = text

    def read(self) -> FlowReading:
        """Where it is now; to be called regularly, by one thread, because rates come of it."""
        rate = self._rate.at(time.monotonic(), self._done)
        total = self._total
        left = max(total - self._done, 0) / rate if total and rate > 1 else None
        return FlowReading(
            id=self.download.id,
            label=self.download.wanted.label,
            stage=self._stage,
            done=self._done,
            total=total,
            rate=rate,
            left=left,
            message=self._message,
        )


class _Rate:
    """A moving average; what was there at the first look (bytes taken up) does not count."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self._rate: float | None = None

    def at(self, now: float, done: int) -> float:
        if self._last is None:
            self._last = now, done
            return 0.0
        seconds = now - self._last[0]
        if seconds > 0:
            fresh = (done - self._last[1]) / seconds
            weight = min(1.0, seconds / RATE_SECONDS)
            self._rate = fresh if self._rate is None else self._rate + weight * (fresh - self._rate)
            self._last = now, done
        return self._rate or 0.0

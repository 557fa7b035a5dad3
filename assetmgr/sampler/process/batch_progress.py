"""Which of many renders it is, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable

from converters.progress import Progress


class BatchProgress(Progress):
    """Passes everything on and says which render of how many it is, and the time left.

    The time is what renders have taken on the average so far.
    """

    def __init__(
        self, inner: Progress, total: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._inner = inner
        self._total = total
        self._clock = clock
        self._started = clock()
        self._number = 0
        self._name = ""

    def begin(self, name: str) -> None:
        """The next render begins."""
        self._number += 1
        self._name = name

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        """A stage of the render at hand."""
        if self._total > 1:
            label = f"{self._number} of {self._total}{self._left()}, {self._name}: {label}"
        self._inner.stage(label, total, unit)

    def advance(self, amount: int = 1) -> None:
        """As the render at hand."""
        self._inner.advance(amount)

    def message(self, text: str) -> None:
        """As the render at hand."""
        self._inner.message(text)

    def _left(self) -> str:
        done = self._number - 1
        if done == 0:
            return ""
        each = (self._clock() - self._started) / done
        return f", {duration(each * (self._total - done))} left"


def duration(seconds: float) -> str:
    """A rough time in words: `40 s`, `12 min`, `3 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"

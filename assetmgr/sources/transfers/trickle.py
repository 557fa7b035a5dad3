"""Connections that are alive and bring next to nothing, as curl's `--speed-limit` finds them."""

from __future__ import annotations

import time

DYING_SECONDS = 30.0
DYING_RATE = 1024
"""Bytes per second; a connection that gives less for so long is given up, or made anew."""


class Trickle:
    """Counts what comes while it is waited for."""

    def __init__(self) -> None:
        self._waited, self._came = 0.0, 0

    def is_one(self, seconds: float, count: int) -> bool:
        """Whether too little has come for too long, after so many more seconds and bytes."""
        self._waited += seconds
        self._came += count
        if self._waited < DYING_SECONDS:
            return False
        found = self._came < DYING_RATE * self._waited
        self._waited, self._came = 0.0, 0
        return found


class Deadline:
    """For what comes as a whole within `seconds`, and never as a trickle."""

    def __init__(self, seconds: float) -> None:
        self._trickle = Trickle()
        self._last = time.monotonic()
        self._end = self._last + seconds

    def is_missed(self, count: int) -> bool:
        """Whether it is to be given up, now that so many more bytes have come."""
        last, self._last = self._last, time.monotonic()
        return self._last > self._end or self._trickle.is_one(self._last - last, count)

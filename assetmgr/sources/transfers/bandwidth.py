"""How fast bytes may come, of all transfers together: a token bucket.

The bucket holds what may come in `BURST_SECONDS`; whoever takes more than it has waits until that
has flowed in (J. Turner, "New directions in communications", 1986: the leaky bucket as a meter).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BURST_SECONDS = 0.25
"""So long nothing has to be waited for after a rest."""


class Bandwidth:
    """A limit in bytes per second that several threads keep together; None is no limit."""

    def __init__(
        self, rate: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._paid_until = clock() - BURST_SECONDS

    def change(self, rate: float | None) -> None:
        """Another limit from now on; what was taken under the old one is waited for as before."""
        with self._lock:
            self._rate = rate

    def take(self, count: int) -> float:
        """Take bytes that have come; gives the seconds to wait before more may come."""
        with self._lock:
            if self._rate is None:
                return 0.0
            now = self._clock()
            self._paid_until = max(self._paid_until, now - BURST_SECONDS) + count / self._rate
            return max(0.0, self._paid_until - now)

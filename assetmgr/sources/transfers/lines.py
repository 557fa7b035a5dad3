"""Lines that break off or die: when a transfer makes them anew, and when it gives up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from assetmgr.sources.patience import Unreachable
from assetmgr.sources.transfers.trickle import Trickle
from assetmgr.sources.web import BrokenOff
from converters.errors import AssetmgrError

WAITS = (1.0, 4.0, 15.0, 60.0)
"""Seconds before a broken connection is made anew, while less than `ENOUGH_BYTES` come each time;
after the last one it is given up."""
ENOUGH_BYTES = 1 << 20

GOES_ON = "the same command goes on"


class Expired(BrokenOff):
    """A storage host refuses the address that the service has given out; it may give a new one."""


class Perseverance:
    """How long to wait after a failure, by how much has come before it."""

    def __init__(self, have: int) -> None:
        self._failures = 0
        self._at_first = self._since = have
        self._expired_at = -1

    def wait(self, error: AssetmgrError, have: int) -> float | None:
        """Seconds, spread by chance lest all come back together; None when there is no use."""
        if isinstance(error, Unreachable) and have == self._at_first:
            return None  # nobody is there: that is said at once
        if isinstance(error, Expired):
            again, self._expired_at = self._expired_at == have, have
            return None if again else 0.0
        self._failures = 0 if have - self._since >= ENOUGH_BYTES else self._failures + 1
        self._since = have
        if self._failures > len(WAITS):
            return None
        longest = WAITS[self._failures - 1] if self._failures else 0.0
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - chance, not secrecy


class Pulse:
    """Notices that next to nothing has come for a while.

    Only the time that is spent waiting for the network counts, not what we spend ourselves.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._trickle = Trickle()

    def feel(self, read: Callable[[], int]) -> int | None:
        """What a read gives; None where it gave nothing yet. Raises BrokenOff."""
        started = time.monotonic()
        count = None
        try:
            count = read()
        except TimeoutError:
            pass
        except OSError:
            raise BrokenOff("the connection broke off", path=self._name, hint=GOES_ON) from None
        if self._trickle.is_one(time.monotonic() - started, count or 0):
            raise BrokenOff("the connection is dying", path=self._name, hint=GOES_ON)
        return count

"""How long to wait for a service that is too busy: as it asks, or longer from try to try.

Waits that nothing asked for are spread by chance, so that many programs do not come back at once.
Statuses and Retry-After: RFC 9110.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from converters.errors import NotAvailable
from converters.progress import Progress

BUSY = frozenset({429, 500, 502, 503, 504})
TRIES = 4
LONGEST_WAIT = 60.0
"""Seconds; who is told to wait longer is told so, and tries again another time."""


class Unreachable(NotAvailable):
    """The service is not there at all: asking it for something else does not help."""


@dataclass(slots=True)
class Pace:
    """So many requests at once, then at most so many a second."""

    burst: int
    per_second: float
    _left: float = field(init=False)
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._left, self._since = float(self.burst), time.monotonic()

    def wait(self, progress: Progress) -> None:
        """Until the next request is in order. Raises Cancelled."""
        now = time.monotonic()
        grown = self._left + (now - self._since) * self.per_second
        self._left, self._since = min(grown, float(self.burst)) - 1, now
        if self._left < 0:
            pause(-self._left / self.per_second, progress)


def delay(
    service: str, subject: str, asked: str | None, attempt: int, date: str | None = None
) -> float:
    """Seconds to wait after an attempt (0 is the first).

    `asked` and `date` are the headers Retry-After and Date. Raises NotAvailable when the service
    wants to be left alone for longer than `LONGEST_WAIT`.
    """
    told = retry_after(asked, date)
    if told is None:
        return 2.0**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - chance, not secrecy
    if told > LONGEST_WAIT:
        hint = f"try again in {told:.0f} seconds"
        raise NotAvailable(f"{service} is too busy", path=subject, hint=hint)
    return told


def pause(seconds: float, progress: Progress) -> None:
    """Wait, in pieces, so that a cancellation is not waited for. Raises Cancelled."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        progress.advance(0)
        time.sleep(min(left, 0.2))


def retry_after(text: str | None, date: str | None = None) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or a date; None for nonsense.

    `date` is when the server says that it answered: our clock may be wrong.
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    moment = _moment(text)
    if moment is None:
        return None
    now = _moment(date or "") or datetime.now(UTC)
    return max(0.0, (moment - now).total_seconds())


def _moment(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

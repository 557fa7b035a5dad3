"""How long to wait for a service that is too busy: as it asks, or longer from try to try.

Waits that nothing asked for are spread by chance, so that many programs do not come back at once.
Statuses and Retry-After: RFC 9110. RateLimit: draft-ietf-httpapi-ratelimit-headers, of which the
Hub uses the remaining requests `r` and the seconds `t` until there are new ones.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from converters.errors import NotAvailable
from converters.progress import Progress

BUSY = frozenset({429, 500, 502, 503, 504})
TRIES = 4
LONGEST_WAIT = 60.0
"""Seconds; who is told to wait longer is told so, and tries again another time."""
LONGEST_WAIT_FOR_FILES = 330.0
"""More than the five minutes of the Hub's windows: of many files none is to fail for that."""
_NONE_LEFT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})")


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
    service: str,
    subject: str,
    headers: Mapping[str, str],
    attempt: int,
    longest: float = LONGEST_WAIT,
) -> float:
    """Seconds to wait after an attempt (0 is the first), by the headers of its answer.

    Raises NotAvailable when the service wants to be left alone for longer than `longest`.
    """
    told = _asked_for(headers)
    if told is None:
        return 2.0**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - chance, not secrecy
    if told > longest:
        hint = f"try again in {told:.0f} seconds"
        raise NotAvailable(f"{service} is too busy", path=subject, hint=hint)
    return told


def pause(seconds: float, progress: Progress) -> None:
    """Wait, in pieces, so that a cancellation is not waited for. Raises Cancelled."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        progress.advance(0)
        time.sleep(min(left, 0.2))


def _asked_for(headers: Mapping[str, str]) -> float | None:
    told = retry_after(headers.get("Retry-After"), headers.get("Date"))
    window = _NONE_LEFT.search(headers.get("RateLimit", ""))
    return float(window[1]) if told is None and window else told


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

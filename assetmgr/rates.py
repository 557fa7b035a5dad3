"""Rates as people write them."""

from __future__ import annotations

import re

from converters.errors import BadValue

RATE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([kmg]?)(i?)(b?)(?:/s|ps)?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3}


def check_rate(text: str | None) -> None:
    """Refuse what is no rate before anything is done. Raises BadValue."""
    if text is not None:
        parse_rate(text)


def parse_rate(text: str) -> float:
    """Bytes per second of `5MB`, `500 kB/s`, `1.5MiB` or `1000000`. Raises BadValue."""
    found = RATE.fullmatch(text)
    base = 1024 if found and found[3] else 1000
    rate = float(found[1]) * base ** _POWERS[found[2].lower()] if found else 0.0
    if rate < 1:
        raise BadValue(f"{text!r} is no rate, such as 5MB or 500kB")
    return rate

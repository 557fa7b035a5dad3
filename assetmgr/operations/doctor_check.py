"""One question the doctor asks, and its answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, whether it is well, what was found, and what to do about it."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None

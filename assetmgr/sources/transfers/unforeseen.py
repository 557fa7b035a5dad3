"""A file of which nobody said how large it is: it comes as long as the disk has room to spare."""

from __future__ import annotations

from pathlib import Path

from converters.errors import DiskFull
from converters.writers.atomic import free_bytes, naming

LOOK_BYTES = 32 << 20
"""So often the disk is looked at."""
SPARE_BYTES = 512 << 20
"""Left free on it, because others write there, too: logs, databases, and what is on its way."""


class Unforeseen:
    """Looks at the disk now and then, while such a file comes to `part`."""

    def __init__(self, part: Path) -> None:
        self._part = part
        self._looked: int | None = None

    def refuse_full(self, have: int) -> None:
        """Raises DiskFull once `have` bytes are there and little room is left."""
        if self._looked is None:
            self._looked = have
        if have - self._looked < LOOK_BYTES:
            return
        self._looked = have
        with naming(self._part):
            _, free = free_bytes(self._part)
        if free < SPARE_BYTES:
            cause = f"nobody says how large it is, {have:,} bytes came and {free:,} are left"
            raise DiskFull(cause, path=self._part, hint="make room; the same command goes on")

"""When to look for garbage: between the keys, where nobody waits for a frame.

Python looks for objects that only hold each other whenever so many new ones are there. That takes
as long as a frame and comes at any time; while keys come, it waits until they rest.
"""

from __future__ import annotations

import asyncio
import gc

NEW_OBJECTS = 5_000
"""So many between looks while no keys come."""
MOST_NEW = 200_000
"""So many while they do, at about 100 bytes each."""
REST_SECONDS = 0.5


class Garbage:
    """The looks of this process, if that was started without any."""

    def __init__(self) -> None:
        self._begun = False
        self._rest: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """All is there that stays: no look needs to go through it again."""
        if not gc.isenabled():
            self._begun = True
            gc.freeze()
            gc.set_threshold(NEW_OBJECTS)
            gc.enable()

    def put_off(self) -> None:
        """A key came; others may follow."""
        if not self._begun:
            return
        if self._rest is not None:
            self._rest.cancel()
        gc.set_threshold(MOST_NEW)
        self._rest = asyncio.get_running_loop().call_later(REST_SECONDS, self._look)

    def _look(self) -> None:
        gc.set_threshold(NEW_OBJECTS)

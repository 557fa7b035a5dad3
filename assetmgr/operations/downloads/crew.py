"""The threads of a run of downloads: as many as were busy at once, each used again and again."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from assetmgr.operations.downloads.flow import Flow


class Crew:
    """Gives downloads to threads; only for one thread, which tells of each that has ended."""

    def __init__(self, bring: Callable[[Flow], None]) -> None:
        self._bring = bring
        self._orders: queue.SimpleQueue[Flow | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0

    def give(self, flow: Flow) -> None:
        """Let it be brought, at once."""
        self._busy += 1
        if self._busy > len(self._threads):
            # Not waited for at the end of the program: a disk or a server may never answer.
            thread = threading.Thread(target=self._work, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._orders.put(flow)

    def ended(self) -> None:
        """One of those given has come to its end."""
        self._busy -= 1

    def leave(self, seconds: float) -> None:
        """Let all go, and wait so long for those that are busy."""
        for _ in self._threads:
            self._orders.put(None)
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while (flow := self._orders.get()) is not None:
            self._bring(flow)

"""Records files in batches: one transaction for many, and none waits long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

BATCH_FILES = 256
BATCH_SECONDS = 1.0
"""Files are recorded when so many are ready, or when the first of them has waited so long."""

_T = TypeVar("_T")


@contextmanager
def batches_for(record: Callable[[Sequence[_T]], None]) -> Iterator[Callable[[_T], None]]:
    """Collects items and records them together; whatever ends the block, all are recorded."""
    waiting: list[_T] = []
    since = time.monotonic()

    def flush() -> None:
        nonlocal since
        if waiting:
            record(waiting)
            waiting.clear()
        since = time.monotonic()

    def add(item: _T) -> None:
        waiting.append(item)
        if len(waiting) >= BATCH_FILES or time.monotonic() - since >= BATCH_SECONDS:
            flush()

    try:
        yield add
    finally:
        flush()

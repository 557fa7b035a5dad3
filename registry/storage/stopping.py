"""Searches that nobody waits for any more end, instead of keeping a processor from the next one."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator

from sqlalchemy import Connection, exc

from converters.errors import Cancelled
from converters.progress import CancellableProgress, Progress

_STEPS = 50_000
"""Of SQLite's machine between two looks at the progress: a few thousandths of a second."""
_FEW_STEPS = 4_000


@contextlib.contextmanager
def stoppable(connection: Connection, progress: Progress) -> Iterator[None]:
    """What SQLite does within ends soon after `progress` was cancelled. Raises Cancelled.

    Other databases are only asked nothing any more.
    """
    progress.advance(0)
    if not isinstance(progress, CancellableProgress):
        yield
        return
    try:
        with _looking(connection, lambda: progress.cancelled, _STEPS):
            yield
    except exc.OperationalError as error:
        if progress.cancelled:
            raise Cancelled from error
        raise


@contextlib.contextmanager
def ended_after(connection: Connection, seconds: float) -> Iterator[None]:
    """What SQLite does within is broken off after some time: its driver raises OperationalError."""
    end = time.monotonic() + seconds
    with _looking(connection, lambda: time.monotonic() > end, _FEW_STEPS):
        yield


@contextlib.contextmanager
def _looking(connection: Connection, is_over: Callable[[], bool], steps: int) -> Iterator[None]:
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        yield
        return
    driver.set_progress_handler(is_over, steps)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)

"""Searches that nobody waits for any more end, instead of keeping a processor from the next one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from sqlalchemy import Connection, exc

from converters.errors import Cancelled
from converters.progress import CancellableProgress, Progress

_STEPS = 50_000
"""Of SQLite's machine between two looks at the progress: a few thousandths of a second."""


@contextlib.contextmanager
def stoppable(connection: Connection, progress: Progress) -> Iterator[None]:
    """What SQLite does within ends soon after `progress` was cancelled. Raises Cancelled.

    Other databases are only asked nothing any more.
    """
    progress.advance(0)
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection) or not isinstance(progress, CancellableProgress):
        yield
        return
    driver.set_progress_handler(lambda: progress.cancelled, _STEPS)
    try:
        yield
    except exc.OperationalError as error:
        if progress.cancelled:
            raise Cancelled from error
        raise
    finally:
        driver.set_progress_handler(None, 0)

"""The queue of downloads: a small SQLite file of its own, shared by all programs of this machine.

Not a table of the library: that can lie on a server which several machines share, while bytes on
their way and the disks they go to belong to this machine; and a scan that writes must not hold up
the queue. Not a text file under a lock either: thousands of files change their state one by one.

A download that runs belongs to a runner, which holds a lock as long as it lives. The system lets go
of it even when the program is killed, so what a dead runner left is found without any clock.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Self

from converters.errors import BadValue
from registry.downloads.file import CANCELLED, WANTED, QueueFile, download_of, give_back, now, one
from registry.downloads.records import DownloadState, QueuedDownload, Wanted
from registry.downloads.runner import Runner
from registry.storage.file_lock import FileLock
from registry.text import kept_place, storable

_FORGET_TROUBLE = """error = NULL, code = NULL, hint = NULL, error_path = NULL, exit_code = NULL,
    passing = NULL, path = NULL, asset = NULL, outcome = NULL, ended = NULL"""


class DownloadQueue:
    """The queue in a folder; safe to use from several threads and programs. Call `close` last.

    Raises LibraryUnusable throughout.
    """

    def __init__(self, folder: Path) -> None:
        self.file = QueueFile(folder / "queue.db")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self.file.close()

    # ---- by everyone

    def add(self, wanted: Sequence[Wanted], priority: int = 0) -> tuple[QueuedDownload, ...]:
        """Put downloads at the end, in one step; those that are there already are queued again.

        What runs goes on. Raises BadValue for a name at the service that is not valid UTF-8.
        """
        for each in wanted:
            told = astuple(replace(each, folder=None))
            if not all(storable(value) for value in told if isinstance(value, str)):
                raise BadValue("its name is not valid UTF-8", path=repr(each.label))
        with self.file.writing(durably=True) as connection:
            self.file.take_back(connection)
            numbers = [_add(connection, each, priority) for each in wanted]
            return tuple(one(connection, number) for number in numbers)

    def all(self) -> tuple[QueuedDownload, ...]:
        """Every download: first what runs and waits, in its order, last what ended."""
        with self.file.writing() as connection:
            self.file.take_back(connection)
            rows = connection.execute(
                f"SELECT * FROM download WHERE NOT ({CANCELLED}) ORDER BY state = 'done',"
                " state = 'failed', state != 'running', priority DESC, place"
            )
            return tuple(download_of(row) for row in rows)

    def find(self, number: int) -> QueuedDownload | None:
        """A download; None once it was cancelled."""
        with self.file.writing() as connection:
            wanted = f"SELECT * FROM download WHERE id = ? AND NOT ({CANCELLED})"
            row = connection.execute(wanted, (number,)).fetchone()
            return None if row is None else download_of(row)

    def pause(self, number: int) -> None:
        """Let a download wait until it is resumed; one that runs is told to stop."""
        with self.file.writing() as connection:
            self.file.take_back(connection)
            _change(connection, number, "state = 'paused'", "queued")
            _change(connection, number, "wish = 'pause'", "running")

    def resume(self, number: int) -> None:
        """Queue what is paused or failed."""
        with self.file.writing() as connection:
            change = f"state = 'queued', {_FORGET_TROUBLE}"
            _change(connection, number, change, "paused", "failed")
            _change(connection, number, "wish = NULL", "running")

    def retry(self) -> None:
        """Queue whatever failed for a reason that may have passed."""
        with self.file.writing() as connection:
            connection.execute(
                f"UPDATE download SET state = 'queued', {_FORGET_TROUBLE}"
                " WHERE state = 'failed' AND passing"
            )

    def cancel(self, number: int) -> bool:
        """Nobody wants a download any more; False when it runs: its runner was told.

        It is not listed any more, but `cancelled` until `forget`: whoever is killed in between
        leaves no bytes that nobody knows of.
        """
        with self.file.writing() as connection:
            self.file.take_back(connection)
            changed = "UPDATE download SET wish = 'cancel' WHERE id = ?"
            connection.execute(changed, (number,))
            counted = f"SELECT count(*) FROM download WHERE id = ? AND {CANCELLED}"
            return bool(connection.execute(counted, (number,)).fetchone()[0])

    def cancelled(self) -> tuple[QueuedDownload, ...]:
        """What nobody wants any more, and what has come of it is to be removed."""
        with self.file.writing() as connection:
            self.file.take_back(connection)
            rows = connection.execute(f"SELECT * FROM download WHERE {CANCELLED}")
            return tuple(download_of(row) for row in rows)

    def forget(self, number: int) -> None:
        """What had come of a cancelled download is removed."""
        with self.file.writing() as connection:
            connection.execute(f"DELETE FROM download WHERE id = ? AND {CANCELLED}", (number,))

    def move(self, number: int, *, first: bool) -> None:
        """Before or behind all others of its priority."""
        place = "(SELECT min(place) - 1" if first else "(SELECT max(place) + 1"
        with self.file.writing() as connection:
            connection.execute(
                f"UPDATE download SET place = {place} FROM download) WHERE id = ?", (number,)
            )

    def prioritise(self, number: int, priority: int) -> None:
        """Higher ones run first."""
        with self.file.writing() as connection:
            connection.execute("UPDATE download SET priority = ? WHERE id = ?", (priority, number))

    def clear(self) -> int:
        """Forget what is done; gives how many those were."""
        with self.file.writing() as connection:
            return connection.execute("DELETE FROM download WHERE state = 'done'").rowcount

    # ---- by those who run downloads

    @contextlib.contextmanager
    def runner(self) -> Iterator[Runner]:
        """Someone who can run downloads; what it leaves running at its end is queued again."""
        name = secrets.token_hex(8)
        with contextlib.ExitStack() as life:
            with self.file.writing():  # others look for the dead in a transaction, too
                life.enter_context(FileLock(self.file.lock_of(name)))
            try:
                yield Runner(self.file, name)
            finally:
                with self.file.writing() as connection:
                    give_back(connection, name)


def _add(connection: sqlite3.Connection, wanted: Wanted, priority: int) -> int:
    values = {
        **asdict(wanted),
        "folder": None if wanted.folder is None else kept_place(wanted.folder),
        "priority": priority,
        "state": DownloadState.QUEUED,
        "added": now(),
    }
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    news = ", ".join(f"{name} = excluded.{name}" for name in (*WANTED, "priority"))
    connection.execute(
        f"INSERT INTO download ({names}, place)"
        f" VALUES ({marks}, (SELECT coalesce(max(place), 0) + 1 FROM download))"
        " ON CONFLICT (service, subject, coalesce(folder, ''), coalesce(layout, ''))"
        f" DO UPDATE SET {news}, state = 'queued', wish = NULL,"
        " received = iif(state = 'done', 0, received),"
        f" {_FORGET_TROUBLE} WHERE state != 'running'",
        values,
    )
    row = connection.execute(
        "SELECT id FROM download WHERE service = :service AND subject = :subject"
        " AND folder IS :folder AND layout IS :layout",
        values,
    ).fetchone()
    number: int = row[0]
    return number


def _change(connection: sqlite3.Connection, number: int, change: str, *states: str) -> None:
    marks = ", ".join("?" * len(states))
    connection.execute(
        f"UPDATE download SET {change} WHERE id = ? AND state IN ({marks})", (number, *states)
    )

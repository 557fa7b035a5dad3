"""Running what waits in the queue of downloads: claiming, telling how far it is, ending."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import astuple

from registry.download_file import CANCELLED, QueueFile, give_back, now, one
from registry.download_records import Arrival, DownloadState, Limits, QueuedDownload, Trouble

KEPT = 200
"""So many downloads that are done stay in the list."""


class Runner:
    """One who runs downloads; the queue knows whether it is alive."""

    def __init__(self, file: QueueFile, name: str) -> None:
        self._file = file
        self._name = name

    def claim(self, limits: Limits, only: Sequence[int] | None = None) -> QueuedDownload | None:
        """The next download that may run now, of those named; None when there is none.

        Two of one content for one folder never run at once: they would write the same bytes.
        """
        with self._file.writing() as connection:
            self._file.take_back(connection)
            running = connection.execute(
                "SELECT host, bytes, content, folder FROM download WHERE state = 'running'"
            ).fetchall()
            if len(running) >= limits.in_all:
                return None
            chosen = _first_that_may(_waiting(connection, only), running, limits)
            if chosen is None:
                return None
            connection.execute(
                "UPDATE download SET state = 'running', runner = ?, wish = NULL WHERE id = ?",
                (self._name, chosen),
            )
            return one(connection, chosen)

    def wishes(self) -> dict[int, str]:
        """What others want of the downloads that run here: `pause` or `cancel`, by number."""
        with self._file.writing() as connection:
            rows = connection.execute(
                "SELECT id, wish FROM download WHERE runner = ? AND wish IS NOT NULL", (self._name,)
            )
            return {row["id"]: row["wish"] for row in rows}

    def others(self) -> int:
        """How many others run downloads now."""
        with self._file.writing() as connection:
            self._file.take_back(connection)
            row = connection.execute(
                "SELECT count(DISTINCT runner) FROM download"
                " WHERE state = 'running' AND runner != ?",
                (self._name,),
            ).fetchone()
            number: int = row[0]
            return number

    def unfinished(self) -> dict[int, DownloadState]:
        """What waits and runs, here and elsewhere."""
        with self._file.writing() as connection:
            self._file.take_back(connection)
            rows = connection.execute(
                "SELECT id, state FROM download"
                f" WHERE state IN ('queued', 'running') AND NOT {CANCELLED}"
            )
            return {row["id"]: DownloadState(row["state"]) for row in rows}

    def note(self, received: Sequence[tuple[int, int]]) -> None:
        """How many bytes have come, by number, for those who list the queue."""
        with self._file.writing() as connection:
            connection.executemany(
                "UPDATE download SET received = ? WHERE id = ? AND runner = ?",
                [(count, number, self._name) for number, count in received],
            )

    def done(self, number: int, arrival: Arrival, received: int) -> None:
        """The file is in the library."""
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE download SET state = 'done', runner = NULL, wish = NULL, path = ?,"
                " asset = ?, outcome = ?, ended = ?, received = ?"
                " WHERE id = ? AND runner = ?",
                (*astuple(arrival), now(), received, number, self._name),
            )
            connection.execute(
                "DELETE FROM download WHERE state = 'done' AND id NOT IN (SELECT id FROM download"
                " WHERE state = 'done' ORDER BY id DESC LIMIT ?)",
                (KEPT,),
            )

    def failed(self, number: int, trouble: Trouble) -> None:
        """It did not work, now or at all."""
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE download SET state = 'failed', runner = NULL, wish = NULL, error = ?,"
                " code = ?, hint = ?, error_path = ?, exit_code = ?, passing = ?, ended = ?"
                " WHERE id = ? AND runner = ?",
                (*astuple(trouble), now(), number, self._name),
            )

    def stopped(self, number: int) -> str:
        """It was stopped, for whatever reason: gives `cancel`, `pause`, or `` for neither."""
        with self._file.writing() as connection:
            mine = (number, self._name)
            row = connection.execute(
                "SELECT wish FROM download WHERE id = ? AND runner = ?", mine
            ).fetchone()
            wish = row["wish"] if row is not None else None
            give_back(connection, self._name, number)
            return wish or ""


def _waiting(connection: sqlite3.Connection, only: Sequence[int] | None) -> Iterator[sqlite3.Row]:
    rows = connection.execute(
        "SELECT id, host, bytes, content, folder FROM download"
        f" WHERE state = 'queued' AND NOT {CANCELLED}"
        " ORDER BY priority DESC, place"
    )
    wanted = None if only is None else frozenset(only)
    return (row for row in rows if wanted is None or row["id"] in wanted)


def _first_that_may(
    waiting: Iterator[sqlite3.Row], running: Sequence[sqlite3.Row], limits: Limits
) -> int | None:
    hosts = [row["host"] for row in running]
    busy = {(row["content"], row["folder"]) for row in running}
    large = sum((row["bytes"] or 0) >= limits.large_bytes for row in running)
    for row in waiting:
        if hosts.count(row["host"]) >= limits.per_host:
            continue
        if (row["bytes"] or 0) >= limits.large_bytes and large >= limits.large:
            continue
        if (row["content"], row["folder"]) not in busy:
            number: int = row["id"]
            return number
    return None

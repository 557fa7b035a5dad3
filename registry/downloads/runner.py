"""Running what waits in the queue of downloads: claiming, telling how far it is, ending."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, replace

from registry.downloads.file import CANCELLED, QueueFile, give_back, now, one
from registry.downloads.records import Arrival, DownloadState, Limits, QueuedDownload, Trouble
from registry.text import kept_place, shown

KEPT = 200
"""So many downloads that are done stay in the list."""


class Runner:
    """One who runs downloads; the queue knows whether it is alive."""

    def __init__(self, file: QueueFile, name: str) -> None:
        self._file = file
        self._name = name

    def claim(
        self, limits: Limits, only: Sequence[int] | None = None
    ) -> tuple[QueuedDownload, ...]:
        """All downloads that may run now beside those that do, of those named, in their order.

        Two of one content for one folder never run at once: they would write the same bytes.
        """
        with self._file.writing() as connection:
            self._file.take_back(connection)
            running = connection.execute(
                "SELECT host, bytes, content, folder FROM download WHERE state = 'running'"
            ).fetchall()
            chosen = list(_those_that_may(_waiting(connection, only), running, limits))
            connection.executemany(
                "UPDATE download SET state = 'running', runner = ?, wish = NULL WHERE id = ?",
                [(self._name, number) for number in chosen],
            )
            return tuple(one(connection, number) for number in chosen)

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

    def done(self, arrived: Sequence[tuple[int, Arrival, int]]) -> None:
        """These files are in the library; each with its number and the bytes that have come."""
        with self._file.writing() as connection:
            connection.executemany(
                "UPDATE download SET state = 'done', runner = NULL, wish = NULL, path = ?,"
                " asset = ?, outcome = ?, ended = ?, received = ?"
                " WHERE id = ? AND runner = ?",
                [
                    (
                        kept_place(arrival.path),
                        arrival.asset,
                        arrival.outcome,
                        now(),
                        count,
                        number,
                        self._name,
                    )
                    for number, arrival, count in arrived
                ],
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
                (*astuple(_storable(trouble)), now(), number, self._name),
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


def _those_that_may(
    waiting: Iterator[sqlite3.Row], running: Sequence[sqlite3.Row], limits: Limits
) -> Iterator[int]:
    beside = list(running)
    hosts = Counter(row["host"] for row in running)
    busy = {(row["content"], row["folder"]) for row in running}
    for row in waiting:
        if len(beside) >= limits.in_all:
            return
        if hosts[row["host"]] >= limits.per_host or (row["content"], row["folder"]) in busy:
            continue
        if any(_is_enough(row, beside, nbytes, count) for nbytes, count in limits.sizes):
            continue
        beside.append(row)
        hosts[row["host"]] += 1
        busy.add((row["content"], row["folder"]))
        yield row["id"]


def _is_enough(row: sqlite3.Row, beside: Sequence[sqlite3.Row], nbytes: int, count: int) -> bool:
    """Whether so many files of this size run that this one has to wait."""
    if (row["bytes"] or 0) < nbytes:
        return False
    return len([other for other in beside if (other["bytes"] or 0) >= nbytes]) >= count


def _storable(trouble: Trouble) -> Trouble:
    """What names that are no Unicode come into, as text that the database takes."""
    path, hint = trouble.path, trouble.hint
    return replace(
        trouble,
        error=shown(trouble.error),
        hint=None if hint is None else shown(hint),
        path=None if path is None else kept_place(path),
    )

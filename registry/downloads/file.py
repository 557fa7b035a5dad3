"""The file of the download queue: how it is opened, made, checked, and how its failures read."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

from registry.downloads.records import (
    Arrival,
    DownloadState,
    QueuedDownload,
    Trouble,
    Wanted,
)
from registry.errors import LibraryUnusable
from registry.storage.file_lock import is_held
from registry.text import place_kept

WANTED = tuple(field.name for field in fields(Wanted))

CANCELLED = "(wish IS 'cancel' AND state != 'running')"
"""The rows of downloads that are not wanted any more, whose bytes may be there still."""

_VERSION = 1
_BUSY_SECONDS = 15
_SCHEMA = f"""
CREATE TABLE download (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL, host TEXT NOT NULL, subject TEXT NOT NULL, label TEXT NOT NULL,
    content TEXT NOT NULL, bytes INTEGER, sha256 TEXT, folder TEXT, layout TEXT,
    licence TEXT,    again INTEGER NOT NULL,
    priority INTEGER NOT NULL, place INTEGER NOT NULL,
    state TEXT NOT NULL, runner TEXT, wish TEXT, received INTEGER NOT NULL DEFAULT 0,
    error TEXT, code TEXT, hint TEXT, error_path TEXT, exit_code INTEGER, passing INTEGER,
    path TEXT, asset INTEGER, outcome TEXT,
    added TEXT NOT NULL, ended TEXT
);
CREATE UNIQUE INDEX one_each ON download
    (service, subject, coalesce(folder, ''), coalesce(layout, ''));
CREATE INDEX in_order ON download (state, priority DESC, place);
PRAGMA user_version = {_VERSION};
"""
_CAUSES = (
    ("locked", "is locked by another program", "try again later"),
    ("readonly", "is read-only", "check the permissions of the file and its folder"),
    ("unable to open", "cannot be opened", "check the permissions of its folder"),
    ("full", "cannot grow: the disk is full", None),
    ("disk I/O", "cannot be written: the disk is full, or broken", "make room, or check the disk"),
)
_DAMAGED = "move it away; what is downloaded again goes on where it broke off"


class QueueFile:
    """An SQLite file with one table. Safe to use from several threads and programs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with self._naming():
            self._make_folder()
            self._connection = sqlite3.connect(
                path, _BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
        try:
            with self._naming():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def writing(self, *, durably: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction; one that is durable survives a power cut, all survive a crash."""
        with self._lock, self._naming():
            if durably:
                self._synchronise("FULL")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            if durably:
                self._synchronise("NORMAL")

    def lock_of(self, runner: str) -> Path:
        """What a runner holds as long as it lives."""
        return self.path.with_name(f"{runner}.lock")

    def take_back(self, connection: sqlite3.Connection) -> None:
        """Queue what dead runners left, or do what was asked of them."""
        rows = connection.execute("SELECT DISTINCT runner FROM download WHERE state = 'running'")
        for (name,) in rows.fetchall():
            if name is None or not is_held(self.lock_of(name)):
                give_back(connection, name)

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            cause = f"its folder cannot be made: {error.strerror}"
            raise LibraryUnusable(cause, path=self.path) from error

    def _prepare(self) -> None:
        version = self._version()
        if version == _VERSION:
            self._synchronise("NORMAL")
            return
        if version > _VERSION:
            cause = "is of a newer version of the program"
            raise LibraryUnusable(cause, path=self.path, hint="update assetmgr")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._synchronise("NORMAL")
        with self.writing() as connection:
            if self._version() == 0:  # else another program was faster
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    connection.execute(statement)

    def _version(self) -> int:
        found: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        return found

    def _synchronise(self, how: str) -> None:
        self._connection.execute(f"PRAGMA synchronous = {how}")

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            said = str(error)
            known = ((cause, hint) for part, cause, hint in _CAUSES if part in said)
            cause, hint = next(known, (f"cannot be used: {said}", _DAMAGED))
            raise LibraryUnusable(cause, path=self.path, hint=hint) from error


def download_of(row: sqlite3.Row) -> QueuedDownload:
    """A row as a value."""
    trouble = None
    if row["error"] is not None:
        trouble = Trouble(
            row["error"],
            row["code"],
            row["hint"],
            _place(row, "error_path"),
            row["exit_code"],
            bool(row["passing"]),
        )
    arrival = None
    if row["outcome"] is not None:
        arrival = Arrival(place_kept(row["path"]), row["asset"], row["outcome"])
    values = {name: row[name] for name in WANTED} | {"folder": _place(row, "folder")}
    return QueuedDownload(
        id=row["id"],
        wanted=Wanted(**{**values, "again": bool(values["again"])}),
        priority=row["priority"],
        state=DownloadState(row["state"]),
        received=row["received"],
        wish=row["wish"],
        trouble=trouble,
        arrival=arrival,
        added=datetime.fromisoformat(row["added"]),
        ended=None if row["ended"] is None else datetime.fromisoformat(row["ended"]),
    )


def _place(row: sqlite3.Row, name: str) -> str | None:
    """A path of a row, whose name need not be Unicode."""
    return None if row[name] is None else place_kept(row[name])


def one(connection: sqlite3.Connection, number: int) -> QueuedDownload:
    """The download of a number that is there."""
    row = connection.execute("SELECT * FROM download WHERE id = ?", (number,)).fetchone()
    return download_of(row)


def give_back(
    connection: sqlite3.Connection, runner: str | None, number: int | None = None
) -> None:
    """What a runner leaves is queued, paused or cancelled, as was asked of it."""
    connection.execute(
        "UPDATE download SET state = iif(wish IS NULL, 'queued', 'paused'), runner = NULL,"
        " wish = nullif(wish, 'pause')"
        " WHERE runner IS ? AND state = 'running' AND (? IS NULL OR id = ?)",
        (runner, number, number),
    )


def now() -> str:
    """Shown to people only: nothing is decided by it."""
    return datetime.now(UTC).isoformat(timespec="seconds")

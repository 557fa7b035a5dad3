"""The connection to the database: how it is set up, checked, migrated, and how its failures read.

SQLite runs with a write-ahead log, so that readers never wait; a writer takes its lock at the
beginning of its transaction (`BEGIN IMMEDIATE`) and others wait for it, instead of failing when
two read transactions turn into writing ones.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import (
    Connection,
    Engine,
    FromClause,
    create_engine,
    event,
    exc,
    inspect,
    make_url,
    text,
)
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from converters.errors import AssetmgrError, BadValue
from registry.errors import LibraryUnusable
from registry.storage import new_tables
from registry.storage.backup import back_up, backups
from registry.storage.in_place import InPlace
from registry.storage.revision import REVISION

BUSY_SECONDS = 15
"""How long a writer waits for another program that is writing."""

CACHE_KIB = 1 << 12
"""Memory for pages that were read, of each connection. The system keeps the pages of files anyway:
over 100,000 assets sixteen times as much made no search a tenth faster, and the terminal UI twice
as large; half as much costs searches for words a quarter more."""

LOST_SECONDS = 300
"""How long a server waits for a program in the middle of a transaction."""

_WRITES = "registry_writes"
_READS: dict[str, dict[str, Any]] = {
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
}
"""How transactions see one state of a library; those of SQLite always do."""

_WAITING = ("postgresql", "postgresql+psycopg")
_LOCK = 0x4173_7365_746D_6772  # "Assetmgr"
_NUL = "cannot contain NUL"
_DAMAGED = (
    "save what was typed with assetmgr export, if that can still be read;"
    " move it away, with its -wal and -shm, and scan again"
)
_DRIVER_CAUSES = (
    ("locked", "is locked by another program", "close it or try again later"),
    ("readonly", "is read-only", "check the permissions of the file and its folder"),
    ("not a database", "is not a library database, or is corrupt", _DAMAGED),
    ("malformed", "is corrupt", _DAMAGED),
    ("unable to open", "cannot be opened", "check that its folder exists and can be written"),
    ("disk is full", "cannot grow: the disk is full", None),
    ("disk I/O", "cannot be written: the disk is full, or broken", "make room, or check the disk"),
    ("lock timeout", "is locked by another program", "close it or try again later"),
    ("read-only transaction", "is read-only", "ask its owner for permission to write"),
    ("permission denied", "is not open to this user", "ask its owner for permission"),
    ("password", "refuses the password", "check user and password in the URL"),
    ("does not exist", "does not exist on the server", "make it with createdb"),
    ("connection", "cannot be reached", "is the server running at this address?"),
    ("failed to resolve", "cannot be reached", "is the server running at this address?"),
)
"""Part of a driver's message -> our cause and hint (https://sqlite.org/rescode.html,
https://www.postgresql.org/docs/current/errcodes-appendix.html)."""


class Database:
    """An engine whose transactions raise LibraryUnusable instead of driver errors.

    So they do when its file is not the one any more that was opened.
    """

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        self.name = name_of(self._url)
        _make_folder(self._url)
        _refuse_emptied(self.file)
        with self._translated():
            engine = _engine(self._url)
        self._engine = engine.execution_options(**_READS.get(engine.dialect.name, {}))
        self._writes = engine.execution_options(**{_WRITES: True})
        self._glances: Connection | None = None
        self.in_place = InPlace(None)  # of what is made now
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise
        self.in_place = InPlace(self.file)

    @property
    def file(self) -> Path | None:
        """Where SQLite keeps it; None for a database on a server or in memory."""
        return file_of(self._url)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the library."""
        self.in_place.require()
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write; nothing of it stays when it is left by an exception."""
        self.in_place.require()
        with self._translated(), self._writes.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def glancing(self) -> Iterator[Connection]:
        """As `reading`, for one thread alone: always by one connection, and waiting for no lock.

        So it can tell whether any other connection has written meanwhile.
        """
        self.in_place.require()
        with self._translated():
            if self._glances is None:
                self._glances = self._engine.connect()
                self._glances.connection.cursor().execute("PRAGMA busy_timeout = 0")
            with self._glances.begin():
                yield self._glances

    def close(self) -> None:
        """Close all connections."""
        if self._glances is not None:
            self._glances.close()
        self._engine.dispose()

    def _prepare(self) -> None:
        """Create or migrate the tables when they are not those of this program version."""
        with self.reading() as connection:
            current = _revision(connection)
        if current == REVISION:
            return
        self._use_write_ahead_log()
        with self._migrating() as connection:
            current = _revision(connection)
            if current == REVISION:  # another process was faster
                return
            tables = set(inspect(connection).get_table_names())
            if tables and "alembic_version" not in tables:
                raise LibraryUnusable("is the database of another program", path=self.name)
            if tables or self._url.get_backend_name() != "sqlite":
                self._migrate(connection, current)
            else:
                new_tables.build(connection)

    def _migrate(self, connection: Connection, current: str | None) -> None:
        from registry.migrations import knows, upgrade

        if current is not None and knows(current) and self.file is not None:
            back_up(self.file, current)
        upgrade(connection)

    @contextlib.contextmanager
    def _migrating(self) -> Iterator[Connection]:
        """A writing transaction that may build tables anew: without foreign keys in SQLite.

        They can only be switched between transactions, and what hangs on a table that is dropped
        would go with it (https://sqlite.org/lang_altertable.html#otheralter).
        """
        with self._translated(), self._writes.connect() as connection:
            driver = connection.connection.driver_connection
            with _without_foreign_keys(driver), connection.begin():
                yield connection

    def _use_write_ahead_log(self) -> None:
        """Kept by the file; the change itself cannot be made within a transaction."""
        if self._url.get_backend_name() != "sqlite":
            return
        with self._translated(), self._engine.connect() as connection:
            cursor = connection.connection.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.SQLAlchemyError as error:
            raise self._unusable(error) from error
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        except UnicodeEncodeError as error:
            raise BadValue(f"not valid text, it has no UTF-8 form: {error.object!r}") from error
        except LibraryUnusable as error:
            if error.path is None:
                error.path = self.name
            raise

    def _unusable(self, error: Exception) -> AssetmgrError:
        cause, hint = explain(error)
        if _NUL in cause:
            return BadValue("not valid text, it holds NUL")
        if hint == _DAMAGED and self.file is not None:
            hint = advice(self.file)
        return LibraryUnusable(cause, path=self.name, hint=hint)


def file_of(url: URL) -> Path | None:
    """The file of an SQLite database, which may be named by a URI (https://sqlite.org/uri.html)."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    if not url.database.startswith("file:"):
        return Path(url.database)
    return Path(unquote(url.database.removeprefix("file:").partition("?")[0]))


def advice(file: Path) -> str:
    """What to do about a database that is damaged."""
    kept = backups(file)
    if not kept:
        return _DAMAGED
    return (
        "save what was typed with assetmgr export, if that can still be read;"
        f" move it away, with its -wal and -shm; put a backup in its place, {kept[0].name};"
        " and scan again"
    )


def name_of(url: URL) -> str:
    """What to call a database: the path of its file, or its URL without the password."""
    on_disk = url.get_backend_name() == "sqlite" and url.database
    return on_disk or url.render_as_string(hide_password=True)


def explain(error: Exception) -> tuple[str, str | None]:
    """The cause of a driver's error in one line, and a hint where there is one."""
    cause = str(error.orig if isinstance(error, exc.DBAPIError) else error)
    for part, reason, hint in _DRIVER_CAUSES:
        if part in cause:
            return reason, hint
    return f"cannot be used: {' '.join(cause.split())}", None


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except exc.ArgumentError as error:
        raise BadValue(f"not a database URL: {url}", hint="as in sqlite:////path/library.db") from (
            error
        )


def _make_folder(url: URL) -> None:
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith("file:"):
        return
    folder = Path(url.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryUnusable(
            f"its folder cannot be made: {error.strerror}", path=url.database
        ) from error


def _refuse_emptied(file: Path | None) -> None:
    """A library was there, as its backups show: SQLite would make a new one of nothing."""
    if file is not None and is_emptied(file):
        raise LibraryUnusable("is empty: its content is lost", path=str(file), hint=advice(file))


def is_emptied(file: Path) -> bool:
    """Whether nothing is left of a library that was migrated once."""
    return os.path.isfile(file) and not file.stat().st_size and bool(backups(file))  # noqa: PTH113


def _engine(url: URL) -> Engine:
    try:
        waiting = {"connect_timeout": BUSY_SECONDS} if url.drivername in _WAITING else {}
        # The connection used last is the one whose pages are in its memory.
        last_first = {"pool_use_lifo": True} if file_of(url) is not None else {}
        engine = create_engine(url, connect_args=waiting, json_serializer=_as_json, **last_first)
    except ImportError as error:
        hint = 'install "assetmgr[postgresql]"' if "psycopg" in str(error) else None
        raise LibraryUnusable(f"its driver is not installed: {error}", hint=hint) from error
    if engine.dialect.name == "sqlite":
        engine.dialect.statement_compiler = _Hinted
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
    elif engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _set_up_server)
        event.listen(engine, "begin", _begin_on_server)
    return engine


def _as_json(value: object) -> str:
    """Tuples, of texts and whole numbers, are written once: thousands of files have the same."""
    return _known_as_json(value) if isinstance(value, tuple) else json.dumps(value)


@functools.lru_cache(1024)
def _known_as_json(value: tuple[object, ...]) -> str:
    return json.dumps(value)


class _Hinted(SQLiteCompiler):
    """Writes hints behind tables: `INDEXED BY` (https://sqlite.org/lang_indexedby.html)."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        """The hint as it was given."""
        return text


def _set_up_server(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    """Waiting ends, and so does a transaction whose program was cut off from the server."""
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = '{BUSY_SECONDS}s'")
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{LOST_SECONDS}s'")
    cursor.close()
    connection.commit()


def _begin_on_server(connection: Connection) -> None:
    """One writer at a time, as in SQLite: what one has looked up stays true until it writes."""
    if connection.get_execution_options().get(_WRITES, False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def _set_up(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver does
    for setting in (
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        "foreign_keys = ON",
        f"cache_size = -{CACHE_KIB}",
        "wal_autocheckpoint = 8000",
        "synchronous = NORMAL",  # with a write-ahead log a power cut loses at most the last commits
    ):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _without_foreign_keys(driver: object) -> Iterator[None]:
    if not isinstance(driver, sqlite3.Connection):
        yield
        return
    driver.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys = ON")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

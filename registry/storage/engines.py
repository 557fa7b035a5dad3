"""Connections to a database: how they are set up, and how their transactions begin.

SQLite runs with a write-ahead log, so that readers never wait; a writer takes its lock at the
beginning of its transaction (`BEGIN IMMEDIATE`) and others wait for it, instead of failing when
two read transactions turn into writing ones.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, FromClause, create_engine, event
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from registry.errors import LibraryUnusable
from registry.storage.address import file_of

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


def make_engines(url: URL) -> tuple[Engine, Engine]:
    """One to read with and one to write with, which share their connections.

    The database need not be there yet. Raises LibraryUnusable without its driver.
    """
    engine = _engine(url)
    reads = engine.execution_options(**_READS.get(engine.dialect.name, {}))
    return reads, engine.execution_options(**{_WRITES: True})


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
def without_foreign_keys(driver: object) -> Iterator[None]:
    """A connection of SQLite that does not enforce them meanwhile; others are left as they are."""
    if not isinstance(driver, sqlite3.Connection):
        yield
        return
    driver.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys = ON")

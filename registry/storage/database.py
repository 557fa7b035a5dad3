"""The transactions of a library: in a database of its tables, with failures that are its own."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, exc, inspect, text

from converters.errors import AssetmgrError, BadValue
from registry.errors import LibraryUnusable
from registry.storage import new_tables
from registry.storage.address import file_of, make_folder, name_of, parse
from registry.storage.backup import back_up, is_emptied
from registry.storage.causes import DAMAGED, NUL, advice, explain
from registry.storage.engines import make_engines, without_foreign_keys
from registry.storage.in_place import InPlace
from registry.storage.revision import REVISION


class Database:
    """An engine whose transactions raise LibraryUnusable instead of driver errors.

    So they do when its file is not the one any more that was opened.
    """

    def __init__(self, url: str) -> None:
        self._url = parse(url)
        self.name = name_of(self._url)
        make_folder(self._url)
        _refuse_emptied(self.file)
        with self._translated():
            self._engine, self._writes = make_engines(self._url)
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
            with without_foreign_keys(driver), connection.begin():
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
        if NUL in cause:
            return BadValue("not valid text, it holds NUL")
        if hint == DAMAGED and self.file is not None:
            hint = advice(self.file)
        return LibraryUnusable(cause, path=self.name, hint=hint)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _refuse_emptied(file: Path | None) -> None:
    """A library was there, as its backups show: SQLite would make a new one of nothing."""
    if file is not None and is_emptied(file):
        raise LibraryUnusable("is empty: its content is lost", path=str(file), hint=advice(file))

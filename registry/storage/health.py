"""Whether a library's database is sound, looked at without opening it as a library.

Opening would create or migrate it; whoever asks for its health may be about to make a backup.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, create_engine, exc, inspect, make_url, text

from registry.storage.address import file_of, name_of
from registry.storage.backup import backups, is_emptied
from registry.storage.causes import advice, explain
from registry.storage.revision import REVISION
from registry.storage.write_ahead_log import losses

_MOST_PROBLEMS = 10
_PATIENCE = 2.0  # seconds for a database that another program has locked
_OUT_OF_REACH = "close programs that use it; check its address and permissions"
_FOREIGN = "name another with ASSETMGR_DATABASE_URL"
_NEWER = "update assetmgr"
_LOST = "scan again, and look at what was typed last; the rest is whole as it was before"


@dataclass(frozen=True, slots=True)
class Health:
    """What a look at a database found.

    `exists` is False for one that the next command will make. `revision` is that of its tables,
    `newest` that of this program. `bytes` is None where it is not known. `problems` have a `hint`.
    `backups` are the names of those beside it, the newest first.
    """

    name: str
    exists: bool
    revision: str | None = None
    bytes: int | None = None
    problems: tuple[str, ...] = ()
    hint: str | None = None
    newest: str = REVISION
    backups: tuple[str, ...] = ()

    @property
    def is_current(self) -> bool:
        """Whether it can be opened and stays as it is."""
        return self.exists and not self.problems and self.revision == self.newest


def examine(url: str) -> Health:
    """Look at the database at a SQLAlchemy URL, changing nothing; problems are in the answer."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        return _unusable("the database", "its address is not a database URL", _OUT_OF_REACH)
    if parsed.get_backend_name() == "sqlite":
        path = file_of(parsed) or Path()
        return replace(_sqlite(path), backups=tuple(kept.name for kept in backups(path)))
    return _server(url, name_of(parsed))


def _unusable(name: str, problem: str, hint: str) -> Health:
    return Health(name, exists=True, problems=(problem,), hint=hint)


def _sqlite(path: Path) -> Health:
    name = str(path)
    if not os.path.isfile(path):  # noqa: PTH113 - no exception for folders that are closed to us
        return Health(name, exists=False)
    if is_emptied(path):
        return _unusable(name, "is empty: its content is lost", advice(path))
    try:
        return _look_into(path, name)
    except sqlite3.OperationalError as error:
        return _unusable(name, str(error), _OUT_OF_REACH)
    except sqlite3.Error as error:
        return _unusable(name, str(error), advice(path))
    except OSError as error:
        return _unusable(name, f"cannot be read: {error.strerror}", _OUT_OF_REACH)


def _look_into(path: Path, name: str) -> Health:
    lost = losses(path)  # first: who opens the database removes what tells of it
    if lost is not None:
        return _unusable(name, f"{lost}: what was written last is lost", _LOST)
    nbytes = sum(os.stat(part).st_size for part in _files(path))
    place = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(place, uri=True, timeout=_PATIENCE)) as database:
        if not _tables(database):
            return Health(name, exists=False)
        damages, revision = _damages(database), _stored_revision(database)
    if damages:
        problems = tuple(damages)
        hint = advice(path)
        return Health(name, True, revision, bytes=nbytes, problems=problems, hint=hint)
    return _of_revision(name, revision, nbytes)


def _files(path: Path) -> Iterator[Path]:
    """A SQLite database with its write-ahead log (https://sqlite.org/wal.html)."""
    yield path
    yield from (part for ending in ("-wal", "-shm") if (part := Path(f"{path}{ending}")).exists())


def _of_revision(name: str, revision: str | None, nbytes: int | None = None) -> Health:
    """A sound database, if its tables are ours."""
    if revision is None:
        return _unusable(name, "is not a library", _FOREIGN)
    if revision != REVISION:
        from registry.migrations import knows

        if not knows(revision):
            return _unusable(name, "was made by a newer version of the program", _NEWER)
    return Health(name, exists=True, revision=revision, bytes=nbytes)


def _tables(database: sqlite3.Connection) -> set[str]:
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {str(name) for (name,) in found}


def _stored_revision(database: sqlite3.Connection) -> str | None:
    if "alembic_version" not in _tables(database):
        return None
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _damages(database: sqlite3.Connection) -> list[str]:
    """What SQLite finds in its pages, and rows that refer to rows that are not there."""
    found = database.execute(f"PRAGMA integrity_check({_MOST_PROBLEMS})").fetchall()
    damages = [str(message) for (message,) in found if message != "ok"]
    loose = database.execute("PRAGMA foreign_key_check").fetchmany(_MOST_PROBLEMS)
    return damages + [f"row {row[1]} of {row[0]} refers to a lost row of {row[2]}" for row in loose]


def _server(url: str, name: str) -> Health:
    try:
        engine = create_engine(url)
    except (ImportError, exc.SQLAlchemyError) as error:
        return _unusable(name, f"no driver for it: {error}", _OUT_OF_REACH)
    try:
        with engine.connect() as connection:
            tables = inspect(connection).get_table_names()
            revision = _server_revision(connection) if "alembic_version" in tables else None
    except exc.SQLAlchemyError as error:
        cause, hint = explain(error)
        return _unusable(name, cause, hint or _OUT_OF_REACH)
    finally:
        engine.dispose()
    return _of_revision(name, revision) if tables else Health(name, exists=False)


def _server_revision(connection: Connection) -> str | None:
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)

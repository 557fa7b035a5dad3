"""Whether a library's database is sound, looked at without opening it as a library.

Opening would create or migrate it; whoever asks for its health may be about to make a backup.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, exc, make_url, select, text

from registry import schema

_MOST_PROBLEMS = 10
_BESIDE = ("", "-wal", "-shm")
"""The files of a SQLite database (https://sqlite.org/wal.html)."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a look at a database found.

    `exists` is False for one that the next command will make. `revision` is that of its tables,
    None for none of ours; `newest` that of this program. `bytes` is None where it is not known.
    """

    name: str
    exists: bool
    revision: str | None = None
    bytes: int | None = None
    problems: tuple[str, ...] = ()
    newest: str = schema.REVISION

    @property
    def is_current(self) -> bool:
        """Whether it can be opened and stays as it is."""
        return self.exists and not self.problems and self.revision == self.newest


def examine(url: str) -> Health:
    """Look at the database at a SQLAlchemy URL, changing nothing; problems are in the answer."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        return Health("the database", exists=False, problems=("its address is not a database URL",))
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(Path(parsed.database or ""))
    return _server(url, parsed.render_as_string())


def preview_pictures(connection: Connection) -> dict[int, tuple[str, ...]]:
    """The pictures of all previews, by asset."""
    preview = schema.preview.c
    rows = connection.execute(select(preview.asset_id, preview.path, preview.thumbnail))
    return {row.asset_id: tuple(path for path in (row.path, row.thumbnail) if path) for row in rows}


def _sqlite(path: Path) -> Health:
    if not path.is_file():
        return Health(str(path), exists=False)
    parts = (Path(f"{path}{ending}") for ending in _BESIDE)
    nbytes = sum(part.stat().st_size for part in parts if part.exists())
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            revision = _stored_revision(database)
            problems = (*_damages(database), *_strangeness(revision))
            return Health(
                str(path), exists=True, revision=revision, bytes=nbytes, problems=problems
            )
    except sqlite3.Error as error:
        return Health(str(path), exists=True, bytes=nbytes, problems=(str(error),))


def _stored_revision(database: sqlite3.Connection) -> str | None:
    table = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
    if not database.execute(table).fetchone()[0]:
        return None
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _strangeness(revision: str | None) -> tuple[str, ...]:
    if revision is None or revision == schema.REVISION:
        return ()
    from registry.migrations import knows

    return () if knows(revision) else ("was made by a newer version of the program",)


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
        return Health(name, exists=False, problems=(f"no driver for it: {error}",))
    try:
        with engine.connect() as connection:
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except exc.SQLAlchemyError as error:
        cause = str(error.orig if isinstance(error, exc.DBAPIError) else error)
        return Health(name, exists=True, problems=(cause.strip(),))
    finally:
        engine.dispose()
    return Health(name, exists=True, revision=revision, problems=_strangeness(revision))

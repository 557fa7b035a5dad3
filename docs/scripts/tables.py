"""The script that makes a new SQLite library, from what all migrations together make.

`python -m docs.scripts.tables` writes it; a test compares it with what it would write.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine

from registry.migrations import upgrade
from registry.storage import new_tables

_MADE = "-- made by docs/scripts/tables.py from the migrations: change those"
_STATEMENTS = """
    SELECT sql || ';' FROM sqlite_master
    WHERE sql IS NOT NULL AND name NOT IN (SELECT name FROM pragma_table_list WHERE type = 'shadow')
    ORDER BY type = 'trigger', type = 'index', iif(type = 'index', name, rowid)
"""
"""Indexes by name: some migrations make them in any order. Those of triggers may matter."""


def script(migrated: Path) -> str:
    """The statements that make what a library has that was made by the migrations."""
    with closing(sqlite3.connect(migrated)) as database:
        statements = [sql for (sql,) in database.execute(_STATEMENTS)]
        (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    stamp = f"INSERT INTO alembic_version (version_num) VALUES ('{revision}');"
    return re.sub(r" +$", "", "\n".join([_MADE, *statements, stamp, ""]), flags=re.MULTILINE)


def migrate(path: Path) -> None:
    """Make a library by all migrations."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()


def main() -> None:
    """Write the script."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.db"
        migrate(path)
        new_tables.SCRIPT.write_text(script(path), encoding="utf-8")


if __name__ == "__main__":
    main()

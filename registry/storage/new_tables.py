"""The tables of a new SQLite library, made at once.

The migrations make the same ones; going through all of them takes Alembic and a third of a second,
as long as everything else that a first start does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection

SCRIPT = Path(__file__).with_name("new_tables.sql")
"""Made by `docs/scripts/tables.py`."""


def build(connection: Connection) -> None:
    """Make all tables, within the connection's transaction."""
    for statement in _statements(SCRIPT.read_text(encoding="utf-8")):
        connection.exec_driver_sql(statement)


def _statements(script: str) -> Iterator[str]:
    """Each statement; triggers hold several semicolons."""
    lines: list[str] = []
    for line in script.splitlines():
        lines.append(line)
        if sqlite3.complete_statement(joined := "\n".join(lines)):
            yield joined
            lines.clear()

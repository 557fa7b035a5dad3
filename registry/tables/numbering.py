"""Many rows at once, whose numbers are known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Table, func, insert, select

from registry.tables.writing import Values


def insert_numbered(
    connection: Connection, table: Table, rows: Mapping[str, Values]
) -> dict[str, int]:
    """Insert rows by what stands for them; gives their numbers.

    These are taken beforehand, while nobody else writes: to be told them, each row would have to be
    a statement of its own in SQLite.
    """
    if connection.dialect.name == "sqlite":
        first = connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one() + 1
        numbers: Sequence[int] = range(first, first + len(rows))
    else:
        next_one = func.nextval(func.pg_get_serial_sequence(table.name, "id"))
        many = select(next_one).select_from(func.generate_series(1, len(rows)))
        numbers = connection.execute(many).scalars().all()
    numbered = dict(zip(rows, numbers, strict=True))
    values = [{**row, "id": numbered[key]} for key, row in rows.items()]
    connection.execute(insert(table), values)
    return numbered

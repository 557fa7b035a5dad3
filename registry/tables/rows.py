"""Rows of tables by the assets they hang on, so many at once as one statement can take."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, Table, bindparam, select

from registry.tables import schema

BATCH = 500
"""Assets fetched by one statement: far below the number of parameters that any database allows."""

AnyRow = Row[Any]
_T = TypeVar("_T")


def batches(ids: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Numbers or keys in runs that one statement can take."""
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))


def tags_of(connection: Connection, ids: Sequence[int]) -> defaultdict[int, tuple[str, ...]]:
    """The tags of assets, by number."""
    return grouped(connection, schema.tag, "asset_id", ids, lambda row: str(row.name))


def grouped(
    connection: Connection,
    table: Table,
    owner: str,
    ids: Sequence[int],
    make: Callable[[AnyRow], _T],
) -> defaultdict[int, tuple[_T, ...]]:
    """What a table holds for some assets, in its own order."""
    found: defaultdict[int, list[_T]] = defaultdict(list)
    column, statement = table.c[owner], _rows_of(table, owner)
    for some in batches(ids):
        for row in connection.execute(statement, {"ids": list(some)}):
            found[row._mapping[column]].append(make(row))  # noqa: SLF001 - SQLAlchemy's public name
    return defaultdict(tuple, {asset_id: tuple(rows) for asset_id, rows in found.items()})


@functools.cache
def _rows_of(table: Table, owner: str) -> Select[Any]:
    """Made once: putting a statement together takes longer than SQLite needs for it."""
    wanted = table.c[owner].in_(bindparam("ids", expanding=True))
    return select(table).where(wanted).order_by(*table.primary_key)

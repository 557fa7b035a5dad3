"""How many assets there are of those that are alike, from counts that the database keeps itself.

Everything that lists are filtered by, but words, paths, tags, hashes and sizes, takes few values
together: thousands of groups for a hundred thousand assets. So no asset is read to count them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Text, cast, func, select
from sqlalchemy.sql.visitors import ExternallyTraversible, replacement_traverse

from registry.query import All
from registry.query.terms import (
    Algorithm,
    Duplicate,
    Is,
    Missing,
    Not,
    Number,
    Offline,
    PreviewVerdict,
    Safety,
    Term,
    Unsafe,
)
from registry.tables import schema

_group = schema.alike.c
_OF_GROUPS = (Algorithm, Duplicate, Is, Missing, Offline, PreviewVerdict, Safety, Unsafe)
_UNKNOWN = dict.fromkeys(("variant", "container", "layout", "verdict"), "") | {"rating": -1}
COLUMNS: dict[Any, ColumnElement[Any]] = {
    schema.asset.c[name]: func.nullif(column, _UNKNOWN[name]) if name in _UNKNOWN else column
    for name, column in _group.items()
    if name in schema.asset.c and name != "id"
}
"""What columns of `asset` are called here."""

MARK = 1


def tells(query: All) -> bool:
    """Whether the groups tell how many assets match."""
    return all(map(is_of_groups, query.terms))


def number(connection: Connection, query: All) -> int:
    """How many assets match a query of which the groups tell."""
    total = select(func.coalesce(func.sum(_group.number), 0)).where(matching(query))
    found: int = connection.execute(total).scalar_one()
    return found


def by(connection: Connection, query: All, column: ColumnElement[Any]) -> Sequence[tuple[Any, int]]:
    """The values of a column of `asset`, and how many matching assets have each of them."""
    value = COLUMNS[column]
    statement = select(value, func.sum(_group.number)).where(matching(query)).group_by(value)
    return [(found, count) for found, count in connection.execute(statement) if count]


def groups(connection: Connection, query: All, *columns: str) -> Iterator[tuple[Any, ...]]:
    """The values of columns that matching assets have together, and how many have them."""
    values = [COLUMNS[schema.asset.c[name]] for name in columns]
    statement = select(*values, func.sum(_group.number)).where(matching(query), _group.number > 0)
    yield from map(tuple, connection.execute(statement.group_by(*values)))


def marks(connection: Connection, query: All) -> bytes:
    """A byte for each number of a group, from 0 on: MARK where its assets match."""
    joined = func.aggregate_strings(cast(_group.id, Text), ",")
    found: str | None = connection.execute(select(joined).where(matching(query))).scalar_one()
    numbers = [int(number) for number in found.split(",")] if found else []
    marked = bytearray(max(numbers, default=0) + 1)
    for number in numbers:
        marked[number] = MARK
    return bytes(marked)


def is_of_groups(term: Term) -> bool:
    """Whether assets that are alike match a term together."""
    if isinstance(term, Not):
        return is_of_groups(term.term)
    return isinstance(term, _OF_GROUPS) or (isinstance(term, Number) and term.column == "rating")


def matching(query: All) -> ColumnElement[bool]:
    """The condition on rows of `alike`."""
    clause: ColumnElement[bool] = replacement_traverse(query.clause(), {}, _as_group)
    return clause


def _as_group(element: ExternallyTraversible, **_: object) -> ColumnElement[Any] | None:
    return COLUMNS.get(element) if isinstance(element, Column) else None

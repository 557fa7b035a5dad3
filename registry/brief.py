"""What a query finds among all assets, from the few bytes that the table `brief` has of each.

Every query can be asked of `brief`: it has the number of an asset, which texts, paths, tags and
hashes give, its size, and which group of `alike` it is in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Subquery,
    func,
    literal_column,
    select,
)
from sqlalchemy.sql.visitors import ExternallyTraversible, replacement_traverse

from registry import alike, schema
from registry.query import All
from registry.text import BETWEEN

_brief, _group = schema.brief.c, schema.alike.c
_LOOKED_THROUGH = literal_column("+brief.alike_id", _brief.alike_id.type)
"""Looked for in no index (https://sqlite.org/optoverview.html): words find fewer assets than groups
have, most often."""


def count(connection: Connection, query: All) -> int:
    """How many assets match."""
    found: int = connection.execute(_of(query, func.count())).scalar_one()
    return found


def asset_ids(query: All) -> Select[tuple[int]]:
    """The numbers of the assets that match, in no order."""
    return _of(query, _brief.asset_id)


def by(connection: Connection, query: All, column: ColumnElement[Any]) -> Sequence[tuple[Any, int]]:
    """The values of a column of `asset`, and how many matching assets have each of them."""
    tally, value = _tally(query), alike.COLUMNS[column]
    statement = select(value, func.sum(tally.c.number)).select_from(_with_groups(tally))
    return [(found, number) for found, number in connection.execute(statement.group_by(value))]


def groups(
    connection: Connection, query: All, *columns: str
) -> tuple[Sequence[tuple[Any, ...]], Counter[str]]:
    """Values that matching assets have together, with their number; and the tags they have."""
    tally = _tally(query, func.aggregate_strings(_brief.tags, BETWEEN).label("tags"))
    values = [alike.COLUMNS[schema.asset.c[name]] for name in columns]
    statement = select(*values, tally.c.number, tally.c.tags).select_from(_with_groups(tally))
    rows = list(map(tuple, connection.execute(statement).all()))
    tags = Counter(BETWEEN.join(row[-1] for row in rows).split(BETWEEN))
    del tags[""]  # of assets without any
    return [row[:-1] for row in rows], tags


def _of(query: All, *columns: ColumnElement[Any]) -> Select[Any]:
    grouped = All(tuple(filter(alike.is_of_groups, query.terms)))
    others = All(tuple(term for term in query.terms if term not in grouped.terms))
    clause = replacement_traverse(others.clause(), {}, _as_brief)
    statement = select(*columns).select_from(schema.brief)
    if grouped.terms:  # first, as it is asked of each row: it takes less than to look for a word
        group = _LOOKED_THROUGH if others.terms else _brief.alike_id
        within = select(_group.id).where(alike.matching(grouped))
        statement = statement.where(group.in_(within))
    return statement.where(clause)


def _tally(query: All, *more: ColumnElement[Any]) -> Subquery:
    number = func.count().label("number")
    return _of(query, _brief.alike_id, number, *more).group_by(_brief.alike_id).subquery()


def _with_groups(tally: Subquery) -> Any:
    return tally.join(schema.alike, tally.c.alike_id == _group.id)


def _as_brief(element: ExternallyTraversible, **_: object) -> ColumnElement[Any] | None:
    return _COLUMNS.get(element) if isinstance(element, Column) else None


_COLUMNS: dict[Any, ColumnElement[Any]] = {
    schema.asset.c.id: _brief.asset_id,
    schema.asset.c.bytes: _brief.bytes,
}

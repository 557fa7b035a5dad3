"""What a query finds among all assets, from the few bytes that the table `brief` has of each.

Every query can be asked of `brief`: it has the number of an asset, which texts, paths, tags and
hashes give, its size, and which group of `alike` it is in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    Text,
    cast,
    func,
    literal,
    select,
)
from sqlalchemy.sql.visitors import ExternallyTraversible, replacement_traverse

from registry.query import All
from registry.query.contains import Tagged, is_indexed, listed, through_words
from registry.query.terms import Number, Term, Words
from registry.searching import alike
from registry.tables import schema
from registry.text import BETWEEN

_brief, _group = schema.brief.c, schema.alike.c
_NUMBERS = func.aggregate_strings(cast(_brief.asset_id, Text), ",")
_GROUPS = func.aggregate_strings(cast(_brief.alike_id, Text), ",")
"""Long texts: rows one by one take several times as long, and to sort them into groups, too."""


def count(connection: Connection, query: All) -> int:
    """How many assets match."""
    found: int = connection.execute(_of(connection, query, func.count())).scalar_one()
    return found


def asset_ids(connection: Connection, query: All) -> Select[tuple[int]]:
    """The numbers of the assets that match, in no order."""
    return _of(connection, query, _brief.asset_id)


def numbers(connection: Connection, query: All) -> Sequence[str]:
    """The numbers of the assets that match, read: to go on from them without looking again."""
    joined = connection.execute(_of(connection, query, _NUMBERS)).scalar_one()
    return joined.split(",") if joined else ()


def by(connection: Connection, query: All, column: ColumnElement[Any]) -> Sequence[tuple[Any, int]]:
    """The values of a column of `asset`, and how many matching assets have each of them."""
    tally = _of(connection, query, _brief.alike_id, func.count().label("number"))
    grouped = tally.group_by(_brief.alike_id).subquery()
    value = alike.COLUMNS[column]
    joined = grouped.join(schema.alike, grouped.c.alike_id == _group.id)
    statement = select(value, func.sum(grouped.c.number)).select_from(joined).group_by(value)
    return [(found, number) for found, number in connection.execute(statement)]


def numbers_by(
    connection: Connection, query: All, column: ColumnElement[Any]
) -> Mapping[Any, Sequence[str]]:
    """The values of a column of `asset`, and the numbers of the matching assets that have each."""
    joined = connection.execute(_of(connection, query, _NUMBERS, _GROUPS)).one()
    assets, groups = (part.split(",") if part else () for part in joined)
    values = {row[-1]: row[0] for row in _values(connection, set(groups), alike.COLUMNS[column])}
    found: dict[Any, list[str]] = {}
    for asset, group in zip(assets, groups, strict=True):
        found.setdefault(values[group], []).append(asset)
    return found


def groups(
    connection: Connection, query: All, *columns: str
) -> tuple[Sequence[tuple[Any, ...]], Counter[str]]:
    """Values that matching assets have together, with their number; and the tags they have."""
    tags = func.aggregate_strings(_brief.tags, BETWEEN)
    joined = connection.execute(_of(connection, query, _GROUPS, tags)).one()
    tally = _tally(joined[0], ",")
    values = (alike.COLUMNS[schema.asset.c[name]] for name in columns)
    rows = _values(connection, tally, *values)
    return [(*row[:-1], tally[row[-1]]) for row in rows], _tally(joined[1], BETWEEN)


def _tally(joined: str | None, between: str) -> Counter[str]:
    found = Counter((joined or "").split(between))
    del found[""]  # of no assets, or of those without any tag
    return found


def _values(
    connection: Connection, groups: Collection[str], *columns: ColumnElement[Any]
) -> Sequence[Sequence[Any]]:
    """The values of groups, and after them their numbers."""
    statement = select(*columns, cast(_group.id, Text))
    if connection.dialect.name == "sqlite":
        statement = statement.where(_group.id.in_(listed(groups)))
    return [tuple(row) for row in connection.execute(statement).all() if row[-1] in groups]


def _of(connection: Connection, query: All, *columns: ColumnElement[Any]) -> Select[Any]:
    """Rows of `brief`; where there are words, SQLite's index of them leads there."""
    grouped = All(tuple(filter(alike.is_of_groups, query.terms)))
    others = tuple(term for term in query.terms if term not in grouped.terms)
    words = _indexed(connection, others)
    if words:
        rows, has_words = through_words(
            (word.needle for word in words), schema.brief, _brief.asset_id
        )
        rest = All(tuple(term for term in others if term not in words))
        clause = replacement_traverse(rest.clause(), {}, _as_row_of_brief)
        statement = select(*columns).select_from(rows).where(has_words)
    else:
        clause = replacement_traverse(All(others).clause(), {}, _as_brief)
        statement = select(*columns).select_from(schema.brief)
    statement = statement.where(clause)
    if grouped.terms:
        statement = statement.where(_is_within(connection, grouped, others))
    return statement


def _is_within(connection: Connection, grouped: All, others: Sequence[Term]) -> ColumnElement[bool]:
    """A row is in one of some groups: found by the index of groups and sizes, or row by row."""
    if connection.dialect.name != "sqlite" or all(isinstance(term, Number) for term in others):
        return _brief.alike_id.in_(select(_group.id).where(alike.matching(grouped)))
    marks = literal(alike.marks(connection, grouped), LargeBinary)
    return func.substr(marks, _brief.alike_id + 1, 1) == literal(bytes([alike.MARK]), LargeBinary)


def _indexed(connection: Connection, terms: Sequence[Term]) -> Sequence[Words]:
    """The terms that SQLite's full-text index finds together."""
    if connection.dialect.name != "sqlite":
        return ()
    return [term for term in terms if isinstance(term, Words) and is_indexed(term.needle)]


def _as_brief(element: ExternallyTraversible, **_: object) -> ColumnElement[Any] | None:
    return _COLUMNS.get(element) if isinstance(element, Column) else None


def _as_row_of_brief(element: ExternallyTraversible, **_: object) -> ColumnElement[Any] | None:
    """Tags are looked for in the row, not among all assets that have them."""
    return element.among(_brief.tags) if isinstance(element, Tagged) else _as_brief(element)


_COLUMNS: dict[Any, ColumnElement[Any]] = {
    schema.asset.c.id: _brief.asset_id,
    schema.asset.c.bytes: _brief.bytes,
}

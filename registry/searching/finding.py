"""Which assets match a query, how many they are, and a page of them in an order.

SQLite's planner knows nothing of how often a filter holds, so the way is chosen here: pages of many
are found by going through an index in the order that is wanted, those of few by sorting them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    and_,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.sql.visitors import ExternallyTraversible, replacement_traverse

from registry.query import All, Order
from registry.query.contains import Found, listed, number_at, number_with
from registry.query.order import ORDERS
from registry.query.terms import (
    NO_VERDICT,
    Contradicted,
    Hash,
    Is,
    Not,
    Number,
    PathPart,
    PreviewVerdict,
    Tag,
    Term,
    Words,
)
from registry.searching import alike, brief
from registry.tables import schema
from registry.text import fold

_MANY = 2_000
"""From so many on, some are soon met in the order of an index."""

_FEW = 5_000
"""So many assets are looked at one by one before an index has told all that have a word."""

_asset, _facet = schema.asset.c, schema.facet.c
_INDEXES = {
    "name": schema.BY_NAME,
    "size": schema.BY_SIZE,
    "added": schema.BY_ADDED,
    "updated": schema.BY_UPDATED,
    "id": schema.BY_ID,
}
"""The index that has assets in an order; the other orders have few values, and names within."""

_BY_NAME = Order("name", descending=False)
_HAS: Mapping[str, Callable[[Any], Term]] = {
    "kind": lambda kind: Is("kind", kind),
    "base": lambda base: Is("base", base),
    "rating": lambda rating: (
        Not(Number("rating", ">=", 0)) if rating is None else Number("rating", "", rating)
    ),
    "verdict": lambda verdict: PreviewVerdict(verdict or NO_VERDICT),
}
"""An order of few values -> the term for the assets that have one of them."""

_FOUND_ELSEWHERE = (Words, PathPart, Tag, Hash, Contradicted)
"""Terms that are looked up in other tables, which give the numbers of assets."""

_ABOUT_ALL = select(func.coalesce(func.max(schema.brief.c.asset_id), 0))
"""The number of the latest asset: it takes no time, and only a way depends on it."""

_FROM_THE_FIRST = true()
_UNINDEXED = literal_column("+asset.id", _asset.id.type)


def page(
    connection: Connection, query: All, order: Order, limit: int | None, offset: int
) -> tuple[int, Sequence[int]]:
    """How many assets match, and the numbers of a page of them in their order."""
    if limit is None and not offset:
        ids = asset_ids(connection, query, order)
        return len(ids), ids
    if connection.dialect.name != "sqlite":
        return count(connection, query), asset_ids(connection, query, order, limit, offset)
    if order.word not in _INDEXES:
        return _by_value(connection, query, order, limit, offset)
    if _is_looked_up(query):
        found = brief.numbers(connection, query)
        return len(found), ids_of_page(connection, query, order, limit, offset, len(found), found)
    total = count(connection, query)
    return total, ids_of_page(connection, query, order, limit, offset, total)


def _is_looked_up(query: All) -> bool:
    """Whether words are looked for together with what other tables tell."""
    words = [term for term in query.terms if isinstance(term, Words)]
    return 0 < len(words) < len(query.terms) and _excluded(query) is None


def count(connection: Connection, query: All) -> int:
    """How many assets match; where indexes and kept counts tell it, no asset is looked at."""
    if alike.tells(query):
        return alike.number(connection, query)
    words = [term.needle for term in query.terms if isinstance(term, Words)]
    if len(words) == len(query.terms):
        return number_with(connection, words)
    if (excluded := _excluded(query)) is not None:
        rest = tuple(term for term in query.terms if term != excluded)
        without = count(connection, All((*rest, excluded.term)))
        return count(connection, All(rest)) - without
    match query.terms:
        case (PathPart(text),):
            return number_at(connection, fold(text))
        case (Tag(name),):
            return _number_tagged(connection, fold(name))
    return brief.count(connection, query)


def _excluded(query: All) -> Not | None:
    """The one term that excludes assets, where it takes less to count what it would leave out."""
    excluding = [
        term for term in query.terms if isinstance(term, Not) and not alike.is_of_groups(term)
    ]
    if len(excluding) != 1:
        return None
    others = [term for term in query.terms if term is not excluding[0]]
    is_told = all(isinstance(term, Words) for term in others) or not any(
        isinstance(term, _FOUND_ELSEWHERE) for term in others
    )
    return excluding[0] if is_told else None


def asset_ids(
    connection: Connection, query: All, order: Order, limit: int | None = None, offset: int = 0
) -> Sequence[int]:
    """The numbers of matching assets, in their order, as the database finds them by itself."""
    statement = _as_found(_ordered(query.clause(), order), query)
    return _ids(connection, statement, limit, offset)


def through_ids(statement: Select[Any]) -> Select[Any]:
    """In SQLite assets whose numbers are known are read from an index, not from their long rows."""
    return _through(schema.BY_ID, statement)


def through(order: Order, statement: Select[Any]) -> Select[Any]:
    """In SQLite assets are met in an order by going through its index."""
    return _through(_INDEXES[order.word], statement)


def first_met(
    connection: Connection, query: All, order: Order, limit: int, where: ColumnElement[bool]
) -> Sequence[int]:
    """The first that match among some assets, which are looked at one after the other."""
    clause = and_(where, replacement_traverse(query.clause(), {}, _one_by_one))
    return _ids(connection, through(order, _ordered(clause, order)), limit, 0)


def _through(index: str, statement: Select[Any]) -> Select[Any]:
    return statement.with_hint(schema.asset, f"INDEXED BY {index}", "sqlite")


def _number_tagged(connection: Connection, name: str) -> int:
    number = select(func.coalesce(func.sum(_facet.number), 0))
    number = number.where(_facet.name == "tag", _facet.value == name)
    found: int = connection.execute(number).scalar_one()
    return found


def _as_found(statement: Select[Any], query: All) -> Select[Any]:
    is_found = any(isinstance(term, _FOUND_ELSEWHERE) for term in query.terms)
    return through_ids(statement) if is_found else statement


def _by_value(
    connection: Connection, query: All, order: Order, limit: int | None, offset: int
) -> tuple[int, Sequence[int]]:
    """A page in an order of few values: of each the assets in the order of names."""
    parts = _parts(connection, query, order)
    total = sum(part.number for part in parts)
    rest = total if limit is None else limit
    ids: list[int] = []
    for part in _sorted(parts, order):
        if offset < part.number and len(ids) < rest:
            some = All((*query.terms, _HAS[order.word](part.value)))
            more = rest - len(ids)
            ids += ids_of_page(connection, some, _BY_NAME, more, offset, part.number, part.found)
        offset = max(0, offset - part.number)
    return total, ids


class _Part(NamedTuple):
    """The matching assets that have one value: how many, and which where that is known."""

    value: Any
    number: int
    found: Sequence[str] | None = None


def _parts(connection: Connection, query: All, order: Order) -> Sequence[_Part]:
    column = ORDERS[order.word]
    if any(isinstance(term, _FOUND_ELSEWHERE) for term in query.terms):
        found = brief.numbers_by(connection, query, column)
        return [_Part(value, len(numbers), numbers) for value, numbers in found.items()]
    counted = (alike if alike.tells(query) else brief).by(connection, query, column)
    return [_Part(value, number) for value, number in counted]


def _sorted(parts: Sequence[_Part], order: Order) -> Sequence[_Part]:
    """By their values, the unknown last."""
    known = [part for part in parts if part.value is not None]
    unknown = [part for part in parts if part.value is None]
    return [*sorted(known, key=attrgetter("value"), reverse=order.descending), *unknown]


def ids_of_page(
    connection: Connection,
    query: All,
    order: Order,
    limit: int | None,
    offset: int,
    expected: int,
    found: Sequence[str] | None = None,
    *,
    since: ColumnElement[bool] = _FROM_THE_FIRST,
) -> Sequence[int]:
    """A page of what matches, found in the way that is best where `expected` assets do.

    No more may match than that; where fewer do, only an `offset` of nothing is right. `found` are
    the numbers of those that do, where they are known. It begins with those that are `since`.
    """
    rest = max(0, expected - offset)
    limit = rest if limit is None else min(limit, rest)
    if not limit:
        return ()
    backwards = 2 * offset > expected
    if backwards:  # less is passed by from the end
        offset = expected - offset - limit
    is_soon_met = _is_soon_met(connection, expected, limit, offset)
    if is_soon_met or expected > _MANY:
        clause = query.clause() if is_soon_met or found is None else _is_among(found)
        clause = replacement_traverse(clause, {}, _one_by_one if is_soon_met else _in_order)
        index = _INDEXES[order.word]
    else:
        clause = _listed(connection, query) if found is None else _is_among(found)
        index = schema.BY_ID
    clause = and_(since, clause)
    statement = _through(index, _ordered(clause, order, backwards=backwards))
    ids = _ids(connection, statement, limit, offset)
    return ids[::-1] if backwards else ids


def _listed(connection: Connection, query: All) -> ColumnElement[bool]:
    """The asset is among those that match, of which there are few."""
    if all(isinstance(term, Words) for term in query.terms):
        return query.clause()
    return _asset.id.in_(brief.asset_ids(connection, query))


def _is_among(numbers: Sequence[str]) -> ColumnElement[bool]:
    return _asset.id.in_(listed(numbers))


def _is_soon_met(connection: Connection, expected: int, limit: int, offset: int) -> bool:
    """Whether the page is found among few assets, as they follow each other."""
    about_all: int = connection.execute(_ABOUT_ALL).scalar_one()
    return (offset + limit) * about_all <= _FEW * expected


def _in_order(element: ExternallyTraversible, **_: object) -> ColumnElement[Any] | None:
    """Keep SQLite from looking up all of many assets and sorting them: it goes through the index.

    A column with a plus is looked for in no index (https://sqlite.org/optoverview.html).
    """
    is_number = isinstance(element, Column) and element is _asset.id
    return _UNINDEXED if is_number else None


def _one_by_one(element: ExternallyTraversible, **options: object) -> ColumnElement[Any] | None:
    """What full-text indexes would find in all assets is looked for in those that are met."""
    return element.one_by_one if isinstance(element, Found) else _in_order(element, **options)


def _ordered(
    clause: ColumnElement[bool], order: Order, *, backwards: bool = False
) -> Select[tuple[int]]:
    return select(_asset.id).where(clause).order_by(*order.columns(backwards=backwards))


def _ids(
    connection: Connection, statement: Select[Any], limit: int | None, offset: int
) -> Sequence[int]:
    part = statement if limit is None else statement.limit(limit)
    return connection.execute(part.offset(offset) if offset else part).scalars().all()

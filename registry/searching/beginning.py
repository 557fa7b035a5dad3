"""The first rows of a search, found without counting all: a list is shown before its number is.

To count what some letters find with a size or a kind takes SQLite longer than all else together.
Which way is best to the first rows, the most tells that there can be; and that is known at once.
Only to tell it of a single letter takes a while: that is looked for in the first assets before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    column,
    func,
    literal,
    select,
    table,
    true,
)

from registry.query import All, Order
from registry.query.order import ORDERS
from registry.query.terms import Number, Words
from registry.searching import alike, finding
from registry.tables import schema

_TRIGRAM = 3
_LAST = "\U0010ffff"
_WALKED = frozenset({"name", "size", "added", "updated", "id"})
_NEAR = 5_000
"""So many assets are looked at in their order before anything is counted."""
_MANY = 1 << 40
"""As a number of matches it has `finding` look at one asset after the other."""
_trigrams = table("asset_trigrams", column("term"), column("doc")).c

Found = tuple[int | None, Sequence[int]]
"""How many assets match, where that came to light, and the numbers of the first."""


def beginning(
    connection: Connection, query: All, order: Order, limit: int, since: int | None = None
) -> Found:
    """The first `limit` assets that match, and none of which comes before asset `since`."""
    if not _is_walked(connection, query, order):
        return finding.page(connection, query, order, limit, 0)
    start = true() if since is None else _at_or_after(order, _value_of(order, since))
    words = [term.needle for term in query.terms if isinstance(term, Words)]
    if max(map(len, words), default=0) == 1:
        return _near(connection, query, order, limit, start)
    at_most, is_exact = _at_most(connection, query, words)
    ids = finding.ids_of_page(connection, query, order, limit, 0, at_most, since=start)
    return at_most if is_exact else _if_all(ids, limit), ids


def _is_walked(connection: Connection, query: All, order: Order) -> bool:
    """Whether there is an index to go through, with all that is asked in it but words."""
    others = All(tuple(term for term in query.terms if not isinstance(term, Words | Number)))
    return connection.dialect.name == "sqlite" and order.word in _WALKED and alike.tells(others)


def _if_all(ids: Sequence[int], limit: int) -> int | None:
    return len(ids) if len(ids) < limit else None


def _near(
    connection: Connection, query: All, order: Order, limit: int, start: ColumnElement[bool]
) -> Found:
    """Those among the first assets, and what is lacking from the others."""
    end = connection.execute(_further(order, start)).scalar()
    near = start if end is None else and_(start, _before(order, end))
    ids = finding.first_met(connection, query, order, limit, near)
    if len(ids) == limit or end is None:
        return _if_all(ids, limit), ids
    words = [term.needle for term in query.terms if isinstance(term, Words)]
    at_most, _ = _at_most(connection, query, words)
    rest, far = limit - len(ids), _at_or_after(order, literal(end))
    ids = [*ids, *finding.ids_of_page(connection, query, order, rest, 0, at_most, since=far)]
    return _if_all(ids, limit), ids


def _value_of(order: Order, asset_id: int) -> ColumnElement[Any]:
    """What assets are ordered by first, of one of them."""
    one = select(ORDERS[order.word]).where(schema.asset.c.id == asset_id)
    return one.correlate(None).scalar_subquery()


def _further(order: Order, start: ColumnElement[bool]) -> Select[Any]:
    """What the first asset has that is no longer near."""
    first = ORDERS[order.word]
    some = select(first).where(start).order_by(first.desc() if order.descending else first.asc())
    return finding.through(order, some).limit(1).offset(_NEAR)


def _at_or_after(order: Order, value: ColumnElement[Any]) -> ColumnElement[bool]:
    first = ORDERS[order.word]
    return first <= value if order.descending else first >= value


def _before(order: Order, value: object) -> ColumnElement[bool]:
    first = ORDERS[order.word]
    return first > value if order.descending else first < value


def _at_most(connection: Connection, query: All, words: Sequence[str]) -> tuple[int, bool]:
    """No more assets match than this; and whether just as many do."""
    if alike.tells(query):
        return alike.number(connection, query), True
    if not words:
        return _MANY, False
    long = [word for word in words if len(word) >= _TRIGRAM]
    if long:
        number = finding.count(connection, All(tuple(map(Words, long))))
        return number, len(long) == len(query.terms)
    return _with_letters(connection, max(words, key=len)), False


def _with_letters(connection: Connection, needle: str) -> int:
    """What each of the trigrams that begin so finds, all added up."""
    number = select(func.coalesce(func.sum(_trigrams.doc), 0))
    end = needle.ljust(_TRIGRAM, _LAST)
    among = number.where(_trigrams.term >= needle, _trigrams.term <= end)
    found: int = connection.execute(among).scalar_one()
    return found

"""The first rows of a search, found without counting all: a list is shown before its number is.

To count what some letters find with a size or a kind takes SQLite longer than all else together.
Which way is best to the first rows, the most tells that there can be; and that is known at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, column, func, select, table

from registry import alike, finding
from registry.query import All, Order
from registry.query.terms import Number, Words

_TRIGRAM = 3
_LAST = "\U0010ffff"
_WALKED = frozenset({"name", "size", "added", "updated", "id"})
_MANY = 1 << 40
"""As a number of matches it has `finding` look at one asset after the other."""
_trigrams = table("asset_trigrams", column("term"), column("doc")).c

Found = tuple[int | None, Sequence[int]]
"""How many assets match, where that came to light, and the numbers of the first."""


def beginning(connection: Connection, query: All, order: Order, limit: int) -> Found:
    """The first `limit` assets that match."""
    at_most = _at_most(connection, query, order)
    if at_most is None:
        return finding.page(connection, query, order, limit, 0)
    ids = finding.ids_of_page(connection, query, order, limit, 0, at_most)
    return len(ids) if len(ids) < limit else None, ids


def _at_most(connection: Connection, query: All, order: Order) -> int | None:
    """No more assets match than this; None where it takes no longer to count them."""
    words = [term.needle for term in query.terms if isinstance(term, Words)]
    others = All(tuple(term for term in query.terms if not isinstance(term, Words | Number)))
    is_walked = connection.dialect.name == "sqlite" and order.word in _WALKED
    if not is_walked or alike.tells(query) or not alike.tells(others):
        return None
    if not words:
        return _MANY
    long = [word for word in words if len(word) >= _TRIGRAM]
    if len(long) == len(query.terms):
        return None
    if long:
        return finding.count(connection, All(tuple(map(Words, long))))
    return min(_with_letters(connection, word) for word in words)


def _with_letters(connection: Connection, needle: str) -> int:
    """What each of the trigrams that begin so finds, all added up."""
    number = select(func.coalesce(func.sum(_trigrams.doc), 0))
    end = needle.ljust(_TRIGRAM, _LAST)
    among = number.where(_trigrams.term >= needle, _trigrams.term <= end)
    found: int = connection.execute(among).scalar_one()
    return found

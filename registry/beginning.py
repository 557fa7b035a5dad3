"""The first rows of a search, found without counting all: a list is shown before its number is.

To count what some letters find with a size or a kind takes SQLite longer than all else together. Which
way is best to the first rows, the most tells that there can be; and that is known at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, column, func, select, table

from registry import alike, finding
from registry.query import All, Order
from registry.query.terms import Number, Words
from registry.text import needle

_TRIGRAM = 3
_LAST = "\U0010ffff"
_MANY = 1 << 40
"""As a number of matches it has `finding` look at one asset after the other."""
_trigrams = table("asset_trigrams", column("term"), column("doc")).c


def beginning(
    connection: Connection, query: All, order: Order, limit: int
) -> tuple[Sequence[int], int | None]:
    """The first `limit` assets that match, and how many match where that comes to light."""
    at_most, is_exact = _at_most(connection, query)
    ids = finding.asset_ids(connection, query, order, limit, 0, at_most)
    if len(ids) < limit:
        return ids, len(ids)
    return ids, at_most if is_exact else None


def _at_most(connection: Connection, query: All) -> tuple[int | None, bool]:
    """No more assets match than this, and whether just as many do."""
    if connection.dialect.name != "sqlite":
        return None, False
    words = tuple(term for term in query.terms if isinstance(term, Words))
    others = All(tuple(term for term in query.terms if not isinstance(term, Words | Number)))
    if alike.tells(query) or not alike.tells(others):
        return finding.count(connection, query), True
    if not words:
        return _MANY, False
    long = tuple(term for term in words if len(needle(term.text)) >= _TRIGRAM)
    if long:
        return finding.count(connection, All(long)), long == query.terms
    return min(_with_letters(connection, needle(term.text)) for term in words), False


def _with_letters(connection: Connection, needle: str) -> int:
    """What each of the trigrams that begin so finds, all added up."""
    end = needle.ljust(_TRIGRAM, _LAST)
    number = select(func.coalesce(func.sum(_trigrams.doc), 0))
    found: int = connection.execute(
        number.where(_trigrams.term >= needle, _trigrams.term <= end)
    ).scalar_one()
    return found

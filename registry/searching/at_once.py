"""First rows for whoever waits for them in the thread that draws, where SQLite has them that soon.

To hand a search of a few thousandths of a second to another thread and back takes longer than the
search: both threads want the interpreter, and what was drawn of the letter is drawn again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from registry.errors import LibraryUnusable
from registry.list_records import Beginning
from registry.query import All, Order, Term, parse, parse_order
from registry.query.terms import Words
from registry.searching.beginning import beginning
from registry.storage.database import Database
from registry.storage.stopping import ended_after
from registry.tables import listing

SECONDS = 0.05
"""How long a search may take: nobody sees that a letter comes by so much later. What takes longer
begins anew in another thread, so that less would make more letters late."""

_REST = 10
"""A search that takes longer is not tried again for so many times as long as it took."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found last, in one state of the library; `first` is None where nothing matches."""

    state: int
    query: All
    order: Order
    first: int | None


class AtOnce:
    """Searches one after the other, by one thread; each starts from what the one before told."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: _Known | None = None
        self._rests_until = 0.0

    def beginning(self, query: str, sort: str, limit: int) -> Beginning | None:
        """The first rows, or None where they are not found that soon. Raises BadValue."""
        wanted, order = parse(query), parse_order(sort)
        started = time.monotonic()
        if self._database.file is None or started < self._rests_until:
            return None
        try:
            return self._beginning(wanted, order, limit)
        except LibraryUnusable:  # out of time or locked; whatever it is, who may wait is told
            ended = time.monotonic()
            self._rests_until = ended + _REST * (ended - started)
            return None

    def _beginning(self, query: All, order: Order, limit: int) -> Beginning:
        with self._database.glancing() as connection, ended_after(connection, SECONDS):
            state = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
            known = self._known
            since = None
            if known and _tells(known, state, query, order):
                if known.first is None:
                    return Beginning(0, ())
                since = known.first
            total, ids = beginning(connection, query, order, limit, since)
            rows = listing.asset_rows(connection, ids)
        self._known = _Known(state, query, order, ids[0] if ids else None)
        return Beginning(total, rows)


def _tells(known: _Known, state: int, query: All, order: Order) -> bool:
    """Whether all that matches now is among what was found."""
    narrowed = all(any(_implies(new, old) for new in query.terms) for old in known.query.terms)
    return (known.state, known.order) == (state, order) and narrowed


def _implies(new: Term, old: Term) -> bool:
    """Whether what matches a term matches another one, as far as that is seen at once."""
    if isinstance(new, Words) and isinstance(old, Words):
        return old.needle in new.needle
    return new == old

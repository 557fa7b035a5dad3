"""The first rows of a list from the file of an SQLite library that is not open.

What opening a library brings with it takes twice as long to load as all else that showing a page
does. So this asks SQLite itself, for the queries that people ask most: words, `kind:` and `base:`.
Whatever it is not sure of is left to the library: other queries, other versions, damage, a page of
nothing. That both give the same is tested.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from registry.list_records import AssetRow, Page
from registry.storage.revision import REVISION
from registry.tables.row_values import row_of
from registry.text import word_needle

MOST = 1_000
"""Rows that are given at most: a longer list takes longer than opening the library."""

_FEW = 5_000
"""As in `finding`: so many assets are looked at one by one before words are looked up."""
_TRIGRAM = 3
_BUSY_SECONDS = 0.2

_TERM = re.compile(r"(?:(?P<column>kind|base):(?P<value>[a-z0-9-]+)|(?P<word>[^\s:\"-][^\s:\"]*))")
_ORDERS: Mapping[str, tuple[str, str]] = {
    "name": ("ix_asset_by_name", "name_folded, id"),
    "-name": ("ix_asset_by_name", "name_folded DESC, id DESC"),
    "size": ("ix_asset_by_size", "bytes, name_folded, id"),
    "-size": ("ix_asset_by_size", "bytes DESC, name_folded, id"),
    "added": ("ix_asset_by_added", "added, name_folded, id"),
    "-added": ("ix_asset_by_added", "added DESC, name_folded, id"),
}
"""The index that has assets in an order, and the order."""

_NUMBER_OF_GROUPS = "SELECT sum(number) FROM alike WHERE %s"
_NUMBER_WITH_WORDS = "SELECT count(*) FROM asset_words WHERE asset_words MATCH ?"
_NUMBER_WITH_BOTH = """
    SELECT count(*) FROM asset_words JOIN brief ON brief.asset_id = +asset_words.rowid
    WHERE asset_words MATCH ? AND brief.alike_id IN (SELECT id FROM alike WHERE %s)
"""
_ABOUT_ALL = "SELECT coalesce(max(id), 0) FROM asset"
_HAS_TEXT = "EXISTS (SELECT 1 FROM asset_search WHERE asset_id = asset.id%s)"
_IS_FOUND = "id IN (SELECT rowid FROM asset_words WHERE asset_words MATCH ?)"
_IDS = "SELECT id FROM asset INDEXED BY %s WHERE %s AND %s ORDER BY %s LIMIT ? OFFSET ?"
_ROWS = """
    SELECT asset.id, name, kind, base, variant, CAST(algorithm AS TEXT), container, asset.bytes,
        rating, brief.tags, state, asset.verdict, thumbnail, safety, added
    FROM asset JOIN brief ON brief.asset_id = asset.id
    LEFT JOIN preview ON preview.asset_id = asset.id
    WHERE asset.id IN (SELECT value FROM json_each(?))
"""


class _Asked(NamedTuple):
    """What a query asks for: values of columns, and folded words of three letters or more."""

    values: tuple[tuple[str, str], ...]
    words: tuple[str, ...]

    @property
    def condition(self) -> str:
        """On rows of `asset`, and of `alike`, which have these columns, too."""
        return " AND ".join(["1", *(f"{column} = ?" for column, _ in self.values)])

    @property
    def parameters(self) -> list[str]:
        """Those of the condition."""
        return [value for _, value in self.values]

    @property
    def match(self) -> str:
        """All words, as FTS5 is asked for them."""
        return " AND ".join(f'"{word}"' for word in self.words)


def first_page(
    database: Path, query: str, sort: str, limit: int | None, offset: int
) -> Page | None:
    """The page that the library's search would give; None where that is to be asked."""
    asked = _asked(query)
    if asked is None or sort not in _ORDERS or offset + (limit or 0) > MOST:
        return None
    try:
        with contextlib.closing(_opened(database)) as connection:
            return _page(connection, asked, sort, limit, offset)
    except (sqlite3.Error, ValueError):
        return None


def _asked(query: str) -> _Asked | None:
    values: list[tuple[str, str]] = []
    words: list[str] = []
    for term in query.split():
        match = _TERM.fullmatch(term)
        if match is None:
            return None
        if match["column"]:
            values.append((match["column"], match["value"]))
            continue
        words.append(word_needle(match["word"]))
        if len(words[-1]) < _TRIGRAM:
            return None
    return _Asked(tuple(values), tuple(words))


def _opened(database: Path) -> sqlite3.Connection:
    """For reading, in one state; the file must be there."""
    address = f"{database.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    connection.execute("BEGIN")
    return connection


def _page(
    connection: sqlite3.Connection, asked: _Asked, sort: str, limit: int | None, offset: int
) -> Page | None:
    revisions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    if revisions != [(REVISION,)]:
        return None
    total = _number(connection, asked)
    if not total or (limit is None and total > MOST):
        return None
    ids = _ids(connection, asked, sort, total, (total if limit is None else limit, offset))
    return Page(total, _rows(connection, ids))


def _number(connection: sqlite3.Connection, asked: _Asked) -> int:
    if not asked.words:
        counted, parameters = _NUMBER_OF_GROUPS % asked.condition, asked.parameters
    elif not asked.values:
        counted, parameters = _NUMBER_WITH_WORDS, [asked.match]
    else:
        counted, parameters = _NUMBER_WITH_BOTH % asked.condition, [asked.match, *asked.parameters]
    return connection.execute(counted, parameters).fetchone()[0] or 0


def _ids(
    connection: sqlite3.Connection, asked: _Asked, sort: str, total: int, part: tuple[int, int]
) -> Sequence[int]:
    """The assets of a page: met one by one in their order, or, where few match, looked up."""
    index, order = _ORDERS[sort]
    words: list[str] = list(asked.words)
    found = _HAS_TEXT % "".join(" AND instr(text, ?) > 0" for _ in words) if words else "1"
    (last,) = connection.execute(_ABOUT_ALL).fetchone()
    if words and sum(part) * last > _FEW * total:
        index, words, found = "ix_asset_by_id", [asked.match], _IS_FOUND
    statement = _IDS % (index, asked.condition, found, order)
    numbers = connection.execute(statement, [*asked.parameters, *words, *part])
    return [number for (number,) in numbers]


def _rows(connection: sqlite3.Connection, ids: Sequence[int]) -> tuple[AssetRow, ...]:
    found = connection.execute(_ROWS, (f"[{','.join(map(str, ids))}]",))
    rows = {row[0]: row_of((*row[:-1], datetime.fromisoformat(row[-1]))) for row in found}
    return tuple(rows[number] for number in ids)

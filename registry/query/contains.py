"""Finding assets by a part of a text: through the index of the database where that has one.

SQLite keeps the trigrams of the search texts in FTS5 (https://sqlite.org/fts5.html), PostgreSQL in
an index that LIKE uses by itself.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    column,
    func,
    literal,
    select,
    table,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal

from registry import schema

_TRIGRAM = 3
_LAST = "\U0010ffff"
_words = table("asset_words", column("rowid"), column("asset_words"))
_path_words = table("file_words", column("rowid"), column("file_words"))
_trigrams = table("asset_trigrams", column("term"))


class _Found(ColumnElement[bool]):
    """The asset is among those that a statement selects, which is another one in SQLite."""

    inherit_cache = False
    _traverse_internals = [  # noqa: RUF012 - as all elements of SQLAlchemy declare it
        ("in_sqlite", InternalTraversal.dp_clauseelement),
        ("elsewhere", InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, in_sqlite: Select[Any], elsewhere: Select[Any]) -> None:
        self.in_sqlite = schema.asset.c.id.in_(in_sqlite)
        self.elsewhere = schema.asset.c.id.in_(elsewhere)


@compiles(_Found)
def _compile(element: _Found, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.elsewhere, **options)


@compiles(_Found, "sqlite")
def _compile_sqlite(element: _Found, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.in_sqlite, **options)


def search_text_contains(needle: str) -> ColumnElement[bool]:
    """The search text of the asset has this folded text in it."""
    scan = _scan(needle)
    return _Found(_matching(needle) if needle else scan, scan)


def path_contains(needle: str) -> ColumnElement[bool]:
    """The path of some file of the asset has this folded text in it."""
    file = schema.file.c
    scan = select(file.asset_id).where(file.path_folded.contains(needle, autoescape=True))
    if len(needle) < _TRIGRAM:  # paths do not end in breaks: not all their letters begin trigrams
        return schema.asset.c.id.in_(scan)
    found = select(_path_words.c.rowid).where(_path_words.c.file_words.op("MATCH")(_quoted(needle)))
    return _Found(select(file.asset_id).where(file.id.in_(found)), scan)


def number_with(connection: Connection, needle: str) -> int:
    """How many search texts have this folded text in them; each belongs to one asset."""
    indexed = needle and connection.dialect.name == "sqlite"
    found = (_matching(needle) if indexed else _scan(needle)).subquery()
    return connection.execute(select(func.count()).select_from(found)).scalar_one()


def _scan(needle: str) -> Select[Any]:
    search = schema.asset_search.c
    return select(search.asset_id).where(search.text.contains(needle, autoescape=True))


def _matching(needle: str) -> Select[Any]:
    """Rows of the full-text index; a text in quotes is a phrase, and quotes in it are doubled.

    Every letter of a text begins a trigram, so what is shorter is found in those that begin with
    it.
    """
    if len(needle) >= _TRIGRAM:
        wanted: ColumnElement[Any] = literal(_quoted(needle))
    else:
        term = _trigrams.c.term
        quoted = '"' + func.replace(term, '"', '""') + '"'
        known = select(func.group_concat(quoted, " OR ")).where(
            term >= needle, term <= needle.ljust(_TRIGRAM, _LAST)
        )
        wanted = func.coalesce(known.scalar_subquery(), '""')
    return select(_words.c.rowid).where(_words.c.asset_words.op("MATCH")(wanted))


def _quoted(needle: str) -> str:
    return '"' + needle.replace('"', '""') + '"'

"""Finding assets by a part of a text: through the index of the database where that has one.

SQLite keeps the trigrams of the search texts in FTS5 (https://sqlite.org/fts5.html), PostgreSQL in
an index that LIKE uses by itself.
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
    exists,
    func,
    literal,
    select,
    table,
    true,
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


class Found(ColumnElement[bool]):
    """The asset is among those that a statement selects, which is another one in SQLite.

    `one_by_one` means the same and looks at the texts of the asset alone: for whoever goes through
    assets and meets enough of them soon.
    """

    inherit_cache = False
    _traverse_internals = [  # noqa: RUF012 - as all elements of SQLAlchemy declare it
        ("in_sqlite", InternalTraversal.dp_clauseelement),
        ("elsewhere", InternalTraversal.dp_clauseelement),
    ]

    def __init__(
        self, in_sqlite: Select[Any], elsewhere: Select[Any], one_by_one: ColumnElement[bool]
    ) -> None:
        self.in_sqlite = schema.asset.c.id.in_(in_sqlite)
        self.elsewhere = schema.asset.c.id.in_(elsewhere)
        self.one_by_one = one_by_one


@compiles(Found)
def _compile(element: Found, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.elsewhere, **options)


@compiles(Found, "sqlite")
def _compile_sqlite(element: Found, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.in_sqlite, **options)


def search_text_contains(needles: Sequence[str]) -> ColumnElement[bool]:
    """The search text of the asset has each of these folded texts in it.

    The full-text index is asked once for all texts that are long enough for it: it goes through
    what they have in common far faster than the database through what each of them finds.
    """
    long = [needle for needle in needles if len(needle) >= _TRIGRAM]
    short = [[needle] for needle in needles if 0 < len(needle) < _TRIGRAM]
    asked = [long, *short] if long else short
    return and_(true(), *(Found(_matching(some), _scan(some), _has(some)) for some in asked))


def _has(needles: Sequence[str]) -> ColumnElement[bool]:
    """The search text of this one asset has these texts in it, by SQLite's own comparison."""
    search = schema.asset_search.c
    found = (func.instr(search.text, needle) > 0 for needle in needles)
    return exists().where(search.asset_id == schema.asset.c.id, *found)


def path_contains(needle: str) -> ColumnElement[bool]:
    """The path of some file of the asset has this folded text in it."""
    file = schema.file.c
    scan = select(file.asset_id).where(file.path_folded.contains(needle, autoescape=True))
    if len(needle) < _TRIGRAM:  # paths do not end in breaks: not all their letters begin trigrams
        return schema.asset.c.id.in_(scan)
    has = func.instr(file.path_folded, needle) > 0
    one_by_one = exists().where(file.asset_id == schema.asset.c.id, has)
    return Found(_assets_at(_paths_with(needle)), scan, one_by_one)


def number_with(connection: Connection, needles: Sequence[str]) -> int:
    """How many search texts have all of these folded texts in them; each belongs to one asset."""
    needles = [needle for needle in needles if needle]
    in_sqlite = connection.dialect.name == "sqlite"
    indexed = in_sqlite and needles and (_are_long(needles) or len(needles) == 1)
    found = (_matching(needles) if indexed else _scan(needles)).subquery()
    return connection.execute(select(func.count()).select_from(found)).scalar_one()


def number_at(connection: Connection, needle: str) -> int:
    """How many assets have a file with this folded text in its path."""
    file = schema.file.c
    if connection.dialect.name == "sqlite" and len(needle) >= _TRIGRAM:
        statement = _assets_at(_paths_with(needle))
    else:
        statement = select(file.asset_id).where(file.path_folded.contains(needle, autoescape=True))
    number = select(func.count()).select_from(statement.distinct().subquery())
    return connection.execute(number).scalar_one()


def _paths_with(needle: str) -> Select[Any]:
    words = _path_words.c
    return select(words.rowid).where(words.file_words.op("MATCH")(_quoted(needle)))


def _assets_at(files: Select[Any]) -> Select[Any]:
    """The assets of files whose numbers are known, from an index, not from the long rows."""
    assets = select(schema.file.c.asset_id).where(schema.file.c.id.in_(files))
    return assets.with_hint(schema.file, f"INDEXED BY {schema.FILE_BY_ID}", "sqlite")


def _are_long(needles: Sequence[str]) -> bool:
    return all(len(needle) >= _TRIGRAM for needle in needles)


def _scan(needles: Sequence[str]) -> Select[Any]:
    search = schema.asset_search.c
    clauses = (search.text.contains(needle, autoescape=True) for needle in needles)
    return select(search.asset_id).where(*clauses)


def _matching(needles: Sequence[str]) -> Select[Any]:
    """Rows of the full-text index; a text in quotes is a phrase, and quotes in it are doubled.

    Every letter of a text begins a trigram, so a single text that is shorter is found in those that
    begin with it.
    """
    if _are_long(needles):
        wanted: ColumnElement[Any] = literal(" AND ".join(map(_quoted, needles)))
    else:
        (needle,) = needles
        term = _trigrams.c.term
        quoted = '"' + func.replace(term, '"', '""') + '"'
        known = select(func.group_concat(quoted, " OR ")).where(
            term >= needle, term <= needle.ljust(_TRIGRAM, _LAST)
        )
        wanted = func.coalesce(known.scalar_subquery(), '""')
    return select(_words.c.rowid).where(_words.c.asset_words.op("MATCH")(wanted))


def _quoted(needle: str) -> str:
    return '"' + needle.replace('"', '""') + '"'

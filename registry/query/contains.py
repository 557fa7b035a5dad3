"""Finding assets by a part of a text: through the index of the database where that has one.

SQLite keeps the trigrams of the search texts in FTS5 (https://sqlite.org/fts5.html), PostgreSQL in
an index that LIKE uses by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    Table,
    and_,
    column,
    exists,
    func,
    literal,
    literal_column,
    select,
    table,
    true,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal

from registry.tables import schema
from registry.text import BETWEEN

_TRIGRAM = 3
_LAST = "\U0010ffff"
_words = table("asset_words", column("rowid"), column("asset_words"))
_path_words = table("file_words", column("rowid"), column("file_words"))
_trigrams = table("asset_trigrams", column("term"))
_WORDS_ROW = literal_column("+asset_words.rowid", Integer())
_PATHS_ROW = literal_column("+file_words.rowid", Integer())
"""Not the way into an index (https://sqlite.org/optoverview.html), so it is the way out of it."""


class Found(ColumnElement[bool]):
    """The asset is among those that a statement selects, which is another one in SQLite.

    `one_by_one` means the same and looks at the texts of the asset alone: for whoever goes through
    assets and meets enough of them soon. Only what is asked for is put together: that takes as long
    as SQLite needs for many an answer.
    """

    inherit_cache = False
    _traverse_internals = [  # noqa: RUF012 - as all elements of SQLAlchemy declare it
        ("in_sqlite", InternalTraversal.dp_clauseelement),
        ("elsewhere", InternalTraversal.dp_clauseelement),
    ]

    def __init__(
        self,
        in_sqlite: Callable[[], Select[Any]],
        elsewhere: Callable[[], Select[Any]],
        one_by_one: Callable[[], ColumnElement[bool]],
    ) -> None:
        self._ways = in_sqlite, elsewhere, one_by_one

    @cached_property
    def in_sqlite(self) -> ColumnElement[bool]:
        """What it is in SQLite."""
        return schema.asset.c.id.in_(self._ways[0]())

    @cached_property
    def elsewhere(self) -> ColumnElement[bool]:
        """What it is in other databases."""
        return schema.asset.c.id.in_(self._ways[1]())

    @property
    def one_by_one(self) -> ColumnElement[bool]:
        """The condition on the texts of one asset."""
        return self._ways[2]()


@compiles(Found)
def _compile(element: Found, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.elsewhere, **options)


@compiles(Found, "sqlite")
def _compile_sqlite(element: Found, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.in_sqlite, **options)


class Tagged(Found):
    """The asset has a tag: one of the few that `brief` lists of it, too."""

    inherit_cache = True

    def __init__(self, name: str) -> None:
        tag = schema.tag.c
        having = partial(select(tag.asset_id).where, tag.name == name)
        has = partial(exists().where, tag.asset_id == schema.asset.c.id, tag.name == name)
        super().__init__(having, having, has)
        self.name = name

    def among(self, tags: ColumnElement[str]) -> ColumnElement[bool]:
        """The tag is one of several with `BETWEEN` between them, by SQLite's own comparison."""
        whole = literal(BETWEEN) + tags + BETWEEN
        is_whole = func.instr(whole, f"{BETWEEN}{self.name}{BETWEEN}") > 0
        return and_(func.instr(tags, self.name) > 0, is_whole)  # few have it in any part


def search_text_contains(needles: Sequence[str]) -> ColumnElement[bool]:
    """The search text of the asset has each of these folded texts in it.

    The full-text index is asked once for all texts that are long enough for it: it goes through
    what they have in common far faster than the database through what each of them finds.
    """
    long = [needle for needle in needles if is_indexed(needle)]
    short = [[needle] for needle in needles if needle and not is_indexed(needle)]
    asked = [long, *short] if long else short
    found = (
        Found(partial(_matching, some), partial(_scan, some), partial(_has, some)) for some in asked
    )
    return and_(true(), *found)


def _has(needles: Sequence[str]) -> ColumnElement[bool]:
    """The search text of this one asset has these texts in it, by SQLite's own comparison."""
    search = schema.asset_search.c
    found = (func.instr(search.text, needle) > 0 for needle in needles)
    return exists().where(search.asset_id == schema.asset.c.id, *found)


def path_contains(needle: str) -> ColumnElement[bool]:
    """The path of some file of the asset has this folded text in it."""
    file = schema.file.c
    scan = select(file.asset_id).where(file.path_folded.contains(needle, autoescape=True))
    if not is_indexed(needle):  # paths do not end in breaks: not all their letters begin trigrams
        return schema.asset.c.id.in_(scan)
    has = func.instr(file.path_folded, needle) > 0
    one_by_one = partial(exists().where, file.asset_id == schema.asset.c.id, has)
    return Found(partial(_assets_at, needle, file.asset_id), lambda: scan, one_by_one)


def is_indexed(needle: str) -> bool:
    """Whether SQLite's full-text index finds a text of this length by itself."""
    return len(needle) >= _TRIGRAM


def through_words(
    needles: Iterable[str], to: Table, number: ColumnElement[int]
) -> tuple[FromClause, ColumnElement[bool]]:
    """In SQLite a table with numbers of assets joined to the index of words, and the condition.

    Each row is met as the index gives it; numbers that are looked for in a statement of their own
    are put in order before that, which takes as long again.
    """
    return _words.join(to, number == _WORDS_ROW), _words.c.asset_words.op("MATCH")(_all_of(needles))


def listed(numbers: Iterable[str]) -> Select[tuple[int]]:
    """Numbers as rows of SQLite: as many as there may be, unlike parameters."""
    return select(func.json_each(f"[{','.join(numbers)}]").table_valued("value").c.value)


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
    if connection.dialect.name == "sqlite" and is_indexed(needle):
        statement = _assets_at(needle, func.count(file.asset_id.distinct()))
    else:
        has = file.path_folded.contains(needle, autoescape=True)
        statement = select(func.count(file.asset_id.distinct())).where(has)
    found: int = connection.execute(statement).scalar_one()
    return found


def _assets_at(needle: str, column: ColumnElement[Any]) -> Select[Any]:
    """Of files with this text in their path, from an index, not from the long rows."""
    file, words = schema.file, _path_words
    statement = select(column).select_from(words.join(file, file.c.id == _PATHS_ROW))
    statement = statement.where(words.c.file_words.op("MATCH")(_quoted(needle)))
    return statement.with_hint(file, f"INDEXED BY {schema.FILE_BY_ID}", "sqlite")


def _are_long(needles: Sequence[str]) -> bool:
    return all(map(is_indexed, needles))


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
        wanted: ColumnElement[Any] = literal(_all_of(needles))
    else:
        (needle,) = needles
        term = _trigrams.c.term
        quoted = '"' + func.replace(term, '"', '""') + '"'
        known = select(func.group_concat(quoted, " OR ")).where(
            term >= needle, term <= needle.ljust(_TRIGRAM, _LAST)
        )
        wanted = func.coalesce(known.scalar_subquery(), '""')
    return select(_words.c.rowid).where(_words.c.asset_words.op("MATCH")(wanted))


def _all_of(needles: Iterable[str]) -> str:
    return " AND ".join(map(_quoted, needles))


def _quoted(needle: str) -> str:
    return '"' + needle.replace('"', '""') + '"'

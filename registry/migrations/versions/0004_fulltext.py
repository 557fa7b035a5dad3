"""Full-text search, what is counted as it changes, and indexes that lists are made from.

Written out here, apart from `registry.tables`, because a migration must stay as it was. What the
metadata of SQLAlchemy cannot say (virtual tables, triggers, extensions) is only here: a migration
that builds one of these tables anew in SQLite must make its triggers again.

SQLite: FTS5 with trigrams (https://sqlite.org/fts5.html#the_trigram_tokenizer) as external content
of `asset_search` and `file`, case-sensitive because the texts are folded already. PostgreSQL:
pg_trgm (https://www.postgresql.org/docs/current/pgtrgm.html) where the extension can be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import sqlalchemy as sa
from alembic import op

revision = "0004_fulltext"
down_revision = "0003_places"

_LISTED = (
    *("state", "copies", "safety", "verdict", "rating", "bytes", "variant", "container", "layout"),
    *("algorithm", "added", "updated"),
)


def upgrade() -> None:
    """Index and count what is there."""
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    op.add_column("asset", sa.Column("verdict", sa.String(8)))
    op.add_column(
        "asset", sa.Column("state", sa.String(8), nullable=False, server_default="missing")
    )
    op.add_column("asset", sa.Column("copies", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("sidecar") as sidecar:
        sidecar.add_column(sa.Column("machine", sa.Text(), nullable=False, server_default=""))
        sidecar.drop_constraint("pk_sidecar", type_="primary")
        sidecar.create_primary_key("pk_sidecar", ["asset_id", "machine", "path"])
    op.drop_index("ix_tag_name", "tag")
    op.create_index("ix_tag_name_asset_id", "tag", ["name", "asset_id"])
    op.create_table(
        "facet",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", "value", name=op.f("pk_facet")),
    )
    for statement in _statements(_ON_SQLITE if on_sqlite else _ON_POSTGRESQL):
        op.execute(statement)
    if on_sqlite:
        _index_lists()
    else:
        _compare_bytes()
        _index_trigrams()


def _index_lists() -> None:
    for column in ("name_folded", "kind_base", "bytes", "added"):
        op.drop_index(f"ix_asset_{column}", "asset")
    op.create_index("ix_asset_by_name", "asset", ["name_folded", "id", "kind", "base", *_LISTED])
    op.create_index("ix_asset_by_kind", "asset", ["kind", "base", "name_folded", *_LISTED])


def _compare_bytes() -> None:
    """Texts are sorted and compared as SQLite and Python do it, whatever the server's language."""
    for table, columns in _COMPARED.items():
        changes = (f'ALTER COLUMN {column} TYPE text COLLATE "C"' for column in columns)
        op.execute(f"ALTER TABLE {table} {', '.join(changes)}")


def _index_trigrams() -> None:
    """Not every server has the extension or lets its users make it: words are then scanned for."""
    connection = op.get_bind()
    try:
        with connection.begin_nested():
            op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except sa.exc.DBAPIError:
        return
    for table, column in (("asset_search", "text"), ("file", "path_folded")):
        op.execute(
            f"CREATE INDEX ix_{table}_{column}_trigrams ON {table}"
            f" USING gin ({column} gin_trgm_ops)"
        )


_COMPARED = {
    "asset": ("name", "name_folded"),
    "tag": ("name",),
    "file": ("path", "path_folded"),
    "root": ("path",),
    "sidecar": ("path",),
    "facet": ("value",),
}

# By their letters, missing is less than offline, and that less than present. Of all machines that
# counts which has most: the same file on two machines is no duplicate.
_COUNT = """
UPDATE asset SET state = (
    SELECT coalesce(max(state), 'missing') FROM file WHERE asset_id = asset.id
), copies = (
    SELECT coalesce(max(number), 0) FROM (
        SELECT count(*) AS number FROM file
        WHERE asset_id = asset.id AND state = 'present' GROUP BY machine
    ) AS places
)"""

_JUDGE = "UPDATE asset SET verdict = (SELECT verdict FROM preview WHERE asset_id = asset.id)"


class _Sql(NamedTuple):
    """What the two databases say differently: text functions, lists in JSON, and triggers."""

    breaks: str
    algorithms: str
    of_its_own: tuple[str, ...]
    trigger: Callable[[str, str, str, str], str]


def _statements(sql: _Sql) -> Iterator[str]:
    """Count what is there, then everything that keeps it up to date.

    Texts get two more breaks, so that each of their letters begins a trigram.
    """
    yield f"UPDATE asset_search SET text = text || {sql.breaks}"
    yield _COUNT
    yield _JUDGE
    words = {"kind": "kind", "base": "base", "safety": "safety", "verdict": _VERDICT}
    for name, word in words.items():
        yield f"""INSERT INTO facet (name, value, number)
            SELECT '{name}', {word}, count(*) FROM asset GROUP BY {word}"""
    yield f"""INSERT INTO facet (name, value, number)
        SELECT 'algorithm', value, count(*) FROM asset, {sql.algorithms.format("asset")}
        GROUP BY value"""
    yield """INSERT INTO facet (name, value, number)
        SELECT 'tag', name, count(*) FROM tag GROUP BY name"""
    yield from sql.of_its_own
    yield from _triggers(sql)


def _triggers(sql: _Sql) -> Iterator[str]:
    yield sql.trigger("file_added", "INSERT", "file", f"{_COUNT} WHERE id = new.asset_id;")
    yield sql.trigger("file_removed", "DELETE", "file", f"{_COUNT} WHERE id = old.asset_id;")
    yield sql.trigger(
        "file_changed",
        "UPDATE OF asset_id, machine, state",
        "file",
        f"{_COUNT} WHERE id IN (old.asset_id, new.asset_id);",
    )
    yield sql.trigger("preview_added", "INSERT", "preview", f"{_JUDGE} WHERE id = new.asset_id;")
    yield sql.trigger("preview_removed", "DELETE", "preview", f"{_JUDGE} WHERE id = old.asset_id;")
    yield sql.trigger(
        "preview_changed",
        "UPDATE OF asset_id, verdict",
        "preview",
        f"{_JUDGE} WHERE id IN (old.asset_id, new.asset_id);",
    )
    old, new = (_facets(sql.algorithms.format(row), row) for row in ("old", "new"))
    less, more = _tally(old, -1), _tally(new, 1)
    yield sql.trigger("asset_tallied", "INSERT", "asset", more)
    yield sql.trigger("asset_untallied", "DELETE", "asset", less)
    columns = "kind, base, safety, verdict, algorithm"
    yield sql.trigger("asset_changed", f"UPDATE OF {columns}", "asset", less + more)
    yield sql.trigger("tag_tallied", "INSERT", "tag", _tally(_TAG.format("new"), 1))
    yield sql.trigger("tag_untallied", "DELETE", "tag", _tally(_TAG.format("old"), -1))


_VERDICT = "coalesce(verdict, 'none')"
_TAG = "SELECT 'tag' AS name, {}.name AS value"


def _facets(algorithms: str, row: str) -> str:
    """The facets of a row of `asset` and their values, each pair once."""
    return f"""SELECT 'kind' AS name, {row}.kind AS value
        UNION SELECT 'base', {row}.base
        UNION SELECT 'safety', {row}.safety
        UNION SELECT 'verdict', coalesce({row}.verdict, 'none')
        UNION SELECT 'algorithm', value FROM {algorithms}"""


def _tally(facets: str, change: int) -> str:
    return f"""INSERT INTO facet (name, value, number)
        SELECT name, value, {change} FROM ({facets}) AS one WHERE true
        ON CONFLICT (name, value) DO UPDATE SET number = facet.number + ({change});
    """


def _sqlite_trigger(name: str, event: str, table: str, body: str) -> str:
    return f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN {body} END"


def _postgresql_trigger(name: str, event: str, table: str, body: str) -> str:
    return f"""
    CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {body} RETURN NULL; END $$;
    CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"""


def _full_text(name: str, table: str, key: str, column: str) -> tuple[str, ...]:
    """A full-text index of a column, and what keeps it up to date."""
    add = f"INSERT INTO {name} (rowid, {column}) VALUES (new.{key}, new.{column});"
    remove = f"""INSERT INTO {name} ({name}, rowid, {column})
        VALUES ('delete', old.{key}, old.{column});"""
    changed = f"UPDATE OF {key}, {column} ON {table} WHEN old.{column} <> new.{column}"
    return (
        f"""CREATE VIRTUAL TABLE {name} USING fts5(
            {column}, content='{table}', content_rowid='{key}', columnsize=0,
            tokenize='trigram case_sensitive 1')""",
        f"INSERT INTO {name} ({name}) VALUES ('rebuild')",
        f"CREATE TRIGGER {name}_added AFTER INSERT ON {table} BEGIN {add} END",
        f"CREATE TRIGGER {name}_removed AFTER DELETE ON {table} BEGIN {remove} END",
        f"CREATE TRIGGER {name}_changed AFTER {changed} BEGIN {remove} {add} END",
    )


_ON_SQLITE = _Sql(
    breaks="char(10, 10)",
    algorithms="json_each({}.algorithm)",
    of_its_own=(
        *_full_text("asset_words", "asset_search", "asset_id", "text"),
        "CREATE VIRTUAL TABLE asset_trigrams USING fts5vocab(asset_words, row)",
        *_full_text("file_words", "file", "id", "path_folded"),
    ),
    trigger=_sqlite_trigger,
)

_ON_POSTGRESQL = _Sql(
    breaks="chr(10) || chr(10)",
    algorithms="json_array_elements_text({}.algorithm) AS each (value)",
    of_its_own=(),
    trigger=_postgresql_trigger,
)

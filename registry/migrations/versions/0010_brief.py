"""What searches need of each asset in a few bytes; the groups of what is alike get numbers.

Written out here, apart from `registry.tables`, because a migration must stay as it was. Triggers on
`asset` and `tag` take the place of those of 0008 and 0004. They leave alone what stays as it is:
a file that was hashed has the content, most often, that its headers told before.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0010_brief"
down_revision = "0009_counted_once"

_KEY = (
    *("kind", "base", "variant", "container", "layout", "algorithm", "safety", "verdict"),
    *("rating", "state", "copies"),
)
_LIST = ", ".join(_KEY)


def upgrade() -> None:
    """Number the groups, and say of each asset in which it is."""
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    for name, table in _OLD_TRIGGERS:
        op.execute(f"DROP TRIGGER {name}{'' if on_sqlite else f' ON {table}'}")
    if on_sqlite:
        _build_groups_anew()
    else:
        _number_groups()
    op.create_table(
        "brief",
        sa.Column("asset_id", sa.Integer(), nullable=False),
        sa.Column("alike_id", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["asset.id"], name=op.f("fk_brief_asset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("asset_id", name=op.f("pk_brief")),
    )
    op.execute(f"INSERT INTO brief {_brief('asset', on_sqlite)} FROM asset")
    op.create_index("ix_brief_alike_id", "brief", ["alike_id"])
    for name, event, table, when, body in _triggers(on_sqlite):
        op.execute(_trigger(name, event, table, when, body, on_sqlite))


_OLD_TRIGGERS = (
    ("asset_tallied", "asset"),
    ("asset_untallied", "asset"),
    ("asset_changed", "asset"),
    ("tag_tallied", "tag"),
    ("tag_untallied", "tag"),
)


def _build_groups_anew() -> None:
    """SQLite cannot give a table another primary key."""
    op.rename_table("alike", "alike_before")
    words = [
        sa.Column(name, sa.Integer() if name in {"rating", "copies"} else sa.Text(), nullable=False)
        for name in _KEY
    ]
    op.create_table(
        "alike",
        sa.Column("id", sa.Integer(), nullable=False),
        *words,
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alike")),
        sa.UniqueConstraint(*_KEY, name=op.f("uq_alike_key")),
    )
    op.execute(f"INSERT INTO alike ({_LIST}, number) SELECT {_LIST}, number FROM alike_before")
    op.drop_table("alike_before")


def _number_groups() -> None:
    op.execute("ALTER TABLE alike DROP CONSTRAINT pk_alike")
    op.execute("ALTER TABLE alike ADD COLUMN id SERIAL")
    op.execute("ALTER TABLE alike ADD CONSTRAINT pk_alike PRIMARY KEY (id)")
    op.execute(f"ALTER TABLE alike ADD CONSTRAINT uq_alike_key UNIQUE ({_LIST})")


def _values(row: str, on_sqlite: bool) -> tuple[str, ...]:
    """The key of a row of `asset`: the unknown is an empty text or -1, more copies than 2 are 2."""
    odd = {
        "algorithm": f"{row}.algorithm" if on_sqlite else f"{row}.algorithm::text",
        "rating": f"coalesce({row}.rating, -1)",
        "copies": f"{'min' if on_sqlite else 'least'}({row}.copies, 2)",
    }
    return tuple(odd.get(name, f"coalesce({row}.{name}, '')") for name in _KEY)


def _group(row: str, on_sqlite: bool) -> str:
    """The number of the group of a row of `asset`."""
    same = (
        f"alike.{name} = {value}" for name, value in zip(_KEY, _values(row, on_sqlite), strict=True)
    )
    return f"(SELECT id FROM alike WHERE {' AND '.join(same)})"


def _tags(asset_id: str, on_sqlite: bool) -> str:
    """The tags of an asset, with a character between them that no folded text has."""
    joined = "group_concat(name, char(65535))" if on_sqlite else "string_agg(name, chr(65535))"
    return f"coalesce((SELECT {joined} FROM tag WHERE asset_id = {asset_id}), '')"


def _brief(row: str, on_sqlite: bool) -> str:
    group, tags = _group(row, on_sqlite), _tags(f"{row}.id", on_sqlite)
    return f"SELECT {row}.id, {group}, {row}.bytes, {tags}"


def _triggers(on_sqlite: bool) -> Iterator[tuple[str, str, str, str | None, str]]:
    """The name, event and table of each trigger, when it does something, and what."""
    less, more = (_tally(row, change, on_sqlite) for row, change in (("old", -1), ("new", 1)))
    differs = "IS NOT" if on_sqlite else "IS DISTINCT FROM"
    pairs = zip(_values("old", on_sqlite), _values("new", on_sqlite), strict=True)
    changed = " OR ".join(f"{old} {differs} {new}" for old, new in pairs)
    regroup = f"UPDATE brief SET alike_id = {_group('new', on_sqlite)} WHERE asset_id = new.id;"
    resize = "UPDATE brief SET bytes = new.bytes WHERE asset_id = new.id;"
    add = f"INSERT INTO brief {_brief('new', on_sqlite)};"
    yield "asset_tallied", "INSERT", "asset", None, more + add
    yield "asset_untallied", "DELETE", "asset", None, less
    yield "asset_changed", f"UPDATE OF {_LIST}", "asset", changed, less + more + regroup
    yield "asset_resized", "UPDATE OF bytes", "asset", "old.bytes <> new.bytes", resize
    was, now = (_list_tags(row, on_sqlite) for row in ("old", "new"))
    yield "tag_tallied", "INSERT", "tag", None, _tally_tag("new", 1) + now
    yield "tag_untallied", "DELETE", "tag", None, _tally_tag("old", -1) + was
    yield "tag_moved", "UPDATE OF asset_id, name", "tag", None, was + now


def _tally(row: str, change: int, on_sqlite: bool) -> str:
    return f"""INSERT INTO alike ({_LIST}, number)
        VALUES ({", ".join(_values(row, on_sqlite))}, {change})
        ON CONFLICT ({_LIST}) DO UPDATE SET number = alike.number + ({change});
    """


def _tally_tag(row: str, change: int) -> str:
    return f"""INSERT INTO facet (name, value, number) VALUES ('tag', {row}.name, {change})
        ON CONFLICT (name, value) DO UPDATE SET number = facet.number + ({change});
    """


def _list_tags(row: str, on_sqlite: bool) -> str:
    owner = f"{row}.asset_id"
    return f"UPDATE brief SET tags = {_tags(owner, on_sqlite)} WHERE asset_id = {owner};"


def _trigger(
    name: str, event: str, table: str, when: str | None, body: str, on_sqlite: bool
) -> str:
    condition = "" if when is None else f"WHEN ({when})"
    if on_sqlite:
        return f"CREATE TRIGGER {name} AFTER {event} ON {table} {condition} BEGIN {body} END"
    return f"""
    CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {body} RETURN NULL; END $$;
    CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW {condition}
        EXECUTE FUNCTION {name}()"""

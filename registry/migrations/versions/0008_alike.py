"""Assets counted by all that lists are filtered by together, and an index for every order.

Written out here, apart from `registry.tables`, because a migration must stay as it was. The table
`alike` takes over what `facet` kept of the columns of `asset`; tags stay there. The triggers on
`asset` are those of 0004, under their names, with another body. Inodes of 128 bits find room in
PostgreSQL; SQLite does not look at lengths.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0008_alike"
down_revision = "0007_lineage_version"

_KEY = (
    *("kind", "base", "variant", "container", "layout", "algorithm", "safety", "verdict"),
    *("rating", "state", "copies"),
)
_WORDS_IN_LISTS = (
    *("state", "copies", "safety", "verdict", "rating", "bytes", "variant", "container", "layout"),
    *("algorithm", "added", "updated"),
)


def upgrade() -> None:
    """Count what is there, and go on from that."""
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    words = [
        sa.Column(name, sa.Integer() if name in {"rating", "copies"} else sa.Text(), nullable=False)
        for name in _KEY
    ]
    number = sa.Column("number", sa.Integer(), nullable=False)
    op.create_table("alike", *words, number, sa.PrimaryKeyConstraint(*_KEY, name=op.f("pk_alike")))
    op.execute("DELETE FROM facet WHERE name <> 'tag'")
    op.execute(
        f"INSERT INTO alike ({', '.join(_KEY)}, number) SELECT {_values('asset', on_sqlite)},"
        f" count(*) FROM asset GROUP BY {', '.join(map(str, range(1, len(_KEY) + 1)))}"
    )
    for statement in _on_sqlite() if on_sqlite else _on_postgresql():
        op.execute(statement)
    if on_sqlite:
        _index_orders()


def _index_orders() -> None:
    """Every order is that of an index that has all that lists are filtered by, too."""
    filters = ("kind", "base", *_WORDS_IN_LISTS)
    orders = {"size": "bytes", "added": "added", "updated": "updated"}
    op.create_index("ix_asset_by_id", "asset", ["id", *filters, "name_folded"])
    for order, column in orders.items():
        rest = [name for name in filters if name != column]
        op.create_index(f"ix_asset_by_{order}", "asset", [column, "name_folded", "id", *rest])
    op.create_index("ix_file_by_id", "file", ["id", "asset_id"])


def _values(row: str, on_sqlite: bool) -> str:
    """The key of a row of `asset`: the unknown is an empty text or -1, more copies than 2 are 2."""
    odd = {
        "algorithm": f"{row}.algorithm" if on_sqlite else f"{row}.algorithm::text",
        "rating": f"coalesce({row}.rating, -1)",
        "copies": f"{'min' if on_sqlite else 'least'}({row}.copies, 2)",
    }
    return ", ".join(odd.get(name, f"coalesce({row}.{name}, '')") for name in _KEY)


def _tally(row: str, change: int, on_sqlite: bool) -> str:
    return f"""INSERT INTO alike ({", ".join(_KEY)}, number)
        VALUES ({_values(row, on_sqlite)}, {change})
        ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET number = alike.number + ({change});
    """


def _bodies(on_sqlite: bool) -> Iterator[tuple[str, str, str]]:
    """The name, event and body of each trigger."""
    less, more = (_tally(row, change, on_sqlite) for row, change in (("old", -1), ("new", 1)))
    yield "asset_tallied", "INSERT", more
    yield "asset_untallied", "DELETE", less
    yield "asset_changed", f"UPDATE OF {', '.join(_KEY)}", less + more


def _on_sqlite() -> Iterator[str]:
    for name, event, body in _bodies(on_sqlite=True):
        yield f"DROP TRIGGER {name}"
        yield f"CREATE TRIGGER {name} AFTER {event} ON asset BEGIN {body} END"


def _on_postgresql() -> Iterator[str]:
    columns = ", ".join(f'ALTER COLUMN {name} TYPE text COLLATE "C"' for name in _KEY[:8])
    yield f"ALTER TABLE alike {columns}"
    yield "ALTER TABLE file ALTER COLUMN inode TYPE varchar(40)"
    for name, event, body in _bodies(on_sqlite=False):
        yield f"""
        CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN {body} RETURN NULL; END $$;
        DROP TRIGGER {name} ON asset;
        CREATE TRIGGER {name} AFTER {event} ON asset FOR EACH ROW EXECUTE FUNCTION {name}()"""

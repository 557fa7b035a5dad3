"""Assets whose files are counted rightly already are left alone.

Written out here, apart from `registry.tables`, because a migration must stay as it was. Triggers
on `file` are those of 0004, under their names: they changed the row of an asset, and so all its
indexes, whenever a file was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator

from alembic import op

revision = "0009_counted_once"
down_revision = "0008_alike"

_STATE = "SELECT coalesce(max(state), 'missing') FROM file WHERE asset_id = asset.id"
_COPIES = """SELECT coalesce(max(number), 0) FROM (
    SELECT count(*) AS number FROM file
    WHERE asset_id = asset.id AND state = 'present' GROUP BY machine
) AS places"""
_COUNT = f"UPDATE asset SET state = ({_STATE}), copies = ({_COPIES})"
_WRONG = f"(state <> ({_STATE}) OR copies <> ({_COPIES}))"


def upgrade() -> None:
    """The counts themselves stay."""
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _statements(on_sqlite):
        op.execute(statement)


def _statements(on_sqlite: bool) -> Iterator[str]:
    for name, event, which in (
        ("file_added", "INSERT", "id = new.asset_id"),
        ("file_removed", "DELETE", "id = old.asset_id"),
        (
            "file_changed",
            "UPDATE OF asset_id, machine, state",
            "id IN (old.asset_id, new.asset_id)",
        ),
    ):
        body = f"{_COUNT} WHERE {which} AND {_WRONG};"
        if on_sqlite:
            yield f"DROP TRIGGER {name}"
            yield f"CREATE TRIGGER {name} AFTER {event} ON file BEGIN {body} END"
        else:
            yield f"""CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN {body} RETURN NULL; END $$"""

"""Two assets turn out to be one: what was written on the one goes over to the other."""

from __future__ import annotations

from sqlalchemy import Connection, Table, delete, func, select, update

from registry.tables import claim_rows, schema
from registry.tables.writing import touch

_asset = schema.asset.c
_KEYED = (schema.tag, schema.sidecar, schema.candidate)
"""Tables in which an asset has several rows, each under a key of its own."""

_SINGLE = (schema.preview, schema.verification)
"""Tables in which an asset has at most one row."""


def absorb(connection: Connection, absorbed: int, into: int) -> None:
    """Give everything that hangs on an asset to another, whose own words win; then remove it."""
    for table in (*_KEYED, *_SINGLE):
        _move_rows(connection, table, absorbed, into)
    for column in (schema.source.c.asset_id, schema.derivation.c.child_id, schema.file.c.asset_id):
        connection.execute(update(column.table).where(column == absorbed).values({column: into}))
    claim_rows.compare(connection, [into])
    parent = schema.derivation.c.parent_id
    connection.execute(update(schema.derivation).where(parent == absorbed).values(parent_id=into))
    written = select(_asset.note, _asset.rating).where(_asset.id == absorbed)
    note, rating = connection.execute(written).one()
    changes = {
        "note": func.coalesce(_asset.note, note),
        "rating": func.coalesce(_asset.rating, rating),
    }
    connection.execute(delete(schema.asset).where(_asset.id == absorbed))
    touch(connection, into, **changes)


def _move_rows(connection: Connection, table: Table, absorbed: int, into: int) -> None:
    """Rows whose key the other asset has already stay behind, and go with the asset."""
    keys = [column for column in table.primary_key if column.name != "asset_id"]
    owner = table.c.asset_id
    taken = set(connection.execute(select(*keys, owner).where(owner == into)).all())
    for row in connection.execute(select(*keys, owner).where(owner == absorbed)).all():
        key = tuple(row)[:-1]
        if (*key, into) in taken:
            continue
        mine = [column == value for column, value in zip(keys, key, strict=True)]
        connection.execute(update(table).where(owner == absorbed, *mine).values(asset_id=into))

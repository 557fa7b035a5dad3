"""From rows to what lists show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from registry import schema
from registry.list_records import AssetRow
from registry.rows import AnyRow, batches, moment, tags_of

_asset = schema.asset.c

_ROW_COLUMNS = (
    "id",
    "name",
    "kind",
    "base",
    "variant",
    "algorithm",
    "container",
    "bytes",
    "rating",
    "safety",
    "added",
    "state",
    "verdict",
)
_ROWS: Select[Any] = (
    select(*(_asset[name] for name in _ROW_COLUMNS), schema.preview.c.thumbnail)
    .select_from(schema.asset.outerjoin(schema.preview))
    .where(_asset.id.in_(bindparam("ids", expanding=True)))
)
"""Made once: putting a statement together takes longer than SQLite needs for it."""


def asset_rows(connection: Connection, ids: Sequence[int]) -> tuple[AssetRow, ...]:
    """The rows of a list, in the order of their numbers; unknown numbers are left out."""
    tags = tags_of(connection, ids)
    found: dict[int, AssetRow] = {}
    for some in batches(ids):
        for row in connection.execute(_ROWS, {"ids": list(some)}):
            found[row.id] = _asset_row(row, tags[row.id])
    return tuple(found[asset_id] for asset_id in ids if asset_id in found)


def _asset_row(row: AnyRow, tags: tuple[str, ...]) -> AssetRow:
    return AssetRow(
        id=row.id,
        name=row.name,
        kind=row.kind,
        base=row.base,
        variant=row.variant,
        algorithm=tuple(row.algorithm),
        container=row.container,
        bytes=row.bytes,
        rating=row.rating,
        tags=tags,
        state=row.state,
        verdict=row.verdict,
        thumbnail=row.thumbnail,
        safety=row.safety,
        added=moment(row.added),
    )

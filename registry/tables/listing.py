"""From rows to what lists show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, bindparam, cast, select

from registry.list_records import AssetRow
from registry.tables import schema
from registry.tables.row_values import FIELDS, row_of
from registry.tables.rows import batches

_asset = schema.asset.c

_ELSEWHERE: dict[str, ColumnElement[Any]] = {
    "algorithm": cast(_asset.algorithm, Text),
    "tags": schema.brief.c.tags,
    "thumbnail": schema.preview.c.thumbnail,
}
_ROWS: Select[Any] = (
    select(*(_ELSEWHERE[name] if name in _ELSEWHERE else _asset[name] for name in FIELDS))
    .select_from(schema.asset.join(schema.brief).outerjoin(schema.preview))
    .where(_asset.id.in_(bindparam("ids", expanding=True)))
)
"""Made once: putting a statement together takes longer than SQLite needs for it."""


def asset_rows(connection: Connection, ids: Sequence[int]) -> tuple[AssetRow, ...]:
    """The rows of a list, in the order of their numbers; unknown numbers are left out."""
    found: dict[int, AssetRow] = {}
    for some in batches(ids):
        for row in connection.execute(_ROWS, {"ids": list(some)}).all():
            found[row[0]] = row_of(row)
    return tuple(found[asset_id] for asset_id in ids if asset_id in found)

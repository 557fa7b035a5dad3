"""From rows to what lists show."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, bindparam, cast, select

from registry import schema
from registry.list_records import AssetRow
from registry.rows import AnyRow, batches, moment
from registry.text import BETWEEN

_asset = schema.asset.c

_FIELDS = tuple(field.name for field in fields(AssetRow))
_ALGORITHM, _TAGS, _ADDED = map(_FIELDS.index, ("algorithm", "tags", "added"))
_ELSEWHERE: dict[str, ColumnElement[Any]] = {
    "algorithm": cast(_asset.algorithm, Text),
    "tags": schema.brief.c.tags,
    "thumbnail": schema.preview.c.thumbnail,
}
_ROWS: Select[Any] = (
    select(*(_ELSEWHERE[name] if name in _ELSEWHERE else _asset[name] for name in _FIELDS))
    .select_from(schema.asset.join(schema.brief).outerjoin(schema.preview))
    .where(_asset.id.in_(bindparam("ids", expanding=True)))
)
"""Made once: putting a statement together takes longer than SQLite needs for it."""


def asset_rows(connection: Connection, ids: Sequence[int]) -> tuple[AssetRow, ...]:
    """The rows of a list, in the order of their numbers; unknown numbers are left out."""
    found: dict[int, AssetRow] = {}
    for some in batches(ids):
        for row in connection.execute(_ROWS, {"ids": list(some)}).all():
            found[row[0]] = _asset_row(row)
    return tuple(found[asset_id] for asset_id in ids if asset_id in found)


def _asset_row(row: AnyRow) -> AssetRow:
    told = list(row)
    told[_ALGORITHM] = _words(row[_ALGORITHM])
    told[_TAGS] = tuple(sorted(row[_TAGS].split(BETWEEN))) if row[_TAGS] else ()
    told[_ADDED] = moment(row[_ADDED])
    return AssetRow(*told)


@functools.lru_cache(1024)
def _words(listed: str) -> tuple[str, ...]:
    """A list in JSON: there are few that differ."""
    return tuple(json.loads(listed))

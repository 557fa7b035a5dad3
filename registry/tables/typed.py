"""What users typed on assets, from the few rows that hold it.

No index is asked: what was typed can be read from a library whose indexes are damaged.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, select

from registry.tables import schema

_asset, _tag = schema.asset.c, schema.tag.c


class Typed(NamedTuple):
    """Tags, note and rating of an asset, and the hashes of its content."""

    asset_id: int
    name: str
    blake3: str | None
    sha256: str | None
    tags: tuple[str, ...]
    note: str | None
    rating: int | None


def typed(connection: Connection) -> tuple[Typed, ...]:
    """All that was typed, in the order of names."""
    tags: defaultdict[int, list[str]] = defaultdict(list)
    for number, name in connection.execute(_without_indexes(select(_tag.asset_id, _tag.name))):
        tags[number].append(name)
    columns = (_asset.id, _asset.name, _asset.blake3, _asset.sha256, _asset.note, _asset.rating)
    rows = connection.execute(_without_indexes(select(_asset.name_folded, *columns)))
    found = [row for row in rows if row.id in tags or (row.note, row.rating) != (None, None)]
    return tuple(
        Typed(number, name, blake3, sha256, tuple(sorted(tags[number])), note, rating)
        for _, number, name, blake3, sha256, note, rating in sorted(found, key=lambda row: row[:2])
    )


def _without_indexes(statement: Select[Any]) -> Select[Any]:
    (table,) = statement.get_final_froms()
    return statement.with_hint(table, "NOT INDEXED", "sqlite")

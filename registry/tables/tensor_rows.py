"""Digests of tensors in the database: one for each component, and a packed table of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, delete, insert, select

from registry.tables import schema
from registry.tables.rows import batches

if TYPE_CHECKING:  # listing a library needs none of what opens files
    from converters.tensor_table import PackedWeights

LONGEST_NAME = 32
"""What the column holds; the folders of a pipeline may have any names, and PostgreSQL counts."""

_table, _part = schema.asset_tensors.c, schema.component_tensors.c
_REPLACED = (
    schema.component,
    schema.component_tensors,
    schema.asset_tensors,
    schema.undigested,
)


class Sharer(NamedTuple):
    """Another asset with an equal component."""

    id: int
    name: str


def record(connection: Connection, weighed: Mapping[int, PackedWeights]) -> None:
    """Put digests of components and tensors in the place of what is known of these assets."""
    if not weighed:
        return
    for some in batches(list(weighed)):
        for table in _REPLACED:
            connection.execute(delete(table).where(table.c.asset_id.in_(some)))
    rows = [
        {"asset_id": asset_id, "name": name, "digest": digest}
        for asset_id, weights in weighed.items()
        for name, digest in weights.components.items()
        if len(name) <= LONGEST_NAME
    ]
    if rows:
        connection.execute(insert(schema.component), rows)
    parts = [
        {"asset_id": asset_id, "name": name, "packed": part}
        for asset_id, weights in weighed.items()
        for name, part in weights.parts.items()
        if len(name) <= LONGEST_NAME
    ]
    if parts:
        connection.execute(insert(schema.component_tensors), parts)
    tables = [{"asset_id": key, "packed": each.tensors} for key, each in weighed.items()]
    connection.execute(insert(schema.asset_tensors), tables)


def packed(connection: Connection, asset_id: int) -> bytes | None:
    """The packed table of an asset's tensors."""
    statement = select(_table.packed).where(_table.asset_id == asset_id)
    found: bytes | None = connection.execute(statement).scalar_one_or_none()
    return found


def packed_parts(connection: Connection, asset_id: int) -> dict[str, bytes]:
    """The packed table of each component's tensors."""
    statement = select(_part.name, _part.packed).where(_part.asset_id == asset_id)
    return {row.name: row.packed for row in connection.execute(statement)}


def sharers(connection: Connection, asset_id: int) -> dict[str, tuple[Sharer, ...]]:
    """The other assets with an equal component, for each component of an asset, by number."""
    mine, other = schema.component.alias(), schema.component.alias()
    statement = (
        select(mine.c.name, other.c.asset_id, schema.asset.c.name.label("asset_name"))
        .join_from(mine, other, mine.c.digest == other.c.digest)
        .join(schema.asset, schema.asset.c.id == other.c.asset_id)
        .where(mine.c.asset_id == asset_id, other.c.asset_id != asset_id)
        .distinct()
        .order_by(mine.c.name, other.c.asset_id)
    )
    found: defaultdict[str, list[Sharer]] = defaultdict(list)
    for name, number, other_name in connection.execute(statement):
        found[name].append(Sharer(number, other_name))
    return {name: tuple(others) for name, others in found.items()}

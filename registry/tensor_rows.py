"""Digests of tensors in the database: one for each component, and a packed table of all.

Also which tensors of a file are worth digesting when it is scanned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, delete, insert, select

from registry import schema

if TYPE_CHECKING:  # listing a library needs none of what opens files
    from converters.containers import Model
    from converters.digest import Parts
    from converters.statedict import StateDict
    from converters.weights import Weights

MOST_TIMES = 3
"""Quantised tensors unpack to many times their file, and hostile ones overlap: a scan, which reads
every file once, leaves both to those who ask. Tied and fused tensors count twice."""

LONGEST_NAME = 32
"""What the column holds; the folders of a pipeline may have any names, and PostgreSQL counts."""

_component, _table = schema.component.c, schema.asset_tensors.c


class Sharer(NamedTuple):
    """Another asset with an equal component."""

    id: int
    name: str


def tensors_to_digest(model: Model | None, kind: str) -> tuple[StateDict | None, Parts]:
    """The tensors of an opened file that a scan digests, and its components; None for none."""
    if model is None or not 0 < _nbytes(model.state_dict) <= MOST_TIMES * model.nbytes:
        return None, {}
    from converters.canonical import canonical_parts

    return model.state_dict, canonical_parts(model.state_dict, kind)


def _nbytes(state: StateDict) -> int:
    from converters.stored import StoredTensors

    stored = state.tensors
    return stored.structure.nbytes if isinstance(stored, StoredTensors) else state.nbytes


def record(connection: Connection, asset_id: int, weights: Weights) -> None:
    """Put these digests of components and tensors in the place of what is known of an asset."""
    from converters.tensor_table import pack

    rows = [
        {"asset_id": asset_id, "name": name, "digest": digest}
        for name, digest in weights.components.items()
        if len(name) <= LONGEST_NAME
    ]
    connection.execute(delete(schema.component).where(_component.asset_id == asset_id))
    connection.execute(delete(schema.asset_tensors).where(_table.asset_id == asset_id))
    if rows:
        connection.execute(insert(schema.component), rows)
    packed = pack(weights.tensors)
    connection.execute(insert(schema.asset_tensors).values(asset_id=asset_id, packed=packed))


def packed(connection: Connection, asset_id: int) -> bytes | None:
    """The packed table of an asset's tensors."""
    statement = select(_table.packed).where(_table.asset_id == asset_id)
    found: bytes | None = connection.execute(statement).scalar_one_or_none()
    return found


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
    found: dict[str, tuple[Sharer, ...]] = {}
    for name, number, other_name in connection.execute(statement):
        found[name] = (*found.get(name, ()), Sharer(number, other_name))
    return found

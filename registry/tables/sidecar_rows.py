"""Sidecars in the database: a row for each asset and file beside it, with what the file says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select

from registry.tables import schema
from registry.tables.rows import batches

if TYPE_CHECKING:  # listing a library needs none of the readers of sidecars
    from registry.records import Claim
    from registry.sidecars.record import Origin, Sidecar

_row = schema.sidecar.c


class Key(NamedTuple):
    """A file beside an asset; a file can be beside several."""

    asset_id: int
    path: str


class Stamp(NamedTuple):
    """What changes when a sidecar does: its size in bytes and its modification time."""

    bytes: int
    mtime_ns: int


class Found(NamedTuple):
    """A sidecar as it was read; `told` is None for a file that says nothing of a model."""

    key: Key
    stamp: Stamp
    told: Sidecar | None


def stamps(connection: Connection, machine: str) -> dict[Key, Stamp]:
    """Every sidecar that was read on a machine, as it was then."""
    columns = (_row.asset_id, _row.path, _row.bytes, _row.mtime_ns)
    statement = select(*columns).where(_row.machine == machine)
    return {
        Key(asset_id, path): Stamp(nbytes, mtime_ns)
        for asset_id, path, nbytes, mtime_ns in connection.execute(statement)
    }


def owners(connection: Connection, machine: str) -> dict[str, int]:
    """The assets of all files of a machine, by path."""
    file = schema.file.c
    rows = connection.execute(select(file.path, file.asset_id).where(file.machine == machine))
    return {row.path: row.asset_id for row in rows}


def texts(connection: Connection, ids: Sequence[int]) -> defaultdict[int, list[str]]:
    """What the sidecars of assets say, for the words of a query."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    told = (_row.asset_id.in_(ids), _row.told.is_not(None))
    statement = select(_row.asset_id, _row.told).where(*told).order_by(_row.path, _row.machine)
    for asset_id, some in connection.execute(statement):
        from registry.sidecars.record import Sidecar

        found[asset_id] += Sidecar.from_json(some).texts if some else ()
    return found


def claimed_hashes(connection: Connection, ids: Collection[int]) -> dict[int, list[Claim]]:
    """The hashes that sidecars name, by asset."""
    from registry.records import Claim

    found: defaultdict[int, list[Claim]] = defaultdict(list)
    for some in batches(list(ids)):
        told = (_row.asset_id.in_(some), _row.told.is_not(None))
        for asset_id, document in connection.execute(select(_row.asset_id, _row.told).where(*told)):
            hashes = document["claimed_hashes"] if document else {}
            owner = document["owner"] if document else ""
            found[asset_id] += [Claim(name, digest, owner) for name, digest in hashes.items()]
    return found


def origins(connection: Connection, service: str) -> tuple[tuple[int, Origin], ...]:
    """The assets beside which a page of a service is named, and that page."""
    statement = select(_row.asset_id, _row.told).where(_row.told.is_not(None))
    found: dict[tuple[int, Origin], None] = {}
    for asset_id, told in connection.execute(statement.order_by(_row.asset_id, _row.path)):
        from registry.sidecars.record import Sidecar

        source = Sidecar.from_json(told).source if told else None
        if source is not None and source.service == service:
            found[asset_id, source] = None
    return tuple(found)


def record(connection: Connection, found: Sequence[Found], machine: str) -> None:
    """Put what was read on a machine, at least one, in the place of what was known.

    Assets may be gone since their folder was listed: another program forgot or joined them.
    """
    forget(connection, [sidecar.key for sidecar in found], machine)
    there = _known(connection, {sidecar.key.asset_id for sidecar in found})
    rows = [
        {**key._asdict(), **stamp._asdict(), "told": None if told is None else told.to_json()}
        for key, stamp, told in found
        if key.asset_id in there
    ]
    if rows:
        connection.execute(insert(schema.sidecar).values(machine=machine), rows)


def _known(connection: Connection, ids: Collection[int]) -> frozenset[int]:
    found: set[int] = set()
    for some in batches(list(ids)):
        statement = select(schema.asset.c.id).where(schema.asset.c.id.in_(some))
        found.update(connection.execute(statement).scalars())
    return frozenset(found)


def forget(connection: Connection, keys: Sequence[Key], machine: str) -> None:
    """These files of a machine, at least one, are not beside these assets any more."""
    here = (
        _row.machine == machine,
        _row.asset_id == bindparam("asset"),
        _row.path == bindparam("place"),
    )
    gone = [{"asset": key.asset_id, "place": key.path} for key in keys]
    connection.execute(delete(schema.sidecar).where(*here), gone)

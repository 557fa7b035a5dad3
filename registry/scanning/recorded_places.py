"""The places of files that are recorded: what is known of them, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, update

from registry.scanning.scan_records import Outcome, Recorded, ScannedFile
from registry.tables import schema
from registry.tables.numbering import insert_numbered
from registry.tables.rows import batches
from registry.tables.states import PRESENT
from registry.tables.writing import Values
from registry.text import fold

_asset = schema.asset.c
_file = schema.file.c

Owners = Mapping[str, int]
"""The asset of each file, by path."""


class Place(NamedTuple):
    """A place that is known: its file, the asset there, and whether that was hashed."""

    file_id: int
    asset_id: int
    state: str
    is_hashed: bool


Places = Mapping[str, Place]
"""By path."""


def places_of(connection: Connection, paths: Sequence[str], machine: str) -> dict[str, Place]:
    """Those of these paths that are known."""
    columns = (_file.path, _file.id, _file.asset_id, _file.state, _asset.blake3.is_not(None))
    statement = select(*columns).select_from(schema.file.join(schema.asset))
    found: dict[str, Place] = {}
    for some in batches(paths):
        here = statement.where(_file.machine == machine, _file.path.in_(some))
        found.update((row[0], Place(*row[1:])) for row in connection.execute(here))
    return found


def keep_places(
    connection: Connection,
    scanned: Sequence[ScannedFile],
    owners: Owners,
    places: Places,
    machine: str,
) -> dict[str, int]:
    """The numbers of the places that are new, by path."""
    rows = {
        file.path: _place_values(file, owners[file.path], machine)
        for file in scanned
        if file.path in owners
    }
    changed = [
        {**row, "number": places[path].file_id} for path, row in rows.items() if path in places
    ]
    if changed:
        statement = update(schema.file).where(_file.id == bindparam("number"))
        names = changed[0].keys() - {"number"}
        connection.execute(statement.values({name: bindparam(name) for name in names}), changed)
    new = {path: row for path, row in rows.items() if path not in places}
    if not new:
        return {}
    return insert_numbered(connection, schema.file, new)


def _place_values(file: ScannedFile, asset_id: int, machine: str) -> Values:
    return {
        "machine": machine,
        "path": file.path,
        "path_folded": fold(file.path),
        "asset_id": asset_id,
        "bytes": file.bytes,
        "mtime_ns": file.mtime_ns,
        "inode": str(file.inode),
        "state": PRESENT,
    }


def recorded(
    path: str, owners: Owners, places: Places, added: Mapping[str, int]
) -> Recorded | None:
    """What that did to a file's place; None for one that was not recorded."""
    place = places.get(path)
    if place is None:
        return Recorded(owners[path], added[path], Outcome.ADDED) if path in owners else None
    if path not in owners:
        return Recorded(place.asset_id, place.file_id, Outcome.UNCHANGED)
    return Recorded(owners[path], place.file_id, _outcome(owners[path], place))


def _outcome(asset_id: int, old: Place) -> Outcome:
    if not old.is_hashed:
        return Outcome.ADDED
    if old.asset_id != asset_id:
        return Outcome.UPDATED
    return Outcome.UNCHANGED if old.state == PRESENT else Outcome.RESTORED

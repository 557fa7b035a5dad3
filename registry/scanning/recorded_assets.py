"""The assets of files that are recorded: made, found by their content, and brought up to date."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, select, update

from registry.scanning.recorded_places import Owners, Places
from registry.scanning.scan_records import ScannedFile
from registry.tables import schema
from registry.tables.asset_values import content_values, first_values, hash_values
from registry.tables.numbering import insert_numbered
from registry.tables.rows import batches
from registry.tables.writing import Values

_asset = schema.asset.c
_KEPT_BY_THE_DATABASE = ("id", "verdict")


def owners_of(
    connection: Connection, scanned: Sequence[ScannedFile], places: Places
) -> tuple[dict[str, int], frozenset[int]]:
    """The asset of each file by path, and which of them were made for that.

    Left out is a file whose content was to be known already, and was forgotten meanwhile.
    """
    known = _assets_of(connection, [file.hashes.blake3 for file in scanned if file.hashes])
    known |= _waiting(scanned, places, known)
    made = _insert_assets(connection, _new_contents(scanned, places, known))
    known |= made
    owners = {file.path: known[key] for file in scanned if (key := _key(file)) in known}
    return owners, frozenset(made.values())


def _key(file: ScannedFile) -> str:
    """What stands for the content of a file: its hash, or its path while there is none."""
    return file.path if file.hashes is None else file.hashes.blake3


def _assets_of(connection: Connection, digests: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in batches(digests):
        statement = select(_asset.blake3, _asset.id).where(_asset.blake3.in_(some))
        found.update((str(row.blake3), row.id) for row in connection.execute(statement))
    return found


def _waiting(
    scanned: Sequence[ScannedFile], places: Places, known: Mapping[str, int]
) -> dict[str, int]:
    """The contents that assets which wait for their hashes turn out to have."""
    found: dict[str, int] = {}
    for file in scanned:
        place = places.get(file.path)
        if place is None or place.is_hashed or file.hashes is None:
            continue
        if file.hashes.blake3 not in known:
            found.setdefault(file.hashes.blake3, place.asset_id)
    return found


def _new_contents(
    scanned: Sequence[ScannedFile], places: Places, known: Mapping[str, int]
) -> dict[str, Values]:
    """The assets to make, by what stands for their content."""
    found: dict[str, Values] = {}
    for file in scanned:
        key = _key(file)
        # A place that was only looked into and is known: another process was faster.
        if key in known or key in found or key in places or file.content is None:
            continue
        found[key] = {**content_values(file.content), **hash_values(file), **first_values(file)}
    return found


def _insert_assets(connection: Connection, new: Mapping[str, Values]) -> dict[str, int]:
    if not new:
        return {}
    columns = [column.name for column in _asset if column.name not in _KEPT_BY_THE_DATABASE]
    rows = {key: {name: values.get(name) for name in columns} for key, values in new.items()}
    return insert_numbered(connection, schema.asset, rows)


def update_assets(connection: Connection, scanned: Sequence[ScannedFile], owners: Owners) -> None:
    """The same bytes, perhaps seen by a newer program: what it makes of them is kept."""
    changes: defaultdict[frozenset[str], list[Values]] = defaultdict(list)
    for file in scanned:
        if file.path in owners and file.hashes is not None:
            values = {} if file.content is None else content_values(file.content)
            values |= hash_values(file)
            changes[frozenset(values)].append({**values, "owner": owners[file.path]})
    for names, rows in changes.items():
        statement = update(schema.asset).where(_asset.id == bindparam("owner"))
        connection.execute(statement.values({name: bindparam(name) for name in names}), rows)

"""Files that were looked into or hashed become places and assets, many in one transaction.

A new file is recorded twice: when its headers were read it gets an asset without hashes, so that
it is seen at once; when it was hashed, that asset becomes the one of its content, or goes up in the
one that has this content already.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update

from registry.records import Claim
from registry.scanning import naming
from registry.scanning.recorded_assets import owners_of, update_assets
from registry.scanning.recorded_places import Owners, keep_places, places_of, recorded
from registry.scanning.recorded_texts import keep_search_texts
from registry.scanning.scan_records import Recorded, ScannedFile
from registry.tables import claim_rows, schema, tensor_rows
from registry.tables.absorbing import absorb
from registry.tables.rows import batches
from registry.tables.writing import drop_abandoned, refresh_search

_asset = schema.asset.c


def record(
    connection: Connection, scanned: Sequence[ScannedFile], machine: str
) -> tuple[Recorded | None, ...]:
    """Record files at their places on a machine; assets of their content are made or found.

    None for a file whose content was to be known already, and was forgotten meanwhile.
    """
    places = places_of(connection, [file.path for file in scanned], machine)
    owners, made = owners_of(connection, scanned, places)
    update_assets(connection, scanned, owners)
    _keep_metadata(connection, scanned, owners)
    added = keep_places(connection, scanned, owners, places, machine)
    keep_search_texts(connection, scanned, owners, places, made)
    _adopt(connection, scanned, owners)
    weighed = ((file, file.weights) for file in scanned if file.path in owners)
    tensor_rows.record(connection, {owners[f.path]: weights for f, weights in weighed if weights})
    _keep_undigested(connection, scanned, owners)
    _keep_claims(connection, scanned, owners)
    for path, place in places.items():
        if not place.is_hashed and owners.get(path, place.asset_id) != place.asset_id:
            absorb(connection, place.asset_id, owners[path])
    left = {place.asset_id for path, place in places.items() if owners.get(path) != place.asset_id}
    # What was broken and is replaced was a part of a download, most often: nothing to remember.
    drop_abandoned(connection, list(left), _asset.container.is_(None))
    refresh_search(connection, list(left))
    return tuple(recorded(file.path, owners, places, added) for file in scanned)


def _keep_metadata(connection: Connection, scanned: Sequence[ScannedFile], owners: Owners) -> None:
    told = {owners[file.path]: file.content for file in scanned if file.path in owners}
    naming.keep_metadata(connection, {owner: each for owner, each in told.items() if each})


def _keep_undigested(
    connection: Connection, scanned: Sequence[ScannedFile], owners: Owners
) -> None:
    """Note whose tensors are to be read yet; content that was digested in another place is not."""
    waits = {
        owners[file.path]: file.is_undigested
        for file in scanned
        if file.path in owners and file.hashes is not None
    }
    for some in batches(list(waits)):
        known = schema.undigested.c.asset_id.in_(some)
        connection.execute(delete(schema.undigested).where(known))
    for some in batches([asset_id for asset_id, is_undigested in waits.items() if is_undigested]):
        undigested = select(_asset.id).where(_asset.id.in_(some), _asset.weights.is_(None))
        connection.execute(insert(schema.undigested).from_select(["asset_id"], undigested))


def _keep_claims(connection: Connection, scanned: Sequence[ScannedFile], owners: Owners) -> None:
    here = [file for file in scanned if file.path in owners]
    told: dict[int, list[Claim]] = {}
    for file in here:
        if file.claims:
            told.setdefault(owners[file.path], []).extend(file.claims)
    claim_rows.keep_of_files(connection, told)
    claim_rows.compare(connection, [owners[file.path] for file in here if file.hashes is not None])


def _adopt(connection: Connection, scanned: Sequence[ScannedFile], owners: Owners) -> None:
    """Files made from these before the library knew them learn their numbers."""
    table = schema.derivation
    parents = {
        file.hashes.sha256: owners[file.path]
        for file in scanned
        if file.hashes is not None and file.path in owners
    }
    for some in batches(list(parents)):
        orphan = (table.c.parent_sha256.in_(some), table.c.parent_id.is_(None))
        wanted = select(table.c.parent_sha256).where(*orphan).distinct()
        for sha256 in connection.execute(wanted).scalars().all():
            mine = (table.c.parent_sha256 == sha256, table.c.parent_id.is_(None))
            connection.execute(update(table).where(*mine).values(parent_id=parents[sha256]))

"""Files that were looked into or hashed become places and assets, many in one transaction.

A new file is recorded twice: when its headers were read it gets an asset without hashes, so that
it is seen at once; when it was hashed, that asset becomes the one of its content, or goes up in the
one that has this content already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update

from registry.records import Claim
from registry.scanning import naming
from registry.scanning.places import names_of
from registry.scanning.scan_records import Outcome, Recorded, ScannedFile
from registry.tables import claim_rows, schema, tensor_rows
from registry.tables.absorbing import absorb
from registry.tables.asset_values import content_values, first_values, hash_values
from registry.tables.rows import batches
from registry.tables.states import PRESENT
from registry.tables.writing import Values, drop_abandoned, refresh_search, write_search_texts
from registry.text import fold, searchable

_SHORT = 256
"""Characters of metadata that are searched at once: all that is no list of captions or buckets."""
_asset = schema.asset.c
_file = schema.file.c
_KEPT_BY_THE_DATABASE = ("id", "verdict")

Owners = Mapping[str, int]
"""The asset of each file, by path."""


class _Place(NamedTuple):
    """A place that is known: its file, the asset there, and whether that was hashed."""

    file_id: int
    asset_id: int
    state: str
    is_hashed: bool


Places = Mapping[str, _Place]


def record(
    connection: Connection, scanned: Sequence[ScannedFile], machine: str
) -> tuple[Recorded | None, ...]:
    """Record files at their places on a machine; assets of their content are made or found.

    None for a file whose content was to be known already, and was forgotten meanwhile.
    """
    places = _places(connection, [file.path for file in scanned], machine)
    known = _assets_of(connection, [file.hashes.blake3 for file in scanned if file.hashes])
    known |= _waiting(scanned, places, known)
    made = _insert_assets(connection, _new_contents(scanned, places, known))
    known |= made
    owners = {file.path: known[key] for file in scanned if (key := _key(file)) in known}
    _update_assets(connection, scanned, owners)
    _keep_metadata(connection, scanned, owners)
    added = _keep_places(connection, scanned, owners, places, machine)
    _keep_search_texts(connection, scanned, owners, places, frozenset(made.values()))
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
    return tuple(_recorded(file.path, owners, places, added) for file in scanned)


def _key(file: ScannedFile) -> str:
    """What stands for the content of a file: its hash, or its path while there is none."""
    return file.path if file.hashes is None else file.hashes.blake3


def _places(connection: Connection, paths: Sequence[str], machine: str) -> dict[str, _Place]:
    columns = (_file.path, _file.id, _file.asset_id, _file.state, _asset.blake3.is_not(None))
    statement = select(*columns).select_from(schema.file.join(schema.asset))
    found: dict[str, _Place] = {}
    for some in batches(paths):
        here = statement.where(_file.machine == machine, _file.path.in_(some))
        found.update((row[0], _Place(*row[1:])) for row in connection.execute(here))
    return found


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
    return _insert(connection, schema.asset, rows)


def _insert(connection: Connection, table: Table, rows: Mapping[str, Values]) -> dict[str, int]:
    """Insert rows by what stands for them; gives their numbers.

    These are taken beforehand, while nobody else writes: to be told them, each row would have to be
    a statement of its own in SQLite.
    """
    if connection.dialect.name == "sqlite":
        first = connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one() + 1
        numbers: Sequence[int] = range(first, first + len(rows))
    else:
        next_one = func.nextval(func.pg_get_serial_sequence(table.name, "id"))
        many = select(next_one).select_from(func.generate_series(1, len(rows)))
        numbers = connection.execute(many).scalars().all()
    numbered = dict(zip(rows, numbers, strict=True))
    values = [{**row, "id": numbered[key]} for key, row in rows.items()]
    connection.execute(insert(table), values)
    return numbered


def _update_assets(connection: Connection, scanned: Sequence[ScannedFile], owners: Owners) -> None:
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


def _keep_metadata(connection: Connection, scanned: Sequence[ScannedFile], owners: Owners) -> None:
    told = {owners[file.path]: file.content for file in scanned if file.path in owners}
    naming.keep_metadata(connection, {owner: each for owner, each in told.items() if each})


def _keep_search_texts(
    connection: Connection,
    scanned: Sequence[ScannedFile],
    owners: Owners,
    places: Places,
    made: frozenset[int],
) -> None:
    """Make what words are looked for in; of a file that is to be hashed yet, what is short.

    Captions are most of the text by far: indexing them would keep the names of others waiting. On
    assets that were `made` a moment ago nobody wrote anything.
    """
    short: dict[int, Mapping[str, str]] = {}
    first: dict[int, str] = {}
    whole: list[int] = []
    for file in scanned:
        if file.path not in owners:
            continue
        place, owner = places.get(file.path), owners[file.path]
        if file.hashes is not None and (file.content or (place and not place.is_hashed)):
            whole.append(owner)
        elif file.hashes is None and file.content is not None:
            told = file.content.metadata.items()
            short[owner] = few = {name: value for name, value in told if len(value) <= _SHORT}
            if owner in made:
                words = file.content.trigger_words
                name, *others = names_of(file.path)
                first[owner] = searchable(name, None, (), words, few, files=others)
    if first:
        rows = [{"asset_id": owner, "text": text} for owner, text in first.items()]
        connection.execute(insert(schema.asset_search), rows)
    write_search_texts(connection, {each: few for each, few in short.items() if each not in first})
    refresh_search(connection, whole)


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


def _keep_places(
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
    return _insert(connection, schema.file, new)


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


def _recorded(
    path: str, owners: Owners, places: Places, added: Mapping[str, int]
) -> Recorded | None:
    place = places.get(path)
    if place is None:
        return Recorded(owners[path], added[path], Outcome.ADDED) if path in owners else None
    if path not in owners:
        return Recorded(place.asset_id, place.file_id, Outcome.UNCHANGED)
    return Recorded(owners[path], place.file_id, _outcome(owners[path], place))


def _outcome(asset_id: int, old: _Place) -> Outcome:
    if not old.is_hashed:
        return Outcome.ADDED
    if old.asset_id != asset_id:
        return Outcome.UPDATED
    return Outcome.UNCHANGED if old.state == PRESENT else Outcome.RESTORED

"""From records to rows: everything that changes the library, within the caller's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Table, delete, insert, select, update

from converters.errors import AssetNotFound
from registry.scanning.places import names_of
from registry.tables import schema, sidecar_rows
from registry.tables.rows import batches
from registry.tables.states import OFFLINE, PRESENT
from registry.text import searchable, shown

if TYPE_CHECKING:
    from converters.statedict import Plain
    from registry.records import Parent, Preview, Source

Values = dict[str, Any]
"""Column -> value."""

_SAID_OF_A_SOURCE = ("asset_id", "source", "repo", "revision", "file", "url")
"""What makes a source another one; its licence does not."""
_asset = schema.asset.c
_file = schema.file.c


def require(connection: Connection, ids: Iterable[int]) -> None:
    """Raises AssetNotFound for the first number that no asset has."""
    wanted = list(ids)
    for some in batches(wanted):
        statement = select(_asset.id).where(_asset.id.in_(some))
        absent = set(some) - set(connection.execute(statement).scalars())
        if absent:
            raise AssetNotFound(f"there is no asset #{min(absent)}")


def restore(connection: Connection, file_ids: Sequence[int]) -> None:
    """Missing files are back, unchanged."""
    for some in batches(file_ids):
        connection.execute(update(schema.file).where(_file.id.in_(some)).values(state=PRESENT))


def set_offline(connection: Connection, file_ids: Sequence[int]) -> None:
    """Files are on a disk that is not there."""
    for some in batches(file_ids):
        here = (_file.id.in_(some), _file.state == PRESENT)
        connection.execute(update(schema.file).where(*here).values(state=OFFLINE))


def set_tags(
    connection: Connection, ids: Sequence[int], add: Iterable[str], remove: Iterable[str]
) -> None:
    """Add and remove tags that are folded already."""
    for asset_id in ids:
        for name in remove:
            _delete_tag(connection, asset_id, name)
        for name in add:
            _delete_tag(connection, asset_id, name)
            connection.execute(insert(schema.tag).values(asset_id=asset_id, name=name))
        touch(connection, asset_id)


def touch(connection: Connection, asset_id: int, **values: object) -> None:
    """Change columns of an asset, and bring its search text up to date."""
    changes = {**values, "updated": now()}
    connection.execute(update(schema.asset).where(_asset.id == asset_id).values(changes))
    refresh_search(connection, [asset_id])


def refresh_search(connection: Connection, ids: Sequence[int]) -> None:
    """Make the texts that words of a query are looked for in anew."""
    table = schema.asset_metadata
    for some in batches(ids):
        statement = select(table.c.asset_id, table.c.metadata).where(table.c.asset_id.in_(some))
        write_search_texts(connection, {row[0]: row[1] for row in connection.execute(statement)})


def write_search_texts(connection: Connection, told: Mapping[int, Mapping[str, str]]) -> None:
    """Make these texts of assets, by number, of what their metadata tell and all else that does."""
    for some in batches(list(told)):
        _write_search_texts(connection, some, told)


def _write_search_texts(
    connection: Connection, ids: Sequence[int], told: Mapping[int, Mapping[str, str]]
) -> None:
    columns = (_asset.id, _asset.name, _asset.note, _asset.trigger_words)
    tags, sidecars = _tags_of(connection, ids), sidecar_rows.texts(connection, ids)
    files = _files_of(connection, ids)
    rows = [
        {
            "asset_id": number,
            "text": searchable(
                name,
                note,
                tags[number],
                trigger_words,
                told[number],
                sidecars[number],
                files[number],
            ),
        }
        for number, name, note, trigger_words in connection.execute(
            select(*columns).where(_asset.id.in_(ids))
        )
    ]
    search = schema.asset_search.c
    old = select(search.asset_id, search.text).where(search.asset_id.in_(ids))
    known = {row.asset_id: row.text for row in connection.execute(old)}
    changed = [row for row in rows if known.get(row["asset_id"]) != row["text"]]
    if changed:  # what an index of words costs most is a text: none is indexed twice
        others = [row["asset_id"] for row in changed]
        connection.execute(delete(schema.asset_search).where(search.asset_id.in_(others)))
        connection.execute(insert(schema.asset_search), changed)


def _files_of(connection: Connection, ids: Sequence[int]) -> defaultdict[int, list[str]]:
    """What the files of assets are called."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    columns = (_file.asset_id, _file.path)
    statement = select(*columns).where(_file.asset_id.in_(ids)).order_by(_file.id)
    for row in connection.execute(statement):
        found[row.asset_id].extend(names_of(row.path))
    return found


def _tags_of(connection: Connection, ids: Sequence[int]) -> defaultdict[int, list[str]]:
    tag = schema.tag.c
    found: defaultdict[int, list[str]] = defaultdict(list)
    statement = select(tag.asset_id, tag.name).where(tag.asset_id.in_(ids)).order_by(tag.name)
    for row in connection.execute(statement):
        found[row.asset_id].append(row.name)
    return found


def forget(connection: Connection, ids: Sequence[int]) -> None:
    """Remove assets; what hangs on them goes too."""
    for some in batches(ids):
        connection.execute(delete(schema.asset).where(_asset.id.in_(some)))


def drop_abandoned(
    connection: Connection, ids: Sequence[int], *conditions: ColumnElement[bool]
) -> None:
    """Remove those assets that have no place any more, and on which nobody wrote anything."""
    abandoned = (
        _asset.id.not_in(select(_file.asset_id)),
        _asset.id.not_in(select(schema.tag.c.asset_id)),
        _asset.note.is_(None),
        _asset.rating.is_(None),
    )
    for some in batches(ids):
        mine = _asset.id.in_(some)
        connection.execute(delete(schema.asset).where(mine, *abandoned, *conditions))


def add_root(connection: Connection, path: str, machine: str) -> None:
    """One more folder of a machine."""
    connection.execute(insert(schema.root).values(machine=machine, path=path))


def remove_root(connection: Connection, path: str, machine: str) -> None:
    """One folder of a machine less."""
    here = (schema.root.c.machine == machine, schema.root.c.path == path)
    connection.execute(delete(schema.root).where(*here))


def add_mounts(connection: Connection, paths: Iterable[str], machine: str) -> None:
    """More places of a machine where disks are mounted."""
    rows = [{"machine": machine, "path": path} for path in sorted(paths)]
    if rows:
        connection.execute(insert(schema.mount), rows)


def record_derived(
    connection: Connection,
    asset_id: int,
    parent: Parent,
    operation: str,
    parameters: Mapping[str, Plain],
    version: str | None = None,
) -> None:
    """One parent of an asset; a file is not its own parent, and nothing is said twice.

    Another version of the program that did the same says nothing new.
    """
    parent_id = _id_of_sha256(connection, parent.sha256)
    if parent_id == asset_id:
        return
    values: Values = {
        "child_id": asset_id,
        "parent_sha256": parent.sha256,
        "parent_name": shown(parent.name),
        "operation": operation,
        "parameters": _jsonable(dict(parameters)),
    }
    if not _known(connection, schema.derivation, values):
        values |= {"parent_id": parent_id, "version": version}
        connection.execute(insert(schema.derivation).values(values))


def record_sources(connection: Connection, told: Sequence[tuple[int, Source]]) -> None:
    """Where assets came from, unless that is known; a licence that was not told then is added."""
    table = schema.source
    names = _SAID_OF_A_SOURCE
    known: set[tuple[object, ...]] = set()
    for some in batches([asset_id for asset_id, _ in told]):
        mine = select(*(table.c[name] for name in names)).where(table.c.asset_id.in_(some))
        known.update(map(tuple, connection.execute(mine)))
    new: dict[tuple[object, ...], Values] = {}
    for asset_id, source in told:
        values: Values = {"asset_id": asset_id, **asdict(source)}
        key = tuple(values[name] for name in names)
        if key not in known:
            new[key] = values
        elif source.licence is not None:
            same = [table.c[name] == values[name] for name in names]
            connection.execute(update(table).where(*same).values(licence=source.licence))
    if new:
        connection.execute(insert(table), list(new.values()))


def record_preview(connection: Connection, asset_id: int, preview: Preview) -> None:
    """The preview in the place of an older one."""
    values = {
        "verdict": preview.verdict,
        "path": preview.path,
        "thumbnail": preview.thumbnail,
        "seed": preview.seed,
        "prompt": preview.prompt,
        "checks": [asdict(check) for check in preview.checks],
        "parameters": _jsonable(dict(preview.parameters)),
    }
    _replace(connection, schema.preview, asset_id, values)


def record_verification(connection: Connection, asset_id: int, found: Mapping[str, str]) -> None:
    """The results of checks; those not made now stay."""
    _replace(connection, schema.verification, asset_id, {**found, "checked": now()})


def _id_of_sha256(connection: Connection, sha256: str | None) -> int | None:
    if sha256 is None:
        return None
    statement = select(_asset.id).where(_asset.sha256 == sha256)
    found: int | None = connection.execute(statement).scalars().first()
    return found


def _delete_tag(connection: Connection, asset_id: int, name: str) -> None:
    tag = schema.tag.c
    connection.execute(delete(schema.tag).where(tag.asset_id == asset_id, tag.name == name))


def _known(connection: Connection, table: Table, values: Values) -> bool:
    """Whether a row says exactly this; JSON is compared as values, not as text."""
    owner = "child_id" if "child_id" in values else "asset_id"
    rows = connection.execute(select(table).where(table.c[owner] == values[owner])).mappings()
    return any(all(row[name] == value for name, value in values.items()) for row in rows)


def _replace(connection: Connection, table: Table, asset_id: int, values: Values) -> None:
    owner = table.c.asset_id
    if connection.execute(select(owner).where(owner == asset_id)).first() is None:
        connection.execute(insert(table).values(asset_id=asset_id, **values))
    else:
        connection.execute(update(table).where(owner == asset_id).values(values))


def _jsonable(value: Plain) -> Plain:
    """Bytes as hex digits: JSON has no bytes."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _jsonable(inner) for name, inner in value.items()}
    return [_jsonable(inner) for inner in value] if isinstance(value, list) else value


def now() -> datetime:
    """The moment as it is stored: UTC, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)

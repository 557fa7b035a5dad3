"""From records to rows: everything that changes the library, within the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, insert, select, update

from converters.errors import AssetNotFound
from converters.statedict import Plain
from registry import schema, sidecar_rows, tensor_rows
from registry.reading import batches
from registry.records import (
    MISSING,
    PRESENT,
    Content,
    Outcome,
    Parent,
    Preview,
    Recorded,
    ScannedFile,
    Source,
)
from registry.text import fold, searchable

Values = dict[str, Any]
"""Column -> value."""

_SHA256_OF_NOTHING = "e3b0c44298fc"
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


def record(connection: Connection, scanned: ScannedFile, machine: str) -> Recorded:
    """Record a file at its place on a machine; the asset of its content is made or found."""
    asset_id = _record_content(connection, scanned)
    place = {
        "machine": machine,
        "path": scanned.path,
        "path_folded": fold(scanned.path),
        "asset_id": asset_id,
        "bytes": scanned.bytes,
        "mtime_ns": scanned.mtime_ns,
        "inode": str(scanned.inode),
        "state": PRESENT,
    }
    old = connection.execute(
        select(_file.id, _file.asset_id, _file.state).where(
            _file.machine == machine, _file.path == scanned.path
        )
    ).one_or_none()
    if old is None:
        return Recorded(asset_id, _insert(connection, schema.file, place), Outcome.ADDED)
    connection.execute(update(schema.file).where(_file.id == old.id).values(place))
    return Recorded(asset_id, old.id, _outcome(asset_id, old))


def restore(connection: Connection, file_ids: Sequence[int]) -> None:
    """Missing files are back, unchanged."""
    for some in batches(file_ids):
        connection.execute(update(schema.file).where(_file.id.in_(some)).values(state=PRESENT))


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
    changes = {**values, "updated": _now()}
    connection.execute(update(schema.asset).where(_asset.id == asset_id).values(changes))
    refresh_search(connection, asset_id)


def refresh_search(connection: Connection, asset_id: int) -> None:
    """Make the text that words of a query are looked for in anew."""
    columns = (_asset.name, _asset.note, _asset.trigger_words, schema.asset_metadata.c.metadata)
    statement = select(*columns).join_from(schema.asset, schema.asset_metadata)
    row = connection.execute(statement.where(_asset.id == asset_id)).one()
    tags = connection.execute(
        select(schema.tag.c.name)
        .where(schema.tag.c.asset_id == asset_id)
        .order_by(schema.tag.c.name)
    ).scalars()
    told = sidecar_rows.texts(connection, asset_id)
    text = searchable(row.name, row.note, tags, row.trigger_words, row.metadata, told)
    _replace(connection, schema.asset_search, asset_id, {"text": text})


def forget(connection: Connection, ids: Sequence[int]) -> None:
    """Remove assets; what hangs on them goes too."""
    for some in batches(ids):
        connection.execute(delete(schema.asset).where(_asset.id.in_(some)))


def add_root(connection: Connection, path: str, machine: str) -> None:
    """One more folder of a machine."""
    connection.execute(insert(schema.root).values(machine=machine, path=path))


def record_derived(
    connection: Connection,
    asset_id: int,
    parent: Parent,
    operation: str,
    parameters: Mapping[str, Plain],
) -> None:
    """One parent of an asset; a file is not its own parent, and nothing is said twice."""
    parent_id = _id_of_sha256(connection, parent.sha256)
    if parent_id == asset_id:
        return
    values: Values = {
        "child_id": asset_id,
        "parent_sha256": parent.sha256,
        "parent_name": parent.name,
        "operation": operation,
        "parameters": _jsonable(dict(parameters)),
    }
    if not _known(connection, schema.derivation, values):
        connection.execute(insert(schema.derivation).values(values | {"parent_id": parent_id}))


def record_source(connection: Connection, asset_id: int, source: Source) -> None:
    """Where an asset came from, unless that is known."""
    values = {"asset_id": asset_id, **asdict(source)}
    if not _known(connection, schema.source, values):
        connection.execute(insert(schema.source).values(values))


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
    _replace(connection, schema.verification, asset_id, {**found, "checked": _now()})


def _record_content(connection: Connection, scanned: ScannedFile) -> int:
    values = _content_values(scanned.content) | _hash_values(scanned)
    known: int | None = connection.execute(
        select(_asset.id).where(_asset.blake3 == scanned.hashes.blake3)
    ).scalar_one_or_none()
    if known is None:
        asset_id = _insert(connection, schema.asset, values | _first_values(scanned))
        _adopt(connection, asset_id, scanned.hashes.sha256)
    else:
        # The same bytes, perhaps seen by a newer program: what it makes of them is kept.
        asset_id = known
        connection.execute(update(schema.asset).where(_asset.id == known).values(values))
    told = {"metadata": dict(scanned.content.metadata)}
    _replace(connection, schema.asset_metadata, asset_id, told)
    if scanned.weights is not None:
        tensor_rows.record(connection, asset_id, scanned.weights)
    refresh_search(connection, asset_id)
    return asset_id


def _first_values(scanned: ScannedFile) -> Values:
    """What an asset gets from the first file that is recorded of it."""
    name, now = PurePath(scanned.path).stem, _now()
    return {
        "name": name,
        "name_folded": fold(name),
        "bytes": scanned.bytes,
        "added": now,
        "updated": now,
    }


def _content_values(content: Content) -> Values:
    return {
        "kind": str(content.kind),
        "base": str(content.base),
        "variant": content.variant,
        "prediction": str(content.prediction),
        "layout": content.layout,
        "container": None if content.container is None else str(content.container),
        "rank": content.rank,
        "tensors": content.tensors,
        "parameters": content.parameters,
        "confidence": content.confidence,
        "safety": str(content.safety.verdict),
        "algorithm": list(content.algorithm),
        "dtypes": dict(content.dtypes),
        "components": [astuple(component) for component in content.components],
        "evidence": list(content.evidence),
        "problems": list(content.problems),
        "safety_imports": list(content.safety.imports),
        "safety_findings": list(content.safety.findings),
        "trigger_words": list(content.trigger_words),
    }


def _hash_values(scanned: ScannedFile) -> Values:
    """AutoV1 and AutoV3 of files too short for them are hashes of nothing, and name nothing."""
    hashes = scanned.hashes
    values: Values = {"blake3": hashes.blake3, "sha256": hashes.sha256, "crc32": hashes.crc32}
    values["autov1"] = None if _of_nothing(hashes.autov1) else hashes.autov1
    if hashes.autov3 is not None:
        values["autov3"] = None if _of_nothing(hashes.autov3) else hashes.autov3
    if scanned.weights is not None:
        values["weights"] = scanned.weights.whole
    return values


def _of_nothing(digest: str) -> bool:
    return digest.startswith(_SHA256_OF_NOTHING[: len(digest)])


def _outcome(asset_id: int, old: Row[int, int, str]) -> Outcome:
    if old.asset_id != asset_id:
        return Outcome.UPDATED
    return Outcome.RESTORED if old.state == MISSING else Outcome.UNCHANGED


def _adopt(connection: Connection, asset_id: int, sha256: str) -> None:
    """Files made from this one before the library knew it learn its number."""
    table = schema.derivation
    connection.execute(
        update(table)
        .where(table.c.parent_sha256 == sha256, table.c.parent_id.is_(None))
        .values(parent_id=asset_id)
    )


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


def _insert(connection: Connection, table: Table, values: Values) -> int:
    key = connection.execute(insert(table).values(values)).inserted_primary_key
    assert key is not None  # every table inserted into here has one
    return int(key[0])


def _jsonable(value: Plain) -> Plain:
    """Bytes as hex digits: JSON has no bytes."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _jsonable(inner) for name, inner in value.items()}
    return [_jsonable(inner) for inner in value] if isinstance(value, list) else value


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)

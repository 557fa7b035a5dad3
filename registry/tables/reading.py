"""From rows to records: everything known of an asset, and the places that are remembered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select, union_all

from converters.bytesource import Fingerprint
from registry.pictures import picture_files
from registry.records import (
    Asset,
    Claim,
    Derivation,
    File,
    Preview,
    PreviewCheck,
    Source,
    Verification,
)
from registry.scanning.scan_records import KnownFile
from registry.tables import schema
from registry.tables.row_values import moment
from registry.tables.rows import AnyRow, batches, grouped, tags_of

if TYPE_CHECKING:
    from registry.sidecars.record import Sidecar

_asset = schema.asset.c


def assets(connection: Connection, ids: Sequence[int], machine: str) -> tuple[Asset, ...]:
    """Everything known of assets, in the order of their numbers; unknown numbers are left out.

    Of the places only those of `machine` are `here`.
    """
    found: dict[int, Asset] = {}
    for some in batches(ids):
        rows = connection.execute(select(schema.asset).where(_asset.id.in_(some))).all()
        attached = _attached(connection, some, machine)
        found.update((row.id, _full(row, attached)) for row in rows)
    return tuple(found[asset_id] for asset_id in ids if asset_id in found)


def known_files(connection: Connection, machine: str) -> dict[str, KnownFile]:
    """Every place of a machine that the library remembers, by path."""
    file = schema.file.c
    columns = (file.path, file.id, file.bytes, file.mtime_ns, file.inode, file.state, file.asset_id)
    rows = connection.execute(select(*columns).where(file.machine == machine)).all()
    left = _left_to_read(connection)
    unnamed = frozenset(connection.execute(select(schema.unnamed.c.asset_id)).scalars())
    return {
        path: KnownFile(
            number,
            Fingerprint(nbytes, mtime, int(inode)),
            state,
            owner not in left,
            owner,
            owner not in unnamed,
        )
        for path, number, nbytes, mtime, inode, state, owner in rows
    }


def _left_to_read(connection: Connection) -> frozenset[int]:
    """The assets without hashes, or without digests that they should have: few, most of the time.

    Looked for by themselves, for the rows of assets are long.
    """
    waiting = select(_asset.id).where(_asset.blake3.is_(None))
    found = union_all(waiting, select(schema.undigested.c.asset_id))
    return frozenset(connection.execute(found).scalars())


def roots(connection: Connection, machine: str) -> tuple[str, ...]:
    """The folders of the library on a machine, by path."""
    root = schema.root.c
    statement = select(root.path).where(root.machine == machine).order_by(root.path)
    return tuple(connection.execute(statement).scalars())


def mounts(connection: Connection, machine: str) -> frozenset[str]:
    """Where disks of a machine were mounted when their files were seen."""
    mount = schema.mount.c
    return frozenset(
        connection.execute(select(mount.path).where(mount.machine == machine)).scalars()
    )


def preview_pictures(connection: Connection) -> dict[int, tuple[str, ...]]:
    """The pictures of all previews, by asset."""
    preview = schema.preview.c
    rows = connection.execute(select(preview.asset_id, preview.path, preview.thumbnail))
    return {row.asset_id: picture_files(row.path, row.thumbnail) for row in rows}


@dataclass(frozen=True, slots=True)
class _Attached:
    """What hangs on some assets, by their numbers."""

    metadata: defaultdict[int, tuple[dict[str, str], ...]]
    files: defaultdict[int, tuple[File, ...]]
    tags: defaultdict[int, tuple[str, ...]]
    sources: defaultdict[int, tuple[Source, ...]]
    derivations: defaultdict[int, tuple[Derivation, ...]]
    previews: defaultdict[int, tuple[Preview, ...]]
    verifications: defaultdict[int, tuple[AnyRow, ...]]
    sidecars: defaultdict[int, tuple[Sidecar | None, ...]]
    digests: defaultdict[int, tuple[tuple[str, str], ...]]
    claims: defaultdict[int, tuple[Claim, ...]]


def _attached(connection: Connection, ids: Sequence[int], machine: str) -> _Attached:
    return _Attached(
        metadata=grouped(connection, schema.asset_metadata, "asset_id", ids, _metadata),
        files=grouped(connection, schema.file, "asset_id", ids, lambda row: _file(row, machine)),
        tags=tags_of(connection, ids),
        sources=grouped(connection, schema.source, "asset_id", ids, _source),
        derivations=grouped(connection, schema.derivation, "child_id", ids, _derivation),
        previews=grouped(connection, schema.preview, "asset_id", ids, _preview),
        verifications=grouped(connection, schema.verification, "asset_id", ids, lambda row: row),
        sidecars=grouped(connection, schema.sidecar, "asset_id", ids, _sidecar),
        digests=grouped(
            connection, schema.component, "asset_id", ids, lambda row: (row.name, row.digest)
        ),
        claims=grouped(connection, schema.candidate, "asset_id", ids, _claim),
    )


def _metadata(row: AnyRow) -> dict[str, str]:
    return {str(name): str(value) for name, value in row.metadata.items()}


def _file(row: AnyRow, machine: str) -> File:
    here = row.machine == machine
    return File(
        *(row.id, row.path, row.state, row.bytes, row.mtime_ns, int(row.inode)),
        here=here,
        machine=row.machine or None,
    )


def _source(row: AnyRow) -> Source:
    return Source(row.source, row.repo, row.revision, row.file, row.url, row.licence)


def sources(connection: Connection, service: str) -> tuple[tuple[int, Source], ...]:
    """The numbers of the assets that came from a service, and how that names them."""
    table = schema.source
    statement = select(table).where(table.c.source == service).order_by(table.c.asset_id)
    return tuple((row.asset_id, _source(row)) for row in connection.execute(statement))


def _derivation(row: AnyRow) -> Derivation:
    return Derivation(
        row.parent_id,
        row.parent_sha256,
        row.parent_name,
        row.operation,
        row.parameters,
        row.version,
    )


def _preview(row: AnyRow) -> Preview:
    checks = tuple(PreviewCheck(**check) for check in row.checks)
    return Preview(
        row.path, row.thumbnail, row.seed, row.prompt, row.verdict, checks, row.parameters
    )


def _sidecar(row: AnyRow) -> Sidecar | None:
    from registry.sidecars.record import Sidecar

    return None if row.told is None else Sidecar.from_json(row.told)


def _claim(row: AnyRow) -> Claim:
    return Claim(row.hash, row.digest, row.origin)


def _full(row: AnyRow, attached: _Attached) -> Asset:
    from converters.identify import Component
    from converters.pickles.verdict import SafetyReport, Verdict

    preview = next(iter(attached.previews[row.id]), None)
    checked = next(iter(attached.verifications[row.id]), None)
    return Asset(
        id=row.id,
        name=row.name,
        kind=row.kind,
        base=row.base,
        variant=row.variant,
        prediction=row.prediction,
        algorithm=tuple(row.algorithm),
        layout=row.layout,
        container=row.container,
        bytes=row.bytes,
        rank=row.rank,
        dtypes=row.dtypes,
        tensors=row.tensors,
        parameters=row.parameters,
        components=tuple(Component(*component) for component in row.components),
        confidence=row.confidence,
        evidence=tuple(row.evidence),
        problems=tuple(row.problems),
        trigger_words=tuple(row.trigger_words),
        metadata=next(iter(attached.metadata[row.id]), {}),
        safety=SafetyReport(
            Verdict(row.safety), tuple(row.safety_imports), tuple(row.safety_findings)
        ),
        hashes={
            "blake3": row.blake3,
            "sha256": row.sha256,
            "crc32": row.crc32,
            "autov1": row.autov1,
            "autov2": row.sha256 and row.sha256[:10],
            "autov3": row.autov3,
            "weights": row.weights,
        },
        files=attached.files[row.id],
        tags=attached.tags[row.id],
        note=row.note,
        rating=row.rating,
        sources=attached.sources[row.id],
        derived_from=attached.derivations[row.id],
        preview=preview,
        verification=Verification(
            integrity=checked.integrity if checked is not None else None,
            structure=checked.structure if checked is not None else None,
            render=preview.verdict if preview is not None else None,
        ),
        added=moment(row.added),
        updated=moment(row.updated),
        sidecars=tuple(filter(None, attached.sidecars[row.id])),
        component_digests=dict(attached.digests[row.id]),
        claims=attached.claims[row.id],
    )

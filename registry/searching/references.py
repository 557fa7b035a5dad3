"""How users name an asset: a path, `#ID`, a hash or the beginning of one, or the exact name.

What is called by the name of its first file is found by the names of the others, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, bindparam, or_, select

from converters.errors import AmbiguousAsset, AssetNotFound
from registry.query.terms import Hash
from registry.scanning.places import canonical, names_of
from registry.tables import schema
from registry.tables.rows import batches
from registry.text import fold, shown, storable

CANDIDATES_SHOWN = 8

_NUMBER = re.compile(r"#(\d{1,18})")
_HASH = re.compile(r"[0-9a-fA-F]{6,64}")
_asset = schema.asset.c
_file = schema.file.c
_BY_DIGEST = select(_asset.id).where(
    or_(_asset.blake3 == bindparam("digest"), _asset.sha256 == bindparam("digest"))
)


def resolve(connection: Connection, reference: str, machine: str) -> int:
    """The number of the asset; the first way of naming that finds something counts.

    Raises AssetNotFound, or AmbiguousAsset listing the candidates.
    """
    for found in _attempts(connection, reference, machine):
        if len(found) == 1:
            return found[0]
        if found:
            raise _ambiguous(connection, reference, found)
    raise AssetNotFound(
        "no asset of the library has this path, number, hash or name",
        path=reference,
        hint="`assetmgr list` shows them; `assetmgr scan` adds files",
    )


def with_digest(connection: Connection, digest: str) -> int | None:
    """The asset of which this is the BLAKE3 or SHA-256, in lower-case hex."""
    found: int | None = connection.execute(_BY_DIGEST, {"digest": digest}).scalars().first()
    return found


def with_sha256(connection: Connection, digests: Sequence[str]) -> dict[str, int]:
    """The assets of which these are the SHA-256, in lower-case hex, by it."""
    found: dict[str, int] = {}
    for some in batches(digests):
        statement = select(_asset.sha256, _asset.id).where(_asset.sha256.in_(some))
        found.update((str(row.sha256), row.id) for row in connection.execute(statement))
    return found


def names(connection: Connection, beginning: str, limit: int) -> tuple[str, ...]:
    """Names that begin so when both are folded."""
    begins = _asset.name_folded.startswith(fold(beginning), autoescape=True)
    statement = select(_asset.name).distinct().where(begins).order_by(_asset.name).limit(limit)
    return tuple(connection.execute(statement).scalars())


def _attempts(connection: Connection, reference: str, machine: str) -> Iterator[Sequence[int]]:
    """The assets that each way of naming finds, in the order of the ways."""
    if not reference or "\0" in reference:
        return
    at = (_file.machine == machine, _file.path == canonical(reference))
    paths = select(_file.asset_id).where(*at)
    yield connection.execute(paths).scalars().all()
    if not storable(reference):  # only paths need not be
        return
    number = _NUMBER.fullmatch(reference)
    if number is not None:
        yield _ids(connection, _asset.id == int(number[1]))
    if _HASH.fullmatch(reference):
        hashed = Hash(reference.lower())
        yield _ids(connection, hashed.known())
        yield _ids(connection, hashed.claimed())
    yield _ids(connection, _asset.name == reference)
    yield _with_file(connection, reference, machine)


def _with_file(connection: Connection, name: str, machine: str) -> Sequence[int]:
    """The assets with a file of this name, with or without its ending: copies have names, too."""
    first, *_ = name.split(" (")  # of a part of a pipeline its folder's name comes first
    within = _file.path_folded.contains(os.sep + fold(first), autoescape=True)
    statement = select(_file.asset_id, _file.path).where(_file.machine == machine, within)
    named = {
        asset_id
        for asset_id, path in connection.execute(statement)
        if name in (*names_of(path), shown(path).rpartition(os.sep)[2])
    }
    return sorted(named)


def _ids(connection: Connection, condition: ColumnElement[bool]) -> Sequence[int]:
    statement = select(_asset.id).where(condition).order_by(_asset.id)
    return connection.execute(statement).scalars().all()


def _ambiguous(connection: Connection, reference: str, found: Sequence[int]) -> AmbiguousAsset:
    few = found[:CANDIDATES_SHOWN]
    statement = select(_asset.id, _asset.name, _asset.kind).where(_asset.id.in_(few))
    rows = connection.execute(statement.order_by(_asset.id))
    names = ", ".join(f"#{row.id} {row.name} ({row.kind})" for row in rows)
    more = f" and {len(found) - len(few)} more" if len(found) > len(few) else ""
    return AmbiguousAsset(
        f"names {len(found)} assets: {names}{more}", path=reference, hint="use one of the numbers"
    )

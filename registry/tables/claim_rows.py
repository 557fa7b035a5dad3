"""Claims in the database: who says which hash of an asset, and whether its bytes were found so.

A claim finds its asset until it is known to be wrong. `agrees` is kept here whenever claims come or
an asset is hashed, so that what contradicts its claims is found without comparing all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, case, delete, func, insert, select, update

from registry.records import CACHE, POINTER, Claim, Contradiction
from registry.tables import schema
from registry.tables.rows import batches
from registry.tables.sidecar_rows import claimed_hashes

_asset, _claim = schema.asset.c, schema.candidate.c
OF_FILES = (CACHE, POINTER)
"""Who claims; other claims are those of sidecars."""

_KNOWN = case(
    {
        "blake3": _asset.blake3,
        "sha256": _asset.sha256,
        "crc32": _asset.crc32,
        "autov1": _asset.autov1,
        "autov2": _asset.sha256,
        "autov3": _asset.autov3,
    },
    value=_claim.hash,
)
"""The asset's own hash of the name that is claimed."""


def keep_of_files(connection: Connection, claims: Mapping[int, Sequence[Claim]]) -> None:
    """What files claim of themselves, in the place of what they did before, by asset."""
    of_files = _claim.origin.in_(OF_FILES)
    for some in batches(list(claims)):
        connection.execute(delete(schema.candidate).where(_claim.asset_id.in_(some), of_files))
    _insert(connection, claims)


def refresh_of_sidecars(connection: Connection, ids: Collection[int]) -> None:
    """What the sidecars of assets claim by now."""
    told = claimed_hashes(connection, ids)
    for some in batches(list(ids)):
        theirs = (_claim.asset_id.in_(some), _claim.origin.not_in(OF_FILES))
        connection.execute(delete(schema.candidate).where(*theirs))
    _insert(connection, told)
    compare(connection, list(told))


def compare(connection: Connection, ids: Sequence[int]) -> None:
    """Whether claims agree with the hashes that these assets have by now.

    A pointer claims nothing of its own bytes. Hashes may be claimed by their beginning.
    """
    agrees = func.substr(_KNOWN, 1, func.length(_claim.digest)) == _claim.digest
    own = select(agrees).where(_asset.id == _claim.asset_id).scalar_subquery()
    for some in batches(ids):
        mine = (_claim.asset_id.in_(some), _claim.origin != POINTER)
        connection.execute(update(schema.candidate).where(*mine).values(agrees=own))


def contradictions(connection: Connection, ids: Collection[int]) -> tuple[Contradiction, ...]:
    """The claims of these assets that their bytes do not bear out."""
    file = schema.file.c
    place = select(func.min(file.path)).where(file.asset_id == _asset.id).scalar_subquery()
    columns = (_asset.id, _asset.name, place, _claim.hash, _claim.digest, _KNOWN, _claim.origin)
    statement = (
        select(*columns)
        .join_from(schema.candidate, schema.asset)
        .where(_claim.agrees.is_(False))
        .order_by(_asset.id, _claim.origin, _claim.hash)
    )
    wanted = frozenset(ids)
    if not wanted:
        return ()
    return tuple(
        Contradiction(number, path or name, hash_name, claimed, found, origin)
        for number, name, path, hash_name, claimed, found, origin in connection.execute(statement)
        if number in wanted
    )


def _insert(connection: Connection, claims: Mapping[int, Sequence[Claim]]) -> None:
    rows = {
        (asset_id, claim.hash, claim.digest, claim.origin): None
        for asset_id, told in claims.items()
        for claim in told
    }
    names = ("asset_id", "hash", "digest", "origin")
    if rows:
        values = [dict(zip(names, row, strict=True)) for row in rows]
        connection.execute(insert(schema.candidate), values)

"""Hashes that sidecars claim, and whether claims agree with what the bytes were found to be.

Written out here, apart from `registry.tables`, because a migration must stay as it was. What
sidecars said until now is in their rows: it becomes claims here, so that no file is read again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0005_claims"
down_revision = "0004_fulltext"

_AT_ONCE = 500


def upgrade() -> None:
    """A claim is known by who makes it, too, and was compared with the file's own hash or not."""
    with op.batch_alter_table("candidate") as candidate:
        candidate.add_column(sa.Column("agrees", sa.Boolean(), nullable=True))
        candidate.drop_constraint("pk_candidate", type_="primary")
        candidate.create_primary_key("pk_candidate", ["asset_id", "hash", "digest", "origin"])
    op.create_index("ix_candidate_agrees", "candidate", ["agrees"], unique=False)
    connection = op.get_bind()
    claim = sa.table("candidate", *map(sa.column, ("asset_id", "hash", "digest", "origin")))
    rows = [dict(zip(claim.c.keys(), key, strict=True)) for key in sorted(set(_claims(connection)))]
    for start in range(0, len(rows), _AT_ONCE):
        connection.execute(sa.insert(claim), rows[start : start + _AT_ONCE])
    op.execute(_COMPARE)


def _claims(connection: sa.Connection) -> Iterator[tuple[int, str, str, str]]:
    statement = sa.text("SELECT asset_id, told FROM sidecar WHERE told IS NOT NULL")
    for asset_id, stored in connection.execute(statement):
        told = json.loads(stored) if isinstance(stored, str) else stored
        for name, digest in ((told or {}).get("claimed_hashes") or {}).items():
            yield asset_id, name, digest, told["owner"]


_COMPARE = """
UPDATE candidate SET agrees = (
    SELECT substr(known, 1, length(candidate.digest)) = candidate.digest FROM (
        SELECT CASE candidate.hash
            WHEN 'blake3' THEN blake3 WHEN 'sha256' THEN sha256 WHEN 'crc32' THEN crc32
            WHEN 'autov1' THEN autov1 WHEN 'autov2' THEN sha256 WHEN 'autov3' THEN autov3
        END AS known FROM asset WHERE asset.id = candidate.asset_id
    ) AS own
) WHERE origin <> 'lfs-pointer'
"""

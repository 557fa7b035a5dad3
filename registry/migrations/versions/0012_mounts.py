"""Where disks were mounted, and whose tensors are to be digested by the next scan.

Written out here, apart from `registry.tables`, because a migration must stay as it was. Files that
came with their hashes were never digested until now: those that a scan would digest are noted.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012_mounts"
down_revision = "0011_sizes"

_LEAST_BYTES = 16 << 10


def upgrade() -> None:
    """Two new tables."""
    op.create_table(
        "mount",
        sa.Column("machine", sa.Text(), nullable=False, server_default=""),
        sa.Column("path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("machine", "path", name=op.f("pk_mount")),
    )
    op.create_table(
        "undigested",
        sa.Column("asset_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["asset.id"],
            name=op.f("fk_undigested_asset_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("asset_id", name=op.f("pk_undigested")),
    )
    op.execute(
        f"""
        INSERT INTO undigested SELECT id FROM asset
        WHERE blake3 IS NOT NULL AND weights IS NULL AND container IS NOT NULL AND tensors > 0
        AND (kind <> 'lora' OR bytes >= {_LEAST_BYTES} * tensors)
        """
    )

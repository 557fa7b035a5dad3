"""What files beside the models say of them.

Written out here, apart from `registry.tables`, because a migration must stay as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_sidecars"
down_revision = "0001"


def upgrade() -> None:
    """Create the table; the next scan fills it."""
    op.create_table(
        "sidecar",
        sa.Column("asset_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["asset.id"], name=op.f("fk_sidecar_asset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("asset_id", "path", name=op.f("pk_sidecar")),
    )

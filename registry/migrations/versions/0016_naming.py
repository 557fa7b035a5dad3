"""By which rules assets were named; quantised GGUF files are digested by the next scan.

Written out here, apart from `registry.tables`, because a migration must stay as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016_naming"
down_revision = "0015_component_tensors"


def upgrade() -> None:
    """Two tables, empty: no rules are older than all. GGUF files were not digested until now."""
    op.create_table(
        "named_by",
        sa.Column("rules", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("rules", name=op.f("pk_named_by")),
    )
    op.create_table(
        "unnamed",
        sa.Column("asset_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["asset.id"], name=op.f("fk_unnamed_asset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("asset_id", name=op.f("pk_unnamed")),
    )
    op.execute(
        """
        INSERT INTO undigested SELECT id FROM asset
        WHERE blake3 IS NOT NULL AND container = 'gguf' AND weights IS NULL
        AND id NOT IN (SELECT asset_id FROM undigested)
        """
    )

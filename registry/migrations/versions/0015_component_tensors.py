"""The tensors of components under common names, by which a pipeline and a file are compared.

Written out here, apart from `registry.tables`, because a migration must stay as it was. Models that
were digested before are not read again for it: comparing them so opens them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015_component_tensors"
down_revision = "0014_small_tensors"


def upgrade() -> None:
    """A new table."""
    op.create_table(
        "component_tensors",
        sa.Column("asset_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["asset.id"],
            name=op.f("fk_component_tensors_asset_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("asset_id", "name", name=op.f("pk_component_tensors")),
    )

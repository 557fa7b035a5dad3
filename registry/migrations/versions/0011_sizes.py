"""Assets of groups are counted by their sizes from an index alone.

Written out here, apart from `registry.tables`, because a migration must stay as it was.
"""

from __future__ import annotations

from alembic import op

revision = "0011_sizes"
down_revision = "0010_brief"


def upgrade() -> None:
    """The rows themselves stay."""
    op.drop_index("ix_brief_alike_id", "brief")
    op.create_index("ix_brief_alike_id_bytes", "brief", ["alike_id", "bytes"])

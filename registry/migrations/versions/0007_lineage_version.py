"""Which version of the program made one asset of another.

Written out here, apart from `registry.tables`, because a migration must stay as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007_lineage_version"
down_revision = "0006_licence"


def upgrade() -> None:
    """What was recorded until now does not say."""
    op.add_column("derivation", sa.Column("version", sa.Text(), nullable=True))
